"""The workflow itself at 5,000 runs. How long it takes is benchmarks/scale.py's to say."""

import re
from pathlib import Path

import pytest

from benchmarks import scale
from tests.workflow.conftest import as_a_new_process
from trigbench.workflow.study.fingerprint import fingerprint, source_digest
from trigbench.workflow.study.reading import load

pytestmark = pytest.mark.slow


def test_five_thousand_runs_are_planned_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    scale.write_project(tmp_path, 5000)
    plan = scale.snakemake(tmp_path, "-n", "--quiet", "rules")
    assert re.search(r"^run +5000$", plan.said, re.MULTILINE), plan.said[-2000:]
    assert plan.memory_mb < 1000


def test_many_jobs_are_run_once_each_and_nothing_is_left_to_do(tmp_path: Path) -> None:
    scale.write_project(tmp_path, 100)
    made = scale.snakemake(tmp_path)
    others = 1 + 10 + 1 + 1 + 1 + 1  # data, experiments, tables, page, index, all; no claims, so no simulations
    assert made.said.count("Finished jobid") == 100 + others
    assert "Nothing to be done" in scale.snakemake(tmp_path).said
    assert len(list(tmp_path.glob("results/scale/runs/*/*/metrics.json"))) == 100


def test_a_plan_reads_the_source_once_for_all_runs_that_use_it(tmp_path: Path) -> None:
    scale.write_project(tmp_path, 300)
    study = load(tmp_path / "scale.yaml")
    as_a_new_process()
    marks = {fingerprint(study.specification(run)) for run in study.runs()}
    assert len(marks) == 300
    assert source_digest.cache_info().misses == 3  # of training, sampling and judging
