"""How much of the noise a map leaves: of maps that are dead, and of exact ones."""

import math

import pytest
import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.noise_left import BINS, COLLAPSED, MIDDLES, bin_of, collapse, flow, share_left, worst
from trigbench.core.objectives.continuous import ContinuousSettings, sct
from trigbench.core.objectives.regression import regress
from trigbench.core.tangents import Clip, Direction, clip
from trigbench.core.trigflow import consistency_map, interpolate

NARROW = oracle.standardised(
    oracle.Mixture(
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([[-2.0, 1.0, 0.0], [2.0, -1.0, 1.0]], dtype=torch.float64),
        torch.full((2,), 0.1, dtype=torch.float64),
    )
)
PAIRS = 32


def _zero(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _velocity(x: Tensor, t: Tensor) -> Tensor:
    return oracle.velocity(NARROW, x, t)


def _left(ends, angle: float) -> float:
    g = torch.Generator().manual_seed(0)
    uniform = torch.rand(PAIRS, generator=g, dtype=torch.float64)
    x0, z, other = (torch.randn(PAIRS, 3, generator=g, dtype=torch.float64) for _ in range(3))
    x0, t = oracle.sample(NARROW, uniform, x0), torch.full((PAIRS,), angle, dtype=torch.float64)
    points = interpolate(x0, z, t), interpolate(x0, other, t)
    first, second = points
    return share_left(ends(first, t), ends(second, t), first, second)


@pytest.mark.slow
def test_a_dead_map_has_collapsed_and_the_exact_one_has_not() -> None:
    def of(ends) -> float:
        found = [collapse(_left(ends, t), _left(_taught, t), t) for t in MIDDLES]
        return worst(torch.tensor(found))

    def _taught(x: Tensor, t: Tensor) -> Tensor:
        return flow(_velocity, x, t, torch.zeros_like(t))

    assert of(lambda x, t: consistency_map(_zero, x, t)) == pytest.approx(1.0)
    assert abs(of(lambda x, t: oracle.consistency_map(NARROW, x, t, 32))) < 0.1 < COLLAPSED
    half = of(lambda x, t: 0.75 * consistency_map(_zero, x, t) + 0.25 * oracle.consistency_map(NARROW, x, t, 32))
    assert COLLAPSED < half < 1


@pytest.mark.slow
def test_what_a_dead_map_leaves_is_the_cosine_and_the_exact_one_of_a_gaussian_is_known() -> None:
    for angle in MIDDLES:
        assert _left(lambda x, t: consistency_map(_zero, x, t), angle) == pytest.approx(math.cos(angle))
        gaussian = _left(lambda x, t: oracle.gaussian_consistency_map(x, t, 0.3), angle)
        known = 0.3 / math.sqrt((0.3 * math.cos(angle)) ** 2 + math.sin(angle) ** 2)
        assert gaussian == pytest.approx(known)
        by_steps = _left(
            lambda x, t: flow(lambda x, t: oracle.gaussian_velocity(x, t, 0.3), x, t, torch.zeros_like(t), 200), angle
        )
        assert by_steps == pytest.approx(known, rel=2e-2)


def test_where_leaving_the_noise_is_right_nothing_is_decided() -> None:
    assert math.isnan(collapse(0.98, 0.95, 0.2)) and math.isnan(worst(torch.tensor([math.nan, math.nan])))
    assert worst(torch.tensor([math.nan, 0.2, 0.7])) == pytest.approx(0.7)
    same = torch.ones(2, 3)
    assert math.isnan(share_left(same, same, same, same))


def test_bins_are_even_in_the_angle() -> None:
    assert bin_of(torch.tensor(MIDDLES)).tolist() == list(range(BINS))
    assert bin_of(torch.tensor([0.0, 0.39, 0.4, math.pi / 2])).tolist() == [0, 0, 1, BINS - 1]


def test_an_objective_says_what_was_clipped_and_what_was_clamped() -> None:
    g = torch.tensor([[0.5, -3.0, 2.0, 2.1], [0.0, 0.1, 0.2, 0.3]], dtype=torch.float64)
    t, control = torch.tensor([0.3, 1.2], dtype=torch.float64), Clip(0.5)
    direction = Direction(torch.zeros_like(g), g)
    assert torch.equal(control(g), clip(g, 0.5))
    found = regress(direction, t, lambda t: t, 1.0, control)
    assert found.clipped is not None and found.clipped.tolist() == [0.5, 0.0]  # 2.0 is the limit, and stays
    assert found.clamped is not None and found.clamped.tolist() == [0.0, 1.0]
    free = regress(direction, t, lambda t: t)
    assert (free.clipped, free.clamped) == (None, None) and free.t is t


def test_sct_says_at_which_angles_it_was() -> None:
    g = torch.Generator().manual_seed(1)
    draws = Draws(torch.rand(4, generator=g, dtype=torch.float64), torch.randn(4, 3, generator=g, dtype=torch.float64))
    found = sct(Fields(_zero), torch.randn(4, 3, generator=g, dtype=torch.float64), draws, ContinuousSettings())
    assert found.t is not None and found.t.shape == (4,) and bool((found.t > 0).all())
