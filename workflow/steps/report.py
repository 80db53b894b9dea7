"""Write the pages of one study and its experiments, and the front page with a page for every claim.

With --partial the tables and figures are first made anew from the runs that are there, and what is missing is named;
--all does so for the laptop's studies and for every other that stands in results/.
"""

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.report.writing import index, report_all, report_one
from trigbench.workflow.study.asked import parser, study_of


def command() -> None:
    """Parse the arguments and write the page, or the index alone."""
    arguments = parser(__doc__, needs_study=False)
    add = arguments.add_argument
    add("--partial", action="store_true", help="take the runs that are there, name those that are not")
    add("--index", action="store_true", help="write the index alone, of the pages that are there")
    add("--all", action="store_true", help="the pages of every study in results/, as --partial")
    parsed = arguments.parse_args()
    if (parsed.study is not None) + parsed.index + parsed.all != 1:
        remedy = "name one, or ask for every study in results/ with --all, or for the index with --index"
        raise BenchError("no one study is named", key="--study", remedy=remedy)
    if parsed.all:
        report_all()
    elif parsed.index:
        print(index())
    else:
        report_one(study_of(parsed), parsed.partial)


if __name__ == "__main__":
    main(command)
