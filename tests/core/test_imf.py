"""iMF's DiT out of made-up tensors, against the public architecture and sampler re-stated here."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as nnf

from tests.core.test_teachers import Checkpoint, Weights, without
from trigbench.core.condition import Condition
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.layouts import shapes_of
from trigbench.core.networks.families import map_family_of
from trigbench.core.networks.imf import WHOLE, IMFDiT, imf_jump, imf_network, imf_tensors
from trigbench.core.networks.maps import IMFMap
from trigbench.core.trigflow import rotate

CLASSES, SIGMA_D = 3, 0.5
GUIDED: dict[str, Any] = {"scale": 8.0, "interval": (0.4, 0.65)}
WIDTH, HEADS, PATCH, CHANNELS, SIDE = 24, 2, 8, 4, 32
TABLE = "y_embedder.embedding_table._flax_embedding.weight"
LABELS = [None, torch.tensor([2, 0, 1])]


def linear(w: Weights, name: str, x: Tensor, outputs: int, bias: bool = False) -> Tensor:
    weight = w(f"{name}._flax_linear.weight", outputs, x.shape[-1], scale=x.shape[-1] ** -0.5)
    return x @ weight.T + (w(f"{name}._flax_linear.bias", outputs, scale=0.1) if bias else 0)


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w(f"{name}.weight", x.shape[-1])


def embedded(w: Weights, name: str, number: Tensor) -> Tensor:
    angles = number[:, None] * torch.exp(-math.log(10_000) * torch.arange(128).double() / 128)
    features = torch.cat([angles.cos(), angles.sin()], dim=1)
    return linear(w, f"{name}.mlp.2", nnf.silu(linear(w, f"{name}.mlp.0", features, WIDTH, True)), WIDTH, True)


def turned(x: Tensor) -> Tensor:
    """(batch, tokens, heads, channels), neighbours as complex numbers."""
    channels = x.shape[3]
    frequencies = 10_000 ** -(torch.arange(0, channels, 2).double() / channels)
    turns = torch.polar(torch.ones(1).double(), torch.outer(torch.arange(x.shape[1]).double(), frequencies))
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:3], -1, 2)) * turns[:, None]).reshape(x.shape)


def block(w: Weights, name: str, x: Tensor) -> Tensor:
    h = normed(w, f"{name}.norm1", x)
    q, k, v = (
        linear(w, f"{name}.attn.{part}_proj", h, WIDTH).reshape(*h.shape[:2], HEADS, WIDTH // HEADS) for part in "qkv"
    )
    q, k = turned(normed(w, f"{name}.attn.q_norm", q)), turned(normed(w, f"{name}.attn.k_norm", k))
    weights = torch.einsum("bqhd,bkhd->bhqk", q / math.sqrt(WIDTH // HEADS), k).softmax(3)
    h = torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
    x = x + linear(w, f"{name}.attn.out_proj", h, WIDTH) * w(f"{name}.attn_scale", WIDTH)
    h, hidden = normed(w, f"{name}.norm2", x), int(WIDTH * 8 / 3)
    h = nnf.silu(linear(w, f"{name}.mlp.w1", h, hidden)) * linear(w, f"{name}.mlp.w3", h, hidden)
    return x + linear(w, f"{name}.mlp.w2", h, WIDTH) * w(f"{name}.mlp_scale", WIDTH)


def published(w: Weights, z: Tensor, gap: Tensor, labels: Tensor | None, scale=1.0, interval=(0.0, 1.0)) -> Tensor:
    """u of one shared block and two of its own."""
    of = lambda name, *shape, **how: w(f"net.{name}", *shape, **how)  # noqa: E731
    kernel = of("x_embedder.proj.weight", WIDTH, CHANNELS, PATCH, PATCH, scale=1 / 16)
    x = nnf.conv2d(z, kernel, of("x_embedder.proj.bias", WIDTH, scale=0.1), stride=PATCH).flatten(2).transpose(1, 2)
    table = of(TABLE, CLASSES + 1, WIDTH)
    rows = torch.full((len(z),), CLASSES) if labels is None else labels
    tokens = [of("class_tokens", 8, WIDTH) + table[rows][:, None]]
    omega, start, end = (torch.full_like(gap, number) for number in (1 - 1 / scale, *interval))
    for name, embedder, count, number in (
        ("omega", "omega_embedder", 4, omega),
        ("t_min", "cfg_t_start_embedder", 2, start),
        ("t_max", "cfg_t_end_embedder", 2, end),
        ("time", "h_embedder", 4, gap),
    ):
        tokens.append(of(f"{name}_tokens", count, WIDTH) + embedded(of, embedder, number)[:, None])
    x = torch.cat([*tokens, x], dim=1)
    for name in ("shared_blocks.0", "u_heads.0", "u_heads.1"):
        x = block(of, name, x)
    x = linear(of, "u_final_layer.linear", normed(of, "u_final_layer.norm", x[:, 20:]), PATCH**2 * CHANNELS, True)
    x = x.reshape(len(z), SIDE // PATCH, SIDE // PATCH, PATCH, PATCH, CHANNELS)
    return torch.einsum("nhwpqc->nchpwq", x).reshape(z.shape)


def flowing() -> tuple[Tensor, Tensor, Tensor]:
    """z, t and r, of a short gap, the whole and none."""
    z = torch.randn(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return z, torch.tensor([0.3, 1.0, 0.7]).double(), torch.tensor([0.25, 0.0, 0.7]).double()


def imf_state() -> Checkpoint:
    w, (z, t, r) = Checkpoint(), flowing()
    published(w, z, t - r, None)
    return w


def imf_written() -> dict[str, Tensor]:
    """As `trigbench convert` writes it."""
    return imf_tensors(imf_state())


def close(ours: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize("labels", LABELS)
def test_an_imf_dit_is_the_public_network(labels):
    w, (z, t, r) = imf_state(), flowing()
    before = {name: tensor.clone() for name, tensor in w.items()}
    network = imf_network(w)
    guided, plain = (published(w, z, t - r, labels, **told) for told in (GUIDED, {}))
    close(network(z, t, r, labels, **GUIDED), guided)
    close(network(z, t, r, labels), plain)
    assert (guided - plain).abs().max() > 0.1
    assert w.keys() == before.keys() and all(torch.equal(w[name], before[name]) for name in before)
    half = imf_network({name: tensor.half() for name, tensor in w.items()})
    assert {p.dtype for p in half.state_dict().values()} == {torch.float32}
    narrow = imf_network({name: tensor.float() for name, tensor in w.items()})(z.float(), t, r, labels)
    torch.testing.assert_close(narrow.double(), plain, rtol=1e-4, atol=1e-4)


def test_its_map_goes_where_the_authors_sampler_does_and_is_guided_as_it_is_told():
    """z_r = z - (t - r) u, in data units."""
    w, (z, t, r) = imf_state(), flowing()
    angle, end = (torch.atan2(time, SIGMA_D * (1 - time)) for time in (t, r))
    to_unit = lambda points, a: points * (a.cos() + SIGMA_D * a.sin()).reshape(-1, 1, 1, 1) / SIGMA_D  # noqa: E731
    x = to_unit(z, angle)
    for guidance in ({}, GUIDED):
        stepped = z - (t - r).reshape(-1, 1, 1, 1) * published(w, z, t - r, LABELS[1], **guidance)
        jump = imf_jump(imf_network(w), SIGMA_D, LABELS[1], **guidance)
        close(rotate(x, jump(end)(x, angle), angle, end), to_unit(stepped, end))
    for scale, interval in (
        (0.9, WHOLE),
        (math.nan, WHOLE),
        (2.0, (-0.1, 0.5)),
        (2.0, (0.6, 0.9)),
        (2.0, (0.1, 0.3)),
        (2.0, (0.5, 1.1)),
    ):
        with pytest.raises(ValueError, match="of a scale from 1, within flow times"):
            imf_jump(imf_network(w), SIGMA_D, None, scale, interval)


def test_its_tangent_by_pairs_is_that_of_forward_mode():
    """Through rotations, norms of queries and keys, and the gap that moves with the time."""
    x, t, _ = flowing()
    field = imf_jump(imf_network(imf_state()), SIGMA_D, LABELS[1])(t / 2)
    along = (torch.randn_like(x), torch.tensor([1.0, 0.5, -1.0]).double())
    found, exact = (value_and_tangent(field, (x, t), along, method) for method in ("pairs", "func"))
    for ours, theirs in zip(found, exact, strict=True):
        close(ours, theirs)


def test_names_of_either_release_are_read_and_the_second_head_is_left_aside():
    w = imf_state()
    tensors = imf_tensors(w)
    assert tensors.keys() == imf_network(w).state_dict().keys() and map_family_of(tensors) == "imf"
    renamed = {re.sub(r"(attn|mlp)_scale$", r"\1_gate", name): tensor for name, tensor in w.items()}
    second = {re.sub(r"u_(heads|final)", r"v_\1", name): tensor for name, tensor in w.items() if ".u_" in name}
    for other in (tensors, renamed, w | second, {name.removeprefix("net."): tensor for name, tensor in w.items()}):
        found = imf_tensors(other)
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_published_size_is_read_off_its_tensors():
    """iMF-B/2, its tensors without content."""
    with torch.device("meta"):
        state = IMFDiT((4, 32, 32), 1000).state_dict()
    shapes = {
        "shared_blocks.3.mlp.w1": (2048, 768),
        "u_heads.7.attn.q_proj": (768, 768),
        "u_final_layer.linear": (16, 768),
        "y_embedder.embedding_table": (1001, 768),
    }
    assert all(shapes_of(state)[f"{name}.weight"] == shape for name, shape in shapes.items())
    network = imf_network(state)
    assert (network.shape, network.classes, network.patch, network.pairs) == ((4, 32, 32), 1000, 2, 32)
    assert (len(network.shared_blocks), len(network.u_heads)) == (4, 8)


def test_a_network_starts_at_zero_and_refuses_what_does_not_fit():
    network = IMFMap((4, 8, 8), 3, ("target_time",), 0.5, width=24, heads=2, shared=1, own=1).network
    z, t = torch.randn(2, 4, 8, 8), torch.ones(2)
    assert network(z, t, t / 2, torch.tensor([0, 2])).abs().max() == 0
    for settings in ({"patch": 3}, {"heads": 5}, {"width": 18}):
        with pytest.raises(ValueError, match="patch must divide the side, and heads the width in pairs"):
            IMFDiT((4, 8, 8), **({"width": 24, "heads": 2} | settings))
    with pytest.raises(ValueError, match=r"points of shape \(4, 8, 8\)"):
        network(torch.randn(2, 4, 16, 16), t, t)
    with pytest.raises(ValueError, match="told a target time alone"):
        IMFMap((4, 8, 8), 3, (), 0.5)


def test_a_network_of_a_study_with_its_weights_is_its_map():
    (x, t, u), w = flowing(), imf_state()
    student = IMFMap((CHANNELS, SIDE, SIDE), CLASSES, ("target_time",), SIGMA_D,
                     width=WIDTH, heads=HEADS, shared=1, own=2, patch=PATCH).double()  # fmt: skip
    student.network.load_state_dict(imf_tensors(w))
    exact = imf_jump(imf_network(w), SIGMA_D, LABELS[1])(u)(x, t)
    close(student(x, t, Condition(LABELS[1], target_time=u)), exact)


def test_what_is_no_imf_dit_is_named():
    w = imf_state()
    refused = [
        (without(w, "net.u_heads.1.attn.k_proj._flax_linear.weight"), r"missing: u_heads\.1\.attn\.k_proj\.weight$"),
        (without(w, "net.omega_tokens"), r"missing: omega_tokens$"),
        (without(w, "net.shared_blocks.0.mlp_scale"), r"missing: shared_blocks\.0\.mlp_scale$"),
        ({name: tensor for name, tensor in w.items() if ".u_heads." not in name}, r"missing: u_heads\.0"),
        (w | {"pos_embed": torch.ones(1)}, r"not of iMF's DiT; unexpected: pos_embed$"),
        (w | {"net.u_heads.0.attn_scale": torch.ones(7)}, r"u_heads\.0\.attn_scale \(7,\) instead of \(24,\)"),
        (w | {"net.time_tokens": torch.ones(3, 24)}, r"time_tokens \(3, 24\) instead of \(4, 24\)"),
        (w | {f"net.{TABLE}": torch.ones(7)}, r"embedding_table\.weight \(7,\) instead of \(1, 24\)"),
        ({"blocks.weight": torch.ones(1)}, r"no DiT of iMF's.*: blocks\.weight"),
    ]
    for state, words in refused:
        with pytest.raises(ValueError, match=words):
            imf_tensors(state)
