"""What stands in results/published: how it is drawn and said, and which of a study's curves are there."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import ROOT
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.report.kinds import compute
from trigbench.workflow.report.matrix import draw_matrix
from trigbench.workflow.report.publishing import asked_curves
from trigbench.workflow.report.rows import lines, results
from trigbench.workflow.study.reading import load

PUBLISHED = ROOT / "results/published"
LONG = PUBLISHED / "oracle-long"
NONE = pd.DataFrame()


def _runs_of(experiment: str) -> pd.DataFrame:
    runs = read_table(LONG / "runs.csv")
    return pd.DataFrame(runs[runs.experiment == experiment])


def test_an_error_of_the_map_stands_against_training_alone_a_line_a_method() -> None:
    settings, runs = load("oracle-long").experiments["short_and_long"], _runs_of("short_and_long")
    (ax,) = compute.draw(settings, runs, NONE).axes
    drawn = [line for line in ax.lines if np.size(line.get_xdata()) == 2 and not str(line.get_label()).startswith("_")]
    assert [line.get_label() for line in drawn] == [
        "sCD (continuous)", "dsCD (discrete), N = 256", "dsCD (discrete), N = 1024",
    ]  # fmt: skip
    assert len({line.get_linestyle() for line in drawn}) == 3 and ax.get_yscale() == "log"
    said = compute.say(settings, runs, NONE)
    rows = results(runs, "map_rms").pivot(index="seed", columns="arm", values="value")
    ratio = (rows["scd-fp32"] / rows["short-scd"]).pow(1 / len(rows)).prod()
    assert f"sCD (continuous): {ratio:.3g} [" in said and said.count("at 8 times the training") == 3


def test_arms_of_one_family_at_one_place_are_a_line_each() -> None:
    """dscd-256 and dscd-1024 differ in intervals alone, which are no size."""
    rows = results(_runs_of("short_and_long"), "map_rms")
    found = [(words, set(group.arm)) for _, words, group in lines(rows, ["objective", "steps"], "size")]
    assert all(len(arms) == 1 for _, arms in found) and len(found) == rows.arm.nunique()
    assert len({words for words, _ in found}) == len(found)


@pytest.mark.slow
def test_published_curves_are_what_a_rule_judges_or_an_experiment_asks_after() -> None:
    study = load("oracle-long")
    curves = pd.DataFrame(
        [
            {"experiment": "length", "metric": "sliced_wasserstein"},  # what it asks after
            {"experiment": "length", "metric": "training_loss"},
            {"experiment": "tangent_control", "metric": "training_direction_norm"},
        ]
    )
    assert asked_curves(study, curves).metric.tolist() == ["sliced_wasserstein"]
    digits, judged = load("digits"), {"experiment": "tangent_control", "metric": "fd_train"}
    assert len(asked_curves(digits, pd.DataFrame([judged, judged | {"metric": "training_loss"}]))) == 1


def test_headings_of_the_matrix_stand_apart() -> None:
    claims = pd.concat([read_table(path) for path in sorted(Path(PUBLISHED).glob("*/claims.csv"))])
    figure = draw_matrix(claims)
    figure.canvas.draw()
    boxes = sorted(
        (text.get_window_extent() for text in figure.axes[0].texts if text.get_text()),
        key=lambda b: (round(b.y0), b.x0),
    )
    rows = [[box for box in boxes if round(box.y0) == height] for height in {round(box.y0) for box in boxes}]
    assert len(rows) >= 3
    assert all(before.x1 < after.x0 for row in rows for before, after in itertools.pairwise(row))
