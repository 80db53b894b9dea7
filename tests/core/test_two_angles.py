"""Laws of two angles: what each draws, shares of u = t and u = 0, and the bits of multi-step sCD."""

import math

import pytest
import torch
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.continuous import ContinuousSettings, SegmentSettings, ms_scd
from trigbench.core.trigflow import lognormal_angle
from trigbench.core.two_angles import TwoAngles, angle_of_flow_time, edge_below, two_angles

MEAN, STD = -1.0, 1.4
LAWS = ("same", "uniform", "lognormal", "edges", "gap")
EDGES = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)


def even(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def draws(side: int = 60) -> Draws:
    """Every pair of `side` even draws: exact means of what does not depend on their order."""
    first, second = (part.flatten() for part in torch.meshgrid(even(side), even(side), indexing="ij"))
    return Draws(first, torch.zeros(side**2, 1, dtype=torch.float64), lower=second)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_stays_between_0_and_half_pi_and_in_order(law):
    for same, zero in ((0.0, 0.0), (0.25, 0.5), (1.0, 0.0), (0.0, 1.0)):
        t, u = two_angles(draws(), TwoAngles(segments=EDGES), law=law, same=same, zero=zero)
        assert t.dtype == u.dtype == torch.float64
        assert bool(((u >= 0) & (u <= t) & (t < math.pi / 2)).all()) and bool((t > 0).all())


def test_what_each_law_draws():
    drawn = draws()
    t = lognormal_angle(drawn.uniform, MEAN, STD, SIGMA_D)
    for law in ("same", "uniform", "edges"):
        assert torch.equal(two_angles(drawn, TwoAngles(law=law, segments=EDGES))[0], t)
    assert torch.equal(two_angles(drawn, TwoAngles(law="same"))[1], t)
    assert drawn.lower is not None
    torch.testing.assert_close(two_angles(drawn, TwoAngles(law="uniform"))[1], drawn.lower * t)
    high, low = two_angles(drawn, TwoAngles(law="lognormal", second_mean=0.3, second_std=0.5))
    both = torch.stack([t, lognormal_angle(drawn.lower, 0.3, 0.5, SIGMA_D)])
    assert torch.equal(high, both.max(0).values) and torch.equal(low, both.min(0).values)
    one = torch.stack([t, lognormal_angle(drawn.lower, MEAN, STD, SIGMA_D)])
    assert torch.equal(two_angles(drawn, TwoAngles(law="lognormal"))[1], one.min(0).values)


def test_logistic_normal_flow_time_is_the_log_normal_law():
    """MeanFlow's logit-normal(-0.4, 1) is ln tan t ~ N(-0.4, 1): ln sigma has mean -0.4 + ln sigma_d."""
    p = even(99)
    tau = torch.sigmoid(-0.4 + torch.special.ndtri(p))
    ours = lognormal_angle(p, -0.4 + math.log(SIGMA_D), 1.0, SIGMA_D)
    torch.testing.assert_close(angle_of_flow_time(tau), ours, rtol=1e-12, atol=0)


def test_the_gap_is_align_your_flow_s():
    drawn = draws()
    assert drawn.lower is not None
    t, u = two_angles(drawn, TwoAngles(law="gap", second_mean=-0.5, second_std=0.7))
    tau, rho = (angle.sin() / (angle.sin() + angle.cos()) for angle in (t, u))
    gap = torch.sigmoid(-0.5 + 0.7 * torch.special.ndtri(drawn.lower))
    torch.testing.assert_close(tau - rho, gap, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(rho, drawn.uniform * (1 - gap), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("law", LAWS)
def test_shares_are_what_they_say_and_the_rest_follows_the_law(law):
    """A quarter is u = t and half is u = 0; the last quarter's draws are spread over all of (0, 1)."""
    side, told = 40, TwoAngles(law=law, segments=EDGES, share_same=0.25, share_zero=0.5)
    drawn = draws(side)
    assert drawn.lower is not None
    t, u = two_angles(drawn, told, same=0.9)  # the arm's word is above the method's
    same, zero = drawn.lower < 0.25, (drawn.lower >= 0.25) & (drawn.lower < 0.75)
    assert same.double().mean() == 0.25 and zero.double().mean() == 0.5
    assert torch.equal(u[same], t[same]) and not u[zero].any()
    rest = ~(same | zero)
    alone = Draws(drawn.uniform[rest], drawn.noise[rest], lower=(drawn.lower[rest] - 0.75) / 0.25)
    for ours, theirs in zip((t[rest], u[rest]), two_angles(alone, TwoAngles(law=law, segments=EDGES)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
    proposed = lognormal_angle(drawn.uniform, MEAN, STD, SIGMA_D)
    if law == "lognormal":  # whether u is t or 0, t is the larger of two draws
        for share, spread in ((same, drawn.lower / 0.25), (zero, (drawn.lower - 0.25) / 0.5)):
            larger = torch.maximum(proposed, lognormal_angle(spread, MEAN, STD, SIGMA_D))
            torch.testing.assert_close(t[share], larger[share], rtol=1e-12, atol=0)
    elif law != "gap":  # or of the proposal
        assert torch.equal(t, proposed)


@pytest.mark.parametrize("shares", [(0.75, 0.0), (0.25, 0.5), (0.0, 1.0)])
def test_in_every_share_t_of_meanflow_is_the_larger_of_two_draws(shares):
    """Of ln tan t ~ N(-0.4, 1) each: N's mean and 1/sqrt(pi), and a variance of 1 - 1/pi. u is replaced afterwards."""
    same, zero = shares
    told = TwoAngles(proposal_mean=-0.4 + math.log(SIGMA_D), proposal_std=1.0)
    t, u = two_angles(draws(800), told, law="lognormal", same=same, zero=zero)
    for share, size in ((u == t, same), (u == 0, zero), ((u < t) & (u > 0), 1 - same - zero)):
        assert share.double().mean() == pytest.approx(size, abs=1e-3)  # but for pairs of equal draws
        if size:
            of = t[share].tan().log()
            assert float(of.mean()) == pytest.approx(-0.4 + math.pi**-0.5, abs=0.01)
            assert float(of.std()) == pytest.approx((1 - 1 / math.pi) ** 0.5, abs=0.01)


def test_segments_are_the_law_of_edges_bit_for_bit():
    seen = []

    def student_to(u):
        seen.append(u)
        return lambda x, t: seen.append(t) or 0 * x

    drawn = draws(30)
    noise = torch.randn(900, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    told = SegmentSettings(EDGES, ContinuousSettings())
    fields = Fields(lambda x, t: x, teacher=lambda x, t: x, student_to=student_to)
    ms_scd(fields, noise, Draws(drawn.uniform, noise), told)
    t, u = two_angles(Draws(drawn.uniform, noise), TwoAngles(segments=EDGES), law="edges")
    assert torch.equal(u, seen[0]) and torch.equal(t, seen[1])


def test_an_angle_that_is_an_edge_but_for_rounding_belongs_to_the_segment_below():
    t = torch.tensor([0.4, 0.4 + 1e-16, 0.4 + 2e-12, 0.4 - 1e-12, 0.41, 1.0, 1.2], dtype=torch.float64)
    assert edge_below(EDGES, t).tolist() == [0.0, 0.0, 0.0, 0.0, 0.4, 0.4, 1.0]


@pytest.mark.parametrize(
    ("settings", "has_lower", "words"),
    [
        (TwoAngles(), False, "need draws.lower"),
        (TwoAngles(law="edges", share_zero=0.1, segments=EDGES), False, "need draws.lower"),
        (TwoAngles(law="edges"), True, "needs settings.segments"),
    ],
)
def test_what_makes_no_two_angles_is_refused(settings, has_lower, words):
    drawn = draws(3)
    with pytest.raises(ValueError, match=words):
        two_angles(drawn if has_lower else Draws(drawn.uniform, drawn.noise), settings)


def test_an_unknown_law_is_refused_with_the_known_ones(unchecked):
    with unchecked(), pytest.raises(ValueError, match="unknown law 'even'; choose same, uniform"):
        two_angles(draws(3), TwoAngles(law="even"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("same", "zero"), [(0.6, 0.5), (-0.1, None), (None, 1.5)])
def test_shares_beyond_one_are_refused_as_they_are_told(same, zero):
    with pytest.raises(ValueError, match="1 at most together; got"):
        TwoAngles(share_same=same, share_zero=zero)


def test_a_share_that_is_told_leaves_the_method_s_other_what_is_left():
    drawn = draws(40)
    for told, shares in ((TwoAngles(share_same=0.9), (0.9, 0.1)), (TwoAngles(share_zero=0.5), (0.5, 0.5))):
        t, u = two_angles(drawn, told, same=0.75, zero=0.25)
        assert ((u == t).double().mean(), (u == 0).double().mean()) == shares
