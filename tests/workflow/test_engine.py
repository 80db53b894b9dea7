"""The workflow on a Snakemake whose insides are as it knows them, and on one where they moved."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import snakemake.api  # first: the others import each other
import snakemake.dag
import snakemake.jobs
import snakemake.persistence
import snakemake.rules
import snakemake.scheduling.job_scheduler

from tests.workflow.conftest import copied_project
from tests.workflow.conftest import snakemake as run_workflow
from trigbench._places import ROOT
from trigbench.workflow.machine import engine
from trigbench.workflow.machine.engine import most_urgent, said_of, strange_insides


class Ready(NamedTuple):
    priority: int
    number: int


MOVED = {
    "Job.output_mintime": (snakemake.jobs.Job, "output_mintime"),
    "Job.restart_times": (snakemake.jobs.Job, "restart_times"),
    "DAG.check_incomplete": (snakemake.dag.DAG, "check_incomplete"),
    "JobScheduler.job_selector": (snakemake.scheduling.job_scheduler.JobScheduler, "job_selector"),
    "snakemake.rules.get_function_params": (snakemake.rules, "get_function_params"),
    "persistence.NO_PARAMS_CHANGE": (snakemake.persistence, "NO_PARAMS_CHANGE"),
    "PersistenceBase.params_changed": (snakemake.persistence.PersistenceBase, "params_changed"),
}


def test_the_insides_of_the_pinned_version_are_known() -> None:
    assert strange_insides() == []


@pytest.mark.parametrize("name", MOVED)
def test_an_inside_that_is_gone_or_is_called_otherwise_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute = MOVED[name]
    with monkeypatch.context() as gone:
        gone.delattr(owner, attribute)
        assert name in strange_insides()
    if attribute != "NO_PARAMS_CHANGE":
        monkeypatch.setattr(owner, attribute, lambda self, other, more: None)
        assert name in strange_insides() and name in said_of(strange_insides())


def test_of_many_ready_jobs_the_most_urgent_are_weighed() -> None:
    ready = {Ready(priority, number) for number, priority in enumerate((1, 2, 1, 3, 1))}
    assert sorted(job.priority for job in most_urgent(ready, 2)) == [2, 3]
    assert most_urgent(ready, 5) == ready


def test_what_is_gone_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
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
    project = copied_project(tmp_path / "project")
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
