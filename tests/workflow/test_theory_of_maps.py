"""What is measured beside runs of two-time maps: a controlled error by the number of steps, and the bias of weights."""

import math
from collections.abc import Iterable

import pandas as pd
import pytest
import torch

from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.report.kinds import methods, steps
from trigbench.workflow.run.measurements import power_bias, step_errors
from trigbench.workflow.run.measurements.measured import Measured
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study


@pytest.fixture
def measured(tiny: dict, with_data) -> Study:
    return with_data(tiny)


def numbers(found: Measured) -> dict[tuple[str, float | None, int | None], float]:
    return {(row.value.metric, row.value.x, row.seed): float(row.value.value or 0) for row in found.curves}


@pytest.mark.slow
def test_an_error_shows_after_every_number_of_steps_and_none_where_there_is_none(measured: Study, monkeypatch) -> None:
    for name, value in (("STEPS", (1, 2)), ("SAMPLES", 200), ("SOLVED_IN", 8)):
        monkeypatch.setattr(step_errors, name, value)
    found = numbers(step_errors.measure(measured, "training"))
    assert {metric for metric, *_ in found} == set(MEASUREMENTS["step_errors"].measures)
    assert {seed for metric, _, seed in found if "predicted" in metric} == {None}, "a closed form is of no seed"
    assert found["excess_jumps", 1.0, 0] == pytest.approx(0.02, abs=1e-9), "one step errs by 1 + 0.02 sin(pi / 2)"
    assert found["excess_renoised", 1.0, 0] == found["excess_jumps", 1.0, 0]
    assert found["excess_jumps", 2.0, 0] > 0.021
    monkeypatch.setattr(step_errors, "ERROR", 0.0)
    assert max(map(abs, numbers(step_errors.measure(measured, "training")).values())) < 1e-12


@pytest.mark.slow
def test_weights_bias_and_none_does_not(measured: Study, monkeypatch) -> None:
    for name, value in (("DIMENSIONS", (1, 3)), ("POINTS", 2), ("DRAWS", 2000)):
        monkeypatch.setattr(power_bias, name, value)
    found = numbers(power_bias.measure(measured, "training"))
    assert {metric for metric, *_ in found} == set(MEASUREMENTS["power_bias"].measures) - {"power_critical_batch_none"}
    assert found["power_bias_none", 1.0, None] < 1e-6, "by quadrature"
    assert found["power_bias_none", 3.0, 0] < 0.03, "of 2000 pairs, whose noise is taken off"
    for control in ("half", "one", "normalised"):
        bias = found[f"power_bias_{control}", 1.0, None]
        assert bias > 0.05, "of modes that stand apart"
        assert found[f"power_critical_batch_{control}", 1.0, None] == pytest.approx(bias**-2)
    assert {seed for metric, x, seed in found if x == 1.0} == {None}, "quadrature of one mixture is of no seed"


@pytest.mark.slow
def test_an_estimate_of_none_is_as_often_below_zero_as_above(monkeypatch) -> None:
    """Of a control that biases nothing, over many points of few pairs: clipped point by point it would stay away."""
    for name, value in (("POINTS", 200), ("ANGLES", (0.8,)), ("DRAWS", 100)):
        monkeypatch.setattr(power_bias, name, value)
    found = power_bias.biases(2, 0, {"none": power_bias.ways_of(0.5)["none"]})["none"]
    assert abs(found.square) < found.least < 0.0035, "the mean of noise that is clipped at each point is 0.004"
    every = [power_bias.ControlBias(square, 0.01) for square in (-0.002, 0.004, 0.04)]
    assert [one.values() for one in every] == [
        {"bias": 0.0}, {"bias": pytest.approx(0.004**0.5)}, {"bias": 0.2, "critical_batch": pytest.approx(25)},
    ]  # fmt: skip


def test_what_is_normalised_is_scm_s_tangent_and_powers_are_of_meanflow_s_direction() -> None:
    angle, slope = torch.tensor([1.2], dtype=torch.float64), torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    ways = power_bias.ways_of(0.5)
    scm = math.cos(1.2) * slope
    for name, expected in (
        ("normalised", scm / (scm.norm() + 0.2)),
        ("one", 2 * (wide := (math.cos(1.2) + math.sin(1.2)) ** 2 * slope) / (wide.square().sum() + 1e-3)),
    ):
        control = ways[name].control
        assert control is not None
        torch.testing.assert_close(control(ways[name].factor(angle) * slope), expected)


def curves_of(metrics: Iterable[str], objective: str) -> pd.DataFrame:
    rows = [
        {"metric": metric, "x": x, "value": x / 10, "seed": seed, "objective": objective}
        for metric in metrics
        for x in (1.0, 2.0, 4.0)
        for seed in (200, 201)
    ]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


@pytest.mark.slow
def test_both_are_drawn_beside_what_was_trained_and_said() -> None:
    study = load("flow_maps")
    bias = study.experiments["bias_of_normalised_conditional_tangents"]
    found = curves_of(MEASUREMENTS["power_bias"].measures, "meanflow")
    one = {"metric": "sliced_wasserstein", "arm": "meanflow", "objective": "meanflow", "steps": 1}
    rows = [one | {"value": 0.1, "seed": seed} for seed in (200, 201)]
    assert len(methods.draw(bias, pd.DataFrame(rows, columns=COLUMNS), found).axes[-1].lines) == len(methods.POWERS)
    assert "p = 1 0.1" in methods.say(bias, pd.DataFrame(rows, columns=COLUMNS), found)
    unseen = found.drop(found.index[(found.metric == "power_critical_batch_none") & (found.x == 4)])
    said = methods.say(bias, pd.DataFrame(rows, columns=COLUMNS), unseen)
    assert "no weight 0.1 in 1 dimension and within noise in 4 dimensions" in said
    errors = study.experiments["degrades_with_steps"]
    figure = steps.draw(errors, pd.DataFrame(rows, columns=COLUMNS), curves_of(steps.ERRORS, "exact"))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(figure.axes) == 2 and {words for words, *_ in steps.ERRORS.values()} <= set(shown)
