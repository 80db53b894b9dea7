"""A study small enough to run in a test, and the workflow as a user starts it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def tiny() -> dict:
    """The study's content, free to be changed."""
    return yaml.safe_load(yaml.safe_dump(TINY, sort_keys=False))


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[[dict], Path]:
    """Write a study's content to a file in the test's folder."""

    def write(content: dict) -> Path:
        path = tmp_path / f"{content['study']}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


def environment() -> dict[str, str]:
    """The test's own environment with this checkout and its Python first, and one thread."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}


def step(name: str, *arguments: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one step by hand, as its help says."""
    command = [sys.executable, "-m", f"workflow.steps.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def snakemake(
    *arguments: str | Path, cwd: Path, check: bool = True, root: Path = ROOT, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run the workflow in `cwd`, which gets results/ and reports/; output and errors together in stdout."""
    command = [sys.executable, "-m", "snakemake", "-s", str(root / "Snakefile"), "-d", str(cwd), *map(str, arguments)]
    env = {**environment(), "PYTHONPATH": str(root)}
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
