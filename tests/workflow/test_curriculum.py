"""alpha-Flow's curriculum ends at MeanFlow, or is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from trigbench.core.objectives import OBJECTIVES, hashed
from trigbench.core.objectives.alphaflow import annealed
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.settings import settings_at
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

FEWEST = OBJECTIVES["alphaflow"].stages


@pytest.fixture
def staged(tiny: dict, write_study: Callable[[dict], Any]) -> Callable[..., Study]:
    def make(objective: str = "alphaflow", **arm: Any) -> Study:
        tiny["arms"] = {"x": {"objective": objective, **arm}}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
        return load(write_study(tiny))

    return make


@pytest.mark.parametrize(("stages", "iterations"), [(FEWEST, 30), (FEWEST, FEWEST), (30, 30), (7, 30)])
def test_in_enough_stages_it_comes_to_its_end(stages: int, iterations: int, staged: Callable[..., Study]) -> None:
    study = staged(stages=stages, iterations=iterations)
    last = settings_at(study.arms["x"], study.sigma_d)(iterations)
    assert annealed(last.stage / last.stages) == 0


def test_in_fewer_it_would_not() -> None:
    assert [annealed((n - 1) / n) > 0 for n in range(1, 2 * FEWEST)] == [n < FEWEST for n in range(1, 2 * FEWEST)]


TOO_FEW = r"alphaflow does not come to its end in {0}(.|\n)*arms.x.stages(.|\n)*write {1} at least"
TOO_SHORT = r"30 are fewer than the 31 of 'stages'(.|\n)*arms.x.iterations(.|\n)*train longer"


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        *(({"stages": n}, TOO_FEW.format(n, FEWEST)) for n in range(1, FEWEST)),
        ({"stages": 31, "iterations": 30}, TOO_SHORT),
    ],
)
def test_too_few_stages_are_refused_before_the_run(arm: dict, expected: str, staged: Callable[..., Study]) -> None:
    with pytest.raises(BenchError, match=expected):
        staged(**arm)


def test_other_methods_may_have_any_number_and_no_run_is_another_for_the_bound(staged: Callable[..., Study]) -> None:
    assert staged("ect", stages=1).arms["x"].stages == 1
    assert "stages" not in hashed(OBJECTIVES["alphaflow"])
