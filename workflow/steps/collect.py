"""Collect a study's tables and judge its claims in one process, as the workflow does."""

from workflow.steps.command import main, parser, study_of
from workflow.steps.judge import judge_study, summary
from workflow.steps.tabulate import tabulate_study


def command() -> None:
    """Parse the arguments, tabulate and judge."""
    study = study_of(parser(__doc__).parse_args())
    tabulate_study(study)
    print(summary(judge_study(study), study.label))


if __name__ == "__main__":
    main(command)
