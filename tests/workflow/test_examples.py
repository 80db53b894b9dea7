"""Own objectives, networks and data sets: small files outside the project's packages that run in its workflow."""

from pathlib import Path

import pandas as pd
import pytest

from core.objectives import OBJECTIVES
from tests.workflow.conftest import ROOT, as_a_new_process, snakemake
from workflow.reading import load
from workflow.runtime.fingerprint import fingerprint
from workflow.study import Run

EXAMPLES = ("own_objective", "own_network", "own_data")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_shorter_than_sixty_lines(name: str) -> None:
    for suffix in (".py", ".yaml"):
        assert len((ROOT / "examples" / f"{name}{suffix}").read_text().splitlines()) < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_data_to_report(name: str, tmp_path: Path) -> None:
    study = ROOT / "examples" / f"{name}.yaml"
    snakemake("--cores", "2", "--config", f"study={study}", "budget=smoke", cwd=tmp_path)
    runs = pd.read_csv(tmp_path / "results" / f"{name}-smoke" / "runs.csv")
    assert (runs.status == "finished").all()
    assert set(runs.arm) == {*load(study).arms, "data"}
    assert (tmp_path / "reports" / f"{name}-smoke.html").is_file()


def test_an_objective_of_one_s_own_touches_no_file_of_the_project_and_no_finished_run() -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    assert study.arms["blended"].objective not in OBJECTIVES
    runs = {arm: Run(arm=arm, seed=0) for arm in study.arms}
    marks = {arm: fingerprint(study.specification(run)) for arm, run in runs.items()}
    without = study.model_copy(update={"arms": {n: a for n, a in study.arms.items() if n != "blended"}})
    assert {arm: fingerprint(without.specification(runs[arm])) for arm in without.arms} == {
        arm: mark for arm, mark in marks.items() if arm != "blended"
    }


def test_editing_one_s_own_objective_makes_its_runs_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    (tmp_path / "mine.py").write_text("def f():\n    return 1\n")
    arm = study.arms["blended"].model_copy(update={"objective": "mine:f"})
    own = study.model_copy(update={"arms": {"blended": arm}})
    monkeypatch.chdir(tmp_path)
    before = fingerprint(own.specification(Run(arm="blended", seed=0)))
    (tmp_path / "mine.py").write_text("def f():\n    return 2\n")
    as_a_new_process()
    assert fingerprint(own.specification(Run(arm="blended", seed=0))) != before


def test_editing_what_one_s_own_objective_imports_makes_its_runs_stale(tmp_path: Path, monkeypatch) -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rule.py").write_text("from mine.helper import f\n")
    helper = tmp_path / "mine" / "helper.py"
    helper.write_text("def f():\n    return 1\n")
    arm = study.arms["blended"].model_copy(update={"objective": "mine.rule:f"})
    own = study.model_copy(update={"arms": {"blended": arm}})
    monkeypatch.chdir(tmp_path)
    before = fingerprint(own.specification(Run(arm="blended", seed=0)))
    helper.write_text("def f():\n    return 2\n")
    as_a_new_process()
    assert fingerprint(own.specification(Run(arm="blended", seed=0))) != before
