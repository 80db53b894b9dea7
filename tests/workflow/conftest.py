"""A study small enough to run in a test, and the workflow as a user starts it."""

import contextlib
import copy
import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from benchmarks.grid import NEEDED
from tests.workflow import warm
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.data.kinds.digits import making as digits
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.machine.warm import COLD
from trigbench.workflow.study import fingerprint
from trigbench.workflow.study.fingerprint import source_digest, syntax_digest
from trigbench.workflow.study.freshness import drawn_from
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import SamplesRecord, write_record
from trigbench.workflow.study.study import Run, Study
from trigbench.workflow.study.syntax import Syntax, read_syntax

ROOT = Path(__file__).parents[2]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C where PyYAML has it
TINY = {
    "study": "tiny",
    "title": "A study for tests",
    "summary": "Two arms on a mixture.",
    "sigma_d": 0.5,
    "seeds": [0],
    "data": {"mixture": {"kind": "mixture", "dimension": 2, "components": 2, "std": 0.5, "evaluation_points": 32}},
    "sizes": {"small": {"width": 16, "blocks": 1}},
    "defaults": {
        "data": "mixture", "size": "small", "iterations": 30, "batch": 16, "rate": 1e-3, "ema_half_life": 1000,
    },
    "arms": {
        "scd": {"objective": "scd", "teacher": "exact"},
        "dscd-{intervals}": {"objective": "dscd", "teacher": "exact", "intervals": [4, 8]},
    },
    "evaluation": {"samples": 64},
    "experiments": {
        "discretisation": {
            "title": "N", "paper": "Fig. 5c", "question": "N?", "expectation": "more is better",
            "figure": "discretisation", "metric": "map_rms", "arms": ["*"],
        },
        "training": {
            "title": "norms", "paper": "Sec. 4", "question": "spikes?", "expectation": "none",
            "figure": "training", "metric": "training_direction_norm", "arms": ["scd"],
        },
    },
}  # fmt: skip


def as_a_new_process() -> None:
    """Read the source again; a process reads it once."""
    for read in (source_digest, syntax_digest, fingerprint._file_of_ours):
        read.cache_clear()


@pytest.fixture
def slurm_plugin() -> None:
    """The lowest versions that are tried are without it."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        reason = "Snakemake's plugin for Slurm is not installed: pip install 'trigbench[cluster]'"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def _syntax_read_once() -> Iterator[None]:
    """A file of the same bytes is read the same: most of an edited copy of the source is as it was, and takes long."""
    known: dict[tuple[bytes, str, str], Syntax] = {}

    def read(path: Path, module: str) -> Syntax:
        key = (path.read_bytes(), path.name, module)
        if key not in known:
            known[key] = read_syntax(path, module)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "read_syntax", read)
        yield


@pytest.fixture(autouse=True)
def _in_no_job_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose end runs would mind."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture(autouse=True)
def _shapes_unchecked_where_it_is_slow(
    request: pytest.FixtureRequest, unchecked: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """As in a run outside the tests; at each of the calls of a training that takes up to half of its time."""
    of_all_cases = request.node.get_closest_marker("slow") and not request.node.get_closest_marker("one_in")
    with unchecked() if of_all_cases else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True)
def _few_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tangent's norms, which take most of an evaluation; in processes of their own runs have them all."""
    monkeypatch.setattr("trigbench.workflow.run.evaluation.TANGENT_ANGLES", 2)


@pytest.fixture
def tiny() -> dict:
    """The study's content, free to be changed."""
    return copy.deepcopy(TINY)


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[[dict], Path]:
    """Write a study's content to a file in the test's folder."""

    def write(content: dict) -> Path:
        path = tmp_path / f"{content['study']}.yaml"
        path.write_text(yaml.dump(content, Dumper=DUMPER, sort_keys=False))
        return path

    return write


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a squeue on the PATH that is the given lines of shell."""
    path = tmp_path / "bin/squeue"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")

    def write(script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def copied_project(folder: Path, compiled: bool = False) -> Path:
    """The project's source in another folder, where it may be edited; `compiled`, where it is run, not to be so again.

    Python holds what is compiled against its source's time and size, which copies keep.
    """
    ignored = shutil.ignore_patterns("site.yaml", *(["*.opt-*", "*.pyc.*"] if compiled else ["__pycache__"]))
    for part in ("trigbench", "core", "workflow", "docs", "profiles"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored, symlinks=True)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def touched(edited: Path) -> set[str]:
    """Files of the project that an edited copy has more of, that it lacks, and that differ in it."""
    parts = ("trigbench", "core", "workflow", "docs", "profiles", "Snakefile")

    def files(root: Path) -> dict[str, bytes]:
        places = [path for part in parts for path in (root / part, *(root / part).rglob("*"))]  # follows no link
        found = [path for path in places if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in found if path.name != "site.yaml"}

    before, after = files(ROOT), files(edited)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def hasty_classifier(patch: pytest.MonkeyPatch) -> None:
    """Let the classifier of digits learn from few of them, where how well it judges is not asked."""
    train = digits.train_classifier
    patch.setattr(digits, "train_classifier", lambda x, y, *rest: train(x[:64], y[:64], *rest))


def say_drawn(study: Study, run: Run) -> None:
    """As if the samples that are there were drawn from the weights that are there."""
    write_record(study.files(run).samples_record, SamplesRecord(**drawn_from(study, run)))


def saved_every(study: Study, steps: int) -> Study:
    """The study with a checkpoint every so many steps."""
    return study.model_copy(update={"resources": study.resources.model_copy(update={"checkpoint_every": steps})})


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory, unchecked: Callable[[], AbstractContextManager[None]]) -> Path:
    """The folder of the tiny study's prepared data, made once."""

    def make(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
        with contextlib.chdir(folder), unchecked():
            prepare(load(folder / "tiny.yaml"), "mixture")

    return made_by_one(tmp_path_factory, "mixture", make) / "results/tiny/data"


@pytest.fixture
def lay_data(mixture: Path) -> Callable[[Path], None]:
    """Put the tiny study's data where a workflow in that folder finds them made."""
    return lambda folder: shutil.copytree(mixture, folder / "results/tiny/data") and None


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny study, made to the end."""

    def make(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
        snakemake("--config", "study=tiny.yaml", "--cores", "2", cwd=folder)

    return made_by_one(tmp_path_factory, "made", make)


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """A copy of it, with Snakemake's memory and the files' times; returns the study's file."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tiny.yaml"


@pytest.fixture
def with_data(
    write_study: Callable[[dict], Path], mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict], Study]:
    """Write a study on the tiny one's data, which are there, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(content: dict) -> Study:
        study = load(write_study(content))
        shutil.copytree(mixture, study.data_file("mixture").parent, dirs_exist_ok=True)
        return study

    return write


@pytest.fixture
def scd_arm(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """The tiny study with settings of its arm `scd` changed as asked, and its data."""

    def make(**settings: object) -> Study:
        tiny["arms"]["scd"] |= settings
        return with_data(tiny)

    return make


@pytest.fixture
def one_arm(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """The tiny study with one arm, `x`, of the given objective and settings, and its data."""

    def make(objective: str, **settings: object) -> Study:
        teacher = {"teacher": "exact"} if OBJECTIVES[objective].teacher else {}
        tiny["arms"] = {"x": {"objective": objective, **teacher, **NEEDED.get(objective, {}), **settings}}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
        return with_data(tiny)

    return make


def made_by_one(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all processes of these tests read, and the first that asks for it makes."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def environment(python: str = sys.executable) -> dict[str, str]:
    """The test's own with this checkout and a Python first, and one thread; what a copy holds is compiled once."""
    path = os.pathsep.join([str(Path(python).parent), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    alike = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "PYTHONWARNINGS": "default"}
    no_other = {COLD: "1"}  # server: the workflow's own starts anew for every workflow
    return {**os.environ, **alike, **no_other, "PATH": path, "PYTHONPATH": str(ROOT)}


def step(name: str, *arguments: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one step by hand, as its help says."""
    command = [warm.python(), "-m", f"trigbench.workflow.steps.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(command[0]), capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def snakemake(
    *arguments: str | Path,
    cwd: Path,
    check: bool = True,
    root: Path = ROOT,
    timeout: float = 600,
    python: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in `cwd`, which gets results/ and reports/; output and errors together in stdout.

    By processes that are warm, unless a Python is named, in an environment with these variables.
    """
    first = python or warm.python()
    command = [first, "-m", "snakemake", "-s", str(root / "Snakefile"), "-d", str(cwd), *map(str, arguments)]
    env = {**environment(first), "PYTHONPATH": str(root), **(variables or {})}
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert not check or done.returncode == 0, done.stdout
    return done
