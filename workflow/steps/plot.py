"""Draw one experiment's figure and sample pictures, and write its finding."""

from trigbench.workflow.machine.command import main
from trigbench.workflow.report.plotting import plot
from trigbench.workflow.study.asked import one_of


def command() -> None:
    """Parse the arguments and plot."""
    plot(*one_of(__doc__, "experiments"))


if __name__ == "__main__":
    main(command)
