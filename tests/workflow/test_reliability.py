"""What happens to runs when workers die, hang, take too much memory, or meet a study that changed.

docs/reliability.md is the table of all faults and of the tests that stand for its rows.
"""

import contextlib
import functools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.workflow import warm
from tests.workflow.conftest import ROOT, environment, snakemake, step
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.machine.warm import COLD
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Run, Study

TABLE = ROOT / "docs" / "reliability.md"


def rows() -> list[str]:
    """The rows of the table of faults, without its head."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return lines[2:]


@pytest.mark.parametrize("row", rows())
def test_every_row_of_the_table_is_a_test_that_exists(row: str) -> None:
    fault, seen, lost, goes_on, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert fault and seen and lost and goes_on
    named = re.findall(r"`(test_\w+)\.(test_\w+)`", tests)
    assert named, f"{fault} has no test"
    for module, function in named:
        assert function in functions_of(module), function


@functools.cache
def functions_of(module: str) -> set[str]:
    (file,) = ROOT.glob(f"tests/*/{module}.py")
    return {*re.findall(r"^def (\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)}


# --- twenty kills -------------------------------------------------------------------------------

KILLS = {
    "teacher": ("start", "training", "saving", "training", "saving", "judging", "judging"),
    "scd": ("training", "saving", "saving", "training", "start", "judging", "judging"),
    "dscd-4": ("saving", "training", "training", "start", "saving", "judging"),
}
"""At what each run of the study is killed, one after the other: twenty in all."""
WHOLE = (4, 10, 16)
"""Which of the kills end the workflow too, and not only its worker."""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_of_one_study_change_no_bit_of_it(
    tiny: dict, write_study, lay_data, tmp_path: Path
) -> None:
    tiny["defaults"]["iterations"] = 250
    tiny["resources"] = {"checkpoint_every": 25}
    tiny["arms"] = {
        "teacher": {"objective": "diffusion"},
        "scd": {"objective": "scd", "teacher": "teacher", "start": "teacher"},
        "dscd-4": {"objective": "dscd", "teacher": "teacher", "start": "teacher", "intervals": 4},
    }
    study = load(write_study(tiny))
    runs = [Run(arm=arm, seed=0) for arm in KILLS]
    targets = [str(study.files(run).metrics) for run in runs]
    calm, storm = tmp_path / "calm", tmp_path / "storm"
    for folder in (calm, storm):
        folder.mkdir()
        lay_data(folder)
    arguments = [*targets, "--cores", "1", "--config", f"study={study.file}"]
    snakemake(*arguments, cwd=calm)

    command = [warm.python(), "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(storm)]
    started = Started([*command, "--retries", "25", *arguments])
    draw, kills = random.Random(0), 0
    moments = {arm: iter(kinds) for arm, kinds in KILLS.items()}
    previous = 0
    try:
        while (worker := _next_worker(study, storm, previous, started)) is not None:
            previous, arm = worker
            kind = next(moments[arm], None)
            if kind is None or not _moment_comes(kind, study, storm, Run(arm=arm, seed=0), previous, draw):
                continue
            if kills in WHOLE:
                started.kill()
                snakemake("--config", f"study={study.file}", "--unlock", cwd=storm)
                started = Started([*command, "--retries", "25", *arguments])
            else:
                os.kill(previous, signal.SIGKILL)
            kills += 1
        assert started.process.wait() == 0
    finally:
        started.kill()
    assert kills == 20, kills
    for run in runs:
        _assert_equal_results(study, run, calm, storm)
        left = [path.name for path in (storm / study.files(run).checkpoints).iterdir()]
        assert left == ["lock"], "nothing half-written stays"


class Started:
    """A workflow in the background, in a process group of its own."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment(warm.python()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """SIGKILL it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _until(condition: Callable[[], object], every: float = 0.001, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


def _works(pid: int) -> bool:
    """Whether that process is a worker of ours (and no later owner of its number)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"trigbench.workflow.steps.run" in command or b"warm/server.py" in command


def _workers(study: Study, folder: Path) -> Iterator[tuple[int, str]]:
    for arm in study.arms:
        lock = folder / study.files(Run(arm=arm, seed=0)).checkpoints / "lock"
        if lock.is_file() and (pid := int(lock.read_text() or 0)) and _works(pid):
            yield pid, arm


def _next_worker(study: Study, folder: Path, previous: int, started: Started) -> tuple[int, str] | None:
    """(process, arm) of a worker that holds the lock of its run, other than the previous; None at the end of all."""
    found: list[tuple[int, str]] = []

    def look() -> bool:
        found[:] = [worker for worker in _workers(study, folder) if worker[0] != previous]
        return bool(found) or started.process.poll() is not None

    _until(look, every=0.02)
    return found[0] if found else None


def _moment_comes(kind: str, study: Study, folder: Path, run: Run, pid: int, draw: random.Random) -> bool:
    """Wait for a random moment of that kind; False where the worker ended before it."""
    place = folder / study.files(run).checkpoints

    def there() -> set[str]:
        return {name for name in os.listdir(place) if name.startswith("step-") and name.endswith(".json")}

    def saved() -> bool:
        return bool(there() - before)

    def is_saving() -> bool:
        return any(name.startswith(".step-") for name in os.listdir(place))

    before = there()
    if kind == "training":
        _until(lambda: saved() or not _works(pid), every=0.005)
        time.sleep(draw.uniform(0, 0.03))
    elif kind == "saving":
        _until(lambda: is_saving() or saved() or not _works(pid))
        time.sleep(draw.uniform(0, 0.004))
    elif kind == "judging":
        weights = folder / study.files(run).weights
        _until(lambda: weights.exists() or not _works(pid), every=0.005)
        time.sleep(draw.uniform(0, 0.2))
    return _works(pid)


def _assert_equal_results(study: Study, run: Run, one: Path, other: Path) -> None:
    folders = [place / study.files(run).folder for place in (one, other)]
    weights = [read_tensors(folder / "weights.safetensors", "") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    samples = [read_arrays(folder / "samples.npz", "") for folder in folders]
    assert samples[0].keys() == samples[1].keys()
    assert all(samples[0][key].tobytes() == samples[1][key].tobytes() for key in samples[0])
    assert (folders[0] / "log.csv").read_text() == (folders[1] / "log.csv").read_text()
    records = [read_record(folder / "metrics.json") for folder in folders]
    own = {"seconds", "peak_memory_mb", "provenance", "provenance_of"}
    assert records[0].model_dump(exclude=own) == records[1].model_dump(exclude=own)


# --- workers that hang, die, or take too much -----------------------------------------------------

OWN_DATA = """
import dataclasses, os, signal, threading
from pathlib import Path
from examples import own_data
from examples.own_data import METRICS, QUANTITIES, floors, judge_map, judge_samples, prepare

def open_dataset(arrays, sigma_d):
    made, draws = own_data.open_dataset(arrays, sigma_d), iter(range(10**9))
    def draw(g, batch):
        if next(draws) == {at} and not Path("calm").exists():
            {fault}
        return made.draw(g, batch)
    return dataclasses.replace(made, draw=draw)
"""


@pytest.fixture
def own(tiny: dict, write_study, tmp_path: Path) -> Callable[..., Study]:
    """A study of one diffusion arm on a data set of one's own, whose draws fail as told."""

    def make(fault: str, at: int, iterations: int, **resources: float) -> Study:
        (tmp_path / "faulty.py").write_text(OWN_DATA.format(fault=fault, at=at))
        tiny["data"] = {"points": {"kind": "own", "module": "faulty", "settings": {"turns": 1.5}}}
        tiny["defaults"] |= {"data": "points", "iterations": iterations}
        tiny["arms"] = {"teacher": {"objective": "diffusion"}}
        tiny["resources"] = {"checkpoint_every": 20, **resources}
        tiny["experiments"] = {"training": {**tiny["experiments"]["training"], "arms": ["teacher"]}}
        return load(write_study(tiny))

    return make


TEACHER = Run(arm="teacher", seed=0)


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_says_where_and_is_tried_again_from_its_checkpoint(own, tmp_path: Path) -> None:
    study = own('Path("calm").touch(); threading.Event().wait()', at=45, iterations=60, patience=0.3)
    log = tmp_path / study.folder / "logs/runs/teacher-seed-0.log"
    weights = tmp_path / study.files(TEACHER).weights
    workflow = (study.files(TEACHER).metrics, "--cores", "1", "--config", f"study={study.file}")
    done = snakemake(*workflow, "--show-failed-logs", cwd=tmp_path)
    assert "Trying to restart job" in done.stdout
    assert re.search(r'faulty\.py", line \d+ in draw', done.stdout), done.stdout
    for part in ("no sign of life for 18 s", "resources.patience", str(study.file), "remedy:"):
        assert part in done.stdout
    assert "resuming teacher seed 0 from step 40" in log.read_text()
    again = read_tensors(weights, "")
    weights.unlink()
    anew = step("run", "--study", study.file, "--arm", "teacher", "--seed", "0", cwd=tmp_path)
    assert "resuming" not in anew.stderr
    undisturbed = read_tensors(weights, "")
    assert all(torch.equal(again[name], undisturbed[name]) for name in undisturbed)


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_by_the_workflow(own, tmp_path: Path) -> None:
    study = own('Path("calm").touch(); os.kill(os.getpid(), signal.SIGKILL)', at=45, iterations=60)
    target = study.files(TEACHER).metrics
    done = snakemake(target, "--cores", "1", "--config", f"study={study.file}", cwd=tmp_path)
    assert "Trying to restart job" in done.stdout
    log = tmp_path / study.folder / "logs" / "runs" / "teacher-seed-0.log"
    assert "resuming teacher seed 0 from step 40" in log.read_text()
    assert read_record(tmp_path / target).status == "finished"


@pytest.mark.slow
def test_where_the_server_that_forks_runs_is_killed_a_run_goes_on_from_its_checkpoint_to_the_same_bits(
    own, tmp_path: Path
) -> None:
    kills = 'Path("calm").touch(); os.kill(os.getppid(), signal.SIGKILL); threading.Event().wait()'
    study = own(kills, at=45, iterations=60)  # a run that was not forked would kill Snakemake's shell, and wait
    target, weights = study.files(TEACHER).metrics, tmp_path / study.files(TEACHER).weights
    done = snakemake(target, "--cores", "1", "--config", f"study={study.file}", cwd=tmp_path, variables={COLD: ""})
    assert "Trying to restart job" not in done.stdout
    log = tmp_path / study.folder / "logs/runs/teacher-seed-0.log"
    assert "resuming teacher seed 0 from step 40" in log.read_text()
    again = read_tensors(weights, "")
    weights.unlink()
    step("run", "--study", study.file, "--arm", "teacher", "--seed", "0", cwd=tmp_path)
    undisturbed = read_tensors(weights, "")
    assert all(torch.equal(again[name], undisturbed[name]) for name in undisturbed)


@pytest.mark.slow
def test_out_of_memory_names_the_setting_to_lower(tiny: dict, write_study, with_data, tmp_path: Path) -> None:
    study = with_data(tiny).file
    for key, change in (
        ("arms.scd.batch", {"arms": {"scd": {**tiny["arms"]["scd"], "batch": 2_000_000_000}}}),
        ("evaluation.samples", {"evaluation": {"samples": 3_000_000_000}}),
    ):
        shown = {"training": tiny["experiments"]["training"]}
        write_study(tiny | {"arms": {"scd": tiny["arms"]["scd"]}, "experiments": shown} | change)
        command = [
            sys.executable,
            "-m",
            "trigbench.workflow.steps.run",
            "--study",
            str(study),
            "--arm",
            "scd",
            "--seed",
            "0",
        ]
        limited = ["bash", "-c", 'ulimit -v 8000000; exec "$@"', "bash", *command]
        done = subprocess.run(limited, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 2, done.stderr
        for part in ("out of memory", str(study), key, "lower it (now ", "give the job more memory"):
            assert part in done.stderr
        assert "Traceback" not in done.stderr
    write_study(tiny)
    done = step("run", "--study", study, "--arm", "scd", "--seed", "0", cwd=tmp_path)
    assert "scd seed 0: finished" in done.stderr


# --- a study that changes while it is made --------------------------------------------------------


@pytest.mark.slow
def test_a_study_changed_half_way_stops_the_runs_that_changed_and_keeps_the_others(
    tiny: dict, write_study, with_data, tmp_path: Path
) -> None:
    tiny["arms"]["scd"]["iterations"] = 300
    study = with_data(tiny)
    arms = {name: str(study.files(Run(arm=name, seed=0)).metrics) for name in study.arms}
    command = [warm.python(), "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(tmp_path), *arms.values()]
    with subprocess.Popen(
        [*command, "--cores", "1", "--retries", "0", "--prioritize", arms["scd"], "--config", f"study={study.file}"],
        env=environment(warm.python()), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as first:  # fmt: skip
        _until((tmp_path / study.files(Run(arm="scd", seed=0)).checkpoints / "lock").exists)
        tiny["arms"]["dscd-{intervals}"]["rate"] = 2e-3
        write_study(tiny)
        said, _ = first.communicate(timeout=300)
    assert first.returncode == 1
    for part in ("dscd-4 seed 0 changed since the workflow was started", str(study.file), "start the workflow again"):
        assert part in said
    assert not (tmp_path / arms["dscd-4"]).exists()
    made = (tmp_path / arms["scd"]).stat().st_mtime_ns
    snakemake(*arms.values(), "--cores", "1", "--config", f"study={study.file}", cwd=tmp_path)
    assert (tmp_path / arms["dscd-8"]).is_file()
    assert (tmp_path / arms["scd"]).stat().st_mtime_ns == made, "an unchanged run is not made again"
