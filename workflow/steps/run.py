"""Train, sample and evaluate one run, in one process or in several that torchrun starts."""

import sys

from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.files import write_text
from trigbench.workflow.machine.provenance import taken
from trigbench.workflow.run.job import run_job
from trigbench.workflow.study.asked import run_of, run_parser, study_of


def command() -> None:
    """Parse the arguments and make the run."""
    arguments = run_parser(__doc__)
    add = arguments.add_argument
    add("--fingerprint", help="stop unless the run still has this fingerprint")
    add("--time-limit", type=float, help="minutes after which training or sampling has to have stopped")
    add("--gpus", type=int, help="take so many free GPUs of this machine, and hide the others")
    add("--processes", type=int, default=1, help="train and sample by so many, one a GPU, under torchrun")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    record = run_job(study, run, parsed.fingerprint, parsed.time_limit, parsed.gpus, parsed.processes)
    if record is not None:
        write_text(study.files(run).timed, taken())
        print(f"{run.arm} seed {run.seed}: {record.status}, {sum(record.seconds.values()):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(command)
