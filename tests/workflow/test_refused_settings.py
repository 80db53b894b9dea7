"""What a method would refuse at its first step is refused when the study is read: file, key and remedy."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import NEEDED
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.two_angles import TwoAngles
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.settings import settings_at
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

TWO_ANGLES = [name for name, method in OBJECTIVES.items() if "law" in method.settings]
OF_GRIDS = ["dsct", "dscd", "ctm", "pcm", "mscm", "ict"]
"""Methods whose intervals the proposal draws, where they have any."""


@pytest.fixture
def read(tiny: dict, write_study: Callable[[dict], Path]) -> Callable[..., Study]:
    """The tiny study with one arm, `x`."""

    def make(objective: str, **arm: Any) -> Study:
        taught = {"teacher": "exact"} if OBJECTIVES[objective].teacher else {}
        tiny["arms"] = {"x": {"objective": objective, **taught, **NEEDED.get(objective, {}), **arm}}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
        return load(write_study(tiny))

    return make


def _first_settings(study: Study) -> Any:
    arm = study.arms["x"]
    return settings_at(arm, study.sigma_d)(1)


@pytest.mark.parametrize("objective", TWO_ANGLES)
def test_the_law_of_edges_needs_segments(objective: str, read: Callable[..., Study]) -> None:
    with pytest.raises(BenchError, match=r"law(.|\n)*tiny.yaml(.|\n)*key: *arms.x.law(.|\n)*segments: 4"):
        read(objective, law="edges")
    assert _first_settings(read(objective, law="edges", segments=2))
    assert read(objective, law="uniform").arms["x"].segments is None


@pytest.mark.parametrize("objective", TWO_ANGLES)
def test_two_shares_are_no_more_than_all(objective: str, read: Callable[..., Study]) -> None:
    with pytest.raises(ValueError, match="1 at most together"):
        TwoAngles(share_same=0.6, share_zero=0.6)
    with pytest.raises(BenchError, match=r"more than all(.|\n)*key: *arms.x.share_same(.|\n)*1 at most"):
        read(objective, share_same=0.6, share_zero=0.6)
    assert _first_settings(read(objective, share_same=0.4, share_zero=0.6))


@pytest.mark.parametrize("objective", OF_GRIDS)
def test_a_proposal_that_reaches_no_interval_of_the_grid_is_refused(objective: str, read: Callable[..., Study]) -> None:
    grid = {"intervals": 4, "grid": "uniform"} if objective != "ict" else {}
    for mean in (30.0, -30.0) if objective == "ict" else (30.0,):
        with pytest.raises(BenchError, match=r"no noise level(.|\n)*key: *arms.x.proposal_mean"):
            read(objective, proposal_mean=mean, **grid)
    for mean in (-12.0, 12.0) if objective == "ict" else (-60.0, 12.0):
        assert _first_settings(read(objective, proposal_mean=mean, **grid)).grid is not None


def test_what_is_left_to_the_core_of_a_proposal_is_enough_to_compute_with(read: Callable[..., Study]) -> None:
    refused = []
    for deviations in (4.0, 5.0, 5.9, 6.1, 8.0, 9.0):
        try:
            cumulative = _first_settings(read("dsct", proposal_mean=math.log(80) + deviations * 1.4)).grid.cumulative
        except BenchError:
            refused.append(deviations)
        else:
            assert cumulative[0] == 0 and cumulative[-1] == 1 and bool(cumulative.isfinite().all())
    assert refused == [6.1, 8.0, 9.0]


@pytest.mark.parametrize(("mean", "std"), [(1000.0, 1.4), (-1000.0, 1.4), (0.0, 30.0)])
def test_noise_levels_beyond_float32_are_refused(mean: float, std: float, read: Callable[..., Study]) -> None:
    with pytest.raises(BenchError, match=r"float32(.|\n)*key: *arms.x.proposal_mean"):
        read("ect", proposal_mean=mean, proposal_std=std)


@pytest.mark.parametrize(
    ("objective", "key", "value"),
    [("mscm", "stages", 50), ("dsct", "intervals", 10**9), ("ict", "points", [4, 10**9]), ("pcm", "segments", 10**9)],
)
def test_grids_that_fit_into_no_memory_are_refused(
    objective: str, key: str, value: object, read: Callable[..., Study]
) -> None:
    with pytest.raises(BenchError, match=rf"memory(.|\n)*key: *arms.x.{key}(.|\n)*write"):
        read(objective, **{key: value})
    assert read("mscm", stages=10).arms["x"].stages == 10 and read("ect", stages=30).arms["x"].stages == 30


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e300])
def test_a_number_that_networks_cannot_hold_is_none(value: float, read: Callable[..., Study]) -> None:
    with pytest.raises(BenchError, match=r"second_mean(.|\n)*key: *arms.x(.|\n)*3.4e\+38"):
        read("meanflow", law="gap", second_mean=value)


def test_more_snapshots_than_steps_are_refused(read: Callable[..., Study]) -> None:
    with pytest.raises(BenchError, match=r"more than its 3 steps(.|\n)*key: *arms.x.snapshots(.|\n)*3 or fewer"):
        read("sct", iterations=3, snapshots=4)
    assert read("sct", iterations=3, snapshots=3).arms["x"].snapshots == 3
