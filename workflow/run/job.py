"""One job: a run on GPUs of its own, in one process or in several that torchrun starts."""

import contextlib
import os
import sys
from typing import NoReturn

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.gpus import gpu_slot
from trigbench.workflow.machine.live import live
from trigbench.workflow.machine.progress import end_if_hung
from trigbench.workflow.run.distributed import by_torchrun
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.fingerprint import EVALUATION, SAMPLING, TRAINING, digest, fingerprint
from trigbench.workflow.study.records import RunRecord
from trigbench.workflow.study.study import Run, Study


def run_job(
    study: Study, run: Run, planned: str | None, time_limit: float | None, gpus: int | None, processes: int
) -> RunRecord | None:
    """Make the run; the record of it, or None in a process that is not the first.

    `planned` is the fingerprint that the run had in the plan. Raises BenchError where it has another now.
    """
    if planned not in (None, fingerprint(study.specification(run))):
        problem = f"{run.arm} seed {run.seed} changed since the workflow was started"
        raise BenchError(problem, file=study.file, remedy="start the workflow again")
    started = by_torchrun()  # it holds the GPUs for its processes
    with contextlib.ExitStack() as held:
        if gpus is not None and not started:
            with live(study.files(run).live, "waiting for a GPU"):
                held.enter_context(gpu_slot(gpus))
        if processes > 1 and not started:
            _become_torchrun(processes)
        end_if_hung(study.resources.patience, study.file)
        return make_run(study, run, time_limit)


def get_ready() -> None:
    """What runs have in common, for a process that forks for many: the syntax of what all fingerprints are of."""
    digest(None, (TRAINING, SAMPLING, EVALUATION))


def _become_torchrun(processes: int) -> NoReturn:
    """Go on as torchrun, with this command in so many processes; it passes signals on to them."""
    start = ["--standalone", "--nproc-per-node", str(processes), "-m", "trigbench.workflow.steps.run"]
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *start, *sys.argv[1:]])
