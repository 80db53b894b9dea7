"""Tabulate and plot one experiment in one process, as the workflow does."""

from trigbench.workflow.claims.collecting import tabulate_experiment
from trigbench.workflow.machine.command import main
from trigbench.workflow.report.plotting import plot
from trigbench.workflow.study.asked import one_of


def command() -> None:
    """Parse the arguments, tabulate and plot."""
    study, experiment = one_of(__doc__, "experiments")
    tabulate_experiment(study, experiment)
    plot(study, experiment)


if __name__ == "__main__":
    main(command)
