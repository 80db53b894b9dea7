"""The workflow on a Snakemake whose insides are as it knows them, and on one where they moved."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from tests.workflow.conftest import copied_project
from tests.workflow.conftest import snakemake as run_workflow
from trigbench._places import ROOT


class Ready(NamedTuple):
    priority: int
    number: int


MOVED = {
    "Job.output_mintime": "snakemake.jobs:Job",
    "Job.restart_times": "snakemake.jobs:Job",
    "DAG.check_incomplete": "snakemake.dag:DAG",
    "JobScheduler.job_selector": "snakemake.scheduling.job_scheduler:JobScheduler",
    "snakemake.rules.get_function_params": "snakemake.rules",
    "persistence.NO_PARAMS_CHANGE": "snakemake.persistence",
    "PersistenceBase.params_changed": "snakemake.persistence:PersistenceBase",
}
"""An inside as the workflow names it, and what it is of; by name, so that those who only collect do not import it."""


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    return importlib.import_module("trigbench.workflow.machine.engine")


def test_the_insides_of_the_pinned_version_are_known(engine: ModuleType) -> None:
    assert engine.strange_insides() == []


@pytest.mark.parametrize("name", MOVED)
def test_an_inside_that_is_gone_or_is_called_otherwise_is_named(
    name: str, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, attribute = pkgutil.resolve_name(MOVED[name]), name.rpartition(".")[2]
    with monkeypatch.context() as gone:
        gone.delattr(owner, attribute)
        assert name in engine.strange_insides()
    if attribute != "NO_PARAMS_CHANGE":
        monkeypatch.setattr(owner, attribute, lambda self, other, more: None)
        assert name in engine.strange_insides() and name in engine.said_of(engine.strange_insides())


def test_of_many_ready_jobs_the_most_urgent_are_weighed(engine: ModuleType) -> None:
    ready = {Ready(priority, number) for number, priority in enumerate((1, 2, 1, 3, 1))}
    assert sorted(job.priority for job in engine.most_urgent(ready, 2)) == [2, 3]
    assert engine.most_urgent(ready, 5) == ready


def test_what_is_gone_is_not_asked_for(engine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (ROOT / "workflow/rules/engine.smk").read_text(encoding="utf-8")
    said, scheduler = [], SimpleNamespace(subsample=200)  # without a job_selector
    monkeypatch.setattr(engine, "strange_insides", lambda: ["JobScheduler.job_selector"])
    names: dict[str, Any] = {
        "workflow": SimpleNamespace(scheduler=scheduler),
        "logger": SimpleNamespace(warning=said.append),
    }
    exec(compile(rules, "engine.smk", "exec"), names)
    names["weigh_the_most_urgent"]()
    assert scheduler.subsample == 200 and "keeps JobScheduler.job_selector otherwise" in said[0]


@pytest.mark.slow
def test_where_an_inside_moved_the_workflow_says_so_and_makes_a_study_by_snakemake_s_own_plan(
    tiny: dict, write_study, lay_data, tmp_path: Path
) -> None:
    lay_data(tmp_path)
    project = copied_project(tmp_path / "project", compiled=True)
    insides = project / "workflow" / "machine" / "engine.py"
    insides.write_text(insides.read_text().replace("return list(_strange())", 'return ["Job.restart_times"]'))
    del tiny["arms"]["dscd-{intervals}"], tiny["experiments"]["discretisation"]
    study = write_study(tiny)
    made = run_workflow("--cores", "2", "--config", f"study={study}", cwd=tmp_path, root=project)
    assert "keeps Job.restart_times otherwise than the workflow knows" in made.stdout
    assert (tmp_path / "reports" / "tiny.html").is_file()
    tiny["arms"]["scd"]["rate"] = 2e-3
    write_study(tiny)
    again = run_workflow("-n", "--config", f"study={study}", cwd=tmp_path, root=project)
    assert "run" in again.stdout and "Params have changed" in again.stdout, "as Snakemake remembers it"
