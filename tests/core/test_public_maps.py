"""Published networks of two times out of made-up tensors, against the public architectures re-stated here."""

import math
import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from tests.core.test_teachers import (
    RAW,
    Checkpoint,
    Weights,
    checkpoint,
    denoised,
    edm_conv,
    edm_linear,
    edm_norm,
    of_two_levels,
    without,
)
from trigbench.core.conversions import trig_from_edm, trig_from_flow
from trigbench.core.networks.ctm import ctm_jump, ctm_network
from trigbench.core.networks.fastgen import scm_tensors
from trigbench.core.networks.meanflow import MeanFlowDiT, meanflow_jump, meanflow_network, meanflow_tensors
from trigbench.core.networks.meanflow_unet import meanflow_unet, meanflow_unet_jump
from trigbench.core.networks.teachers import edm_field, edm_network
from trigbench.core.trigflow import rotate

CLASSES, SIGMA_D = 3, 0.5
LABELS = [None, torch.tensor([2, 0, 1])]


def close(ours: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    assert exact.abs().max() > 0.1


# --- MeanFlow's DiT (arXiv 2505.13447), its tensors as zhuyu-cs/MeanFlow names them ------------------------

WIDTH, HEADS, PATCH, CHANNELS, TOKENS = 24, 3, 2, 4, 16


def linear(w: Weights, name: str, x: Tensor, outputs: int) -> Tensor:
    weight = w(f"{name}.weight", outputs, x.shape[-1], scale=x.shape[-1] ** -0.5)
    return x @ weight.T + w(f"{name}.bias", outputs, scale=0.1)


def embedded(w: Weights, name: str, t: Tensor) -> Tensor:
    angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(128).double() / 128)
    features = torch.cat([angles.cos(), angles.sin()], dim=1)
    return linear(w, f"{name}.mlp.2", nnf.silu(linear(w, f"{name}.mlp.0", features, WIDTH)), WIDTH)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return nnf.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def attended(w: Weights, name: str, x: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    qkv = linear(w, f"{name}.qkv", x, 3 * width).reshape(batch, tokens, 3, HEADS, width // HEADS)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(2, 3) / math.sqrt(width // HEADS)).softmax(3)
    return linear(w, f"{name}.proj", (weights @ v).transpose(1, 2).reshape(x.shape), width)


def meanflow_raw(w: Weights, z: Tensor, t: Tensor, r: Tensor, labels: Tensor | None, tokens: int = TOKENS) -> Tensor:
    """u(z, r, t) of two blocks."""
    side = math.isqrt(tokens)
    kernel = w("x_embedder.proj.weight", WIDTH, CHANNELS, PATCH, PATCH, scale=0.25)
    x = nnf.conv2d(z, kernel, w("x_embedder.proj.bias", WIDTH, scale=0.1), stride=PATCH)
    x = x.flatten(2).transpose(1, 2) + w("pos_embed", 1, tokens, WIDTH)
    table = w("y_embedder.embedding_table.weight", CLASSES + 1, WIDTH)
    rows = torch.full((len(z),), CLASSES) if labels is None else labels
    c = embedded(w, "t_embedder", t) + embedded(w, "r_embedder", t - r) + table[rows]
    for n in range(2):
        name = f"blocks.{n}"
        s1, k1, g1, s2, k2, g2 = linear(w, f"{name}.adaLN_modulation.1", nnf.silu(c), 6 * WIDTH).chunk(6, dim=1)
        x = x + g1[:, None] * attended(w, f"{name}.attn", modulated(x, s1, k1))
        h = nnf.gelu(linear(w, f"{name}.mlp.fc1", modulated(x, s2, k2), 4 * WIDTH), approximate="tanh")
        x = x + g2[:, None] * linear(w, f"{name}.mlp.fc2", h, WIDTH)
    shift, scale = linear(w, "final_layer.adaLN_modulation.1", nnf.silu(c), 2 * WIDTH).chunk(2, dim=1)
    x = linear(w, "final_layer.linear", modulated(x, shift, scale), PATCH**2 * CHANNELS)
    x = x.reshape(len(z), side, side, PATCH, PATCH, CHANNELS)
    return torch.einsum("nhwpqc->nchpwq", x).reshape(z.shape)


def flowing(side: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """z, t and r, of a short gap, the whole and none."""
    z = torch.randn(3, CHANNELS, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return z, torch.tensor([0.3, 1.0, 0.7]).double(), torch.tensor([0.25, 0.0, 0.7]).double()


def meanflow_state(tokens: int = TOKENS) -> Checkpoint:
    w = Checkpoint()
    meanflow_raw(w, *flowing(2 * math.isqrt(tokens)), None, tokens)
    return w


def published_positions(side: int) -> Tensor:
    """The fixed embedding that the public networks add: of the column first, then of the row."""
    rows = []
    for i in range(side):
        for j in range(side):
            axes = []
            for place in (j, i):
                angles = [place / 10_000 ** (k / (WIDTH / 4)) for k in range(WIDTH // 4)]
                axes += [*map(math.sin, angles), *map(math.cos, angles)]
            rows.append(axes)
    return torch.tensor(rows, dtype=torch.float64)[None]


def as_tree(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the authors' JAX has them, the tree's keys joined by dots."""
    found = {}
    for name, tensor in state.items():
        if name == "pos_embed":
            continue
        place, _, part = name.rpartition(".")
        place = re.sub(r"\b(mlp|blocks|adaLN_modulation)\.(\d+)", r"\1.layers_\2", place).replace("r_emb", "h_emb")
        if place == "x_embedder.proj":
            leaf, kernel = ".kernel", tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor
        elif place == "y_embedder.embedding_table":
            leaf, kernel = "._flax_embedding.embedding", tensor
        else:
            leaf, kernel = "._flax_linear.kernel", tensor.T if tensor.ndim == 2 else tensor
        found[f"net.{place}{leaf if part == 'weight' else leaf.rpartition('.')[0] + '.bias'}"] = kernel
    return found


@pytest.mark.parametrize("labels", LABELS)
def test_a_meanflow_dit_is_the_public_network(labels):
    w, (z, t, r) = meanflow_state(), flowing()
    before = {name: tensor.clone() for name, tensor in w.items()}
    exact = meanflow_raw(w, z, t, r, labels)
    network = meanflow_network(w, heads=HEADS)
    close(network(z, t, r, labels), exact)
    assert all(torch.equal(w[name], before[name]) for name in before)
    single = meanflow_network({name: tensor.half() for name, tensor in w.items()}, heads=HEADS)
    assert {p.dtype for p in single.state_dict().values()} == {torch.float32}
    torch.testing.assert_close(
        meanflow_network({name: tensor.float() for name, tensor in w.items()}, HEADS)(z.float(), t, r, labels).double(),
        exact,
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_authors_tree_is_the_same_network_with_their_fixed_places():
    w, (z, t, r) = meanflow_state(256), flowing(32)
    w["pos_embed"] = published_positions(16)
    exact = meanflow_raw(w, z, t, r, LABELS[1], 256)
    close(meanflow_network(as_tree(w), heads=HEADS)(z, t, r, LABELS[1]), exact)
    tensors = meanflow_tensors(as_tree(w))
    assert tensors.keys() == w.keys()
    for name in w:
        torch.testing.assert_close(tensors[name], w[name], rtol=1e-12, atol=1e-12)


def test_the_map_of_a_meanflow_network_goes_where_its_sampler_does():
    """z_r = z - (t - r) u, in data units."""
    w, (z, t, r) = meanflow_state(), flowing()
    stepped = z - (t - r).reshape(-1, 1, 1, 1) * meanflow_raw(w, z, t, r, LABELS[1])
    angle, end = (torch.atan2(time, SIGMA_D * (1 - time)) for time in (t, r))
    to_unit = lambda points, a: points * (a.cos() + SIGMA_D * a.sin()).reshape(-1, 1, 1, 1) / SIGMA_D  # noqa: E731
    x = to_unit(z, angle)
    jump = meanflow_jump(meanflow_network(w, heads=HEADS), SIGMA_D, LABELS[1])
    close(rotate(x, jump(end)(x, angle), angle, end), to_unit(stepped, end))


@pytest.mark.slow
def test_published_sizes_are_read_off_their_tensors():
    """DiT-XL/2, its tensors without content, as the paper has it: 676 M parameters."""
    w, depth = 1152, 28
    shapes = {
        "x_embedder.proj": (w, 4, 2, 2),
        "final_layer.linear": (16, w),
        "final_layer.adaLN_modulation.1": (2 * w, w),
    }
    shapes |= {f"{e}_embedder.mlp.{n}": (w, 256 if n == 0 else w) for e in "tr" for n in (0, 2)}
    for n in range(depth):
        block = {"attn.qkv": (3 * w, w), "attn.proj": (w, w), "mlp.fc1": (4 * w, w), "mlp.fc2": (w, 4 * w)}
        shapes |= {f"blocks.{n}.{name}": shape for name, shape in (block | {"adaLN_modulation.1": (6 * w, w)}).items()}
    layout = {f"{name}.weight": shape for name, shape in shapes.items()}
    layout |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    layout |= {"y_embedder.embedding_table.weight": (1001, w), "pos_embed": (1, 256, w)}
    state = {name: torch.empty(shape, device="meta") for name, shape in layout.items()}
    network = meanflow_network(state)
    assert isinstance(network, MeanFlowDiT) and network.dit.shape == (4, 32, 32) and network.dit.patch == 2
    assert network.dit.blocks[0].heads == 16 and len(network.dit.blocks) == depth
    assert sum(p.numel() for p in network.parameters()) == sum(t.numel() for t in state.values()) - 256 * w
    x, t = torch.zeros(2, 4, 32, 32, device="meta"), torch.ones(2, device="meta")
    assert network(x, t, t / 2).shape == x.shape


def test_what_is_no_meanflow_dit_is_named():
    w = meanflow_state()
    for name in ("blocks.1.attn.qkv.bias", "r_embedder.mlp.2.weight", "pos_embed"):
        with pytest.raises(ValueError, match=f"missing: {re.escape(name)}$"):
            meanflow_network(without(w, name))
    with pytest.raises(ValueError, match=r"not of MeanFlow's DiT; unexpected: blocks\.0\.attn\.q_norm\.weight$"):
        meanflow_network(w | {"blocks.0.attn.q_norm.weight": torch.ones(8)})
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1\.bias \(7,\) instead of \(96,\)"):
        meanflow_network(w | {"blocks.0.mlp.fc1.bias": torch.ones(7)})
    with pytest.raises(ValueError, match=r"pos_embed \(3,\) instead of \(1, "):
        meanflow_network(w | {"pos_embed": torch.ones(3)})
    with pytest.raises(ValueError, match=r"neither layout of MeanFlow's DiT.*: blocks\.weight"):
        meanflow_network({"blocks.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="how many heads has a width of 24"):
        meanflow_network(w)
    with pytest.raises(ValueError, match="how many heads has a width of 24"):
        meanflow_network(w, heads=5)


# --- CTM's DDPM++ (arXiv 2310.02279), its tensors as sony/ctm names them -------------------------------------


def ctm_block(w: Weights, name: str, x: Tensor, e: tuple[Tensor, Tensor], outputs: int, resample="", attends=False):
    """EDM's block, whose shift is of both embeddings."""
    y = edm_conv(w, f"{name}.conv0", nnf.silu(edm_norm(w, f"{name}.norm0", x)), outputs, 3, resample)
    y = (
        y
        + (edm_linear(w, f"{name}.affine", e[0], outputs) + edm_linear(w, f"{name}.affine_s", e[1], outputs))[
            ..., None, None
        ]
    )
    y = edm_conv(w, f"{name}.conv1", nnf.silu(edm_norm(w, f"{name}.norm1", y)), outputs, 3)
    straight = x.shape[1] == outputs and not resample
    x = (y + (x if straight else edm_conv(w, f"{name}.skip", x, outputs, 1, resample))) / math.sqrt(2)
    if attends:
        q, k, v = (
            edm_conv(w, f"{name}.qkv", edm_norm(w, f"{name}.norm2", x), 3 * outputs, 1)
            .reshape(len(x), outputs, 3, -1)
            .unbind(2)
        )
        weights = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(outputs)).softmax(2)
        y = torch.einsum("bqk,bck->bcq", weights, v).reshape(x.shape)
        x = (x + edm_conv(w, f"{name}.proj", y, outputs, 1)) / math.sqrt(2)
    return x


def ctm_raw(w: Weights, x: Tensor, c_noise: Tensor, c_end: Tensor, labels: Tensor | None) -> Tensor:
    """Of 8x8 and 4x4 pixels, one block a level, attention at 4x4."""
    frequencies = 10_000 ** -(torch.arange(16).double() / 15)
    hot = torch.zeros(len(x), CLASSES).double()
    if labels is not None:
        hot[range(len(x)), labels] = math.sqrt(CLASSES)
    e = []
    for c, which in ((c_noise, ""), (c_end, "_s")):
        angles = c[:, None] * frequencies
        told = torch.cat([angles.sin(), angles.cos()], dim=1) + edm_linear(w, "model.map_label", hot, 32)
        told = nnf.silu(edm_linear(w, f"model.map_layer0{which}", told, 128))
        e.append(nnf.silu(edm_linear(w, f"model.map_layer1{which}", told, 128)))
    both = (e[0], e[1])
    h0 = edm_conv(w, "model.enc.8x8_conv", x, 32, 3)

    def block(name: str, x: Tensor, outputs: int, resample: str = "", attends: bool = False) -> Tensor:
        return ctm_block(w, f"model.{name}", x, both, outputs, resample, attends)

    y = of_two_levels(block, h0, 32)
    return edm_conv(w, "model.dec.8x8_aux_conv", nnf.silu(edm_norm(w, "model.dec.8x8_aux_norm", y)), 3, 3)


def ctm_map(w: Weights, x: Tensor, sigma: Tensor, end: Tensor, labels: Tensor | None) -> Tensor:
    """G, with EDM's preconditioning inside."""
    s, to = (n.reshape(-1, 1, 1, 1) for n in (sigma, end))
    total = s.square() + SIGMA_D**2
    output = ctm_raw(w, x / total.sqrt(), sigma.log() / 4, end.log() / 4, labels)
    inner = SIGMA_D**2 / total * x + s * SIGMA_D / total.sqrt() * output
    return to / s * x + (1 - to / s) * inner


def noisy() -> tuple[Tensor, Tensor, Tensor]:
    sigma, end = torch.tensor([[0.02, 0.7, 60.0], [0.002, 0.3, 60.0]], dtype=torch.float64)
    noise = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 0.5 * noise.flip(0) + sigma.reshape(-1, 1, 1, 1) * noise, sigma, end


def ctm_state() -> Checkpoint:
    w = Checkpoint()
    ctm_map(w, *noisy(), None)
    return w


@pytest.mark.one_in(2)
@pytest.mark.parametrize("labels", LABELS)
def test_ctms_network_jumps_as_the_public_one(labels):
    w, (x_sigma, sigma, end) = ctm_state(), noisy()
    before = {name: tensor.clone() for name, tensor in w.items()}
    exact = ctm_map(w, x_sigma, sigma, end, labels)
    x, t = trig_from_edm(x_sigma, sigma, SIGMA_D)
    u = torch.atan(end / SIGMA_D)
    jump = ctm_jump(ctm_network(w), SIGMA_D, labels)
    close(SIGMA_D * rotate(x, jump(u)(x, t), t, u) / u.cos().reshape(-1, 1, 1, 1), exact)
    close(jump(0 * u)(x, t), jump(0 * u + math.atan(0.002 / SIGMA_D))(x, t))  # told the least level that it knows
    assert (jump(u)(x, t) - jump(0 * u)(x, t)).abs().max() > 0.1
    assert all(torch.equal(w[name], before[name]) for name in before)
    single = ctm_network({name: tensor.half() for name, tensor in w.items()})
    assert {p.dtype for p in single.state_dict().values()} == {torch.float32}


def test_what_is_no_network_of_ctm_is_named():
    w = ctm_state()
    for name in ("model.dec.4x4_in1.affine_s.bias", "model.map_layer0_s.weight", "model.enc.8x8_block0.conv0.bias"):
        with pytest.raises(ValueError, match=f"missing: {re.escape(name)}$"):
            ctm_network(without(w, name))
    with pytest.raises(
        ValueError, match=r"CTM's second time; of another shape: model\.map_layer1_s\.bias \(7,\) instead"
    ):
        ctm_network(w | {"model.map_layer1_s.bias": torch.ones(7)})
    with pytest.raises(ValueError, match=r"unexpected: model\.enc\.8x8_block0\.conv0_train\.bias$"):
        ctm_network(w | {"model.enc.8x8_block0.conv0_train.bias": torch.ones(32)})
    with pytest.raises(ValueError, match="a network of one time"):
        ctm_network({name: tensor for name, tensor in w.items() if "_s." not in name})


# --- sCM's networks as FastGen saves EDM's and EDM2's ---------------------------------------------------------


def as_fastgen(family: str) -> dict[str, Tensor]:
    """With the head of the adaptive weight, and gains of one number each."""
    state = checkpoint(family)
    if family == "edm":
        head = {"model.logvar_linear.weight": torch.ones(1, 64), "model.logvar_linear.bias": torch.ones(1)}
        return without(state, "model.map_augment.weight") | head
    return {name: tensor[None] if name.endswith("_gain") else tensor for name, tensor in state.items()}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("family", RAW)
def test_a_consistency_model_of_fastgens_is_edms_network_whose_denoiser_is_the_map(family):
    sigma = torch.tensor([0.02, 0.7, 60.0], dtype=torch.float64)
    x_sigma = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (
        0.5 + sigma
    ).reshape(-1, 1, 1, 1)
    exact = denoised(RAW[family], checkpoint(family), x_sigma, sigma, LABELS[1])
    field = edm_field(edm_network(scm_tensors(as_fastgen(family))), SIGMA_D, LABELS[1])
    x, t = trig_from_edm(x_sigma, sigma, SIGMA_D)
    close(SIGMA_D * rotate(x, field(x, t), t, 0 * t), exact)


def test_what_is_no_consistency_model_of_fastgens_is_named():
    state = as_fastgen("edm2")
    with pytest.raises(ValueError, match=r"missing: unet\.emb_fourier\.freqs"):
        scm_tensors(without(state, "unet.emb_fourier.freqs"))
    with pytest.raises(ValueError, match=r"emb_noise_r\.weight is of a second time"):
        scm_tensors(state | {"unet.emb_noise_r.weight": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"out_gain \(2,\) instead of \(\)"):
        scm_tensors(state | {"unet.out_gain": torch.ones(2)})


# --- MeanFlow's U-Net of CIFAR-10, its tensors as Gsunshine/py-meanflow names them ---------------------------


def blurring_conv(w: Weights, name: str, x: Tensor, outputs: int, kernel: int, resample: str) -> Tensor:
    """EDM's convolution with the filter [1, 3, 3, 1] before it, written over padded or spread pixels."""
    row = torch.tensor([1, 3, 3, 1]).double() / 8
    square = w(f"{name}.resample_filter", 1, 1, 4, 4).copy_(row[:, None] * row).expand(x.shape[1], 1, 4, 4)
    if resample == "down":
        x = nnf.conv2d(nnf.pad(x, (1, 1, 1, 1)), square, groups=x.shape[1])[:, :, ::2, ::2]
    else:
        spread = torch.zeros(*x.shape[:2], 2 * x.shape[2] - 1, 2 * x.shape[3] - 1).double()
        spread[:, :, ::2, ::2] = x
        x = nnf.conv2d(nnf.pad(spread, (2, 2, 2, 2)), 4 * square, groups=x.shape[1])
    return edm_conv(w, name, x, outputs, kernel)


def mf_block(w: Weights, name: str, x: Tensor, e: Tensor, outputs: int, resample="", attends=False) -> Tensor:
    """EDM's block, whose attention has all queries before all keys and values."""
    y = nnf.silu(edm_norm(w, f"{name}.norm0", x))
    conv = blurring_conv if resample else edm_conv
    y = conv(w, f"{name}.conv0", y, outputs, 3, resample) + edm_linear(w, f"{name}.affine", e, outputs)[..., None, None]
    y = edm_conv(w, f"{name}.conv1", nnf.silu(edm_norm(w, f"{name}.norm1", y)), outputs, 3)
    straight = x.shape[1] == outputs and not resample
    x = (y + (x if straight else conv(w, f"{name}.skip", x, outputs, 1, resample))) / math.sqrt(2)
    if attends:
        q, k, v = edm_conv(w, f"{name}.qkv", edm_norm(w, f"{name}.norm2", x), 3 * outputs, 1).flatten(2).chunk(3, dim=1)
        weights = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(outputs)).softmax(2)
        y = torch.einsum("bqk,bck->bcq", weights, v).reshape(x.shape)
        x = (x + edm_conv(w, f"{name}.proj", y, outputs, 1)) / math.sqrt(2)
    return x


def mf_unet(w: Weights, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Of 8x8 and 4x4 pixels, one block a level, attention at 4x4; noise channels are twice the width."""
    frequencies = 10_000 ** -(torch.arange(32).double() / 31)
    told = []
    for c in (t, t - r):
        angles = c[:, None] * frequencies
        told += [angles.sin(), angles.cos()]
    w("map_augment.weight", 128, 6)
    e = nnf.silu(edm_linear(w, "map_layer0", torch.cat(told, dim=1), 128))
    e = nnf.silu(edm_linear(w, "map_layer1", e, 128))
    h0 = edm_conv(w, "enc.8x8_conv", z, 32, 3)

    def block(name: str, x: Tensor, outputs: int, resample: str = "", attends: bool = False) -> Tensor:
        return mf_block(w, name, x, e, outputs, resample, attends)

    y = of_two_levels(block, h0, 32)
    return edm_conv(w, "dec.8x8_aux_conv", nnf.silu(edm_norm(w, "dec.8x8_aux_norm", y)), 3, 3)


def mf_unet_state() -> Checkpoint:
    w = Checkpoint()
    z, t, r = flowing()
    mf_unet(w, z[:, :3], t, r)
    return w


def test_meanflows_unet_is_the_public_network_and_its_average_is_taken():
    w, (z, t, r) = mf_unet_state(), flowing()
    before = {name: tensor.clone() for name, tensor in w.items()}
    exact = mf_unet(w, z[:, :3], t, r)
    close(meanflow_unet(w)(z[:, :3], t, r), exact)
    assert all(torch.equal(w[name], before[name]) for name in before)
    whole = {f"net_ema.{name}": tensor for name, tensor in w.items()} | {"num_updates": torch.tensor(3)}
    whole |= {f"{net}.{name}": 0 * tensor for net in ("net", "net_ema1") for name, tensor in w.items()}
    close(meanflow_unet(whole)(z[:, :3], t, r), exact)
    halved = meanflow_unet({name: tensor.half() for name, tensor in w.items()})
    assert {p.dtype for p in halved.state_dict().values()} == {torch.float32}
    angle, end = (torch.atan2(time, SIGMA_D * (1 - time)) for time in (t, r))
    field = meanflow_unet_jump(meanflow_unet(w), SIGMA_D)(end)
    x, _ = trig_from_flow(z[:, :3], t, SIGMA_D)
    stepped = z[:, :3] - (t - r).reshape(-1, 1, 1, 1) * exact
    close(rotate(x, field(x, angle), angle, end), trig_from_flow(stepped, r, SIGMA_D)[0])


def test_what_is_no_unet_of_meanflows_is_named():
    w = mf_unet_state()
    for name in ("dec.4x4_in1.conv0.bias", "dec.4x4_in0.qkv.weight", "map_layer1.weight"):
        with pytest.raises(ValueError, match=f"missing: model.{re.escape(name)}$"):
            meanflow_unet(without(w, name))
    with pytest.raises(ValueError, match=r"unexpected: model\.strange$"):
        meanflow_unet(w | {"strange": torch.ones(1)})
    with pytest.raises(ValueError, match=r"filters.*conv0\.resample_filter \(1, 1, 2, 2\) instead of \(1, 1, 4, 4\)"):
        meanflow_unet(w | {"enc.4x4_down.conv0.resample_filter": torch.ones(1, 1, 2, 2)})
    with pytest.raises(ValueError, match=r"filters other than \[1, 3, 3, 1\] / 8: enc\.4x4_down\.conv0"):
        meanflow_unet(w | {"enc.4x4_down.conv0.resample_filter": torch.ones(1, 1, 4, 4)})
    with pytest.raises(ValueError, match=r"qkv\.bias \(7,\) instead of \(192,\)"):
        meanflow_unet(w | {"dec.4x4_in0.qkv.bias": torch.ones(7)})
    with pytest.raises(ValueError, match="no U-Net of MeanFlow's"):
        meanflow_unet({"weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"map_layer0\.weight \(128, 130\) instead of \(128, 128\)"):
        meanflow_unet(w | {"map_layer0.weight": torch.ones(128, 130)})
