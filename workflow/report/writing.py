"""Writing the pages of a study and its experiments, and the front page with a page for every claim."""

import shutil
import sys
from functools import cache
from pathlib import Path

from trigbench.workflow.claims.collecting import redraw, tabulate_experiment, tabulate_study
from trigbench.workflow.claims.deciding import judge_study
from trigbench.workflow.claims.history import histories
from trigbench.workflow.claims.ledger import read_claims
from trigbench.workflow.claims.tables import finished_runs, write_table
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import raise_all
from trigbench.workflow.machine.files import write_atomically, write_json, write_text
from trigbench.workflow.report.one_noise import draw_one_noise
from trigbench.workflow.report.pages.claim import Past, claim_pages, withdrawn_pages
from trigbench.workflow.report.pages.common import ASSETS, render
from trigbench.workflow.report.pages.front import front_page, read_entries
from trigbench.workflow.report.pages.gaps import is_done
from trigbench.workflow.report.pages.study import PRECISION_NOTE, StudyPage, entry, study_page
from trigbench.workflow.report.pages.wrong import ADDRESS, wrong_page
from trigbench.workflow.report.plotting import plot
from trigbench.workflow.report.simulating import make_simulations, simulations
from trigbench.workflow.study.freshness import FILES, MADE_FROM, index_from, page_from
from trigbench.workflow.study.one_noise import one_noise_runs
from trigbench.workflow.study.places import FRONT, REPORTS, RESULTS, SIMULATIONS, TIMING, assets, forms, page_record
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.shipped import by_default
from trigbench.workflow.study.standing import standing
from trigbench.workflow.study.study import Study


def report(study: Study, partial: bool = False) -> StudyPage:
    """Write the study's pages with the figures and tables that they link, and refresh the front page."""
    if partial:
        _collect(study)
    page = study_page(study)
    reports = study.report.parent
    for folder in (study.label, f"figures/{study.label}", f"tables/{study.label}"):  # what earlier pages linked
        shutil.rmtree(reports / folder, ignore_errors=True)
    for address, source in page.copies.items():
        _copy(source, reports / address)
    for address, table in page.tables.items():
        write_table(table, reports / address)
    for experiment in page.experiments:
        text = render("experiment.html.j2", root="../", page=experiment, study=page)
        write_text(reports / experiment.address, text)
    write_text(study.report, render("study.html.j2", page=page, precision_note=PRECISION_NOTE))
    beside = [*page.copies, *page.tables, *(experiment.address for experiment in page.experiments)]
    about = {FILES: [str(reports / address) for address in beside], MADE_FROM: page_from(study)}
    write_json(page_record(reports, study.label), entry(page, study) | about)
    index(reports)
    return page


def index(reports: Path = REPORTS) -> Path:
    """Write the front page, a page for every claim, how all could be wrong, and the assets that all pages share."""
    for asset in ASSETS.iterdir():
        _copy(asset, assets(reports) / asset.name)
    entries = read_entries(reports)
    ledger, past = read_claims(), _past() if any(entry["claims"] for entry in entries) else {}
    simulated = simulations()
    claims = claim_pages(entries, past, simulated.get("found_with"))
    of_papers = any(claim.claim in ledger.claims for claim in claims)
    withdrawn = withdrawn_pages(ledger, past) if of_papers else []
    pages = [*claims, *withdrawn]
    for old in {*(reports / "claims").glob("*.html")} - {reports / page.address for page in pages}:
        old.unlink(missing_ok=True)
    for claim in pages:
        write_text(reports / claim.address, render("claim.html.j2", root="../", page=claim))
    path = reports / FRONT.name
    write_text(path, render("index.html.j2", page=front_page(entries, claims, TIMING, withdrawn)))
    write_text(reports / ADDRESS, render("wrong.html.j2", page=wrong_page(entries, claims, simulated)))
    beside = [str(reports / ADDRESS), *(str(assets(reports) / asset.name) for asset in ASSETS.iterdir())]
    beside += [str(reports / page.address) for page in pages]
    write_json(page_record(reports, path.stem), {FILES: beside, MADE_FROM: index_from(reports)})
    return path


@cache
def _past() -> Past:
    """Of the ledger, by git; read once, as it takes seconds."""
    return histories()


def report_one(study: Study, partial: bool = False) -> Path:
    """`report`; say what is missing and where the pages are, and return the study's.

    Raises BenchError where neither a run of it has ended nor a model from outside was judged.
    """
    if partial and not study.made.outside.is_dir() and not any(is_done(study, run) for run in study.runs()):
        problem = f"no run of {study.label} has ended here, to report"
        raise BenchError(problem, file=study.folder, remedy=f"make it with: {study.command()}")
    _print_missing(report(study, partial))
    print(study.report, FRONT, sep="\n")
    return study.report


def report_all() -> Path:
    """The pages of the laptop's studies and of all others in results/, from the runs that are there; the front page.

    Raises BenchError where nothing stands there; and in the end, once for all, where a folder has no study or its
    results cannot be read.
    """
    studies, problems = standing()
    if not studies and not problems:
        remedy = "make some, as with: " + " or ".join(load(name).command() for name in by_default())
        raise BenchError("no results of a study stand here to report", file=RESULTS, remedy=remedy)
    there = {study.label for study in studies}
    studies += [load(name) for name in by_default() if name not in there]
    for study in studies:
        try:
            _print_missing(report(study, partial=True))
            print(study.report)
        except BenchError as error:
            problems.append(error)
    if not SIMULATIONS.is_file():
        make_simulations()
    front = index()
    print(front)
    raise_all(problems)
    return front


def _collect(study: Study) -> None:
    """Tables and figures of every experiment with at least one run, the study's tables, and its verdicts."""
    for experiment in study.experiments:
        if finished_runs(study, experiment)[0]:
            tabulate_experiment(study, experiment, partial=True)
            _plot_or_warn(study, experiment)
    if one_noise_runs(study):
        draw_one_noise(study)
    tabulate_study(study)
    judge_study(study)
    redraw(study)


def _plot_or_warn(study: Study, experiment: str) -> None:
    """Too few runs to draw must not cost the page: without its figure, the experiment still has its table."""
    try:
        plot(study, experiment)
    except (ValueError, ArithmeticError) as error:
        files = study.made.experiment(experiment)
        for path in (*forms(files.figure), *forms(files.pictures), files.finding):
            path.unlink(missing_ok=True)
        print(f"warning: no figure of {experiment!r} from the runs that are there: {error}", file=sys.stderr)


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, lambda path: shutil.copyfile(source, path) and None)


def _print_missing(page: StudyPage) -> None:
    if page.missing and page.runs == 0:
        print(f"missing: all {page.runs_total} runs of {page.label}; make them with: {page.commands[0]}")
        return
    for part in page.missing:
        print(f"missing: {part.runs} of {part.total} runs of {part.title!r}; make them with: {part.command}")
        for gap in part.gaps:
            print(f"  {gap.arm} seed{'s' if len(gap.seeds) > 1 else ''} {', '.join(map(str, gap.seeds))}")
