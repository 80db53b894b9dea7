"""Tabulate and plot one experiment in one process, as the workflow does."""

from workflow.steps.command import check_known, main, parser, study_of
from workflow.steps.plot import plot
from workflow.steps.tabulate import tabulate_experiment


def command() -> None:
    """Parse the arguments, tabulate and plot."""
    arguments = parser(__doc__)
    arguments.add_argument("--experiment", required=True, help="an experiment of the study")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    check_known(study, "experiments", parsed.experiment)
    tabulate_experiment(study, parsed.experiment)
    plot(study, parsed.experiment)


if __name__ == "__main__":
    main(command)
