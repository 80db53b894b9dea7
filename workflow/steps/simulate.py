"""Simulate verdicts: how often they are false, and how often they find what is there (results/simulations.json)."""

from trigbench.workflow.machine.command import main
from trigbench.workflow.report.simulating import make_simulations


def command() -> None:
    """Make them; there is nothing to choose."""
    print(make_simulations())


if __name__ == "__main__":
    main(command)
