"""Say where the reports are and where the time went."""

from trigbench._parser import step_parser
from trigbench.workflow.machine.command import main
from trigbench.workflow.report.timing import summarise
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.shipped import by_default
from trigbench.workflow.study.study import DEFAULT_BUDGET


def command() -> None:
    """Parse the arguments and print."""
    arguments = step_parser(__doc__)
    add = arguments.add_argument
    add("--studies", default=",".join(by_default()), help="comma-separated (default: %(default)s)")
    add("--budget", default=DEFAULT_BUDGET)
    add("--started", type=float, help="when everything began, in seconds since 1970")
    add("--workflow-started", type=float, help="when the workflow began, likewise")
    parsed = arguments.parse_args()
    studies = [load(name, parsed.budget) for name in parsed.studies.split(",")]
    summarise(studies, parsed.started, parsed.workflow_started)


if __name__ == "__main__":
    main(command)
