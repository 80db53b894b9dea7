"""Tabulate and plot one experiment in one process, as the workflow does."""

from workflow.errors import BenchError
from workflow.steps.command import main, parser, study_of
from workflow.steps.plot import plot
from workflow.steps.tabulate import tabulate_experiment


def command() -> None:
    """Parse the arguments, tabulate and plot."""
    arguments = parser(__doc__)
    arguments.add_argument("--experiment", required=True, help="an experiment of the study")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    if parsed.experiment not in study.experiments:
        known = ", ".join(study.experiments)
        problem = f"no experiment {parsed.experiment!r}"
        raise BenchError(problem, file=study.file, key="experiments", remedy=f"choose of: {known}")
    tabulate_experiment(study, parsed.experiment)
    plot(study, parsed.experiment)


if __name__ == "__main__":
    main(command)
