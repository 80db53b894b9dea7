"""DDPM++, EDM2 and DiT: what they are told, norms, counts, precision, and the fast tangent through them."""

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trigbench.core.condition import Condition
from trigbench.core.fields import bind
from trigbench.core.forward_mode import TangentMethod, value_and_tangent
from trigbench.core.networks import adm, ddpmpp, dit, edm2
from trigbench.core.networks.adm import ADM, ADMEmbedding
from trigbench.core.networks.conditioning import NUMBERS
from trigbench.core.networks.ddpmpp import DDPMpp, EDMEmbedding
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2, FourierPhases, MPLayer, mp_cat, mp_silu, mp_sum, unit
from trigbench.core.networks.embeddings import noise_coordinate
from trigbench.core.networks.images import attend, resample
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.networks.unet import plan_of

SHAPE = (3, 8, 8)
U_NET: dict[str, Any] = {"shape": SHAPE, "width": 16, "multipliers": (1, 2), "blocks": 1, "attention": (4,)}
SMALL: dict[str, Callable[..., nn.Module]] = {
    "adm": lambda **changes: ADM(**U_NET, **changes),
    "adm-plain": lambda **changes: ADM(**U_NET, **adm.PLAIN, **changes),
    "ddpmpp": lambda **changes: DDPMpp(**U_NET, **changes),
    "ddpmpp-plain": lambda **changes: DDPMpp(**U_NET, **ddpmpp.PLAIN, **changes),
    "edm2": lambda **changes: EDM2(**U_NET, **changes),
    "edm2-plain": lambda **changes: EDM2(**U_NET, **edm2.PLAIN, **changes),
    "dit": lambda **changes: DiT(SHAPE, width=24, depth=2, heads=2, **changes),
    "dit-plain": lambda **changes: DiT(SHAPE, width=24, depth=2, heads=2, conditioning="plain", **changes),
}
ALL = pytest.mark.parametrize("name", SMALL)
LAYOUTS = json.loads(Path(__file__).with_name("layouts.json").read_text())
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.one_in(2)  # the networks with the paper's conditioning; those with the plain one are slow


def made(name: str, dtype: torch.dtype = torch.float32, awake: bool = True, **changes: Any) -> Any:
    """The small network of that name, with no parameter at zero if `awake`."""
    torch.manual_seed(0)
    network = SMALL[name](**changes).to(dtype)
    if awake:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def points(dtype: torch.dtype = torch.float32, batch: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.to(dtype), torch.linspace(0.2, 1.4, batch, dtype=dtype)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x: Tensor, *dims: int) -> Tensor:
    return x.square().mean(dims or None).sqrt()


# --- what they are told ----------------------------------------------------------------------------


@pytest.mark.one_in(6)
@ALL
def test_the_output_depends_on_all_that_is_given_and_every_parameter_learns(name):
    network, (x, t) = made(name, torch.float64, classes=4, told=NUMBERS), points(torch.float64)
    labels, scale, edge = torch.tensor([0, 3, 4]), torch.tensor([1.0, 1.5, 2.0]), torch.tensor([0.1, 0.2, 0.3])
    output = network(x, t, Condition(labels, scale, edge))
    assert output.shape == x.shape and output.isfinite().all()
    others = [
        (x + 0.1, t, Condition(labels, scale, edge)),
        (x, t + 0.1, Condition(labels, scale, edge)),
        (x, t, Condition(labels.flip(0), scale, edge)),
        (x, t, Condition(labels, scale + 0.1, edge)),
        (x, t, Condition(labels, scale, edge + 0.1)),
    ]
    assert all((network(*other) - output).abs().max() > 1e-6 for other in others)
    gradients = torch.autograd.grad(output.square().sum(), list(network.parameters()))
    still = [n for (n, _), g in zip(network.named_parameters(), gradients, strict=True) if not g.any()]
    assert not still and all(g.isfinite().all() for g in gradients)
    single = [network(x[i : i + 1], t[i : i + 1], Condition(labels[[i]], scale[[i]], edge[[i]])) for i in range(3)]
    torch.testing.assert_close(torch.cat(single), output, rtol=1e-9, atol=1e-9)  # samples do not mix


@pytest.mark.one_in(5)
@ALL
def test_no_label_is_none_or_the_last_index(name):
    network, (x, t) = made(name, classes=5), points(batch=2)
    outputs = [network(x, t, torch.full((2,), label)) for label in range(6)]
    assert all((a - b).abs().max() > 1e-5 for i, a in enumerate(outputs) for b in outputs[:i])
    torch.testing.assert_close(network(x, t), outputs[5])
    torch.testing.assert_close(bind(network, condition=torch.tensor([2, 2]))(x, t.double()), outputs[2])
    with pytest.raises((RuntimeError, IndexError)):
        network(x, t, torch.full((2,), 6))


@pytest.mark.parametrize("name", [*SMALL, "mlp"])
def test_labels_that_are_no_whole_numbers_of_a_class_are_refused(name):
    network = ResidualMLP(SHAPE, width=8, blocks=1, classes=3) if name == "mlp" else made(name, classes=3)
    x, t = points()
    for labels in (torch.eye(3), torch.eye(3, dtype=torch.long), torch.tensor([0.0, 1.0, 2.0]), torch.ones(3) > 0):
        with pytest.raises(ValueError, match="labels are whole numbers from 0, one a sample, not fractions or one-hot"):
            network(x, t, labels)
    for beyond in (-1, 4):  # 3 is no label
        with pytest.raises((IndexError, RuntimeError)):
            network(x, t, torch.tensor([0, 1, beyond]))


@pytest.mark.one_in(3)
@ALL
def test_a_number_adds_nothing_at_zero_nor_before_training(name):
    x, t = points()
    number = torch.tensor([0.5, 1.0, 2.0])
    awake, asleep = made(name, told=("scale",)), made(name, awake=False, told=("scale",))
    if hasattr(asleep, "out_gain"):
        nn.init.ones_(asleep.out_gain)
    if isinstance(asleep, ADM):
        nn.init.normal_(asleep.out_conv.weight)
    assert torch.equal(asleep(x, t, Condition(None, number)), asleep(x, t, Condition(None, 0 * number)))
    at_zero = awake(x, t, Condition(None, 0 * number))
    assert not torch.allclose(awake(x, t, Condition(None, number)), at_zero)
    nn.init.zeros_(awake.tell.lifts["scale"].weight)
    assert torch.equal(awake(x, t, Condition(None, number)), at_zero)


ONE = Condition(None, torch.ones(3))


@ALL
@pytest.mark.parametrize(("told", "condition"), [(("scale",), None), ((), ONE), (NUMBERS, ONE)])
def test_a_wrong_number_of_numbers_is_refused(name, told, condition):
    with pytest.raises(ValueError, match=f"told {', '.join(told) or 'nothing'}, as"):
        made(name, told=told)(*points(), condition)
    with pytest.raises(ValueError, match="told scale, as"):
        made(name, told=("scale",))(*points(), Condition())


@ALL
def test_points_of_another_shape_are_refused_with_both_shapes(name):
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*\(3, 16, 16\)"):
        made(name)(torch.zeros(1, 3, 16, 16), torch.zeros(1))


def test_sizes_that_cannot_be_made_are_refused(unchecked):
    with pytest.raises(ValueError, match="square"):
        DDPMpp((3, 8, 4))
    with pytest.raises(ValueError, match="divisible by 8"):
        EDM2((3, 12, 12))
    for name, setting in (
        ("ddpmpp", "embedding"),
        ("ddpmpp", "coordinate"),
        ("adm", "embedding"),
        ("edm2", "embedding"),
        ("dit", "conditioning"),
    ):
        wrong: Any = {setting: "foo"}
        with unchecked(), pytest.raises(ValueError, match=f"unknown {setting} 'foo'"):
            made(name, **wrong)
    with pytest.raises(ValueError, match="patch"):
        DiT((3, 8, 8), patch=3)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("embedding", ["positional", "fourier"])
@pytest.mark.parametrize("name", ["adm", "ddpmpp", "edm2"])
def test_a_unet_told_the_logarithm_of_noise_is_itself_at_edm_s_c_noise(name, embedding):
    plain, log = (made(name, embedding=embedding, coordinate=kind) for kind in ("angle", "log_noise_level"))
    x, t = points()
    assert torch.equal(log(x, t), plain(x, noise_coordinate(t, "log_noise_level", 0.5)))
    other = made(name, embedding=embedding, coordinate="log_noise_level", sigma_d=1.0)
    assert torch.equal(other(x, t), plain(x, noise_coordinate(t, "log_noise_level", 1.0)))
    assert not torch.allclose(log(x, t), plain(x, t), atol=1e-3)


@pytest.mark.slow
def test_ddpmpp_s_time_derivative_grows_with_fourier_features_and_with_the_logarithm():
    """Fig. 4 of the paper, before any training: at a large angle, over that of the angle and a positional embedding."""
    x, t = points()[0], torch.full((3,), 1.56)

    def size(**how: Any) -> float:
        network = made("ddpmpp", **how)
        return rms(torch.func.jvp(lambda t: network(x, t), (t,), (torch.ones_like(t),))[1]).item()

    tame = size()
    assert size(embedding="fourier") > 5 * tame
    assert size(coordinate="log_noise_level") > 2 * tame


@pytest.mark.parametrize("name", ["adm", "adm-plain", "edm2", "edm2-plain", "dit", "dit-plain"])
def test_they_start_at_zero(name):
    assert not made(name, awake=False)(*points()).any()


def test_dropout_acts_in_training_only_and_in_edm2_only_at_sixteen_pixels_and_below():
    network, (x, t) = made("ddpmpp", dropout=0.5), points()
    assert not torch.equal(network(x, t), network(x, t))
    assert torch.equal(network.eval()(x, t), network(x, t))
    wide = EDM2((3, 32, 32), width=16, multipliers=(1, 1), blocks=1, dropout=0.5)
    where = {name.split("_")[0].split(".")[-1] for name, m in wide.named_modules() if isinstance(m, nn.Dropout)}
    assert where == {"16x16"}


# --- norms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ddpmpp", "edm2"])
def test_double_normalisation_bounds_what_the_embedding_can_do(name):
    """Sec. 4.1: norm(y) * pnorm(s) + pnorm(b) has mean square 2 however large s and b are; plain has not."""
    y, e = normal(4, 32, 8, 8), normal(4, 64 if name == "ddpmpp" else 32, seed=1)
    sizes = {}
    for kind in (name, f"{name}-plain"):
        block = made(kind, torch.float64, awake=False).enc["4x4_block0"]
        if kind == "edm2-plain":
            nn.init.ones_(block.emb_gain)
        sizes[kind] = [rms(block.condition(y, k * e)).item() for k in (1.0, 1000.0)]
    assert sizes[name] == pytest.approx([math.sqrt(2)] * 2, rel=0.05)
    if name == "edm2":
        assert sizes["edm2-plain"][1] > 100


def test_double_normalisation_of_tokens_has_unit_scale_and_shift():
    s, b = 1000 * normal(2, 24), 1e-2 * normal(2, 24, seed=1)
    scale, shift = dit.scale_and_shift(s, b, "double")
    torch.testing.assert_close(rms(scale, 1, 2), torch.ones(2).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(rms(shift, 1, 2), torch.ones(2).double(), rtol=1e-2, atol=0)
    assert torch.equal(dit.scale_and_shift(s, b, "plain")[0], 1 + s[:, None])


def test_each_part_of_edm2_preserves_magnitude():
    a, b = normal(8, 48, 16, 16), normal(8, 16, 16, 16, seed=1)
    torch.manual_seed(0)
    for layer in (MPLayer(48, 64, kernel=3), MPLayer(48, 64, kernel=1)):
        assert rms(layer.double()(a)[:, :, 1:-1, 1:-1]).item() == pytest.approx(1, rel=0.02)
    assert rms(MPLayer(48, 64).double()(normal(500, 48))).item() == pytest.approx(1, rel=0.02)
    for balance in (0.3, 0.5):
        assert rms(mp_sum(a[:, :16], b, balance)).item() == pytest.approx(1, rel=0.01)
    joined = mp_cat(a, b)
    assert rms(joined).item() == pytest.approx(1, rel=0.01)
    assert joined[:, :48].square().sum().item() == pytest.approx(joined[:, 48:].square().sum().item(), rel=0.02)
    assert rms(mp_silu(a)).item() == pytest.approx(1, rel=0.01)
    torch.testing.assert_close(rms(unit(7 * a, dims=1), 1), torch.ones(8, 16, 16).double(), rtol=1e-3, atol=0)
    assert rms(FourierPhases(512)(torch.tensor([0.3, -0.5]).double())).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("kind", ["edm2", "edm2-plain"])
def test_blocks_of_edm2_preserve_magnitude(kind):
    """Unit in, about unit out."""
    torch.manual_seed(0)
    settings = {**U_NET, "shape": (3, 16, 16), "width": 32, **(edm2.PLAIN if kind == "edm2-plain" else {})}
    network = EDM2(**settings).double()
    e = normal(16, 64, seed=2)
    for place in (*network.plan.encoder, *network.plan.decoder):
        part = network.enc if place in network.plan.encoder else network.dec
        side = {"keep": 1, "down": 2, "up": 0.5}[place.resampling] * place.resolution
        y = part[place.name](normal(16, place.inputs, int(side), int(side)), e)
        assert 0.85 < rms(y).item() < 1.15, place


def test_the_weights_magnitude_does_not_matter_to_edm2():
    network, (x, t) = made("edm2", torch.float64), points(torch.float64)
    output = network(x, t)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, MPLayer):
                module.weight.mul_(10)
    torch.testing.assert_close(network(x, t), output, rtol=1e-2, atol=1e-3)


def test_forced_normalisation_is_pure_idempotent_and_outside_the_graph():
    network = made("edm2-plain", torch.float64, classes=3, told=("scale",))
    parameters = dict(network.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    forced = network.normalised_weights(parameters)
    assert all(torch.equal(parameters[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in forced.values())
    layers = [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, MPLayer)]
    assert list(forced) == layers
    for p in forced.values():
        sizes = rms(p, *range(1, p.ndim))
        torch.testing.assert_close(sizes, torch.ones_like(sizes), rtol=1e-3, atol=0)
    assert {"out_gain", "tell.lifts.scale.weight"} <= parameters.keys() - forced.keys()
    again = network.normalised_weights(forced)
    for name in layers:
        torch.testing.assert_close(again[name], forced[name], rtol=1e-3, atol=0)  # the epsilon of `unit`
    x, t = points(torch.float64)
    condition = Condition(torch.tensor([0, 1, 2]), torch.ones(3))
    outputs = [bind(network, p, condition)(x, t) for p in (parameters, {**parameters, **forced})]
    torch.testing.assert_close(*outputs, rtol=1e-2, atol=1e-3)


def test_embeddings_are_the_published_formulas():
    c = torch.tensor([0.7, -0.4]).double()
    angles = [0.7 * 10_000 ** -(i / 3) for i in range(4)]
    exact = [f(a) for f in (math.sin, math.cos) for a in angles]
    assert EDMEmbedding(8)(c)[0].tolist() == pytest.approx(exact)
    angles = [0.7 * 10_000 ** -(i / 4) for i in range(4)]
    assert ADMEmbedding(8)(c)[0].tolist() == pytest.approx([f(a) for f in (math.cos, math.sin) for a in angles])
    fourier = FourierPhases(6)
    exact = [math.sqrt(2) * math.cos(0.7 * f + p) for f, p in zip(fourier.freqs, fourier.phases, strict=True)]
    assert fourier(c)[0].tolist() == pytest.approx(exact, rel=1e-5)
    assert torch.equal(fourier.freqs, FourierPhases(6).freqs)
    grid = dit.grid_embedding(3, 8)
    assert grid.shape == (9, 8) and len({tuple(row.tolist()) for row in grid}) == 9
    assert grid[5].tolist() == pytest.approx([f(a) for p in (1, 2) for f in (math.cos, math.sin) for a in (p, p / 100)])


def test_resampling_and_attention_over_pixels():
    x = normal(1, 2, 4, 4)
    assert resample(x, "keep") is x
    assert resample(x, "down")[0, 1, 0, 1] == x[0, 1, 0:2, 2:4].mean()
    assert torch.equal(resample(resample(x, "up"), "down"), x)
    qkv = normal(2, 24, 3, 3)
    split = qkv.reshape(2, 2, 4, 3, 9)
    weights = torch.einsum("bhcq,bhck->bhqk", split[:, :, :, 0], split[:, :, :, 1] / 2).softmax(-1)
    exact = torch.einsum("bhqk,bhck->bhcq", weights, split[:, :, :, 2]).reshape(2, 8, 3, 3)
    torch.testing.assert_close(attend(qkv, heads=2), exact, rtol=1e-10, atol=1e-12)


def test_the_plan_joins_every_output_of_the_encoder_once():
    plan = plan_of(16, 8, [8, 16, 24], 2, {8}, "last")
    joins = [place for place in plan.decoder if place.joins]
    assert len(joins) == len(plan.encoder) + 1 == 9
    assert [p.name for p in plan.decoder[:4]] == ["4x4_in0", "4x4_in1", "4x4_block0", "4x4_block1"]
    assert [p.name for p in plan.decoder if p.attends] == ["4x4_in0", "8x8_block2"]
    assert plan.decoder[-1].inputs == 8 + 8


# --- counts ----------------------------------------------------------------------------------------


def count(make: Callable[..., nn.Module], settings: Mapping[str, Any]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in make(**settings).parameters())


COUNTED: dict[str, tuple[Callable[..., nn.Module], Mapping[str, Any], Mapping[str, Any]]] = {
    "DDPM++ cifar10": (DDPMpp, ddpmpp.PRESETS["cifar10-plain"], ddpmpp.CIFAR10),
    "ADM imagenet64": (ADM, adm.PRESETS["imagenet64-plain"], adm.IMAGENET64),
    **{f"EDM2 {name}": (EDM2, {**preset, **edm2.PLAIN}, preset) for name, preset in edm2.PRESETS.items()},
    **{f"DiT {name}": (DiT, {**preset, "conditioning": "plain"}, preset) for name, preset in dit.PRESETS.items()},
}
"""By preset: the network, its settings with plain conditioning, and with double normalisation."""


@functools.cache
def counted(name: str) -> tuple[int, int]:
    """A preset's parameters, plain and with double normalisation."""
    make, plain, double = COUNTED[name]
    return count(make, plain), count(make, double)


@pytest.mark.slow
def test_plain_networks_have_the_published_counts():
    """The checkpoints' augmentation embedding (9 x 128) and uncertainty head (128) are not part of a field."""
    assert counted("DDPM++ cifar10")[0] + 9 * 128 == LAYOUTS["edm_cifar10_ddpmpp_unconditional"]["parameters"]
    for layout in ("img64_s", "img512_xs", "img512_s"):
        ours = counted(f"EDM2 {layout.replace('_', '-')}")[0]
        assert ours + 128 == LAYOUTS[f"edm2_{layout}"]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "millions"), [("s", 280.2), ("m", 497.8), ("l", 777.6), ("xl", 1119.4), ("xxl", 1523.4)]
)
@pytest.mark.parametrize("data", ["img64", "img512"])
def test_plain_edm2_has_the_counts_of_the_papers_tables_and_double_normalisation_cannot(data, size, millions):
    """arXiv 2410.11081, Tables 4 and 5: within 0.02%, where a shift b(t) in every block adds about 5%."""
    plain, double = counted(f"EDM2 {data}-{size}")
    assert plain / 1e6 == pytest.approx(millions, rel=2e-4)
    assert 1.045 < double / (1e6 * millions) < 1.055


def test_ddpmpp_has_55_73_million_plain_and_60_07_with_scale_and_shift():
    plain, double = count(DDPMpp, ddpmpp.PRESETS["cifar10-plain"]), count(DDPMpp, ddpmpp.CIFAR10)
    assert (round(plain / 1e6, 2), round(double / 1e6, 2)) == (55.73, 60.07)


@pytest.mark.parametrize(("size", "millions"), [("s", 33), ("b", 130), ("l", 458), ("xl", 675)])
def test_dit_has_the_counts_of_its_paper(size, millions):
    """arXiv 2212.09748, Table 4, patch 2; double normalisation has the same parameters as adaLN-Zero."""
    plain, double = counted(f"DiT {size}-2")
    assert round(plain / 1e6) == millions and plain == double


@pytest.mark.slow
def test_the_page_on_networks_states_these_counts():
    lines = (ROOT / "docs/networks.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if re.match(r"\|.*\d \d", line)]
    assert {name: (int(plain.replace(" ", "")), int(double.replace(" ", ""))) for name, plain, double in rows} == {
        name: counted(name) for name in COUNTED
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "preset"),
    [(DDPMpp, ddpmpp.CIFAR10), (EDM2, edm2.PRESETS["img512-xxl"]), (DiT, dit.PRESETS["xl-2"])],
)
def test_full_sizes_give_outputs_of_the_inputs_shape(make, preset):
    with torch.device("meta"):
        x, t = torch.zeros(2, *preset["shape"]), torch.zeros(2)
        assert make(**preset)(x, t).shape == x.shape


# --- precision and tangents ------------------------------------------------------------------------

TIME_PATH = ("map_", "affine", "emb_", "tell", "mix", "modulate", "gate", "embed_")


@ALL
def test_the_time_path_stays_float32_under_autocast_and_the_rest_does_not(name):
    network, seen = made(name, classes=3, told=("scale",)), {}
    for part, module in network.named_modules():
        if not list(module.children()) and list(module.parameters()):

            def note(_: nn.Module, __: object, output: Tensor, part: str = part) -> None:
                seen[part] = output.dtype

            module.register_forward_hook(note)
    x, t = points()
    field = bind(network, condition=Condition(torch.tensor([0, 1, 2]), torch.ones(3)), precision=torch.bfloat16)
    output = field(x, t.double())
    assert output.dtype == torch.float32
    time = {part for part in seen if any(f".{part}".count(f".{start}") for start in TIME_PATH)}
    assert len(time) > 5 and {seen[part] for part in time} == {torch.float32}
    norms = {part for part in seen if "norm" in part}
    assert {seen[part] for part in seen.keys() - time - norms} == {torch.bfloat16}
    exact = bind(network, condition=Condition(torch.tensor([0, 1, 2]), torch.ones(3)))(x, t)
    assert 0 < (output - exact).abs().max() < 0.1 * exact.abs().max()


def found_by(
    method: TangentMethod, network: nn.Module, dtype: torch.dtype, wrap: Callable = lambda f: f
) -> list[Tensor]:
    """Value, tangent and the parameters' gradients, the same dropout masks for every method."""
    x, t = points(dtype, batch=2)
    numbers = torch.tensor([1.2, 1.9], dtype=dtype)
    function = wrap(lambda x, t: network(x, t, Condition(torch.tensor([1, 4]), numbers)))
    directions = (normal(*x.shape, seed=3).to(dtype), torch.ones_like(t))
    torch.manual_seed(5)
    value, tangent = value_and_tangent(function, (x, t), directions, method)
    loss = (value * normal(*x.shape, seed=4).to(value.dtype)).sum()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return [value.detach(), tangent, *gradients]


def assert_near(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Each within `tolerance` of its own norm."""
    for ours, reference in zip(found, expected, strict=True):
        error = (ours.double() - reference.double()).norm()
        assert error <= tolerance * reference.double().norm() + 1e-12


@pytest.mark.one_in(5)
@ALL
def test_the_fast_tangent_equals_the_reference_and_trains_as_it(name):
    network = made(name, torch.float64, classes=4, told=("scale",))
    found = {method: found_by(method, network, torch.float64) for method in ("auto", "func")}
    for ours, reference in zip(found["auto"], found["func"], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    assert found["auto"][1].abs().max() > 1e-3


@pytest.mark.one_in(5)
@ALL
def test_the_fast_tangent_is_exact_in_single_precision(name):
    network = made(name, torch.float64, classes=4, told=("scale",))
    exact = found_by("func", network, torch.float64)
    assert_near(found_by("auto", network.float(), torch.float32), exact, 1e-5)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", [name for name in SMALL if not name.startswith("dit")])
def test_the_fast_tangent_has_the_values_dropout_masks(name):
    network = made(name, torch.float64, classes=4, told=("scale",), dropout=0.4).train()
    found = found_by("auto", network, torch.float64)
    assert_near(found, found_by("func", network, torch.float64), 1e-12)
    dry = found_by("auto", network.eval(), torch.float64)
    assert (found[1] - dry[1]).norm() > 0.05 * dry[1].norm()


@pytest.mark.slow
@ALL
def test_the_fast_tangent_goes_through_checkpointed_parts(name):
    network = made(name, torch.float64, classes=4, told=("scale",))

    def checkpointed(function: Callable) -> Callable:
        return lambda x, t: checkpoint(function, x, t, use_reentrant=False)

    assert_near(found_by("auto", network, torch.float64, checkpointed), found_by("auto", network, torch.float64), 1e-12)


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_the_fast_tangent_under_autocast_trains_as_the_value_alone(name, precision):
    """torch's forward mode cannot run these convolutions in autocast, so that full precision is the reference."""
    network, (x, t) = made(name, classes=4, told=("scale",)), points(batch=2)
    condition = Condition(torch.tensor([1, 4]), torch.tensor([1.2, 1.9]))
    directions = (normal(*x.shape, seed=3).float(), torch.ones_like(t))
    field = bind(network, condition=condition, precision=precision)
    value, tangent = value_and_tangent(field, (x, t), directions)
    assert value.dtype == tangent.dtype == torch.float32
    exact = value_and_tangent(bind(network, condition=condition), (x, t), directions)
    coarse = 16 * torch.finfo(precision).eps
    assert 0 < (tangent - exact[1]).norm() < coarse * exact[1].norm()
    gradients = torch.autograd.grad(value.square().sum(), list(network.parameters()))
    expected = torch.autograd.grad(field(x, t).square().sum(), list(network.parameters()))
    assert_near(list(gradients), list(expected), 1e-6)
