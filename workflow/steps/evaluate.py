"""Judge one trained and sampled run, and write its record, metrics.json."""

import json

from trigbench.workflow.machine.command import main
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.training import working_on
from trigbench.workflow.study.asked import run_of, run_parser, study_of


def command() -> None:
    """Parse the arguments and evaluate."""
    parsed = run_parser(__doc__).parse_args()
    study = study_of(parsed)
    run = run_of(study, parsed)
    with working_on(study, run, "evaluating"):
        record = evaluate(study, run)
    print(json.dumps([m.model_dump(exclude_none=True) for m in record.metrics], indent=1))


if __name__ == "__main__":
    main(command)
