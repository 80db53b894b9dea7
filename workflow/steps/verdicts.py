"""Judge the claims of workflow/claims.yaml and a study's own by its tables, and write results/<study>/claims.csv.

Beside it, results/<study>/claims.json says all that is known of each. With --claim one claim is judged by its
experiment's tables alone, and its verdict is printed.
"""

from trigbench.workflow.claims.deciding import judge_claim, judge_study
from trigbench.workflow.claims.family import told
from trigbench.workflow.claims.words import sentence, summary
from trigbench.workflow.machine.command import main
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments and judge."""
    arguments = parser(__doc__)
    arguments.add_argument("--claim", help="one claim; without it all of them")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    if parsed.claim is None:
        print(summary(judge_study(study), study.label), told(study), sep="\n")
    else:
        print(sentence(judge_claim(study, parsed.claim)))


if __name__ == "__main__":
    main(command)
