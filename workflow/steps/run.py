"""Train, sample and evaluate one run in one process, which is what small studies do."""

import contextlib
import sys

from workflow.errors import BenchError
from workflow.runtime import checkpoints
from workflow.runtime.distributed import is_first
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.gpus import gpu_slot
from workflow.runtime.provenance import seconds_since_start
from workflow.runtime.records import RunRecord
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.steps.evaluate import evaluate
from workflow.steps.sample import sample
from workflow.steps.train import CHECKPOINT_EVERY, train
from workflow.study import Run, Study


def make_run(
    study: Study, run: Run, checkpoint_every: int = CHECKPOINT_EVERY, time_limit: float | None = None
) -> RunRecord | None:
    """All three steps; a diverged run is recorded like any other. The time limit stops training alone.

    Under torchrun all processes train, and the first one samples and evaluates; the others return None.
    """
    start = round(seconds_since_start(), 3)
    outcome = train(study, run, checkpoint_every, time_limit)
    if not is_first():
        return None
    record = evaluate(study, run, {"start": start, "sample": round(sample(study, run), 3)})
    if outcome.reason is None:  # a diverged run keeps its last good checkpoint, to look at
        checkpoints.remove_all(study.checkpoint_folder(run))
    return record


def command() -> None:
    """Parse the arguments and make the run."""
    arguments = run_parser(__doc__)
    arguments.add_argument("--fingerprint", help="stop unless the run still has this fingerprint")
    arguments.add_argument("--checkpoint-every", type=int, default=CHECKPOINT_EVERY, help="default: %(default)s steps")
    arguments.add_argument("--time-limit", type=float, help="minutes after which training has to have stopped")
    arguments.add_argument("--gpus", type=int, help="take so many free GPUs of this machine, and hide the others")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    if parsed.fingerprint not in (None, fingerprint(study.specification(run))):
        problem = f"{run.arm} seed {run.seed} changed since the workflow was started"
        raise BenchError(problem, file=study.file, remedy="start the workflow again")
    with contextlib.nullcontext() if parsed.gpus is None else gpu_slot(parsed.gpus):
        record = make_run(study, run, parsed.checkpoint_every, parsed.time_limit)
    if record is not None:
        print(f"{run.arm} seed {run.seed}: {record.status}, {sum(record.seconds.values()):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(command)
