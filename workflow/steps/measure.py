"""Measure what an experiment asks for beside its runs: costs, a search, or what theory says."""

from trigbench.workflow.machine.command import main
from trigbench.workflow.run.measuring import measure
from trigbench.workflow.study.asked import one_of


def command() -> None:
    """Parse the arguments and measure."""
    measure(*one_of(__doc__, "experiments"))


if __name__ == "__main__":
    main(command)
