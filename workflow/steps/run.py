"""Train, sample and evaluate one run, in one process or in several that torchrun starts."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from workflow.errors import BenchError
from workflow.machine import checkpoints
from workflow.machine.devices import device_of
from workflow.machine.gpus import gpu_slot
from workflow.machine.progress import end_if_hung
from workflow.machine.provenance import seconds_since_start
from workflow.run.distributed import by_torchrun, is_first, world_of
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.steps.evaluate import evaluate
from workflow.steps.sample import remove_parts, sample
from workflow.steps.train import train_here, working_on
from workflow.study.fingerprint import fingerprint
from workflow.study.records import RunRecord
from workflow.study.study import Run, Study

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc")
"""What torch says of it, in RuntimeErrors."""


def make_run(study: Study, run: Run, time_limit: float | None = None) -> RunRecord | None:
    """All three steps; a diverged run is recorded like any other. The time limit stops training and sampling.

    Under torchrun all processes train and sample, and the first one evaluates; the others return None.
    """
    start = round(seconds_since_start(), 3)
    arm = study.arms[run.arm]
    smaller = (
        "set 'microbatch' to a part of it, which changes no result; "
        f"or lower it (now {arm.batch}), or take a smaller 'size' than {arm.size!r}"
    )
    with working_on(study, run):
        fewer = f"lower it (now {study.evaluation.samples})"
        with world_of(device_of(study.device, study.file), study.resources.patience):  # one connection for both
            with _within_memory(study, f"arms.{run.arm}.batch", smaller):
                outcome = train_here(study, run, time_limit)
            with _within_memory(study, "evaluation.samples", fewer):
                sampled = round(sample(study, run, time_limit), 3)
        if not is_first():
            return None
        with _within_memory(study, "evaluation.samples", fewer):
            record = evaluate(study, run, {"start": start, "sample": sampled})
        remove_parts(study, run)
        if outcome.reason is None:  # a diverged run keeps its last good checkpoint, to look at
            checkpoints.remove_all(study.checkpoint_folder(run))
    return record


@contextlib.contextmanager
def _within_memory(study: Study, key: str, remedy: str) -> Iterator[None]:
    """Where memory does not suffice, name the setting that decides how much is taken."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error)
        if not isinstance(error, MemoryError) and not any(words in reason for words in OUT_OF_MEMORY):
            raise
        problem = f"out of memory: {reason.splitlines()[0]}" if reason else "out of memory"
        remedy = f"{remedy}, or give the job more memory"
        raise BenchError(problem, file=study.file, key=key, remedy=remedy, again=True) from error


def become_torchrun(processes: int) -> NoReturn:
    """Go on as torchrun, with this command in so many processes; it passes signals on to them."""
    start = ["--standalone", "--nproc-per-node", str(processes), "-m", "workflow.steps.run"]
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *start, *sys.argv[1:]])


def command() -> None:
    """Parse the arguments and make the run."""
    arguments = run_parser(__doc__)
    arguments.add_argument("--fingerprint", help="stop unless the run still has this fingerprint")
    arguments.add_argument(
        "--time-limit", type=float, help="minutes after which training or sampling has to have stopped"
    )
    arguments.add_argument("--gpus", type=int, help="take so many free GPUs of this machine, and hide the others")
    arguments.add_argument(
        "--processes", type=int, default=1, help="train and sample by so many, one a GPU, under torchrun"
    )
    parsed = arguments.parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    if parsed.fingerprint not in (None, fingerprint(study.specification(run))):
        problem = f"{run.arm} seed {run.seed} changed since the workflow was started"
        raise BenchError(problem, file=study.file, remedy="start the workflow again")
    started = by_torchrun()  # it holds the GPUs for its processes
    with contextlib.nullcontext() if parsed.gpus is None or started else gpu_slot(parsed.gpus):
        if parsed.processes > 1 and not started:
            become_torchrun(parsed.processes)
        end_if_hung(study.resources.patience, study.file)
        record = make_run(study, run, parsed.time_limit)
    if record is not None:
        print(f"{run.arm} seed {run.seed}: {record.status}, {sum(record.seconds.values()):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(command)
