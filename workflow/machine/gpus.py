"""The GPUs of one machine, shared by the jobs on it; found without torch, since every start of the workflow asks."""

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.progress import sign_of_life

VISIBLE = "CUDA_VISIBLE_DEVICES"
SLOTS = Path(tempfile.gettempdir()) / f"trigbench-gpus-{os.getuid()}"
"""One lock file per GPU; of this machine, whatever folder a workflow runs in."""


def visible_gpus() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES may name here: what it names already, else what nvidia-smi lists, by UUID."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return tuple(name for part in named.split(",") if (name := part.strip()) and name != "-1")
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except OSError:  # no driver, no GPU
        return ()
    found = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listed.stdout if listed.returncode == 0 else "")
    parts = [name for name in found if name.startswith("MIG-")]  # a GPU that is cut up is used by its parts
    return tuple(parts or found)


@contextlib.contextmanager
def gpu_slot(
    count: int, there: Sequence[str] | None = None, slots: Path = SLOTS, every: float = 2.0
) -> Iterator[tuple[str, ...]]:
    """Wait until `count` GPUs of this machine are free, hold them, and show CUDA no others; 0 hides all.

    To be entered before CUDA starts. The locks go with the process, however it ends, and stay when it becomes
    another program. Raises BenchError when the machine has fewer.
    """
    there = visible_gpus() if there is None and count else there or ()
    if count > len(there):
        remedy = "lower 'resources.gpu' of the study, or use a machine with as many"
        raise BenchError(f"{count} GPUs are asked for, and there are {len(there)}", key="--gpus", remedy=remedy)
    before = os.environ.get(VISIBLE)
    with contextlib.ExitStack() as held:
        taken = _take(count, there, slots, every, held)
        os.environ[VISIBLE] = ",".join(taken)
        try:
            yield taken
        finally:
            if before is None:
                del os.environ[VISIBLE]
            else:
                os.environ[VISIBLE] = before


def _take(count: int, there: Sequence[str], slots: Path, every: float, held: contextlib.ExitStack) -> tuple[str, ...]:
    """Lock `count` of them or none: two jobs that each held one and waited for another would wait for ever."""
    slots.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.ExitStack() as locks:
            taken: list[str] = []
            for name in there:
                if len(taken) < count and _lock(slots / name.replace("/", "_"), locks):
                    taken.append(name)
            if len(taken) == count:
                held.enter_context(locks.pop_all())
                return tuple(taken)
        sign_of_life()
        time.sleep(every)


def _lock(path: Path, locks: contextlib.ExitStack) -> bool:
    handle = path.open("wb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    os.set_inheritable(handle.fileno(), True)  # across exec; subprocess closes it in children all the same
    locks.enter_context(handle)
    return True
