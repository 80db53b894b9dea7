"""Draw samples from one trained run: the same noise for every method, in every way that the study asks for."""

from trigbench.workflow.machine.command import main
from trigbench.workflow.run.distributed import is_first
from trigbench.workflow.run.samples import remove_parts, sample
from trigbench.workflow.run.training import working_on
from trigbench.workflow.study.asked import run_of, run_parser, study_of


def command() -> None:
    """Parse the arguments and sample."""
    arguments = run_parser(__doc__)
    arguments.add_argument("--time-limit", type=float, help="minutes after which sampling has to have stopped")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    with working_on(study, run, "sampling"):
        seconds = sample(study, run, parsed.time_limit)
        if is_first():
            print(f"sampled in {seconds:.1f} s")
            remove_parts(study.files(run))


if __name__ == "__main__":
    main(command)
