"""The workflow as a user runs it: targets, staleness, divergence, faults, and a report at the end."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow import warm
from tests.workflow.conftest import ROOT, copied_project, environment, snakemake
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.study.places import StudyFiles

pytestmark = pytest.mark.slow
STUDIES = ("oracle", "digits")
ONE_CORE = ("--cores", "1")


@pytest.fixture
def unpacked(made_once: Path, tmp_path: Path) -> Path:
    """A copy of it as it comes out of an archive: no memory, and times in any order; returns the study's file."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".snakemake"))
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for age, path in enumerate(random.Random(0).sample(files, len(files))):
        os.utime(path, (1e9 + age, 1e9 + age))
    return tmp_path / "tiny.yaml"


def _plan(study: Path, cwd: Path, *arguments: str, root: Path = ROOT) -> list[str]:
    """The messages of the jobs that a dry run would make."""
    out = snakemake("-n", *arguments, "--config", f"study={study}", cwd=cwd, root=root).stdout
    return sorted(re.findall(r"^Job \d+: (.*)$", out, re.MULTILINE))


@pytest.mark.first
def test_smoke_runs_both_studies_from_data_to_reports_in_at_most_thirty_jobs(tmp_path: Path) -> None:
    plan = snakemake("-n", "--config", "budget=smoke", cwd=tmp_path).stdout
    total = re.search(r"^total +(\d+)$", plan, re.MULTILINE)
    assert total is not None
    assert int(total[1]) <= 30
    said = snakemake("--config", "budget=smoke", "--cores", "2", cwd=tmp_path).stdout
    begun = re.findall(r"^Job \d+: (.*)$", said, re.MULTILINE)
    first, second = ([begun.index(job) for job in begun if job.startswith(f"{name}-smoke: ")] for name in STUDIES)
    assert max(first) < sorted(second)[1], "a study's runs before the other's, but where a core would idle"
    assert begun.index("report of oracle-smoke") < max(second), "a study's report as soon as the study is there"
    for label in (f"{name}-smoke" for name in STUDIES):
        page = (tmp_path / "reports" / f"{label}.html").read_text()
        assert "figure.svg" in page
        runs = pd.read_csv(tmp_path / "results" / label / "runs.csv")
        first = "study,data,experiment,arm,objective,intervals,precision,size,steps,guidance,seed,metric,value"
        assert ",".join(runs.columns).startswith(first)
        assert (runs.status == "finished").all()
        assert (tmp_path / "results" / label / "provenance.json").is_file()
        for figure in (tmp_path / "results" / label / "experiments").glob("*/"):
            assert (figure / "figure.svg").is_file()
            assert (figure / "figure.png").is_file()
    assert (tmp_path / "results/digits-smoke/experiments/steps/pictures.svg").is_file()
    index = (tmp_path / "reports" / "index.html").read_text()
    assert "oracle-smoke.html" in index
    assert "digits-smoke.html" in index
    report = tmp_path / "engine.html"
    snakemake("--config", "budget=smoke", "--report", report, cwd=tmp_path)
    assert "theory" in report.read_text()


def test_studies_and_experiments_are_targets_by_name(tiny: dict, write_study, tmp_path: Path) -> None:
    study = write_study(tiny)
    assert _plan(study, tmp_path, "tiny") == _plan(study, tmp_path, "reports/tiny.html")
    wanted = _plan(study, tmp_path, "tiny/training")
    assert "tiny: scd, seed 0" in wanted
    assert not [job for job in wanted if "dscd" in job or "report" in job]


def test_a_bare_call_uses_all_cores(made: Path, tmp_path: Path) -> None:
    (tmp_path / "results/tiny/experiments/training/figure.png").unlink()
    said = snakemake("tiny/training", "--config", f"study={made}", cwd=tmp_path).stdout
    assert "profiles/default" in said
    assert re.search(rf"^Provided cores: {cores_here()}\b", said, re.MULTILINE), said


def test_a_finished_study_is_fresh_an_added_arm_is_trained_and_an_edited_one_again_and_the_plan_says_why(
    made: Path, tiny: dict, write_study, tmp_path: Path
) -> None:
    assert not [job for job in _plan(made, tmp_path) if "seed" in job]
    more = {"sct": {"objective": "sct"}}
    training = tiny["experiments"]["training"] | {"arms": ["scd", "sct"]}
    added = tiny | {"arms": tiny["arms"] | more, "experiments": tiny["experiments"] | {"training": training}}
    jobs = _plan(write_study(added), tmp_path)
    assert [job for job in jobs if "seed" in job] == ["tiny: sct, seed 0"]
    tiny["arms"]["scd"]["rate"] = 2e-3
    study = write_study(tiny)
    assert [job for job in _plan(study, tmp_path) if "seed" in job] == ["tiny: scd, seed 0"]
    out = snakemake("-n", "--config", f"study={study}", cwd=tmp_path).stdout
    assert "Params have changed" in out


def test_results_unpacked_elsewhere_are_whole_and_edited_there_are_planned_again(
    unpacked: Path, tiny: dict, write_study, tmp_path: Path
) -> None:
    assert _plan(unpacked, tmp_path) == []
    tiny["arms"]["scd"]["rate"] = 2e-3
    tiny["experiments"]["training"]["title"] = "other norms"
    said = snakemake("-n", "--config", f"study={write_study(tiny)}", cwd=tmp_path).stdout
    jobs = re.findall(r"^Job \d+: (.*)$", said, re.MULTILINE)
    assert [job for job in jobs if "seed" in job] == ["tiny: scd, seed 0"]
    assert "tables and figures of tiny/training" in jobs and "report of tiny" in jobs
    assert "tiny: 1 run is stale, by the record: settings, mathematics or code changed since" in said


def test_what_was_deleted_of_a_finished_study_is_made_again(made: Path, tmp_path: Path) -> None:
    results = tmp_path / "results/tiny"
    shutil.rmtree(results / "runs/dscd-8")
    (results / "experiments/training/figure.png").unlink()
    left = snakemake("-n", "--config", f"study={made}", cwd=tmp_path).stdout
    assert left.count("Missing output files") == 2
    snakemake("--config", f"study={made}", *ONE_CORE, cwd=tmp_path)
    assert (results / "runs/dscd-8/seed-0/metrics.json").is_file()
    assert (results / "experiments/training/figure.png").is_file()
    assert _plan(made, tmp_path) == []
    (results / "data/mixture.json").unlink()
    assert "preparing mixture of tiny" in _plan(made, tmp_path)
    shutil.rmtree(tmp_path / "results")
    assert len(_plan(made, tmp_path)) == 9, "the front page alone is no study"


def test_editing_mathematics_retrains_what_used_it_and_editing_a_docstring_nothing(
    tiny: dict, write_study, lay_data, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    copied_project(source, compiled=True)
    study, here = write_study(tiny), tmp_path / "here"
    here.mkdir()
    lay_data(here)
    runs = [f"results/tiny/runs/{arm}/seed-0/metrics.json" for arm in ("scd", "dscd-4")]
    snakemake(*runs, "--config", f"study={study}", "--cores", "2", cwd=here, root=source)
    objective = source / "core/objectives/discrete.py"
    text = objective.read_text()
    objective.write_text(text.replace('"""Discrete-time counterparts', '"""The discrete-time counterparts'))
    assert not [job for job in _plan(study, here, *runs, root=source) if "seed" in job]
    objective.write_text(text.replace("return Direction(F_t, c * quotient)", "return Direction(F_t, quotient)"))
    stale = [job for job in _plan(study, here, *runs, root=source) if "seed" in job]
    assert stale == ["tiny: dscd-4, seed 0"]


def test_a_diverging_arm_ends_in_a_whole_report_that_shows_it(tiny: dict, with_data, tmp_path: Path) -> None:
    tiny["arms"]["dscd-{intervals}"]["rate"] = 3e38
    snakemake("--config", f"study={with_data(tiny).file}", "--cores", "2", cwd=tmp_path)
    runs = pd.read_csv(tmp_path / "results/tiny/runs.csv")
    lost = runs[(runs.arm == "dscd-4") & (runs.metric == "map_rms")]
    assert (lost.status == "diverged").all()
    assert (lost.value == float("inf")).all()
    page = (tmp_path / "reports/tiny.html").read_text()
    assert "dscd-4" in page
    assert "diverged" in page


def test_a_crash_fails_its_own_job_only(tiny: dict, with_data, tmp_path: Path) -> None:
    tiny["arms"] |= {"sct": {"objective": "sct", "start": "random"}}
    study = with_data(tiny).file
    checkpoints = tmp_path / "results/tiny/checkpoints/sct/seed-0"
    checkpoints.parent.mkdir(parents=True)
    checkpoints.write_text("a file where a folder belongs")
    done = snakemake("--config", f"study={study}", *ONE_CORE, "--retries", "0", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert (tmp_path / "results/tiny/runs/scd/seed-0/metrics.json").is_file()
    assert (tmp_path / "results/tiny/runs/dscd-8/seed-0/metrics.json").is_file()
    assert not (tmp_path / "results/tiny/runs/sct/seed-0/metrics.json").is_file()


def test_bad_input_ends_before_any_job_with_file_key_and_remedy(tiny: dict, write_study, tmp_path: Path) -> None:
    tiny["arms"]["scd"]["objective"] = "sdc"
    study = write_study(tiny)
    done = snakemake("--config", f"study={study}", cwd=tmp_path, check=False)
    assert done.returncode == 1
    for part in ("unknown objective 'sdc'", str(study), "arms.scd", "remedy"):
        assert part in done.stdout
    assert not (tmp_path / "results").exists()
    unknown = snakemake("--config", "budgt=smoke", cwd=tmp_path, check=False)
    assert "unknown configuration budgt" in unknown.stdout
    other = snakemake("--config", "budget=smoke", "--", "oracle/dimension", cwd=tmp_path, check=False)
    assert "remedy: name oracle-smoke/dimension" in other.stdout


def test_two_workflows_on_one_folder_do_not_corrupt_each_other(tiny: dict, with_data, tmp_path: Path) -> None:
    """The first one stands still, in the middle of a run, until the second has been told off."""
    study = with_data(tiny).file
    command = [warm.python(), "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(tmp_path), "--cores", "1"]
    first = subprocess.Popen(
        [*command, "tiny/training", "--config", f"study={study}"],
        env=environment(warm.python()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not any((tmp_path / "results/tiny").glob("checkpoints/*/*/lock")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGTSTP)
        second = snakemake("--config", f"study={study}", *ONE_CORE, cwd=tmp_path, check=False)
        assert second.returncode != 0
        assert "cannot be locked" in second.stdout
    finally:
        first.send_signal(signal.SIGCONT)
        out, _ = first.communicate(timeout=300)
    assert first.returncode == 0, out
    assert (tmp_path / "results/tiny/experiments/training/figure.svg").is_file()


def test_a_workflow_killed_in_the_middle_goes_on_from_the_run_s_checkpoint(
    tiny: dict, with_data, tmp_path: Path
) -> None:
    tiny["arms"]["scd"]["iterations"] = 400
    tiny["resources"] = {"checkpoint_every": 100}
    study = with_data(tiny).file
    command = [warm.python(), "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(tmp_path), "--cores", "1"]
    first = subprocess.Popen(
        [*command, "tiny/training", "--config", f"study={study}"],
        env=environment(warm.python()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any((tmp_path / "results/tiny/checkpoints").glob("scd/seed-0/step-*.json")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    locked = snakemake("--config", f"study={study}", *ONE_CORE, cwd=tmp_path, check=False)
    assert "--unlock" in locked.stdout
    snakemake("--config", f"study={study}", "--unlock", cwd=tmp_path)
    snakemake("tiny/training", "--config", f"study={study}", *ONE_CORE, cwd=tmp_path)
    log = (tmp_path / "results/tiny/logs/runs/scd-seed-0.log").read_text()
    assert "resuming scd seed 0 from step" in log


def test_a_budget_that_makes_a_study_smaller_is_published_as_not_tested(tmp_path: Path) -> None:
    from trigbench.workflow.claims.tables import read_table, write_table  # noqa: PLC0415
    from trigbench.workflow.report.publishing import undecided  # noqa: PLC0415
    from trigbench.workflow.study.reading import load  # noqa: PLC0415

    here = {"claim": "a", "experiment": "steps", "verdict": "reproduced", "holm_verdict": "reproduced", "effect": -0.5,
            "low": -0.6, "high": -0.4, "p": 0.01, "seeds": 3, "note": None, "rule_first": "yes"}  # fmt: skip
    elsewhere = {"claim": "b", "verdict": "not run", "holm_verdict": "not run", "note": "needs study imagenet512"}
    rows = pd.DataFrame([row | {"study": "cifar10-small-cpu", "results_commit": "abc"} for row in (here, elsewhere)])
    write_table(undecided(rows, load("cifar10-small", "cpu")), tmp_path / "claims.csv")
    found = read_table(tmp_path / "claims.csv")
    assert list(found.verdict) == ["not tested", "not run"] and list(found.study) == ["cifar10-small"] * 2
    assert list(found.note) == [
        "too short to judge: made with budget cpu, which decides no claim",
        "needs study imagenet512",
    ]
    assert found[["effect", "low", "high", "p", "seeds"]].isna().to_numpy().all()


def test_results_are_published_only_when_whole_clean_and_of_the_published_budget(
    made: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    from trigbench.workflow.claims.deciding import judge_study  # noqa: PLC0415
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.machine.files import read_json, write_json  # noqa: PLC0415
    from trigbench.workflow.report.one_noise import draw_one_noise  # noqa: PLC0415
    from trigbench.workflow.report.publishing import publish  # noqa: PLC0415
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.study import Study  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Study, "published", property(lambda self: StudyFiles(tmp_path / "published" / self.study)))
    study = load(made)
    origin = tmp_path / "results/tiny/provenance.json"
    whole = read_json(origin, "") | {"dirty": False, "commits": ["abc"]}
    write_json(origin, whole)
    content = yaml.safe_load(made.read_text())
    made.write_text(yaml.safe_dump(content | {"budgets": {"full": {"longer": 2}}}, sort_keys=False))
    with pytest.raises(BenchError, match="make it with budget=full"):
        publish(study)
    made.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(BenchError, match="another budget than smoke"):
        publish(study.model_copy(update={"budget": "smoke"}))
    for change in ({"dirty": True}, {"runs_missing": 1}, {"commits": [None]}):
        write_json(origin, whole | change)
        with pytest.raises(BenchError, match="clean checkout"):
            publish(study)
    write_json(origin, whole)
    publish(study)
    assert not (tmp_path / "published/claims.svg").exists(), "no claim of one's own, no matrix"
    monkeypatch.setattr(Study, "is_shipped", True)  # which the ledger's claims are listed of
    judge_study(study)
    publish(study)
    assert {p.name for p in (tmp_path / "published/tiny").iterdir()} == {
        "runs.csv", "curves.csv", "claims.csv", "redrawn.csv", "provenance.json", "tables", "figures",
    }  # fmt: skip
    figures = tmp_path / "published/tiny/figures"
    assert (figures / "discretisation.svg").is_file() and not (figures / "one-noise.svg").exists()
    leading = study.model_copy(update={"one_noise": ("scd", "dscd-4")})
    with pytest.raises(BenchError, match=r"not there(.|\n)*one-noise.json"):
        publish(leading)
    draw_one_noise(leading)
    publish(leading)
    assert {"one-noise.svg", "one-noise.json"} <= {path.name for path in figures.iterdir()}
    smaller = study.model_copy(update={"budget": "cpu"})
    shutil.copytree(study.folder, smaller.folder)
    publish(smaller)
    assert set(pd.read_csv(tmp_path / "published/tiny/claims.csv").verdict) == {"not run"}
    assert not (tmp_path / "published/tiny/redrawn.csv").exists(), "it decides none"
    publish(study)
    assert "on no study here" in (tmp_path / "published/claims.svg").read_text()
    assert "abc" in capsys.readouterr().out
