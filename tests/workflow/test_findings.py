"""Findings say what the rows say: wins, losses, ties, divergence, too few seeds."""

import math

import numpy as np
import pandas as pd
import pytest

from trigbench.workflow.claims.statistics import (
    COLUMNS,
    at_best_guidance,
    difference,
    interval,
    over_seeds,
    paired,
    refuse_doubles,
    summary,
)
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.report.kinds import kind_of
from trigbench.workflow.report.rows import numeric
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantity, is_signed

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
    text = kind_of("discretisation").say(
        _experiment("discretisation", "map_rms"), _sweep(continuous, best, other), NO_CURVES
    )
    assert "dsCD is best at N = 8" in text
    assert wanted in text


def test_the_sweep_s_finding_turns_round_where_more_is_better() -> None:
    rows = _sweep([0.9, 0.91, 0.92], [0.5, 0.51, 0.52], [0.1, 0.11, 0.12]).assign(metric="recall")
    text = kind_of("discretisation").say(_experiment("discretisation", "recall"), rows, NO_CURVES)
    assert "best at N = 8" in text
    assert "better than every N" in text


def test_memorisation_names_nearer_not_nearer_and_undecided() -> None:
    rows = _rows("data", "data", [2.0], "nearest_train")
    for arm, values in {"copy": [1.0, 1.1, 1.05], "far": [3.0, 3.1, 3.05], "unsure": [1.8, 2.3, 1.9]}.items():
        rows += _rows(arm, "scd", values, "nearest_train", steps=1)
    rows += _rows("lost", "sct", [math.inf] * 3, "nearest_train", steps=1)
    text = kind_of("memorisation").say(_experiment("memorisation", "nearest_train"), pd.DataFrame(rows), NO_CURVES)
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
    text = kind_of("map_error").say(_experiment("map_error", "map_rms_one_step"), pd.DataFrame(), curves)
    assert "for 1 of 2 arms" in text


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
    gap = paired(frame, "scd", "dscd-8")
    assert gap.low > 0
    apart = difference(pd.Series([1.1, 2.1, 3.1]), pd.Series([1.0, 2.0, 3.0]))
    assert apart.low < 0 < apart.high


def test_a_seed_with_two_values_under_one_setting_is_an_error_and_not_two_seeds() -> None:
    rows = _rows("scd", "scd", [1.0], steps=3, sampling="few", times="[1.1, 0.8]")
    apart = pd.DataFrame(rows + _rows("scd", "scd", [2.0], steps=3, sampling="few", times="[1.1, 0.05]"))
    table = summary(apart)
    assert (list(table.seeds), list(table["mean"]), table.low.isna().all()) == ([1, 1], [1.0, 2.0], True)
    twice = pd.DataFrame(rows + rows)
    for pooled in (summary, over_seeds, refuse_doubles, lambda frame: paired(frame, "scd", "scd")):
        with pytest.raises(ValueError, match=r"'scd', seed 0, has several values under one setting.*steps 3"):
            pooled(twice)
    with pytest.raises(ValueError, match="'scd', seed 0"):
        kind_of("methods").say(_experiment("methods", "map_rms"), twice, NO_CURVES)


def test_floors_of_two_data_sets_are_two_numbers() -> None:
    rows = _rows("data", "data", [0.03], data="flat") + _rows("data", "data", [0.06], data="wide")
    table = summary(pd.DataFrame(rows).assign(seed=None))
    assert (list(table["mean"]), list(table.seeds)) == ([0.03, 0.06], [1, 1])


def test_a_number_that_may_be_negative_is_compared_by_its_difference() -> None:
    known = QUANTITIES | {"likelihood": Quantity("log-likelihood", "higher", "mean over samples", signed=True)}
    rows = _rows("scd", "scd", [-3.0, -3.1, -2.9], "likelihood", steps=1)
    rows += _rows("scd-clip", "scd", [-2.0, -2.1, -1.9], "likelihood", steps=1)
    experiment = _experiment("methods", "likelihood")
    text = kind_of("methods").say(experiment, pd.DataFrame(rows, columns=COLUMNS), NO_CURVES, known)
    assert text.startswith("Log-likelihood, 1 step, against scd (-3 [-3.25, -2.75]): better: scd-clip +1 [+1, +1].")
    assert known["likelihood"].worst == -math.inf and is_signed("likelihood", known) and not is_signed("map_rms")


# --- the newer kinds, on rows whose answer is known -----------------------------------------------


def _said(kind: str, rows: list[dict], metric: str = "fd_train", curves: list[dict] | None = None) -> str:
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return kind_of(kind).say(_experiment(kind, metric), frame, pd.DataFrame(curves or []))


def _curve(arm: str, metric: str, values: dict[float, float], seed: int = 0, **more) -> list[dict]:
    about = {"arm": arm, "objective": "scd", "metric": metric, "seed": seed} | more
    return [about | {"x": x, "value": value} for x, value in values.items()]


def test_ablations_are_held_against_the_first_arm_of_their_method() -> None:
    rows = _rows("scd", "scd", [10.0, 20.0, 30.0], "fd_train", steps=1)
    rows += _rows("scd-clip", "scd", [9.0, 18.0, 27.0], "fd_train", steps=1)
    rows += _rows("scd-raw", "scd", [20.0, 40.1, 60.0], "fd_train", steps=1)
    rows += _rows("scd-cold", "scd", [11.0, 19.0, 30.0], "fd_train", steps=1)
    rows += _rows("scd-lost", "scd", [11.0, math.inf, 30.0], "fd_train", steps=1)
    rows += _rows("sct", "sct", [1.0, 1.0, 1.0], "fd_train", steps=1)
    text = _said("methods", rows)
    assert "1 step, against scd (20" in text
    assert "better: scd-clip −10% [−10%, −10%]" in text
    assert "worse: scd-raw +100% [" in text
    assert "scd-lost diverged in 1 of 3 seeds" in text
    assert "undecided: scd-cold" in text
    assert "sct" not in text


def test_ablations_turn_round_where_more_is_better() -> None:
    rows = _rows("scd", "scd", [0.5, 0.5, 0.5], "recall", steps=1)
    rows += _rows("scd-clip", "scd", [0.6, 0.6, 0.6], "recall", steps=1)
    rows += _rows("scd-none", "scd", [0.0, 0.0, 0.0], "recall", steps=1)
    text = _said("methods", rows, "recall")
    assert "better: scd-clip +20%" in text
    assert "undecided: scd-none 0, no ratio to 0.5" in text


def test_methods_of_their_own_are_ranked_and_the_lead_is_paired() -> None:
    rows = _rows("ect", "ect", [20.0, 22.0, 24.0], "fd_train", steps=1)
    rows += _rows("scd", "scd", [10.0, 11.0, 12.0], "fd_train", steps=1)
    rows += _rows("ct", "ct", [math.inf] * 3, "fd_train", steps=1)
    text = _said("methods", rows)
    assert text.index("scd 11") < text.index("ect 22") < text.index("ct diverged")
    assert "scd is ahead of ect (−50% [−50%, −50%])" in text


def test_a_metric_without_steps_is_compared_too() -> None:
    text = _said("methods", _rows("scd", "scd", [1.0, 2.0]) + _rows("scd-b", "scd", [2.0, 4.0]), "map_rms")
    assert text.startswith("RMS error of the map, against scd (1.5")
    assert "worse: scd-b +100%" in text


def test_the_largest_tangent_is_told_over_the_first_arm_s_and_where() -> None:
    curves = []
    for seed in range(3):
        curves += _curve("scd", "time_tangent", {0.1: 1.0, 1.0: 2.0, 1.5: 1.0}, seed)
        curves += _curve("scd-log", "time_tangent", {0.1: 1.0, 1.0: 3.0, 1.5: 60.0}, seed)
    text = _said("tangents", [], "time_tangent", curves)
    assert "scd 2 [2, 2] at t = 1.00, and over it: scd-log 30 [30, 30] times at t = 1.50" in text


def test_quality_curves_say_who_is_ahead_where() -> None:
    curves = []
    for seed in range(3):
        curves += _curve("a", "fd_train", {10: 8.0 + seed, 20: 5.0 + seed, 30: 1.0 + seed / 9}, seed, steps=1)
        curves += _curve("b", "fd_train", {10: 4.0 + seed, 20: 6.0 - seed, 30: 2.0 + seed / 9}, seed, steps=1)
    text = _said("quality_curves", [], curves=curves)
    assert "1 step: at step 10 b is ahead of a (" in text
    assert "at step 20 b and a are undecided (" in text
    assert "at step 30 a is ahead of b (" in text
    lost = _rows("c", "sct", [math.inf] * 3, "fd_train", steps=1)
    last = _said("quality_curves", lost, curves=[point for point in curves if point["arm"] == "a"])
    assert "at step 30 a is ahead of c (c diverged in 3 of 3 seeds)" in last


def test_guidance_says_how_distance_and_recall_move() -> None:
    rows = []
    for scale, distance, recall in ((1.0, 10.0, 0.9), (2.0, 50.0, 0.1), (3.0, 16.0, 0.5)):
        more = {"guidance": scale, "steps": 1}
        rows += _rows("vsd", "vsd", [distance + s for s in range(3)], "fd_train", **more)
        rows += _rows("vsd", "vsd", [recall] * 3, "recall", **more)
    text = _said("guidance", rows)
    assert "From guidance 1 to 3: vsd, 1 step: distance 11 → 17 (+6 [+6, +6]), recall 0.9 → 0.5 (−0.4 [" in text


def test_guided_samples_are_shown_at_the_scale_of_the_best_mean() -> None:
    rows = []
    found = {1.0: ((9.0, 9.0), (5.0, 5.0)), 1.5: ((1.0, 11.0), (6.0, 6.0)), 2.0: ((0.0, math.inf), (7.0, 7.0))}
    for scale, by_steps in found.items():
        for steps, values in enumerate(by_steps, 1):
            more = {"guidance": scale, "steps": steps, "sampler": "few"}
            rows += _rows("a", "scd", list(values), "fd_train", **more)
            rows += _rows("a", "scd", [scale] * 2, "recall", **more)
    rows += _rows("b", "sct", [8.0, 8.0], "fd_train", steps=1, sampler="few")
    runs = numeric(pd.DataFrame(rows).reindex(columns=COLUMNS))
    shown = at_best_guidance(runs, "fd_train")
    assert shown[shown.arm == "a"].groupby("steps").guidance.unique().map(list).to_dict() == {1: [1.5], 2: [1.0]}
    assert set(shown[shown.steps == 1].metric) == {"fd_train", "recall"}, "other metrics at the same scale"
    assert shown[shown.arm == "b"].equals(runs[runs.arm == "b"]), "no scale, nothing to choose"
    higher = at_best_guidance(runs, "recall")
    assert set(higher[higher.arm == "a"].guidance) == {2.0}
    unguided = runs.loc[runs.arm == "b"]
    assert at_best_guidance(unguided, "fd_train").equals(unguided)


def test_a_seed_that_diverged_at_every_scale_does_not_choose_the_scale() -> None:
    rows = []
    for scale, values in ((1.0, [9.0, 9.0, math.inf]), (1.3, [3.0, 3.0, math.inf]), (1.6, [1.0, math.nan, math.inf])):
        rows += _rows("a", "scd", values, "fd_train", guidance=scale, steps=1, sampler="few")
    shown = at_best_guidance(numeric(pd.DataFrame(rows).reindex(columns=COLUMNS)), "fd_train")
    assert set(shown.guidance) == {1.3}, "the best of those that most seeds have"


def test_guided_curves_are_shown_at_the_scale_that_is_best_at_their_end() -> None:
    points = []
    for scale, values in ((1.0, {10.0: 9.0, 20.0: 4.0}), (2.0, {10.0: 2.0, 20.0: 5.0})):
        points += _curve("a", "fd_train", values, 0, steps=1, guidance=scale)
    points += _curve("a", "training_loss", {10.0: 1.0, 20.0: 0.5}, 0)
    shown = at_best_guidance(numeric(pd.DataFrame(points).reindex(columns=CURVE_COLUMNS)), "fd_train")
    assert list(shown.value) == [9.0, 4.0, 1.0, 0.5]


def test_a_diverged_arm_s_recall_is_not_told_as_a_move() -> None:
    rows = []
    for scale in (1.0, 3.0):
        for metric, worst in (("fd_train", math.inf), ("recall", 0.0)):
            rows += _rows("vsd", "vsd", [worst], metric, guidance=scale, steps=1)
    text = _said("guidance", [row | {"status": "diverged"} for row in rows])
    assert text == "From guidance 1 to 3: vsd, 1 step: a run diverged."


def test_steps_name_the_best_at_each_budget_and_pair_two_steps() -> None:
    rows = _rows("scd-m", "scd", [20.0, 21.0, 22.0], "fd_train", steps=1, sampler="few")
    rows += _rows("scd-m", "scd", [10.0, 11.0, 12.0], "fd_train", steps=2, sampler="few")
    rows += _rows("ms-scd-2", "ms_scd", [20.0, 22.0, 24.0], "fd_train", steps=2, sampler="segments")
    rows += _rows("teacher-m", "diffusion", [9.0, 9.5, math.inf], "fd_train", steps=7, sampler="heun")
    rows += _rows("teacher-m", "diffusion", [5.0, 5.0, 5.0], "fd_train", steps=35, sampler="heun")
    text = _said("steps", rows)
    assert "1: scd-m in 1 step, 21" in text
    assert "2: scd-m in 2 steps, 11" in text
    assert "7:" not in text
    assert "35: teacher-m by Heun in 35 evaluations, 5" in text
    assert "Two steps of scd-m against ms-scd-2: better, −50% [−50%, −50%]" in text


def test_what_is_of_other_data_is_ranked_apart() -> None:
    rows = _rows("a", "scd", [3.0, 3.1, 2.9], "fd_train", steps=1, data="plain")
    rows += _rows("b", "scd", [9.0, 9.1, 8.9], "fd_train", steps=1, data="bold")
    text = _said("steps", rows)
    assert "(where it changes) on plain: 1: a in 1 step, 3 " in text and "; on bold: 1: b in 1 step, 9 " in text


def test_mid_time_says_how_much_worse_1_1_is_than_the_best() -> None:
    rows = []
    for middle, level in ((0.5, 30.0), (0.9, 10.0), (1.1, 11.0)):
        values = [level, 2 * level, 3 * level]
        rows += _rows("scd", "scd", values, "fd_train", steps=2, sampler="few", mid_time=middle)
    text = _said("mid_time", rows)
    assert "scd is best at 0.9 (20" in text
    assert "1.1 against it +10% [+10%, +10%], worse" in text
    assert "chosen afterwards" in text


def test_compute_is_told_at_the_largest_size_that_both_have() -> None:
    rows = []
    for size, parameters, level in (("s", 100, 50.0), ("l", 1000, 10.0)):
        about = {"size": size, "parameters": parameters}
        for arm, objective, steps, factor in (("teacher", "diffusion", 35, 1.0), ("scd", "scd", 2, 1.1)):
            values = [factor * level * (1 + s) for s in range(3)]
            flops = {"sample_flops": 2.0 * parameters * steps, "train_flops": 1e6 * factor}
            rows += _rows(f"{arm}-{size}", objective, values, "fd_train", steps=steps, **about)
            rows += _rows(f"{arm}-{size}", objective, [flops["sample_flops"]] * 3, "sample_flops", steps=steps, **about)
            rows += _rows(f"{arm}-{size}", objective, [flops["train_flops"]] * 3, "train_flops", **about)
    text = _said("compute", rows)
    assert "scd-l in 2 steps against teacher-l: 1.1 [1.1, 1.1] times the distance" in text
    assert "0.057 times the sampling compute; 1.1 times the training compute" in text
    assert "estimated" not in text


def test_theory_fits_the_orders() -> None:
    rows = []
    for n in (8, 32, 128):
        rows += _rows(f"cd-{n}", "cd", [c / n for c in (1.0, 1.2, 0.9)], intervals=n)
        rows += _rows(f"cd-heun-{n}", "cd", [c / n**2 for c in (1.0, 1.2, 0.9)], intervals=n)
    exact = _curve("", "fixed_point_error_euler", {n: 3 / n for n in (8, 16, 32)}, objective="cd")
    text = _said("theory", rows, "map_rms", exact)
    assert "CD with Euler, trained: 1 [1, 1] from N = 8 to 128" in text
    assert "CD with Euler, exact fixed point: 1 from N = 8 to 32" in text
    assert "CD with Heun, trained: 2 [2, 2] from N = 8 to 128" in text
