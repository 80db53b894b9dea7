"""A run from training to its record, in one process or in several that torchrun starts."""

import contextlib
from collections.abc import Iterator

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.devices import device_of
from trigbench.workflow.machine.live import phase
from trigbench.workflow.machine.provenance import seconds_since_start
from trigbench.workflow.run.distributed import is_first, world_of
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.samples import remove_parts, sample
from trigbench.workflow.run.training import train_here, working_on
from trigbench.workflow.study.records import RunRecord
from trigbench.workflow.study.study import Run, Study

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
            phase("sampling")
            with _within_memory(study, "evaluation.samples", fewer):
                sampled = round(sample(study, run, time_limit), 3)
        if not is_first():
            return None
        phase("evaluating")
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
