"""Write the page of one study, and the index that links every study's page.

With --partial the tables and figures are first made anew from the runs that are there, and what is missing is named.
"""

import argparse
import shutil
import sys
from pathlib import Path

from workflow.errors import BenchError
from workflow.report.pages import (
    ASSETS,
    PRECISION_NOTE,
    StudyPage,
    index_entries,
    index_entry,
    render,
    study_page,
    time_spent,
)
from workflow.report.tables import finished_runs, write_table
from workflow.runtime.files import write_atomically, write_json, write_text
from workflow.steps.command import main, parser, study_of
from workflow.steps.plot import plot
from workflow.steps.tabulate import tabulate_experiment, tabulate_study
from workflow.study import Study

REPORTS = Path("reports")
TIMING = Path("results") / "timing.json"


def report(study: Study, partial: bool = False) -> StudyPage:
    """Write the study's page with the figures and tables that it links, and refresh the index."""
    if partial:
        _collect(study)
    page = study_page(study)
    reports = study.report.parent
    for kind in ("figures", "tables"):  # what an earlier page linked and this one does not
        shutil.rmtree(reports / kind / study.label, ignore_errors=True)
    for address, source in page.copies.items():
        _copy(source, reports / address)
    for address, table in page.tables.items():
        write_table(table, reports / address)
    write_text(study.report, render("study.html.j2", page=page, precision_note=PRECISION_NOTE))
    write_json(reports / "assets" / f"{study.label}.json", index_entry(page))
    index(reports)
    return page


def index(reports: Path = REPORTS) -> Path:
    """Write index.html, which links every study's page, and the assets that all pages share."""
    for asset in ASSETS.iterdir():
        _copy(asset, reports / "assets" / asset.name)
    path = reports / "index.html"
    write_text(path, render("index.html.j2", entries=index_entries(reports), timing=time_spent(TIMING)))
    return path


def _collect(study: Study) -> None:
    """Tables and figures of every experiment with at least one run, and the study's tables."""
    for experiment in study.experiments:
        if finished_runs(study, experiment)[0]:
            tabulate_experiment(study, experiment, partial=True)
            _plot_or_warn(study, experiment)
    tabulate_study(study)


def _plot_or_warn(study: Study, experiment: str) -> None:
    """Too few runs to draw must not cost the page: without its figure, the experiment still has its table."""
    try:
        plot(study, experiment)
    except (ValueError, ArithmeticError) as error:
        for name in ("figure.svg", "figure.png", "pictures.svg", "pictures.png", "finding.json"):
            (study.experiment_folder(experiment) / name).unlink(missing_ok=True)
        print(f"warning: no figure of {experiment!r} from the runs that are there: {error}", file=sys.stderr)


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda path: shutil.copyfile(source, path) and None)


def _print_missing(page: StudyPage) -> None:
    for part in page.missing:
        print(f"missing: {part.runs} of {part.total} runs of {part.title!r}; make them with: {part.command}")
        for gap in part.gaps:
            print(f"  {gap.arm} seed{'s' if len(gap.seeds) > 1 else ''} {', '.join(map(str, gap.seeds))}")


def command() -> None:
    """Parse the arguments and write the page, or the index alone."""
    arguments = parser(__doc__)
    _make_optional(arguments, "--study")
    arguments.add_argument(
        "--partial", action="store_true", help="take the runs that are there, name those that are not"
    )
    arguments.add_argument("--index", action="store_true", help="write the index alone, of the pages that are there")
    parsed = arguments.parse_args()
    if parsed.study is None and not parsed.index:
        raise BenchError("no study is named", key="--study", remedy="name one, or ask for the index with --index")
    if parsed.study is not None:
        study = study_of(parsed)
        _print_missing(report(study, parsed.partial))
        print(study.report)
        print(study.report.parent / "index.html")
    else:
        print(index())


def _make_optional(arguments: argparse.ArgumentParser, option: str) -> None:
    for action in arguments._actions:
        if option in action.option_strings:
            action.required = False


if __name__ == "__main__":
    main(command)
