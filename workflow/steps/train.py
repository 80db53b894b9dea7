"""Train one run: an arm with a seed. Resumes from its newest checkpoint to the same bits.

On several devices, one process for each:

  torchrun --standalone --nproc-per-node 8 -m trigbench.workflow.steps.train --study cifar10 --arm scd --seed 0

They divide every batch among them and end as one process would, but for rounding. Each holds all parameters
and averages, unless the arm has `sharded: true`, which shares them out (FSDP2); `microbatch: 64` lets a
process take its rows 64 at a time. Any number of processes resumes what any other number has left.
"""

from trigbench.workflow.machine.command import main
from trigbench.workflow.run.distributed import is_first
from trigbench.workflow.run.training import train
from trigbench.workflow.study.asked import run_of, run_parser, study_of


def command() -> None:
    """Parse the arguments and train."""
    arguments = run_parser(__doc__)
    arguments.add_argument("--time-limit", type=float, help="minutes after which training has to have stopped")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    outcome = train(study, run_of(study, parsed), parsed.time_limit)
    if is_first():
        print(f"diverged: {outcome.reason}" if outcome.reason else f"finished after {outcome.step} steps")


if __name__ == "__main__":
    main(command)
