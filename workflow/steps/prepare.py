"""Prepare a data set: arrays, exact values or a feature extractor, and the floors of every metric."""

from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.machine.command import main
from trigbench.workflow.study.asked import one_of


def command() -> None:
    """Parse the arguments and prepare."""
    prepare(*one_of(__doc__, "data"))


if __name__ == "__main__":
    main(command)
