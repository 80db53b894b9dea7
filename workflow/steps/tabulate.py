"""Collect the records of one experiment's runs into tidy tables, and all experiments' into the study's."""

from trigbench.workflow.claims.collecting import tabulate_experiment, tabulate_study
from trigbench.workflow.machine.command import main
from trigbench.workflow.study.asked import check_known, parser, study_of


def command() -> None:
    """Parse the arguments and tabulate."""
    arguments = parser(__doc__)
    arguments.add_argument("--experiment", help="one experiment; without it the whole study is collected")
    arguments.add_argument("--partial", action="store_true", help="take the runs that are there")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    if parsed.experiment is None:
        tabulate_study(study)
    else:
        check_known(study, "experiments", parsed.experiment)
        tabulate_experiment(study, parsed.experiment, parsed.partial)


if __name__ == "__main__":
    main(command)
