"""A run from training to its record, in one process or in several that torchrun starts."""

import contextlib
import sys
from collections.abc import Iterator

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.devices import OUT_OF_MEMORY, device_of
from trigbench.workflow.machine.live import phase
from trigbench.workflow.run.distributed import is_first, world_of
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.samples import remove_parts, sample
from trigbench.workflow.run.training import train_here, working_on
from trigbench.workflow.study.freshness import samples_stand, weights_stand
from trigbench.workflow.study.records import RunRecord, read_training
from trigbench.workflow.study.study import Run, Study


def make_run(study: Study, run: Run, time_limit: float | None = None) -> RunRecord | None:
    """Train, sample and judge, but for what stands of the run: its weights, and its samples, if they are what would be
    made now. A diverged run is recorded like any other. The time limit stops training and sampling.

    Under torchrun all processes train and sample, and the first one evaluates; the others return None.
    """
    arm = study.arms[run.arm]
    smaller = (
        "set 'microbatch' to a part of it, which changes no result; "
        f"or lower it (now {arm.batch}), or take a smaller 'size' than {arm.size!r}"
    )
    with working_on(study, run, "training"):
        fewer = f"lower it (now {study.evaluation.samples})"
        with world_of(device_of(study.device, study.file), study.resources.patience) as world:  # one for both
            stands = world.from_first(_parts_that_stand(study, run) if world.first else 0)
            if stands < 1:
                with _within_memory(study, f"arms.{run.arm}.batch", smaller):
                    train_here(study, run, time_limit)
            if stands < 2:
                phase("sampling")
                with _within_memory(study, "evaluation.samples", fewer):
                    sample(study, run, time_limit)
        if not is_first():
            return None
        phase("evaluating")
        with _within_memory(study, "evaluation.samples", fewer):
            record = evaluate(study, run)
        files = study.files(run)
        remove_parts(files)
        if read_training(files.training).reason is None:  # else the last good one is looked at
            checkpoints.remove_all(files.checkpoints)
    return record


def _parts_that_stand(study: Study, run: Run) -> int:
    """How many, in order, need not be made again: of training and sampling."""
    if not weights_stand(study, run):
        return 0
    stand = 2 if samples_stand(study, run) else 1
    kept = "weights and samples" if stand == 2 else "weights"
    print(f"{run.arm} seed {run.seed}: its {kept} stand, and are not made again", file=sys.stderr)
    return stand


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
