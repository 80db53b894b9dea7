"""Copy a finished study's small tables and figures to results/published, with their provenance.

results/published/claims.svg is drawn anew: the verdicts of all studies that are there. A budget that makes a study
smaller than it is decides no claim: its verdicts are published as not tested. Pictures show samples alone, as real
images are somebody else's. What came from outside (`trigbench judge`) is left out.
"""

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.report.publishing import publish, publish_all
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments and publish."""
    arguments = parser(__doc__, needs_study=False)
    arguments.add_argument("--all", action="store_true", help="every study in results/ of a budget to publish")
    parsed = arguments.parse_args()
    if (parsed.study is not None) == parsed.all:
        raise BenchError("no one study is named", key="--study", remedy="name one, or ask for every one with --all")
    publish_all() if parsed.all else publish(study_of(parsed))


if __name__ == "__main__":
    main(command)
