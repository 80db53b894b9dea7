"""The workflow itself at many runs. What it takes at 5,000 is benchmarks/scale.py's to say."""

import re
from pathlib import Path

import pytest

from benchmarks import scale
from tests.workflow.conftest import as_a_new_process
from trigbench.workflow.study.fingerprint import fingerprint, source_digest
from trigbench.workflow.study.reading import load

pytestmark = pytest.mark.slow


def test_thousands_of_runs_are_planned_in_a_fifth_of_a_megabyte_each(tmp_path: Path) -> None:
    """Or 5,000 in a gigabyte, Snakemake itself with them."""
    scale.write_project(tmp_path, 2000)
    plan = scale.snakemake(tmp_path, "-n", "--quiet", "rules")
    assert re.search(r"^run +2000$", plan.said, re.MULTILINE), plan.said[-2000:]
    assert plan.memory_mb < 2000 / 5


def test_many_jobs_are_run_once_each_and_nothing_is_left_to_do(tmp_path: Path) -> None:
    scale.write_project(tmp_path, 50)  # of as many arms as there are experiments
    made = scale.snakemake(tmp_path)
    others = 1 + 10 + 1 + 1 + 1 + 1  # data, experiments, tables, page, index, all; no claims, so no simulations
    assert made.said.count("Finished jobid") == 50 + others
    assert "Nothing to be done" in scale.snakemake(tmp_path).said
    assert len(list(tmp_path.glob("results/scale/runs/*/*/metrics.json"))) == 50


def test_a_plan_reads_the_source_once_for_all_runs_that_use_it(tmp_path: Path) -> None:
    scale.write_project(tmp_path, 300)
    study = load(tmp_path / "scale.yaml")
    as_a_new_process()
    marks = {fingerprint(study.specification(run)) for run in study.runs()}
    assert len(marks) == 300
    assert source_digest.cache_info().misses == 3  # of training, sampling and judging
