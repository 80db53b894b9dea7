"""Collect a study's tables and judge its claims in one process, as the workflow does."""

import pandas as pd

from workflow.claims.ledger import claims_of, read_claims
from workflow.machine.files import read_json, write_json
from workflow.steps.command import main, parser, study_of
from workflow.steps.judge import judge_study, summary
from workflow.steps.tabulate import tabulate_study
from workflow.study.freshness import MADE_FROM, collected_from
from workflow.study.study import Study


def collect(study: Study) -> pd.DataFrame:
    """Tabulate and judge, then record what both were made from; return the verdicts."""
    made_from, file = collected_from(study, claims_of(read_claims(), study)), study.folder / "provenance.json"
    tabulate_study(study)
    verdicts = judge_study(study)
    write_json(file, read_json(file, f"make the study again: {study.command()}") | {MADE_FROM: made_from})
    return verdicts


def command() -> None:
    """Parse the arguments, tabulate and judge."""
    study = study_of(parser(__doc__).parse_args())
    print(summary(collect(study), study.label))


if __name__ == "__main__":
    main(command)
