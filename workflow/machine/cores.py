"""How many cores this process may use: fewer than the machine has in a container, a job or under taskset."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cores_here(groups: Path = CGROUPS, of_process: Path = Path("/proc/self/cgroup")) -> int:
    """At least 1: the smallest of the machine's, of the affinity mask's, and of the quota of each cgroup around it."""
    counted = getattr(os, "process_cpu_count", None)  # Python 3.13: the mask, or what PYTHON_CPU_COUNT says
    if counted is not None:
        allowed = counted() or 1
    else:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _quota(groups, of_process)) + 1e-9))


def _quota(groups: Path, of_process: Path) -> float:
    """In cores; a quota below one core counts as one. Infinite where there is none."""
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [math.inf]
    for line in lines or ["0::/"]:
        _, controllers, place = line.split(":", 2)
        if controllers == "":  # version 2: cpu.max in every group from this one up
            found += [_share(folder / "cpu.max") for folder in _upwards(groups, place)]
        elif "cpu" in controllers.split(","):
            roots = [root for name in (controllers, "cpu") if (root := groups / name).is_dir()][:1]
            found += [_share_of_first(folder) for root in roots for folder in _upwards(root, place)]
    return max(1.0, min(found))


def _upwards(root: Path, place: str) -> list[Path]:
    """The group and those around it; a container may see its own as the root."""
    folder = root / place.strip("/")
    inside = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return [root, *(path for path in inside if path != root and path.is_dir())]


def _share(path: Path) -> float:
    """Of version 2: `quota period`, or `max period`."""
    try:
        quota, period = path.read_text(encoding="utf-8").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _share_of_first(folder: Path) -> float:
    """Of version 1: a file each, and -1 for none."""
    try:
        quota, period = (
            int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period")
        )
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
