"""What a run logs of its student: what was active, and whether it leaves the noise that comes in."""

import csv
import dataclasses
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.workflow.conftest import TINY
from trigbench.core.noise_left import BINS, COLLAPSED, collapse
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.machine.live import live, phase, read_live, warn
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.report.pages.experiment import collapsed_arms
from trigbench.workflow.run import training
from trigbench.workflow.run.assembly import make_modules
from trigbench.workflow.run.held import HeldBatch, hold, pairs_of, resting
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.log import LOG_COLUMNS
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.quantities import ACTIVITIES, CURVES
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record, read_training
from trigbench.workflow.study.study import Run, Study

NARROW = {"kind": "mixture", "dimension": 8, "components": 2, "std": 0.2, "seed": 10, "evaluation_points": 4}


def _rows(study: Study, run: Run) -> list[dict[str, str]]:
    with study.files(run).log.open() as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def narrow_data(
    tmp_path_factory: pytest.TempPathFactory, unchecked: Callable[[], AbstractContextManager[None]]
) -> Path:
    """The folder of prepared data, made once."""
    folder = tmp_path_factory.mktemp("narrow")
    content = TINY | {"data": {"mixture": NARROW}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    study = load(folder / "tiny.yaml")
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        prepare(study, "mixture")
    return folder / study.data_file("mixture").parent


@pytest.fixture
def narrow(
    tiny: dict, write_study, narrow_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Study]:
    """A study of arms on data so narrow that a map must remove noise; a run sees enough images to be looked at."""
    monkeypatch.chdir(tmp_path)

    def make(**arms: dict) -> Study:
        tiny["data"]["mixture"] = NARROW
        tiny["sizes"]["small"] = {"width": 64, "blocks": 2}
        tiny["defaults"] |= {"iterations": 100, "batch": 256, "rate": 1e-2, "warmup": 1000}
        tiny["arms"] = {name: {"objective": "scd", "teacher": "exact"} | arm for name, arm in arms.items()}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
        study = load(write_study(tiny))
        shutil.copytree(narrow_data, study.data_file("mixture").parent, dirs_exist_ok=True)
        return study

    return make


@pytest.mark.slow
def test_a_student_that_does_nothing_is_warned_of_and_one_that_learns_is_not(narrow, unchecked, capsys) -> None:
    study = narrow(learns={}, dead={"rate": 1e-9})
    with unchecked():
        for arm in study.arms:
            make_run(study, Run(arm=arm, seed=0))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1, "once, and of one run"
    assert said[0].startswith("warning: tiny dead seed 0: the student has collapsed by step 50: ")
    assert "lower rate" in said[0]
    found = {}
    for arm in study.arms:
        record = read_record(study.files(Run(arm=arm, seed=0)).metrics)
        found[arm] = {v.metric: v.value for v in record.metrics if v.steps is None}["collapse"]
        curve = [v for v in record.curves if v.metric == "training_noise_left_2"]
        assert [v.x for v in curve] == [10.0 * n for n in range(1, 11)]
        assert {v.metric for v in record.curves if v.metric.startswith("training_")} <= set(CURVES)
    assert found["learns"] < COLLAPSED and found["dead"] == pytest.approx(1.0, abs=0.05)
    trained = read_training(study.files(Run(arm="dead", seed=0)).training)
    left, nothing = [row[2] for row in trained.noise_left], [math.cos(row[0]) for row in trained.noise_left]
    assert left == pytest.approx(nothing, abs=0.05)


@pytest.mark.slow
def test_looking_changes_no_weight(narrow, monkeypatch) -> None:
    study = narrow(x={"iterations": 12, "batch": 1000})
    run, weights = Run(arm="x", seed=0), []
    assert pairs_of(study.arms["x"]) == 2
    for looked in (True, False):
        with monkeypatch.context() as patch:
            if not looked:
                patch.setattr(training, "hold", lambda task: None)
            training.train(study, run)
        weights.append(read_tensors(study.files(run).weights, ""))
        _begun_anew(study, run)
        assert bool(_rows(study, run)[-1]["noise_left_1"]) == looked
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _begun_anew(study: Study, run: Run) -> None:
    """So that the run begins anew."""
    for path in study.files(run).checkpoints.glob("*"):
        path.unlink()


def _held(study: Study, run: Run) -> tuple[HeldBatch, Task]:
    task = opened(study, run)
    held = hold(task)
    assert held is not None
    return held, task


@pytest.mark.slow
def test_a_network_of_zeros_has_collapsed_whatever_its_edges(narrow) -> None:
    """Of a map to 0, of one to the edges of its segments, and of one that is looked at in parts."""
    few = {"iterations": 60, "batch": 2000}
    study = narrow(map=few, parts=few | {"microbatch": 7}, segments=few | {"objective": "ms_scd", "segments": 2})
    for arm in study.arms:
        held, task = _held(study, Run(arm=arm, seed=0))
        modules = make_modules(task, None)
        with torch.no_grad():
            for parameter in modules.student.parameters():
                parameter.zero_()
        left = held.left(modules)
        assert left == pytest.approx([math.cos(passed) for passed in held.elapsed], abs=1e-5)
        assert any(found == pytest.approx(1.0, abs=1e-4) for found in held.collapse(left))
        assert modules.student.training, "as it was"
    assert held.elapsed[3] < 1.0, "to the edge of its segment"


@pytest.mark.slow
def test_it_is_judged_at_two_looks_and_in_the_first_half_by_what_it_was_before(narrow) -> None:
    held, _ = _held(narrow(x={"iterations": 100, "batch": 2000}), Run(arm="x", seed=0))
    held = dataclasses.replace(held, taught=[0.3, 0.3, 0.5, 0.9])
    well, dead = [0.3, 0.3, 0.5, 0.9], [0.97, 0.3, 0.5, 0.9]
    assert collapse(dead[0], 0.3, held.elapsed[0]) > COLLAPSED
    assert held.collapsed([dead], dead, 40) == [], "it has yet to learn"
    assert held.collapsed([dead], dead, 50) == [0]
    assert held.collapsed([well], dead, 50) == [], "once may be chance"
    assert held.collapsed([well, dead], dead, 30) == [0], "it had learned"
    assert held.collapsed([well, dead], [None] * BINS, 60) == []
    assert held.warning([well], well, 100) is None
    assert "0.97 of it at t = 0.20 (the teacher's flow 0.30)" in str(held.warning([dead], dead, 100))
    unknown = dataclasses.replace(held, taught=None)
    assert all(map(math.isnan, unknown.collapse(dead))) and unknown.collapsed([dead], dead, 100) == []


def test_a_run_that_is_short_is_not_looked_at(scd_arm) -> None:
    study = scd_arm()
    assert hold(opened(study, Run(arm="scd", seed=0))) is None


def test_parts_of_a_network_go_back_to_where_they_were() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    network[1].eval()
    with resting(network):
        assert not network[0].training
    assert network[0].training and not network[1].training


def test_a_row_holds_means_of_what_is_there_and_nothing_for_the_rest() -> None:
    journal, nan = Journal(), math.nan
    journal.note(1.0, 2.0, 3.0, [0.0, nan, 1.0, 0.0, 0.0, 3.0, 0.5, 0.0, 0.0, 0.5])
    journal.note(1.0, 2.0, 3.0, [0.5, nan, 2.0, 0.0, 0.0, 3.0, 0.25, 0.0, 0.0, 0.75])
    row = dict(zip(LOG_COLUMNS, journal.close_window(2, 1e-3, [0.5, nan, 0.1, 0.2]), strict=True))
    assert [row[name] for name in ACTIVITIES] == [0.25, 0.5, None, None]
    assert [row[f"direction_norm_{n}"] for n in range(1, 5)] == [4.0, None, None, 4.8]
    assert [row[f"noise_left_{n}"] for n in range(1, 5)] == [0.5, None, 0.1, 0.2]


@pytest.mark.slow
def test_what_was_active_is_measured_of_the_arms_that_have_it(tiny, with_data) -> None:
    arms = {
        "clip": {"objective": "sct", "control": "clip"},
        "free": {"objective": "sct"},
        "clamped": {"objective": "scd", "teacher": "exact", "adaptive_weight": True, "weight_max": 1e-6},
    }
    tiny["arms"] = {name: arm | {"iterations": 6} for name, arm in arms.items()}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    study, found = with_data(tiny), {}
    for arm in arms:
        make_run(study, Run(arm=arm, seed=0))
        record = read_record(study.files(Run(arm=arm, seed=0)).metrics)
        found[arm] = {v.metric: v.value for v in record.metrics if v.metric in ACTIVITIES}
    assert found["free"] == {} and found["clip"].keys() == {"clipped_share", "clipped_steps"}
    assert 0 < found["clip"]["clipped_share"] < found["clip"]["clipped_steps"] <= 1
    assert found["clamped"] == {"clamped_share": 1.0, "clamped_steps": 1.0}
    assert _rows(study, Run(arm="free", seed=0))[0]["clipped_share"] == ""


def test_a_warning_stands_in_every_phase_until_the_process_ends(tmp_path: Path) -> None:
    warn("nobody listens")
    with live(tmp_path / "live.json", "training"):
        warn("collapsed")
        phase("sampling")
        said = read_live(tmp_path / "live.json")
        assert said is not None and (said.phase, said.warning) == ("sampling", "collapsed")


def test_the_page_names_the_arms_that_collapsed_with_their_seeds() -> None:
    columns = ["arm", "seed", "metric", "value", "status"]
    rows = [
        ("a", 0, "collapse", 0.2, "finished"), ("a", 1, "collapse", 0.9, "finished"),
        ("a", 2, "collapse", 0.6, "finished"),
        ("b", 0, "collapse", math.inf, "diverged"), ("c", 0, "map_rms", 0.9, "finished"),
        ("d", 0, "collapse", 0.5, "finished"),
    ]  # fmt: skip
    assert collapsed_arms(pd.DataFrame(rows, columns=columns)) == ["a seeds 1, 2 (up to 0.90)", "d seed 0 (up to 0.50)"]
