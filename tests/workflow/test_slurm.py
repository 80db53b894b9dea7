"""The workflow on a real Slurm of one node: cancelled, out of time, killed, and nothing finished made twice."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from tests.workflow import warm
from tests.workflow.conftest import ROOT, snakemake, step
from tests.workflow.one_node_slurm import PACKAGES, Slurm, missing, one_node_slurm
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import cluster
from trigbench.workflow.machine.cluster import Site, read_site
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.resources import Resources
from trigbench.workflow.study.study import Run, Study

PACED = '''
"""Diffusion at a pace, and diffusion that kills its own process while a file says so."""

import contextlib
import os
import signal
import time
from pathlib import Path

from trigbench.core.objectives.diffusion import diffusion


def paced(fields, x0, draws, settings):
    with contextlib.suppress(FileNotFoundError):
        time.sleep(float(Path("pace").read_text()))
    return diffusion(fields, x0, draws, settings)


def awaited(fields, x0, draws, settings):
    Path("awaited").touch()
    return paced(fields, x0, draws, settings)


def shown(fields, x0, draws, settings):
    Path("seen").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none said"))
    return diffusion(fields, x0, draws, settings)


def doomed(fields, x0, draws, settings):
    if Path("fault").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return diffusion(fields, x0, draws, settings)
'''


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """One for this module in each process that tests; they know nothing of each other."""
    if missing():
        reason = f"no {', '.join(missing())} on the PATH: apt-get install {PACKAGES}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, one_node_slurm(Path(folder)) as made:
        yield made


# --- settings ---------------------------------------------------------------------------------------


def test_the_example_of_local_settings_is_valid_and_names_every_key(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = (ROOT / "profiles/slurm/site.yaml.example").read_text()
    here = tmp_path / "profiles/slurm/site.yaml"
    here.parent.mkdir(parents=True)
    here.write_text(example)
    assert read_site() == Site()
    assert read_site().resources == {}
    here.write_text(re.sub(r"^# (\w+:)", r"\1", example, flags=re.MULTILINE))
    assert read_site().model_fields_set == set(Site.model_fields)
    assert read_site().resources["slurm_partition"] == "'cpu,gpu'"


@pytest.mark.parametrize(
    ("text", "said"),
    [("partiton: gpu", "partiton"), ("jobs: 0", "jobs"), ("account: [", "not valid YAML"), ("- gpu", "the keys are")],
)
def test_wrong_local_settings_are_named_with_their_file(text: str, said: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "profiles/slurm/site.yaml"
    here.parent.mkdir(parents=True)
    here.write_text(text)
    with pytest.raises(BenchError) as caught:
        read_site()
    assert said in str(caught.value)
    assert "site.yaml" in str(caught.value)


def test_missing_local_settings_say_what_to_type(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    with pytest.raises(BenchError, match=r"cp \S*profiles/slurm/site.yaml.example profiles/slurm/site.yaml"):
        read_site()


def test_resources_come_from_the_study_and_its_budget_and_are_no_part_of_a_fingerprint(tiny, write_study) -> None:
    plain = load(write_study(tiny))
    tiny["resources"] = {"gpu": 1, "gpu_model": "a100", "mem_mb": 32000}
    tiny["budgets"] = {"full": {"resources": {"runtime": 720}}}
    study = load(write_study(tiny), "full")
    assert study.resources == Resources(gpu=1, gpu_model="a100", mem_mb=32000, runtime=720)
    assert [study.resources.of_attempt(n).runtime for n in (1, 2, 3)] == [720, 1440, 1440]
    assert study.resources.of_attempt(2).mem_mb == 64000
    run = Run(arm="scd", seed=0)
    assert study.specification(run) == plain.specification(run)
    site = Site(max_runtime=1000, max_mem_mb=48000)
    assert [site.runtime(study.resources.of_attempt(n).runtime) for n in (1, 2)] == [720, 1000]
    assert [site.mem_mb(study.resources.of_attempt(n).mem_mb) for n in (1, 2)] == [32000, 48000]
    assert Site().runtime(1440) == 1440
    tiny["resources"]["gpus"] = 1
    with pytest.raises(BenchError, match="did you mean 'gpu'"):
        load(write_study(tiny))


def test_the_jobs_of_this_folder_alone_keep_a_workflow_from_starting(tmp_path: Path, squeue, monkeypatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    run = "01234567-89ab-cdef-0123-456789abcdef"
    queue = [f"7|RUNNING|{run}|{here}", f"8|PENDING|{run}|{there}", f"9|RUNNING|interactive|{here}"]
    squeue("\n".join(f"echo '{line}'" for line in queue))
    with pytest.raises(BenchError, match=r"scancel 7\n"):
        cluster.refuse_orphans(here, submits=True)
    cluster.refuse_orphans(tmp_path, submits=True)
    squeue("echo 'Socket timed out' >&2; exit 1")
    cluster.refuse_orphans(here, submits=False)
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    with pytest.raises(BenchError, match="squeue does not answer: Socket timed out"):
        cluster.refuse_orphans(here, submits=True)


# --- the real thing ---------------------------------------------------------------------------------


def _profile(folder: Path) -> Path:
    """Its copy there, without settings of this machine's."""
    profile = folder / "profiles/slurm"
    shutil.copytree(ROOT / "profiles/slurm", profile, ignore=shutil.ignore_patterns("site.yaml"))
    return profile


@pytest.fixture
def cluster_folder(slurm: Slurm, lay_data: Callable[[Path], None], tmp_path: Path) -> Path:
    """Where the workflow is started, with the profile, its local settings, data, and objectives of one's own."""
    (_profile(tmp_path) / "site.yaml").write_text("partition: main\npoll: 1\n")
    lay_data(tmp_path)
    (tmp_path / "paced.py").write_text(PACED)
    return tmp_path


def _study_of(folder: Path, tiny: dict, minutes: int, gpu: dict | None = None, **arms: dict) -> Study:
    """A study in `folder` whose runs have so many minutes a job."""
    experiment = tiny["experiments"]["training"] | {"arms": ["*"]}
    resources = {"runtime": minutes, "mem_mb": 500, **(gpu or {})}
    content = tiny | {"arms": arms, "experiments": {"training": experiment}, "resources": resources}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load(path)


def _command(study: Study, *arguments: str, python: str = sys.executable) -> list[str]:
    start = [python, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--workflow-profile", "slurm"]
    return [*start, *arguments, "tiny/training", "--config", f"study={study.file}"]


def _snakemake(slurm: Slurm, study: Study, *arguments: str) -> subprocess.CompletedProcess[str]:
    """To the end, where no job is sent a signal."""
    return subprocess.run(
        _command(study, *arguments, python=warm.python()), cwd=study.file.parent, env=slurm.warm, text=True,
        check=False, timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _wait(until: Callable[[], object], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def _is_training(folder: Path, arm: str) -> bool:
    """The lock is taken when training starts; the pid is in it as long as nothing else takes it."""
    return any(folder.glob(f"results/tiny/checkpoints/{arm}/seed-0/lock"))


def _weights(folder: Path, arm: str) -> dict[str, torch.Tensor]:
    return read_tensors(folder / f"results/tiny/runs/{arm}/seed-0/weights.safetensors", "")


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _times(folder: Path) -> dict[str, int]:
    """When each finished run was judged."""
    return {p.parts[-3]: p.stat().st_mtime_ns for p in folder.glob("results/tiny/runs/*/*/metrics.json")}


@pytest.mark.first
@pytest.mark.slow
def test_the_first_steps_of_the_documentation_work_word_by_word(slurm: Slurm, tmp_path: Path) -> None:
    here = _profile(tmp_path / "trigbench").parents[1]
    for part in ("Snakefile", "trigbench", "core", "workflow"):
        (here / part).symlink_to(ROOT / part)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/^# partition:.*/partition: main/; s/^poll:.*/poll: 1/' \"$1\"\n")
    editor.chmod(0o755)
    section = (ROOT / "docs/cluster.md").read_text().split("\n## First steps\n")[1].split("\n## ")[0]
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    assert "snakemake --workflow-profile slurm --config study=oracle budget=smoke" in script
    environment = {**slurm.warm, "PYTHONPATH": str(here), "EDITOR": str(editor)}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=here, env=environment, text=True, check=False, timeout=900,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + slurm.logs()
    runs = pd.read_csv(here / "results/oracle-smoke/runs.csv")
    assert (runs[runs.arm != "data"].status == "finished").all()
    assert (here / "reports/oracle-smoke.html").is_file()
    arms = list(load("oracle", "smoke").arms)
    jobs = [job for job in slurm.jobs("rule_run") if "oracle-smoke" in job[2]]
    assert len(jobs) == len(arms), "each run is one job"
    assert {state for _, state, _, _ in jobs} == {"COMPLETED"}
    assert not [job for job in slurm.jobs() if "rule_experiment" in job[2] or "rule_page" in job[2]]
    assert list((here / ".snakemake/slurm_logs").rglob("*.log")), "logs are kept"


@pytest.mark.first
@pytest.mark.slow
def test_a_cancelled_run_and_one_over_its_limit_are_requeued_beside_a_failing_and_a_healthy_one(
    slurm: Slurm, cluster_folder: Path, lay_data: Callable[[Path], None], tiny: dict
) -> None:
    study = _study_of(
        cluster_folder, tiny, 2,  # minutes, many times what the engine takes to start inside a job
        quick={"objective": "diffusion"},
        cancelled={"objective": "paced:awaited", "iterations": 60},
        long={"objective": "paced:paced", "iterations": 100},
        doomed={"objective": "paced:doomed"},
    )  # fmt: skip
    undisturbed = cluster_folder / "undisturbed"
    undisturbed.mkdir()
    shutil.copy(cluster_folder / "paced.py", undisturbed)
    lay_data(undisturbed)
    for arm in ("cancelled", "long"):
        step("run", "--study", study.file, "--arm", arm, "--seed", "0", cwd=undisturbed)
    (cluster_folder / "pace").write_text("2")  # too slow for the first job of either, however fast the machine
    (cluster_folder / "fault").touch()

    with (cluster_folder / "out").open("w") as out:
        workflow = subprocess.Popen(
            _command(study, "--retries", "1"), cwd=cluster_folder, env=slurm.warm, stdout=out, stderr=out
        )
        try:
            _wait((cluster_folder / "awaited").exists, "the run that is cancelled", 300)
            (job,) = slurm.jobs("_cancelled_", "running")
            slurm.ask("scancel", job[0])
            _wait(
                lambda: [state for _, state, _, _ in slurm.jobs("_long_")][:1] == ["FAILED"], "the end of its time", 300
            )
            (cluster_folder / "pace").unlink()  # the rest of them at once
            assert workflow.wait(600) == 1, "one arm failed"
        finally:
            workflow.kill()
            said = (cluster_folder / "out").read_text()
            print(said)  # shown where something fails

    def log(arm: str) -> str:
        return (cluster_folder / f"results/tiny/logs/runs/{arm}-seed-0.log").read_text()

    assert [state for _, state, _, _ in slurm.jobs("_cancelled_")] == ["CANCELLED", "COMPLETED"], said
    assert "asked to stop (SIGTERM): stopped at step" in said
    assert "resuming cancelled seed 0 from step" in log("cancelled")
    expected = [("FAILED", "2:00"), ("COMPLETED", "4:00")]
    assert [(state, limit) for _, state, _, limit in slurm.jobs("_long_")] == expected, "a second job gets more time"
    assert "near the end of its Slurm job: stopped at step" in said
    assert "resuming long seed 0 from step" in log("long")
    for arm in ("cancelled", "long"):
        assert _equal(_weights(cluster_folder, arm), _weights(undisturbed, arm))
    assert [state for _, state, _, _ in slurm.jobs("_doomed_")] == ["FAILED"] * 2
    assert [state for _, state, _, _ in slurm.jobs("_quick_")] == ["COMPLETED"]

    made, jobs = _times(cluster_folder), len(slurm.jobs())
    assert set(made) == {"quick", "cancelled", "long"}
    (cluster_folder / "fault").unlink()
    again = _snakemake(slurm, study)
    assert again.returncode == 0, again.stdout
    assert len(slurm.jobs()) == jobs + 1, "the one that failed"
    assert made.items() <= _times(cluster_folder).items(), "nothing finished is made again"
    rows = pd.read_csv(cluster_folder / "results/tiny/experiments/training/runs.csv")
    assert set(rows.arm) >= {"quick", "cancelled", "long", "doomed"}


@pytest.mark.first
@pytest.mark.slow
def test_a_killed_workflow_is_started_again_without_duplicates(slurm: Slurm, cluster_folder: Path, tiny: dict) -> None:
    brief, longer = ({"objective": "paced:paced", "iterations": n} for n in (8, 300))
    arms = {"brief-a": brief, "long-a": longer, "long-b": longer | {"batch": 8}}
    study = _study_of(cluster_folder, tiny, 10, **arms)
    (cluster_folder / "pace").write_text("1")
    before = len(slurm.jobs())

    def states(kind: str) -> list[str]:
        return [state for _, state, _, _ in slurm.jobs(f"_{kind}-")]

    with (cluster_folder / "out").open("w") as out:
        killed = subprocess.Popen(
            _command(study), cwd=cluster_folder, env=slurm.warm, stdout=out, stderr=out, start_new_session=True
        )
        _wait(lambda: all(_is_training(cluster_folder, arm) for arm in arms), "all three runs", 300)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    locked = _snakemake(slurm, study)
    assert locked.returncode == 1
    assert "--unlock" in locked.stdout
    assert _snakemake(slurm, study, "--unlock").returncode == 0
    _wait(lambda: set(states("brief")) == {"COMPLETED"}, "the run that nobody watches")
    finished = _times(cluster_folder)
    assert set(finished) == {"brief-a"}

    refused = _snakemake(slurm, study)
    assert refused.returncode == 1, refused.stdout
    assert "jobs of a workflow that was killed are still in the queue" in refused.stdout
    assert len(slurm.jobs()) == before + 3, "nothing was submitted"
    told = re.search(r"scancel \d+ \d+", refused.stdout)
    assert told is not None, refused.stdout
    slurm.ask(*told[0].split())
    _wait(lambda: states("long") == ["CANCELLED"] * 2, "the cancelled jobs' end")
    (cluster_folder / "pace").unlink()  # the rest of them at once
    again = _snakemake(slurm, study)
    assert again.returncode == 0, again.stdout
    assert states("long") == ["CANCELLED"] * 2 + ["COMPLETED"] * 2
    assert states("brief") == ["COMPLETED"], "what ended while nobody watched is not made again"
    assert finished.items() <= _times(cluster_folder).items()
    for arm in ("long-a", "long-b"):
        log = (cluster_folder / f"results/tiny/logs/runs/{arm}-seed-0.log").read_text()
        assert f"resuming {arm} seed 0 from step" in log
    assert len(slurm.jobs()) == before + 5, "one that ended, and two twice"
    assert "Nothing to be done" in _snakemake(slurm, study, "-n").stdout


@pytest.mark.first
@pytest.mark.slow
def test_a_run_gets_the_gpu_and_the_cores_that_its_study_asks_for(
    slurm: Slurm, cluster_folder: Path, tiny: dict
) -> None:
    arms: dict[str, dict] = {}
    for name, gpu, asked in (("any", {"gpu": 1}, "gpu"), ("typed", {"gpu": 1, "gpu_model": "toy"}, "gpu:toy")):
        arms[name] = {"objective": "paced:shown"}
        (cluster_folder / "seen").unlink(missing_ok=True)
        done = _snakemake(slurm, _study_of(cluster_folder, tiny, 5, gpu, **arms))
        assert done.returncode == 0, done.stdout + slurm.logs()
        assert (cluster_folder / "seen").read_text() == "0", "the first of the node's two, as Slurm numbers them"
        (job,) = slurm.jobs(f"_{name}_")
        about = slurm.ask("scontrol", "show", "job", job[0])
        assert re.search(rf"TresPerJob=gres[:/]{asked}[:=]1\b", about) and "NumCPUs=4" in about, about


@pytest.mark.first
@pytest.mark.slow
def test_small_runs_share_jobs_where_the_local_settings_say_so(slurm: Slurm, cluster_folder: Path, tiny: dict) -> None:
    with (cluster_folder / "profiles/slurm/site.yaml").open("a") as site:
        site.write("runs_per_job: 2\n")
    student = {"objective": "scd", "teacher": "taught"}
    study = _study_of(
        cluster_folder, tiny, 5,
        taught={"objective": "diffusion"}, doomed={"objective": "paced:doomed"}, a=student, b=student,
    )  # fmt: skip
    (cluster_folder / "fault").touch()
    before = slurm.jobs()
    assert _snakemake(slurm, study, "--retries", "0").returncode == 1
    assert not _times(cluster_folder), "who shares a job with one that fails is made again"
    (cluster_folder / "fault").unlink()
    done = _snakemake(slurm, study)
    assert done.returncode == 0, done.stdout + slurm.logs()
    jobs = [job for job in slurm.jobs() if job not in before and "run" in job[2]]
    assert sorted(state for _, state, _, _ in jobs) == ["COMPLETED"] * 2 + ["FAILED"], "two runs a job"
    rows = pd.read_csv(cluster_folder / "results/tiny/experiments/training/runs.csv")
    assert (rows[rows.arm.isin(["taught", "doomed", *"ab"])].status == "finished").all()
    assert set(_times(cluster_folder)) == {"taught", "doomed", *"ab"}
    assert "Nothing to be done" in _snakemake(slurm, study, "-n").stdout


def test_groups_are_of_one_study_and_one_generation(slurm_plugin: None, tmp_path: Path) -> None:
    (_profile(tmp_path) / "site.yaml").write_text("runs_per_job: 8\n")
    plan = snakemake("-n", "--workflow-profile", "slurm", "--config", "budget=smoke", cwd=tmp_path).stdout
    groups = set(re.findall(r"[Gg]roup job (\S+)", plan))
    digits = {
        f"runs-digits-smoke-{generation}" for generation in range(3)
    }  # teacher, sCD, and VSD that goes on from it
    assert groups == {"runs-oracle-smoke-0", *digits}
