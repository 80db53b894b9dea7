"""What the oracle says of learned maps of two times: nothing is left of exact ones, and what is wrong is found."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch

from trigbench.core import oracle
from trigbench.core.fields import Draws, Fields
from trigbench.core.flow_maps import semigroup_direction
from trigbench.core.objectives.regression import Regression, Settings, regress
from trigbench.core.trigflow import interpolate, velocity
from trigbench.core.two_angles import TwoAngles, two_angles
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.measurements import flow_map
from trigbench.workflow.run.training import train
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)


@pytest.fixture(autouse=True)
def _shapes_unchecked(unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Thousands of small steps: checking shapes at each would take most of the time (other modules check them)."""
    with unchecked():
        yield


def two(fields: Fields, x0: torch.Tensor, draws: Draws, settings: Settings) -> Regression:
    t, u = two_angles(draws, TwoAngles())
    x, v = interpolate(x0, draws.noise, t), velocity(x0, draws.noise, t)
    assert fields.student_to is not None
    return regress(semigroup_direction(fields.student_to, x, t, (t + u) / 2, u, v), t)


@pytest.fixture
def trained(tiny: dict, with_data):
    """A study of one arm that was trained for one step."""

    def make(**arm: object) -> Study:
        tiny["arms"] = {"x": {"iterations": 1, **arm}}
        experiment = tiny["experiments"]["training"] | {"arms": ["x"], "measurement": "flow_map"}
        tiny["experiments"] = {"training": experiment}
        study = with_data(tiny)
        train(study, X)
        return study

    return make


OWN = {"objective": {"path": f"{__name__}:two", "two_times": True, "teacher": False}}
SEGMENTS = {"objective": "ms_scd", "segments": 3, "teacher": "exact"}


def numbers(study: Study) -> dict[str, float]:
    found = flow_map.measure(study, "training")
    assert all((row.arm, row.seed) == ("x", 0) for row in (*found.runs, *found.curves))
    return {row.value.metric: float(row.value.value or 0) for row in found.runs}


@pytest.mark.slow
@pytest.mark.parametrize("arm", [OWN, SEGMENTS], ids=["jumps", "segments"])
def test_exact_maps_have_no_error_and_others_have(trained, monkeypatch, arm: dict) -> None:
    study = trained(**arm)
    known = {"segment_rms"} if arm is SEGMENTS else set(MEASUREMENTS["flow_map"].measures)
    learned = numbers(study)
    assert learned.keys() == known and min(learned.values()) > 0.05
    data = flow_map.opened(study, X).data.arrays
    mixture = oracle.Mixture(*(torch.from_numpy(data[name]) for name in ("weights", "means", "stds")))

    def exact(task, network, weights, condition):
        def field(x, t):
            gap, u = (t - condition.target_time)[:, None].cos(), condition.target_time
            ends = oracle.segment_map(mixture, x.double(), t, u, 12)
            return ((gap * x - ends) / (t - u)[:, None].sin()).float()

        return field

    monkeypatch.setattr(flow_map, "student_field", exact)
    assert max(numbers(study).values()) < 1e-3  # of twelve steps


def test_pairs_of_segments_stay_within_one(trained) -> None:
    study = trained(**SEGMENTS)
    edges = tuple(flow_map.segment_edges(study.arms["x"], study.sigma_d)[:-1].tolist())
    found = flow_map.pairs(flow_map.opened(study, X).data, edges)
    assert {u for _, u, _, _ in found} == set(edges)
    assert all(u == max(edge for edge in edges if edge < t) for t, u, _, _ in found)
    assert max(t for t, *_ in found) == pytest.approx(math.atan(160))


def test_runs_of_one_time_or_without_weights_have_no_rows_and_other_data_are_refused(trained, monkeypatch) -> None:
    study = trained(objective="scd", teacher="exact")
    assert numbers(study) == {}
    two_times = trained(**OWN)
    other = dataclasses.replace(flow_map.opened(two_times, X), data=flow_map.Dataset((2,), 0, print, None, {}))  # type: ignore
    monkeypatch.setattr(flow_map, "opened", lambda *_: other)
    with pytest.raises(BenchError, match="no exact map"):
        flow_map.measure(two_times, "training")
    two_times.files(X).weights.unlink()
    assert numbers(two_times) == {}
