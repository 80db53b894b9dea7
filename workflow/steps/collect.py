"""Collect a study's tables and judge its claims in one process, as the workflow does."""

from trigbench.workflow.claims.collecting import collect
from trigbench.workflow.claims.words import summary
from trigbench.workflow.machine.command import main
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments, tabulate and judge."""
    study = study_of(parser(__doc__).parse_args())
    print(summary(collect(study), study.label))


if __name__ == "__main__":
    main(command)
