"""Figures of the methods' pages: drawn as the study that compares them is published, and put on the site's pages."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from trigbench._places import ROOT
from trigbench.workflow.report.methods import method_figures
from trigbench.workflow.study.reading import load

STUDY = EXPERIMENT = "flow_maps"
"""Their study, and its experiment of all methods."""


def rows(
    experiment: str, arm: str, objective: str, sampler: str | None, steps: list[int | None]
) -> list[dict[str, Any]]:
    about = {"experiment": experiment, "arm": arm, "objective": objective, "sampler": sampler, "sampling": sampler}
    about |= {"metric": "sliced_wasserstein", "data": "mixture-2d", "teacher": "exact", "size": "small"}
    return [
        about | {"steps": n, "seed": seed, "value": 0.1 / (n or 9) + 0.01 * seed} for n in steps for seed in (200, 201)
    ]


RUNS = pd.DataFrame(
    [
        *rows(EXPERIMENT, "scd", "scd", "renoised", [1, 2, 4, 8]),
        *rows(EXPERIMENT, "ctm", "ctm", "gamma-0", [1, 2, 4, 8]),
        *rows("gamma", "ctm", "ctm", "gamma-1", [2, 4, 8]),
        *rows(EXPERIMENT, "pcm-4", "pcm", "segments", [4]),
        *(row for n in (2, 4, 8) for row in rows("phases", f"pcm-{n}", "pcm", "segments", [n])),
        *rows(EXPERIMENT, "mixture-2d", "data", None, [None]),
    ]
)


def test_each_method_of_the_study_has_a_figure_of_itself_beside_scd_alone() -> None:
    study = load(STUDY)
    found = dict(method_figures(study, RUNS))
    assert list(found) == ["method-ctm", "method-pcm"]
    for figure, steps in zip(found.values(), ([1, 2, 4, 8], [2, 4, 8]), strict=True):
        drawn = {str(line.get_label()): np.asarray(line.get_xdata()).tolist() for line in figure.axes[0].lines}
        lines = {label: xs for label, xs in drawn.items() if not label.startswith("_")}
        own = [xs for label, xs in lines.items() if not label.startswith("sCD")]
        assert steps in own and any(label.startswith("sCD") for label in lines) and len(figure.axes) == 1, lines
    plt.close("all")
    assert not list(method_figures(load("oracle"), RUNS)), "of another study"


def test_every_method_s_page_is_of_an_arm_that_the_study_compares() -> None:
    pages = {path.stem for path in (ROOT / "docs/methods").glob("*.md")}
    study = load(STUDY)
    compared = {study.arms[arm].objective for arm in study.arms_of(EXPERIMENT)}
    elsewhere = {arm.objective for arm in load("digits").arms.values()}
    assert len(pages) > 10 and pages - compared == {"ms_scd"} <= elsewhere, "whose page says where it is"


def test_a_page_shows_its_figure_once_that_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / ".ci/site.py")
    assert spec is not None and spec.loader is not None
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    monkeypatch.setattr(site, "ROOT", tmp_path)
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="methods/ctm.md"))
    assert site.on_page_markdown("# ctm\n", page=page) == "# ctm\n", "before it is published"
    place = tmp_path / site.METHODS.format("ctm")
    place.parent.mkdir(parents=True)
    place.write_text("<svg/>")
    shown = site.on_page_markdown("# ctm\n", page=page)
    assert shown.startswith("# ctm\n") and f"](../files/{site.METHODS.format('ctm')})" in shown
    other: Any = SimpleNamespace(file=SimpleNamespace(src_uri="samplers.md"))
    assert site.on_page_markdown("# s\n", page=other) == "# s\n"
