"""Findings say what the rows say: wins, losses, ties, divergence, too few seeds."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from workflow.report.figures import FIGURES
from workflow.report.findings import FINDINGS
from workflow.report.statistics import COLUMNS, difference, interval, paired, summary
from workflow.report.style import apply_style
from workflow.schema import Experiment

NO_CURVES = pd.DataFrame()
WIN, LOSS = [0.01, 0.012, 0.011], [0.05, 0.052, 0.049]


def _experiment(figure: str, metric: str) -> Experiment:
    about = dict.fromkeys(("title", "paper", "question", "expectation"), "x")
    return Experiment.model_validate({**about, "figure": figure, "metric": metric, "arms": ["*"]})


def _rows(arm: str, objective: str, values: list[float], metric: str = "map_rms", **more) -> list[dict]:
    base = dict.fromkeys(COLUMNS) | {"arm": arm, "objective": objective, "metric": metric, "precision": "fp32"}
    status = ["finished" if math.isfinite(v) else "diverged" for v in values]
    return [
        base | {"seed": s, "value": v, "status": k, "parameters": 100, "size": "m"} | more
        for s, (v, k) in enumerate(zip(values, status, strict=True))
    ]


def _sweep(continuous: list[float], best: list[float], other: list[float]) -> pd.DataFrame:
    rows = _rows("scd", "scd", continuous)
    rows += _rows("dscd-8", "dscd", best, intervals=8) + _rows("dscd-64", "dscd", other, intervals=64)
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("continuous", "best", "other", "wanted"),
    [
        (WIN, LOSS, [1.0, 1.1, 0.9], "better than every N"),
        (LOSS, WIN, [1.0, 1.1, 0.9], "worse than the best N (gap"),
        ([0.01, 0.02, 0.03], [0.02, 0.01, 0.031], [1.0, 1.1, 0.9], "the interval holds zero"),
        ([0.01], [0.02], [1.0], "too few seeds"),
        ([0.01, math.inf, 0.01], LOSS, [1.0, 1.1, 0.9], "a run diverged"),
        (WIN, LOSS, [1.0, math.inf, 0.9], "diverges at N = 64"),
    ],
)
def test_the_sweep_s_finding_says_win_loss_tie_and_divergence(continuous, best, other, wanted) -> None:
    text = FINDINGS["discretisation"](
        _experiment("discretisation", "map_rms"), _sweep(continuous, best, other), NO_CURVES
    )
    assert "dsCD is best at N = 8" in text
    assert wanted in text


def test_the_sweep_s_finding_turns_round_where_more_is_better() -> None:
    rows = _sweep([0.9, 0.91, 0.92], [0.5, 0.51, 0.52], [0.1, 0.11, 0.12]).assign(metric="recall")
    text = FINDINGS["discretisation"](_experiment("discretisation", "recall"), rows, NO_CURVES)
    assert "best at N = 8" in text
    assert "better than every N" in text


def test_memorisation_names_nearer_not_nearer_and_undecided() -> None:
    rows = _rows("data", "data", [2.0], "nearest_train")
    for arm, values in {"copy": [1.0, 1.1, 1.05], "far": [3.0, 3.1, 3.05], "unsure": [1.8, 2.3, 1.9]}.items():
        rows += _rows(arm, "scd", values, "nearest_train", steps=1)
    rows += _rows("lost", "sct", [math.inf] * 3, "nearest_train", steps=1)
    text = FINDINGS["memorisation"](_experiment("memorisation", "nearest_train"), pd.DataFrame(rows), NO_CURVES)
    nearer, not_nearer, undecided = (part for part in text.split("; ")[1:])
    assert nearer.startswith("nearer: copy")
    assert not_nearer.startswith("not nearer: far")
    assert undecided.startswith("undecided: unsure")
    assert "lost" not in text


def test_map_error_counts_the_arms_whose_error_grows() -> None:
    curves = pd.DataFrame(
        [
            {"arm": arm, "objective": "scd", "intervals": None, "metric": "map_rms", "x": x, "value": v, "seed": 0}
            for arm, values in {"a": (0.1, 0.2), "b": (0.3, 0.2)}.items()
            for x, v in zip((0.1, 1.5), values, strict=True)
        ]
    )
    text = FINDINGS["map_error"](_experiment("map_error", "map_rms_one_step"), pd.DataFrame(), curves)
    assert "for 1 of 2 arms" in text


@pytest.mark.parametrize("values", [WIN, [0.1], [math.inf] * 3, [0.1, math.inf, 0.2]])
@pytest.mark.parametrize("kind", FIGURES)
def test_every_figure_and_finding_survives_one_seed_and_divergence(kind: str, values: list[float]) -> None:
    apply_style()
    metric = {"memorisation": "nearest_train", "training": "training_direction_norm"}.get(kind, "map_rms")
    rows = []
    for arm, objective, n in (("teacher-m", "diffusion", None), ("scd", "scd", None), ("dscd-8", "dscd", 8)):
        for name in {metric, "nearest_train", "nearest_held_out"}:
            rows += _rows(arm, objective, values, name, intervals=n, steps=1)
    curves = pd.DataFrame(
        [
            {"arm": "scd", "objective": "scd", "intervals": None, "metric": m, "x": x, "value": 1.0, "seed": 0}
            for m in ("map_rms", "training_direction_norm", "training_direction_norm_max")
            for x in (0.1, 1.0)
        ]
    )
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"intervals": float})
    experiment = _experiment(kind, metric)
    figure = FIGURES[kind](experiment, frame, curves)
    figure.canvas.draw()
    assert figure.axes
    assert FINDINGS[kind](experiment, frame, curves).endswith(".")
    plt.close("all")


def test_intervals_are_student_s_and_a_diverged_seed_is_worst() -> None:
    found = interval(np.array([1.0, 2.0, 3.0]))
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert str(interval(np.array([1.0, math.inf]))) == "diverged"
    assert math.isnan(interval(np.array([1.0])).low)
    table = summary(pd.DataFrame(_rows("a", "scd", [1.0, math.inf, 2.0])))
    assert table["mean"].iloc[0] == math.inf
    assert table["diverged"].iloc[0] == 1


def test_paired_differences_pair_by_seed_and_welch_does_not() -> None:
    frame = _sweep([1.0, 2.0, 3.0], [1.1, 2.1, 3.1], [9.0, 9.0, 9.0])
    gap = paired(frame, "scd", "dscd-8", "map_rms")
    assert gap.low > 0
    apart = difference(pd.Series([1.1, 2.1, 3.1]), pd.Series([1.0, 2.0, 3.0]))
    assert apart.low < 0 < apart.high
