"""ADM's U-Net: as EDM and as CM's authors save it, against the published network re-stated here, and CM's map of it."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from tests.core.test_teachers import (
    CLASSES,
    SIGMA_D,
    Checkpoint,
    Weights,
    denoised,
    edm_conv,
    edm_linear,
    noisy,
    without,
)
from trigbench.core.condition import Condition
from trigbench.core.conversions import edm_denoiser_from_field, trig_from_edm
from trigbench.core.networks.adm import ADM, PRESETS, heads_of
from trigbench.core.networks.ctm import ctm_jump, ctm_network, ctm_tensors
from trigbench.core.networks.families import PUBLISHED, SIGMA_MIN_OF, NoVelocity, of_edm
from trigbench.core.networks.fastgen import scm_tensors
from trigbench.core.networks.maps import CTMMap
from trigbench.core.networks.openai import adm_tensors, cm_network, cm_tensors, consistency_field
from trigbench.core.networks.teachers import edm_field, edm_network
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.trigflow import rotate

WIDTH, MIN = 128, 0.002  # the fewest channels whose groups are 32 in both
SOME = torch.tensor([2, 0, 1])


class Release(NamedTuple):
    """A configuration of CM's release."""

    side: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    classes: int
    scaled: bool


def group_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    weight, bias = (w(f"{name}.{part}", x.shape[1]) for part in ("weight", "bias"))
    return nnf.group_norm(x, 32, weight, bias, eps=1e-5)


def in_edm_s_order(qkv: Tensor) -> Tensor:
    return qkv.reshape(len(qkv), -1, 64, 3, qkv.shape[2] * qkv.shape[3]).movedim(3, 1)


def in_openai_s_order(qkv: Tensor) -> Tensor:
    return qkv.reshape(len(qkv), 3, -1, 64, qkv.shape[2] * qkv.shape[3])


def resampled(x: Tensor, how: str) -> Tensor:
    if how == "down":
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if how == "up" else x


class Published:
    """The network of one block a level at 8x8 and 4x4, where it attends, by either naming of its tensors."""

    def __init__(
        self, w: Weights, parts: dict[str, str], split: Callable[[Tensor], Tensor], shifted: bool = False
    ) -> None:
        self.w, self.parts, self.split, self.shifted = w, parts, split, shifted

    def block(
        self,
        name: str,
        x: Tensor,
        e: Tensor,
        outputs: int,
        how: str = "",
        attention: str = "",
        end: Tensor | None = None,
    ) -> Tensor:
        w, part = self.w, {key: f"{name}.{value}" for key, value in self.parts.items()}
        y = edm_conv(w, part["conv0"], resampled(nnf.silu(group_norm(w, part["norm0"], x)), how), outputs, 3)
        modulation = edm_linear(w, part["affine"], e, outputs if self.shifted else 2 * outputs)
        if end is not None:
            modulation = modulation + edm_linear(w, part["affine"].replace("layers", "layers_s"), end, 2 * outputs)
        if self.shifted:
            y = group_norm(w, part["norm1"], y + modulation[:, :, None, None])
        else:
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            y = group_norm(w, part["norm1"], y) * (1 + scale) + shift
        y = edm_conv(w, part["conv1"], nnf.silu(y), outputs, 3)
        x = resampled(x, how)
        x = y + (x if x.shape[1] == outputs else edm_conv(w, part["skip"], x, outputs, 1))
        if not attention:
            return x
        part = {key: f"{attention}.{self.parts[key]}" for key in ("norm2", "qkv", "proj")}
        q, k, v = self.split(edm_conv(w, part["qkv"], group_norm(w, part["norm2"], x), 3 * outputs, 1)).unbind(1)
        weights = torch.einsum("bhcq,bhck->bhqk", q, k / 8).softmax(3)
        y = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(x.shape)
        return x + edm_conv(w, part["proj"], y, outputs, 1)


def embedded(c: Tensor) -> Tensor:
    half = WIDTH // 2
    angles = c[:, None] * torch.exp(-math.log(10_000) * torch.arange(half).double() / half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


OF_EDM = {name: name for name in ("norm0", "conv0", "affine", "norm1", "conv1", "skip", "norm2", "qkv", "proj")}
OF_OPENAI = {
    "norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1", "norm1": "out_layers.0",
    "conv1": "out_layers.3", "skip": "skip_connection", "norm2": "norm", "qkv": "qkv", "proj": "proj_out",
}  # fmt: skip


def edm_adm(w: Weights, x: Tensor, c_noise: Tensor, labels: Tensor | None) -> Tensor:
    """EDM's, its tensors as NVlabs/edm names them (training/networks.py, DhariwalUNet)."""
    net = Published(w, OF_EDM, in_edm_s_order)
    e = edm_linear(w, "model.map_layer0", embedded(c_noise), 4 * WIDTH)
    e = edm_linear(w, "model.map_layer1", nnf.silu(e), 4 * WIDTH)
    table = w("model.map_label.weight", 4 * WIDTH, CLASSES)
    e = nnf.silu(e if labels is None else e + table.T[labels])

    def block(name: str, x: Tensor, outputs: int, how: str = "", attends: bool = False) -> Tensor:
        if how:
            w(f"model.{name}.conv0.resample_filter", 1, 1, 2, 2).fill_(0.25)
        return net.block(f"model.{name}", x, e, outputs, how, f"model.{name}" if attends else "")

    h0 = edm_conv(w, "model.enc.8x8_conv", x, WIDTH, 3)
    h1 = block("enc.8x8_block0", h0, WIDTH)
    h2 = block("enc.4x4_down", h1, WIDTH, "down")
    h3 = block("enc.4x4_block0", h2, 2 * WIDTH, attends=True)
    y = block("dec.4x4_in1", block("dec.4x4_in0", h3, 2 * WIDTH, attends=True), 2 * WIDTH)
    y = block("dec.4x4_block0", torch.cat([y, h3], 1), 2 * WIDTH, attends=True)
    y = block("dec.4x4_block1", torch.cat([y, h2], 1), 2 * WIDTH, attends=True)
    y = block("dec.8x8_up", y, 2 * WIDTH, "up")
    y = block("dec.8x8_block0", torch.cat([y, h1], 1), WIDTH)
    y = block("dec.8x8_block1", torch.cat([y, h0], 1), WIDTH)
    return edm_conv(w, "model.out_conv", nnf.silu(group_norm(w, "model.out_norm", y)), 3, 3)


def openai_adm(w: Weights, x: Tensor, timesteps: Tensor, labels: Tensor | None, ends: Tensor | None = None) -> Tensor:
    """That of CM's authors (openai/consistency_models): of ImageNet with labels, else of LSUN, which is not told scales
    (use_scale_shift_norm); or with `ends` CTM's (sony/ctm: code/cm/unet.py)."""
    net = Published(w, OF_OPENAI, in_openai_s_order, shifted=labels is None)
    end = None
    if ends is not None:
        end = edm_linear(w, "time_embed_s.0", embedded(ends), 4 * WIDTH)
        end = nnf.silu(edm_linear(w, "time_embed_s.2", nnf.silu(end), 4 * WIDTH))
    block = functools.partial(net.block, end=end)
    e = edm_linear(w, "time_embed.0", embedded(timesteps), 4 * WIDTH)
    e = edm_linear(w, "time_embed.2", nnf.silu(e), 4 * WIDTH)
    if labels is not None:
        e = e + w("label_emb.weight", CLASSES, 4 * WIDTH)[labels]
    e = nnf.silu(e)
    h0 = edm_conv(w, "input_blocks.0.0", x, WIDTH, 3)
    h1 = block("input_blocks.1.0", h0, e, WIDTH)
    h2 = block("input_blocks.2.0", h1, e, WIDTH, "down")
    h3 = block("input_blocks.3.0", h2, e, 2 * WIDTH, attention="input_blocks.3.1")
    y = block("middle_block.0", h3, e, 2 * WIDTH, attention="middle_block.1")
    y = block("middle_block.2", y, e, 2 * WIDTH)
    y = block("output_blocks.0.0", torch.cat([y, h3], 1), e, 2 * WIDTH, attention="output_blocks.0.1")
    y = block("output_blocks.1.0", torch.cat([y, h2], 1), e, 2 * WIDTH, attention="output_blocks.1.1")
    y = block("output_blocks.1.2", y, e, 2 * WIDTH, "up")
    y = block("output_blocks.2.0", torch.cat([y, h1], 1), e, WIDTH)
    y = block("output_blocks.3.0", torch.cat([y, h0], 1), e, WIDTH)
    return edm_conv(w, "out.2", nnf.silu(group_norm(w, "out.0", y)), 3, 3)


def openai_denoised(w: Weights, x: Tensor, sigma: Tensor, labels: Tensor | None, distilled: bool) -> Tensor:
    """CM's denoise (cm/karras_diffusion.py): with the scalings of the boundary condition if `distilled`."""
    s = sigma.reshape(-1, 1, 1, 1)
    gap, total = s - MIN if distilled else s, s**2 + SIGMA_D**2
    output = openai_adm(w, x / total.sqrt(), 1000 * 0.25 * (sigma + 1e-44).log(), labels)
    return SIGMA_D**2 / (gap**2 + SIGMA_D**2) * x + gap * SIGMA_D / total.sqrt() * output


@functools.cache
def openai_checkpoint(labelled: bool = False) -> Checkpoint:
    w = Checkpoint()
    openai_denoised(w, *noisy(), SOME if labelled else None, distilled=False)
    return w


def close(ours: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    assert exact.abs().max() > 0.1


@pytest.mark.slow
@torch.no_grad()
def test_edm_s_network_denoises_as_published() -> None:
    w, (x_sigma, sigma) = Checkpoint(), noisy()
    for labels in (None, SOME):
        exact = denoised(edm_adm, w, x_sigma, sigma, labels)
        network = edm_network(w)
        assert isinstance(network, ADM) and network.classes == CLASSES
        close(edm_denoiser_from_field(edm_field(network, SIGMA_D, labels), SIGMA_D)(x_sigma, sigma), exact)


@torch.no_grad()
@pytest.mark.one_in(2)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_networks_of_cm_s_authors_denoise_and_map_as_published(labelled: bool) -> None:
    x_sigma, sigma = noisy()
    w, labels = openai_checkpoint(labelled), SOME if labelled else None
    network = edm_network(adm_tensors(w, side=8))
    assert network.classes == (CLASSES if labelled else 0)
    ours = edm_denoiser_from_field(edm_field(network, SIGMA_D, labels), SIGMA_D)(x_sigma, sigma)
    close(ours, openai_denoised(w, x_sigma, sigma, labels, distilled=False))
    student, smallest = cm_network(cm_tensors(w, side=8))
    assert smallest == MIN
    field = consistency_field(student, smallest, SIGMA_D, labels)
    close(edm_denoiser_from_field(field, SIGMA_D)(x_sigma, sigma), openai_denoised(w, x_sigma, sigma, labels, True))
    at_end = torch.full_like(sigma, MIN)
    torch.testing.assert_close(edm_denoiser_from_field(field, SIGMA_D)(x_sigma, at_end), x_sigma)


@pytest.mark.slow
@torch.no_grad()
def test_two_steps_are_those_of_cm_s_algorithm() -> None:
    """Alg. 1: x + sqrt(sigma^2 - sigma_min^2) z, mapped; the release's script also cuts each x to [-1, 1]."""
    w, sigmas = openai_checkpoint(), (80.0, 0.661)
    z = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    times = [math.atan(sigma / SIGMA_D) for sigma in sigmas]
    field = consistency_field(cm_network(cm_tensors(w, side=8))[0], MIN, SIGMA_D)
    ours = SIGMA_D * sample_consistency(field, z, times, boundary=math.atan(MIN / SIGMA_D))
    first, second = (torch.full((2,), sigma, dtype=torch.float64) for sigma in sigmas)
    start = math.sin(times[0]) * z[0] * SIGMA_D / math.cos(times[0])
    x = openai_denoised(w, start, first, None, distilled=True) + math.sqrt(sigmas[1] ** 2 - MIN**2) * z[1]
    close(ours, openai_denoised(w, x, second, None, distilled=True))


@pytest.mark.slow
@torch.no_grad()
def test_ctm_s_network_of_imagenet_jumps_as_the_public_one() -> None:
    """G = (s / t) x + (1 - s / t) g, g by EDM's preconditioning of a network that is told 250 ln of both."""
    w, (x_sigma, sigma), end = Checkpoint(), noisy(), torch.tensor([0.01, 0.3, 2.0]).double()
    s, total = sigma.reshape(-1, 1, 1, 1), sigma.reshape(-1, 1, 1, 1) ** 2 + SIGMA_D**2
    output = openai_adm(w, x_sigma / total.sqrt(), 250 * (sigma + 1e-44).log(), SOME, 250 * (end + 1e-44).log())
    inner = SIGMA_D**2 / total * x_sigma + s * SIGMA_D / total.sqrt() * output
    kept = end.reshape(-1, 1, 1, 1) / s
    tensors = {**ctm_tensors(w, side=8)}
    network = ctm_network(tensors)
    assert isinstance(network.unet, ADM) and network.unet.classes == CLASSES
    x, t = trig_from_edm(x_sigma, sigma, SIGMA_D)
    u = torch.atan(end / SIGMA_D)
    ours = SIGMA_D * rotate(x, ctm_jump(network, SIGMA_D, SOME)(u)(x, t), t, u) / u.cos().reshape(-1, 1, 1, 1)
    close(ours, kept * x_sigma + (1 - kept) * inner)
    header = PUBLISHED["ctm"].header
    assert header is not None and header({n: list(v.shape) for n, v in tensors.items()}).shape == (3, 8, 8)
    student = CTMMap(
        (3, 8, 8), CLASSES, ("target_time",), SIGMA_D, "adm", width=WIDTH, multipliers=(1, 2), blocks=1, attention=(4,)
    ).double()
    student.network.load_state_dict(network.state_dict())
    assert torch.equal(student(x, t, Condition(SOME, target_time=u)), ctm_jump(network, SIGMA_D, SOME)(u)(x, t))
    for name, wrong in (("openai.map_layer1_s.bias", "missing"), ("openai.dec.4x4_in1.affine_s.weight", "missing")):
        with pytest.raises(ValueError, match=rf"CTM's second time; {wrong}: {name}$"):
            ctm_network(without(tensors, name))
    with pytest.raises(ValueError, match=r"unexpected: input_blocks\.9\.0\.emb_layers_s\.1\.bias"):
        ctm_tensors(w | {"input_blocks.9.0.emb_layers_s.1.bias": torch.zeros(1)}, side=8)
    with pytest.raises(ValueError, match="did not publish"):
        ctm_network({name.replace("openai.", "model."): tensor for name, tensor in tensors.items()})


def test_the_side_of_images_is_known_by_where_attention_begins() -> None:
    tensors = adm_tensors(openai_checkpoint())  # at the second level
    assert of_edm({name: list(t.shape) for name, t in tensors.items()}).shape == (3, 64, 64)


def test_what_does_not_fit_is_named() -> None:
    w = openai_checkpoint()
    with pytest.raises(ValueError, match=r"unexpected: time_embed_s\.0\.weight"):  # CTM's
        adm_tensors(w | {"time_embed_s.0.weight": torch.zeros(1)}, side=8)
    with pytest.raises(ValueError, match=r"missing: middle_block\.1\.qkv\.weight"):
        adm_tensors(without(w, "middle_block.1.qkv.weight"), side=8)
    with pytest.raises(ValueError, match="no encoder of ADM's"):
        adm_tensors(without(w, "input_blocks.3.0.in_layers.2.weight"), side=8)
    with pytest.raises(ValueError, match="--family cm, or cm_edm"):
        edm_network(w)
    consistency = cm_tensors(w, side=8)
    for read in (edm_network, lambda state: of_edm({name: list(t.shape) for name, t in state.items()})):
        with pytest.raises(NoVelocity, match="a consistency model, which has no velocity"):
            read(consistency)
    for wrong in (without(consistency, SIGMA_MIN_OF), consistency | {SIGMA_MIN_OF: torch.tensor(-3.0)}):
        with pytest.raises(ValueError, match="no noise level"):
            cm_network(wrong)
    with pytest.raises(ValueError, match="say it"):
        adm_tensors({name: tensor for name, tensor in w.items() if not name.startswith("input_blocks.3.1.")})
    with pytest.raises(ValueError, match="no whole number of heads"):
        heads_of(96)
    with pytest.raises(ValueError, match="layout in FastGen was not read"):
        scm_tensors({name.replace("openai.", "model."): t for name, t in adm_tensors(w, side=8).items()})


def test_labels_are_told_where_a_consistency_model_was_trained_with_them() -> None:
    networks = [cm_network(cm_tensors(openai_checkpoint(labelled), side=8))[0] for labelled in (True, False)]
    for network, labels in ((networks[0], None), (networks[1], SOME), (networks[0], SOME + 1), (networks[0], SOME - 1)):
        with pytest.raises(ValueError, match="label"):
            consistency_field(network, labels=labels)


RELEASED = {
    "imagenet64-plain": Release(64, 192, (1, 2, 3, 4), 3, 1000, True),
    "lsun256-shift": Release(256, 256, (1, 1, 2, 2, 4, 4), 2, 0, False),
}


def shapes_of_release(about: Release) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the release's loops make them (scripts/launch.sh: attention at 32, 16 and 8 pixels)."""
    found: dict[str, tuple[int, ...]] = {}
    embedded, width = 4 * about.channels, about.channels * about.multipliers[0]

    def layer(name: str, *shape: int) -> None:
        found.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def residual(name: str, inputs: int, outputs: int) -> None:
        layer(f"{name}.in_layers.0", inputs)
        layer(f"{name}.in_layers.2", outputs, inputs, 3, 3)
        layer(f"{name}.emb_layers.1", (2 if about.scaled else 1) * outputs, embedded)
        layer(f"{name}.out_layers.0", outputs)
        layer(f"{name}.out_layers.3", outputs, outputs, 3, 3)
        if inputs != outputs:
            layer(f"{name}.skip_connection", outputs, inputs, 1, 1)

    def attention(name: str, channels: int) -> None:
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1, 1)
        layer(f"{name}.proj_out", channels, channels, 1, 1)

    layer("time_embed.0", embedded, about.channels)
    layer("time_embed.2", embedded, embedded)
    if about.classes:
        found["label_emb.weight"] = (about.classes, embedded)
    layer("input_blocks.0.0", width, 3, 3, 3)
    skips = [width]
    for level, multiplier in enumerate(about.multipliers):
        for _ in range(about.blocks):
            before, width = width, about.channels * multiplier
            residual(f"input_blocks.{len(skips)}.0", before, width)
            if about.side >> level in (32, 16, 8):
                attention(f"input_blocks.{len(skips)}.1", width)
            skips.append(width)
        if level < len(about.multipliers) - 1:
            residual(f"input_blocks.{len(skips)}.0", width, width)
            skips.append(width)
    residual("middle_block.0", width, width)
    attention("middle_block.1", width)
    residual("middle_block.2", width, width)
    for k, level in enumerate(sorted([*range(len(about.multipliers))] * (about.blocks + 1), reverse=True)):
        before, width = width + skips.pop(), about.channels * about.multipliers[level]
        residual(f"output_blocks.{k}.0", before, width)
        attends = about.side >> level in (32, 16, 8)
        if attends:
            attention(f"output_blocks.{k}.1", width)
        if level and (k + 1) % (about.blocks + 1) == 0:
            residual(f"output_blocks.{k}.{2 if attends else 1}", width, width)
    layer("out.0", width)
    layer("out.2", 3, width, 3, 3)
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_every_layer_of_the_released_networks_is_read(name: str) -> None:
    about = RELEASED[name]
    state = {n: torch.empty(shape, device="meta") for n, shape in shapes_of_release(about).items()}
    found = adm_tensors(state)
    assert sum(t.numel() for t in found.values()) == sum(t.numel() for t in state.values())
    header = of_edm({n: list(t.shape) for n, t in found.items()})
    assert header.shape == (3, about.side, about.side) and header.classes == about.classes
    with torch.device("meta"):
        ours = ADM(**PRESETS[name]).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n.removeprefix("openai."): t.shape for n, t in found.items()}
