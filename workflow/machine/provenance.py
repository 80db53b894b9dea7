"""Where a result comes from: commit, versions, hardware."""

import hashlib
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trigbench._places import ROOT
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import sha256
from trigbench.workflow.machine.git import git

LIBRARIES = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "torch-fidelity", "snakemake")
SOURCES = ("core", "workflow", "Snakefile")
"""What computes: of the project's files those that a digest stands for where no commit does.

The rest of the package (`trigbench/`: names, places and the command) and pyproject.toml compute nothing, and a wheel
has neither as a checkout has; versions of libraries stand beside the digest, in every record. So a checkout and a wheel
of one commit have one digest, and those of results that are published stay what they are.
"""


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Commit and dirty flag of the checkout, versions, device and host kind; no names of people or machines."""
    return {
        **attribution(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "cuda": _cuda(),
        "device": device,
        "processor": _processor(),
        "cores": cores_here(),
        "platform": platform.platform(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def attribution(root: Path = ROOT) -> dict[str, Any]:
    """Which code this is: `commit`, and `dirty`, whether it was changed since or holds files that git does not know.

    Both are None outside a checkout of the project: a copy of it may lie in somebody else's, whose commit says
    nothing. Where no clean commit says all, `source` is a digest of the project's files. `version` always stands.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    ours = top is not None and Path(top).resolve() == root.resolve()
    commit = _git(root, "rev-parse", "HEAD") if ours else None
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal") if ours else None
    dirty = None if commit is None or changes is None else changes != ""
    found = {"commit": commit, "dirty": dirty, "version": _version("trigbench")}
    return found if dirty is False else {**found, "source": _digest_of_files(root)}


@cache
def sources_at(commit: str, root: Path = ROOT) -> str | None:
    """What `source` is where the project's files are as that commit has them; None where git cannot say."""
    with tempfile.TemporaryDirectory() as folder:
        archive, files = Path(folder) / "sources.tar", Path(folder) / "files"
        if _git(root, "archive", "--format=tar", f"--output={archive}", commit, *SOURCES) is None:
            return None
        shutil.unpack_archive(archive, files, filter="data")
        return _digest_of_files(files)


@cache
def _digest_of_files(root: Path) -> str:
    """By names and contents, without what Python compiles."""
    roots = [root / name for name in SOURCES]
    files = [path for place in roots for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def peak_memory_mb() -> float:
    """The largest resident set of this process so far.

    On Linux by the process's own status: what getrusage says survives exec, and so may be the parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10, 1)
    except (OSError, StopIteration):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def seconds_since_start() -> float:
    """Wall-clock seconds since this process was started, the interpreter's own start included."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return max(uptime - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except OSError:  # no /proc: CPU time is the best lower bound there is
        return time.process_time()


def taken() -> str:
    """What this process has taken so far, as Snakemake writes it: seconds, megabytes, seconds of a processor."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in used)
    return f"s\tmax_rss\tcpu_time\n{seconds_since_start():.2f}\t{peak_memory_mb()}\t{processor:.2f}\n"


@cache
def _git(root: Path, *arguments: str) -> str | None:
    said = git(root, *arguments)
    return None if said is None else said.strip()


def _version(distribution: str) -> str | None:
    """A library's own word where it is imported, which names the build (2.13.0+cu130); else its package's."""
    said = getattr(sys.modules.get(distribution), "__version__", None)
    if said is not None:
        return str(said)
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cuda() -> str | None:
    torch = sys.modules.get("torch")
    return torch.version.cuda if torch else None


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
