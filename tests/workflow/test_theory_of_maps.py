"""What is measured beside runs of two-time maps: a controlled error by the number of steps, and the bias of weights."""

import pytest

from trigbench.workflow.run.measurements import power_bias, step_errors
from trigbench.workflow.run.measurements.measured import Measured
from trigbench.workflow.study.measurements import MEASURED
from trigbench.workflow.study.study import Study


@pytest.fixture
def measured(tiny: dict, with_data) -> Study:
    return with_data(tiny)


def numbers(found: Measured) -> dict[tuple[str, float | None, int | None], float]:
    return {(row.value.metric, row.value.x, row.seed): float(row.value.value or 0) for row in found.curves}


def test_an_error_shows_after_every_number_of_steps_and_none_where_there_is_none(measured: Study, monkeypatch) -> None:
    for name, value in (("STEPS", (1, 2)), ("SAMPLES", 200), ("SOLVED_IN", 8)):
        monkeypatch.setattr(step_errors, name, value)
    found = numbers(step_errors.measure(measured, "training"))
    assert {metric for metric, *_ in found} == set(MEASURED["step_errors"])
    assert {seed for metric, _, seed in found if "predicted" in metric} == {None}, "a closed form is of no seed"
    assert found["excess_jumps", 1.0, 0] == pytest.approx(0.02, abs=1e-9), "one step errs by 1 + 0.02 sin(pi / 2)"
    assert found["excess_renoised", 1.0, 0] == found["excess_jumps", 1.0, 0]
    assert found["excess_jumps", 2.0, 0] > 0.021
    monkeypatch.setattr(step_errors, "ERROR", 0.0)
    assert max(map(abs, numbers(step_errors.measure(measured, "training")).values())) < 1e-12


def test_weights_bias_and_none_does_not(measured: Study, monkeypatch) -> None:
    for name, value in (("DIMENSIONS", (1, 3)), ("POINTS", 2), ("DRAWS", 2000)):
        monkeypatch.setattr(power_bias, name, value)
    found = numbers(power_bias.measure(measured, "training"))
    assert {metric for metric, *_ in found} == set(MEASURED["power_bias"])
    assert found["power_bias_none", 1.0, 0] < 1e-5, "by quadrature"
    assert found["power_bias_none", 3.0, 0] < 0.05, "of 2000 pairs, whose noise is taken off"
    for control in ("half", "one", "normalised"):
        bias = found[f"power_bias_{control}", 1.0, 0]
        assert bias > 0.02
        assert found[f"power_critical_batch_{control}", 1.0, 0] == pytest.approx(bias**-2)
