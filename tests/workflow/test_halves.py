"""Shortcut models are sampled in the steps that they are trained for, and in no others."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trigbench.core.map_samplers import MOST_HALVES, halved_times
from trigbench.core.objectives.shortcut import ShortcutSettings, halved_steps
from trigbench.core.schedules import largest_angle
from trigbench.workflow.claims.ledger import _check_term
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.study.arms import HALVINGS
from trigbench.workflow.study.claim import Term
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

Studied = Callable[..., Study]


@pytest.fixture
def studied(tiny: dict, write_study: Callable[[dict], Any]) -> Studied:
    """A study of one arm, of a sampler of its own where one is given."""

    def make(sampler: dict | None = None, **arm: Any) -> Study:
        tiny["arms"] = {"x": {"objective": "shortcut", **arm}}
        tiny["samplers"] = {"mine": sampler} if sampler else {}
        tiny["arms"]["x"] |= {"samplers": ["mine"]} if sampler else {}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
        return load(write_study(tiny))

    return make


@pytest.mark.parametrize(("sigma_d", "halvings"), [(0.5, 1), (1.0, 3), (0.5, 7)])
def test_every_step_is_one_that_is_trained(sigma_d: float, halvings: int) -> None:
    """From t_max, where samples begin, down to 0: the pairs (t, u) of that length, all of them."""
    g = torch.Generator().manual_seed(0)
    uniform, lower = torch.rand(2, 60_000, generator=g, dtype=torch.float64)
    told = ShortcutSettings(sigma_d, share_shortest=0.9 if halvings == HALVINGS else 0.0)
    t, _, u = halved_steps(uniform, lower, told)
    steps = 2**halvings
    times = [largest_angle(sigma_d), *halved_times(steps, sigma_d), 0.0]
    flow = torch.tensor(times, dtype=torch.float64)
    flow = flow.sin() / (flow.sin() + flow.cos())
    length = flow[0] / steps
    torch.testing.assert_close(flow.diff(), -length.expand(steps), rtol=0, atol=1e-15)
    of = (t.sin() / (t.sin() + t.cos()) - u.sin() / (u.sin() + u.cos()) - length).abs() < 1e-12
    trained = {(round(a, 12), round(b, 12)) for a, b in zip(t[of].tolist(), u[of].tolist(), strict=True)}
    assert {(round(a, 12), round(b, 12)) for a, b in itertools.pairwise(times)} == trained


def test_shortcut_is_so_sampled_unless_told_and_others_may_be(studied: Studied) -> None:
    one, two = studied().samplings("x")
    assert (one.sampler, one.solver, one.times, two.times) == ("halves", "halves", (), halved_times(2, 0.5))
    assert two.times[0] == pytest.approx(0.7792, abs=1e-4)
    assert ShortcutSettings().halvings == HALVINGS and 2**HALVINGS == MOST_HALVES
    four = {"solver": "halves", "evaluations": [4]}
    assert [way.times for way in studied(four, objective="meanflow").samplings("x")] == [halved_times(4, 0.5)]
    assert [way.steps for way in studied(four, halvings=2).samplings("x")] == [4]


@pytest.mark.parametrize(
    ("sampler", "arm", "expected"),
    [
        (None, {"samplers": ["jumps"]}, r"'jumps' does not sample objective 'shortcut'(.|\n)*whose solver is halves"),
        (None, {"samplers": ["few"]}, "whose solver is halves"),
        ({"solver": "jumps", "times": [[0.7]]}, {}, "whose solver is halves"),
        ({"solver": "halves", "evaluations": [1, 3]}, {}, r"a power of two(.|\n)*got 3(.|\n)*mine(.|\n)*write 2 or 4"),
        ({"solver": "halves", "evaluations": [256]}, {}, r"128 at most, got 256(.|\n)*write 128$"),
        ({"solver": "halves"}, {}, "needs 'evaluations'"),
        (
            {"solver": "halves", "evaluations": [8]},
            {"halvings": 2},
            r"arms.x is trained in 4 steps(.|\n)*mine.evaluations(.|\n)*write 4",
        ),
        ({"solver": "halves", "evaluations": [2]}, {"objective": "sct"}, "does not sample objective 'sct'"),
    ],
)
def test_other_steps_are_refused_before_the_run(sampler, arm: dict, expected: str, studied: Studied) -> None:
    with pytest.raises(BenchError, match=expected):
        studied(sampler, **arm)


def test_a_claim_selects_them_by_their_name_as_tables_have_it(studied: Studied) -> None:
    study, both = studied(), Term(arms=("x",), sampler="halves")
    with pytest.raises(Mistake, match="'x' is sampled in 2 ways that fit"):
        _check_term(both, "sample_flops", "training", False, study, "x", {})
    _check_term(both.model_copy(update={"steps": 2}), "sample_flops", "training", False, study, "x", {})
