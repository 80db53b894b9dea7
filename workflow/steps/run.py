"""Train, sample and evaluate one run in one process, which is what small studies do."""

import sys

from workflow.errors import BenchError
from workflow.runtime import checkpoints
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.protocol import protocol
from workflow.runtime.provenance import seconds_since_start
from workflow.runtime.records import RunRecord, write_record
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.steps.evaluate import evaluate
from workflow.steps.sample import sample
from workflow.steps.train import CHECKPOINT_EVERY, train
from workflow.study import Run, Study


def make_run(study: Study, run: Run, checkpoint_every: int = CHECKPOINT_EVERY) -> RunRecord:
    """All three steps; a diverged run is recorded like any other."""
    start = round(seconds_since_start(), 3)
    outcome = train(study, run, checkpoint_every)
    record = evaluate(study, run, {"start": start, "sample": round(sample(study, run), 3)})
    record = record.model_copy(update={"protocol": protocol(study, run)})
    write_record(study.run_folder(run) / "metrics.json", record)
    if outcome.reason is None:  # a diverged run keeps its last good checkpoint, to look at
        checkpoints.remove_all(study.checkpoint_folder(run))
    return record


def command() -> None:
    """Parse the arguments and make the run."""
    arguments = run_parser(__doc__)
    arguments.add_argument("--fingerprint", help="stop unless the run still has this fingerprint")
    arguments.add_argument("--checkpoint-every", type=int, default=CHECKPOINT_EVERY, help="default: %(default)s steps")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    if parsed.fingerprint not in (None, fingerprint(study.specification(run))):
        problem = f"{run.arm} seed {run.seed} changed since the workflow was started"
        raise BenchError(problem, file=study.file, remedy="start the workflow again")
    record = make_run(study, run, parsed.checkpoint_every)
    print(f"{run.arm} seed {run.seed}: {record.status}, {sum(record.seconds.values()):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(command)
