"""Collect a study's tables, judge its claims and draw its picture of one noise in one process, as the workflow does."""

from trigbench.workflow.claims.collecting import collect
from trigbench.workflow.claims.family import told
from trigbench.workflow.claims.words import summary
from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.named import named
from trigbench.workflow.study.asked import parser, study_of

DRAW = "trigbench.workflow.report.one_noise:draw_one_noise"  # imported where there is something to draw


def command() -> None:
    """Parse the arguments, draw, tabulate and judge."""
    study = study_of(parser(__doc__).parse_args())
    beside = named(DRAW)(study) if study.one_noise else []
    print(summary(collect(study, beside), study.label), told(study), sep="\n")


if __name__ == "__main__":
    main(command)
