"""EDM and EDM2 checkpoints as fields, against the published networks re-stated here; discrete VP steps."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from trigbench.core.conversions import edm_denoiser_from_field, trig_from_vp
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.teachers import edm_field, edm_network, field_from_discrete_vp, step_at
from trigbench.core.trigflow import consistency_map

LAYOUTS = json.loads(Path(__file__).with_name("layouts.json").read_text())
CLASSES, SIDE, WIDTHS, SIGMA_D = 3, 8, (64, 128), 0.5
Weights = Callable[..., Tensor]


class Checkpoint(dict[str, Tensor]):
    """Random tensors, each made when the re-stated network first asks for it by its published name."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, name: str, *shape: int, scale: float = 1.0) -> Tensor:
        if name not in self:
            self[name] = scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)
        assert self[name].shape == shape
        return self[name]


# --- the plan of all of them ---------------------------------------------------------------------------


def of_two_levels(
    block: Callable[..., Tensor],
    h0: Tensor,
    width: int,
    join: Callable[[Tensor, Tensor], Tensor] = lambda y, skipped: torch.cat([y, skipped], 1),
    every: bool = False,
) -> Tensor:
    """From the stem's output at 8x8 to the decoder's: one block a level, twice as wide at 4x4, where it attends.

    `block(name, x, outputs, resample, attends)`; EDM2 joins in a way of its own, and attends in `every` block that
    does not resample, the second of the middle apart.
    """
    h1 = block("enc.8x8_block0", h0, width, attends=every)
    h2 = block("enc.4x4_down", h1, width, "down")
    h3 = block("enc.4x4_block0", h2, 2 * width, attends=True)
    y = block("dec.4x4_in0", h3, 2 * width, attends=True)
    y = block("dec.4x4_in1", y, 2 * width)
    y = block("dec.4x4_block0", join(y, h3), 2 * width, attends=every)
    y = block("dec.4x4_block1", join(y, h2), 2 * width, attends=True)
    y = block("dec.8x8_up", y, 2 * width, "up")
    y = block("dec.8x8_block0", join(y, h1), width, attends=every)
    return block("dec.8x8_block1", join(y, h0), width, attends=every)


# --- EDM's DDPM++ (arXiv 2206.00364), its tensors as NVlabs/edm names them ---------------------------


def edm_conv(w: Weights, name: str, x: Tensor, outputs: int, kernel: int, resample: str = "") -> Tensor:
    inputs = x.shape[1]
    if resample:
        box = w(f"{name}.resample_filter", 1, 1, 2, 2).fill_(0.25).expand(inputs, 1, 2, 2)
        x = (
            nnf.conv2d(x, box, groups=inputs, stride=2)
            if resample == "down"
            else nnf.conv_transpose2d(x, 4 * box, groups=inputs, stride=2)
        )
    weight = w(f"{name}.weight", outputs, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5)
    return nnf.conv2d(x, weight, w(f"{name}.bias", outputs, scale=0.1), padding=kernel // 2)


def edm_linear(w: Weights, name: str, e: Tensor, outputs: int) -> Tensor:
    weight = w(f"{name}.weight", outputs, e.shape[1], scale=e.shape[1] ** -0.5)
    return e @ weight.T + w(f"{name}.bias", outputs, scale=0.1)


def edm_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    batch, channels = x.shape[:2]
    groups = x.reshape(batch, min(32, channels // 4), -1)
    unit = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
    weight, bias = (w(f"{name}.{part}", channels).reshape(-1, 1, 1) for part in ("weight", "bias"))
    return unit.reshape(x.shape) * weight + bias


def edm_block(w: Weights, name: str, x: Tensor, e: Tensor, outputs: int, resample: str = "", attends: bool = False):
    y = edm_conv(w, f"{name}.conv0", nnf.silu(edm_norm(w, f"{name}.norm0", x)), outputs, 3, resample)
    y = y + edm_linear(w, f"{name}.affine", e, outputs)[:, :, None, None]
    y = edm_conv(w, f"{name}.conv1", nnf.silu(edm_norm(w, f"{name}.norm1", y)), outputs, 3)
    straight = x.shape[1] == outputs and not resample
    x = (y + (x if straight else edm_conv(w, f"{name}.skip", x, outputs, 1, resample))) / math.sqrt(2)
    if attends:
        qkv = edm_conv(w, f"{name}.qkv", edm_norm(w, f"{name}.norm2", x), 3 * outputs, 1)
        q, k, v = qkv.reshape(len(x), outputs, 3, -1).unbind(2)
        weights = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(outputs)).softmax(2)
        y = torch.einsum("bqk,bck->bcq", weights, v).reshape(x.shape)
        x = (x + edm_conv(w, f"{name}.proj", y, outputs, 1)) / math.sqrt(2)
    return x


def edm_raw(w: Weights, x: Tensor, c_noise: Tensor, labels: Tensor | None) -> Tensor:
    """DDPM++ at 8x8 and 4x4 with one block a level and attention at 4x4."""
    frequencies = 10_000 ** -(torch.arange(32).double() / 31)
    e = torch.cat([(c_noise[:, None] * frequencies).sin(), (c_noise[:, None] * frequencies).cos()], dim=1)
    w("model.map_augment.weight", 64, 9)
    hot = torch.zeros(len(x), CLASSES).double()
    if labels is not None:
        hot[range(len(x)), labels] = math.sqrt(CLASSES)
    e = e + edm_linear(w, "model.map_label", hot, 64)
    e = nnf.silu(edm_linear(w, "model.map_layer1", nnf.silu(edm_linear(w, "model.map_layer0", e, 256)), 256))
    h0 = edm_conv(w, "model.enc.8x8_conv", x, 64, 3)

    def block(name: str, x: Tensor, outputs: int, resample: str = "", attends: bool = False) -> Tensor:
        return edm_block(w, f"model.{name}", x, e, outputs, resample, attends)

    y = of_two_levels(block, h0, 64)
    return edm_conv(w, "model.dec.8x8_aux_conv", nnf.silu(edm_norm(w, "model.dec.8x8_aux_norm", y)), 3, 3)


# --- EDM2 (arXiv 2312.02696), its tensors as NVlabs/edm2 names them ---------------------------------


def over_norm(x: Tensor, dims: list[int]) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=dims, keepdim=True)
    return x / (1e-4 + norm * math.sqrt(norm.numel() / x.numel()))


def edm2_layer(w: Weights, name: str, x: Tensor, outputs: int, kernel: int | None = None, gain: float | Tensor = 1.0):
    shape = (outputs, x.shape[1], *([kernel, kernel] if kernel else []))
    weight = over_norm(w(f"{name}.weight", *shape, scale=2.0), list(range(1, len(shape))))
    weight = weight * gain / math.sqrt(weight[0].numel())
    return nnf.conv2d(x, weight, padding=kernel // 2) if kernel else x @ weight.T


def edm2_silu(x: Tensor) -> Tensor:
    return nnf.silu(x) / 0.596


def edm2_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    return a.lerp(b, t) / math.sqrt((1 - t) ** 2 + t**2)


def edm2_cat(a: Tensor, b: Tensor) -> Tensor:
    scale = math.sqrt((a.shape[1] + b.shape[1]) / 0.5)
    return torch.cat([a * 0.5 * scale / math.sqrt(a.shape[1]), b * 0.5 * scale / math.sqrt(b.shape[1])], dim=1)


def edm2_block(w: Weights, name: str, x: Tensor, e: Tensor, outputs: int, resample: str = "", attends: bool = False):
    x = (
        nnf.avg_pool2d(x, 2)
        if resample == "down"
        else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        if (resample == "up")
        else x
    )
    inputs, encoder = x.shape[1], ".enc." in name
    if encoder:
        x = over_norm(x if inputs == outputs else edm2_layer(w, f"{name}.conv_skip", x, outputs, 1), [1])
    y = edm2_layer(w, f"{name}.conv_res0", edm2_silu(x), outputs, 3)
    gain = edm2_layer(w, f"{name}.emb_linear", e, outputs, gain=w(f"{name}.emb_gain"))
    y = edm2_layer(w, f"{name}.conv_res1", edm2_silu(y * (1 + gain)[:, :, None, None]), outputs, 3)
    if not encoder and inputs != outputs:
        x = edm2_layer(w, f"{name}.conv_skip", x, outputs, 1)
    x = edm2_sum(x, y, 0.3)
    if attends:
        heads = outputs // 64
        qkv = edm2_layer(w, f"{name}.attn_qkv", x, 3 * outputs, 1).reshape(len(x), heads, 64, 3, -1)
        q, k, v = over_norm(qkv, [2]).unbind(3)
        weights = torch.einsum("bhcq,bhck->bhqk", q, k / 8).softmax(3)
        y = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(x.shape)
        x = edm2_sum(x, edm2_layer(w, f"{name}.attn_proj", y, outputs, 1), 0.3)
    return x.clip(-256, 256)


def edm2_raw(w: Weights, x: Tensor, c_noise: Tensor, labels: Tensor | None) -> Tensor:
    """EDM2 at 8x8 and 4x4 with one block a level and attention at both."""
    angles = c_noise[:, None] * w("unet.emb_fourier.freqs", 64, scale=6.0) + w("unet.emb_fourier.phases", 64, scale=3.0)
    for name, shape in {"fourier.freqs": (16,), "fourier.phases": (16,), "linear.weight": (1, 16)}.items():
        w(f"logvar_{name}", *shape)
    e = edm2_layer(w, "unet.emb_noise", angles.cos() * math.sqrt(2), 128)
    hot = torch.zeros(len(x), CLASSES).double()
    if labels is not None:
        hot[range(len(x)), labels] = math.sqrt(CLASSES)
    e = edm2_silu(edm2_sum(e, edm2_layer(w, "unet.emb_label", hot, 128), 0.5))
    h0 = edm2_layer(w, "unet.enc.8x8_conv", torch.cat([x, torch.ones_like(x[:, :1])], 1), 64, 3)

    def block(name: str, x: Tensor, outputs: int, resample: str = "", attends: bool = False) -> Tensor:
        return edm2_block(w, f"unet.{name}", x, e, outputs, resample, attends)

    y = of_two_levels(block, h0, 64, edm2_cat, every=True)
    return edm2_layer(w, "unet.out_conv", y, 3, 3, gain=w("unet.out_gain"))


def denoised(raw: Callable[..., Tensor], w: Weights, x_sigma: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
    """EDM's preconditioning (Table 1): D = c_skip x + c_out F(c_in x, ln(sigma) / 4)."""
    s, total = sigma.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1) ** 2 + SIGMA_D**2
    output = raw(w, x_sigma / total.sqrt(), sigma.log() / 4, labels)
    return SIGMA_D**2 / total * x_sigma + s * SIGMA_D / total.sqrt() * output


RAW = {"edm": edm_raw, "edm2": edm2_raw}


def noisy() -> tuple[Tensor, Tensor]:
    sigma = torch.tensor([0.02, 0.7, 60.0], dtype=torch.float64)
    noise = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 0.5 * noise.flip(0) + sigma.reshape(-1, 1, 1, 1) * noise, sigma


def checkpoint(family: str) -> Checkpoint:
    w = Checkpoint()
    denoised(RAW[family], w, *noisy(), None)
    return w


@pytest.mark.one_in(4)
@pytest.mark.parametrize("family", RAW)
@pytest.mark.parametrize("labels", [None, torch.tensor([2, 0, 1])])
def test_an_imported_teacher_denoises_as_the_published_network(family, labels):
    x_sigma, sigma = noisy()
    w = checkpoint(family)
    before = {name: tensor.clone() for name, tensor in w.items()}
    exact = denoised(RAW[family], w, x_sigma, sigma, labels)
    field = edm_field(edm_network(w), SIGMA_D, labels)
    ours = edm_denoiser_from_field(field, SIGMA_D)(x_sigma, sigma)
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(w[name], before[name]) for name in before)
    assert (exact - SIGMA_D**2 / (sigma**2 + SIGMA_D**2).reshape(-1, 1, 1, 1) * x_sigma).abs().max() > 0.1


@pytest.mark.slow
def test_labels_reach_the_teacher():
    x_sigma, sigma = noisy()
    for family in RAW:
        network = edm_network(checkpoint(family))
        outputs = [
            edm_denoiser_from_field(edm_field(network, SIGMA_D, labels), SIGMA_D)(x_sigma, sigma)
            for labels in (None, torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1]), torch.full((3,), CLASSES))
        ]
        assert torch.equal(outputs[0], outputs[3])
        assert not torch.allclose(outputs[0], outputs[1]) and not torch.allclose(outputs[1], outputs[2])


def test_half_precision_becomes_single():
    state = {name: tensor.half() for name, tensor in checkpoint("edm2").items()}
    assert {p.dtype for p in edm_network(state).state_dict().values()} == {torch.float32}


# --- the public layouts ------------------------------------------------------------------------------


def layout(name: str) -> dict[str, Tensor]:
    """Tensors without content, named and shaped as in the public checkpoint."""
    return {
        tensor: torch.empty([int(n) for n in shape.split("x") if n], device="meta")
        for shape, names in LAYOUTS[name]["tensors"].items()
        for tensor in names
    }


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_public_layout_loads_whole(name):
    state = layout(name)
    network = edm_network(state)
    assert isinstance(network, DDPMpp if "ddpmpp" in name else EDM2)
    unused = {n: t for n, t in state.items() if re.search("resample_filter|map_augment|logvar", n)}
    loaded = network.state_dict()
    assert len(loaded) + len(unused) == len(state)
    heads = sum(t.numel() for n, t in unused.items() if "filter" not in n and "fourier" not in n)
    assert sum(p.numel() for p in network.parameters()) + heads == LAYOUTS[name]["parameters"]
    renamed = {"out_norm": "dec.32x32_aux_norm", "out_conv": "dec.32x32_aux_conv"} if "ddpmpp" in name else {}
    for ours, tensor in loaded.items():
        published = next((ours.replace(a, b) for a, b in renamed.items() if ours.startswith(a)), ours)
        assert tensor.shape == state[("model." if "ddpmpp" in name else "unet.") + published].shape
    x, t = torch.zeros(2, *network.shape, device="meta"), torch.ones(2, device="meta")
    assert network(x, t).shape == x.shape


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_what_does_not_fit_is_named():
    state = layout("edm_cifar10_ddpmpp_unconditional")
    wrong = "model.dec.8x8_in0.conv0.weight"
    with pytest.raises(ValueError, match=f"missing: {re.escape(wrong)}$"):
        edm_network(without(state, wrong))
    with pytest.raises(ValueError, match=r"unexpected: model\.surplus$"):
        edm_network(state | {"model.surplus": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"conv0\.weight \(1, 2\) instead of \(256, 256, 3, 3\)"):
        edm_network(state | {wrong: torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=r"unexpected: .*resample_filter"):  # NCSN++ blurs
        edm_network(state | {"model.enc.16x16_down.conv0.resample_filter": torch.zeros(1, 1, 4, 4)})
    with pytest.raises(ValueError, match=r"missing: model\.dec\.32x32_block0\.norm0\.weight, .* and 55 more"):
        edm_network({n: t for n, t in state.items() if "dec.32x32_block" not in n})
    with pytest.raises(ValueError, match="no encoder"):
        edm_network(without(state, "model.enc.32x32_conv.weight"))
    with pytest.raises(ValueError, match=r"neither .*: blocks\.weight"):
        edm_network({"blocks.weight": torch.zeros(1)})


# --- discrete VP steps -------------------------------------------------------------------------------

ALPHAS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def test_steps_are_the_index_between_neighbours_linear_and_beyond_the_ends_constant():
    levels = torch.tensor([-1.0, 0.0, 2.0]).double()
    found = step_at(torch.tensor([-5.0, -1.0, -0.25, 0.0, 1.5, 2.0, 9.0]).double(), levels)
    assert found.tolist() == pytest.approx([0, 0, 0.75, 1, 1.75, 2, 2])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_network_of_vp_steps_is_a_field_that_denoises_perfectly(prediction):
    """And it is asked at the steps it knows, at the points of its own process."""
    steps = torch.tensor([0, 1, 500, 998, 999])
    alpha = ALPHAS[steps].sqrt()
    a, b = (n.reshape(-1, 1, 1, 1) for n in (alpha, (1 - alpha**2).sqrt()))
    x0, noise = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_vp = a * x0 + b * noise
    seen = []

    def network(x: Tensor, n: Tensor) -> Tensor:
        seen.extend((x, n))
        return noise if prediction == "epsilon" else a * noise - b * x0

    field = field_from_discrete_vp(network, ALPHAS, SIGMA_D, prediction)
    x, t = trig_from_vp(x_vp, alpha, SIGMA_D)
    torch.testing.assert_close(SIGMA_D * consistency_map(field, x, t), x0, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(seen[0], x_vp, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen[1], steps.double(), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("alphas", [[0.9], [0.5, 0.6], [0.9, 0.0], [1.0, 0.5]])
def test_schedules_without_noise_levels_in_order_are_refused(alphas):
    with pytest.raises(ValueError, match="strictly decreasing"):
        field_from_discrete_vp(lambda x, n: x, torch.tensor(alphas), SIGMA_D)


def test_a_prediction_that_is_not_known_is_refused(unchecked):
    with unchecked(), pytest.raises(ValueError, match="predicts 'sample'"):
        field_from_discrete_vp(lambda x, n: x, torch.tensor([0.9, 0.5]), SIGMA_D, "sample")  # type: ignore
