"""Train, sample and evaluate one run, in one process or in several that torchrun starts."""

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
from trigbench.workflow.steps.command import main, run_of, run_parser, study_of
from trigbench.workflow.study.fingerprint import fingerprint


def become_torchrun(processes: int) -> NoReturn:
    """Go on as torchrun, with this command in so many processes; it passes signals on to them."""
    start = ["--standalone", "--nproc-per-node", str(processes), "-m", "trigbench.workflow.steps.run"]
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
    with contextlib.ExitStack() as held:
        if parsed.gpus is not None and not started:
            with live(study.live_file(run), "waiting for a GPU"):
                held.enter_context(gpu_slot(parsed.gpus))
        if parsed.processes > 1 and not started:
            become_torchrun(parsed.processes)
        end_if_hung(study.resources.patience, study.file)
        record = make_run(study, run, parsed.time_limit)
    if record is not None:
        print(f"{run.arm} seed {run.seed}: {record.status}, {sum(record.seconds.values()):.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(command)
