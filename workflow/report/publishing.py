"""Copy a finished study's small tables and figures to results/published, with their provenance.

results/published/claims.svg is drawn anew: the verdicts of all studies that are there, but for tables in earlier words.
A budget that makes a study smaller than it is decides no claim: its verdicts are published as not tested. Pictures show
samples alone, as real images are somebody else's.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from trigbench._places import IS_CHECKOUT, to_step
from trigbench.workflow.claims.collecting import own_modules
from trigbench.workflow.claims.ledger import claims_of, read_claims
from trigbench.workflow.claims.tables import read_table, write_table
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import raise_all
from trigbench.workflow.machine.files import read_json
from trigbench.workflow.report.matrix import draw_matrix
from trigbench.workflow.report.methods import method_figures
from trigbench.workflow.report.plotting import sample_pictures
from trigbench.workflow.report.style import apply_style, save
from trigbench.workflow.study.fingerprint import ROOT, own_file
from trigbench.workflow.study.one_noise import one_noise_runs
from trigbench.workflow.study.outside import standing_outside
from trigbench.workflow.study.places import RESULTS, VERDICTS, StudyFiles, forms
from trigbench.workflow.study.reading import budgets_of, load
from trigbench.workflow.study.shipped import by_default
from trigbench.workflow.study.standing import standing
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study

BUDGET = "full"
"""Five seeds and longer training than a laptop's first look; a study without it publishes any budget but a trial."""
TRIAL = "smoke"
EMPTIED = (
    "effect", "low", "high", "seeds", "p", "results_commit", "rule_first", "seen", "basis", "seeds_needed",
    "correlation",
)  # fmt: skip
"""Columns of claims.csv that a verdict which is not tested lacks."""


def publish_all() -> None:
    """Publish every study in results/ that was made with a budget to publish.

    Raises BenchError where there is none, or, once for all and in the end, where some cannot be published.
    """
    _check_place()
    studies, problems = standing()
    ready = [study for study in studies if _budget_said(study) is None]
    for study in studies:
        same = [other.label for other in ready if other.study == study.study]
        try:
            if study not in ready:
                print(f"left out: {study.label}, as {_budget_said(study)}")
            elif len(same) > 1:
                remedy = f"choose: {to_step('publish', '--study', study.said, '--budget', study.budget)}"
                raise BenchError(f"{' and '.join(same)} are one study", file=study.folder, remedy=remedy)
            else:
                publish(study)
        except BenchError as error:
            problems.append(error)
    if not ready and not problems:
        remedy = f"make one, as by: {load(by_default()[0], BUDGET).command()}"
        raise BenchError("no study stands there that was made with a budget to publish", file=RESULTS, remedy=remedy)
    raise_all(problems)


def _budget_said(study: Study) -> str | None:
    """Why the study's budget is none to publish; nothing where it is one."""
    known = budgets_of(study.file)
    if study.budget == TRIAL or (BUDGET in known and study.budget != BUDGET):
        return f"the budget {study.budget!r} is none to publish"
    return None


def _check_place() -> None:
    if not IS_CHECKOUT:
        remedy = "clone the project, and publish there"
        raise BenchError("results are published in a checkout, beside the code that made them", remedy=remedy)


def publish(study: Study) -> None:
    """Replace the published folder. Raises BenchError unless the study is whole, clean and of the published budget."""
    _check_place()
    if problem := _budget_said(study):
        full = BUDGET in budgets_of(study.file)
        remedy = f"make it with budget={BUDGET}" if full else f"make it with another budget than {TRIAL}"
        raise BenchError(problem, file=study.file, remedy=remedy)
    commits, decides = _commits_of(study), study.budget in (BUDGET, DEFAULT_BUDGET)
    _check_made(study, [study.made.redrawn, *([study.made.one_noise] if one_noise_runs(study) else [])])
    apply_style()
    made, there = study.made, study.published.folder
    target = there.with_name(f".{study.study}.new")
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("tables", "figures"):
        (target / folder).mkdir(parents=True)
    for path in (made.runs, made.verdicts, made.origin, *([made.redrawn] if decides else [])):
        shutil.copy(path, target / path.name)
    write_table(asked_curves(study, read_table(made.curves)), StudyFiles(target).curves)
    if not decides:
        write_table(undecided(read_table(made.verdicts), study), StudyFiles(target).verdicts)
    for experiment in study.experiments:
        files = made.experiment(experiment)
        shutil.copy(files.table, target / "tables" / f"{experiment}.csv")
        shutil.copy(files.finding, target / "tables" / f"{experiment}.json")
        shutil.copy(files.figure, target / "figures" / f"{experiment}.svg")
        samples = sample_pictures(study, experiment, real=False) if files.pictures.is_file() else None
        if samples is not None:
            save(samples, target / "figures" / f"{experiment}-pictures")
            (target / "figures" / f"{experiment}-pictures.png").unlink()
    for name, figure in method_figures(study, read_table(made.runs)):
        save(figure, target / "figures" / name)
        (target / "figures" / f"{name}.png").unlink()
    picture = forms(made.one_noise)[0]
    if one_noise_runs(study) and picture.is_file():  # samples alone, too; there is none where all diverged
        for path in (picture, made.one_noise):
            shutil.copy(path, target / "figures" / path.name)
    shutil.rmtree(there, ignore_errors=True)
    target.replace(there)
    claims = pd.concat(drawn_tables(there.parent))
    if len(claims):  # a study of one's own may have none
        save(draw_matrix(claims), there.parent / "claims")
    print(f"published {study.label} of commit {', '.join(commits)} to {there}")
    if outside := [name for name, _, _ in standing_outside(study)]:
        print(f"left out, as no commit here made it: {', '.join(outside)}, from outside ({study.made.outside})")


def drawn_tables(published: Path) -> list[pd.DataFrame]:
    """The published tables of verdicts by today's rules and words. What was judged before these counts otherwise, wins
    over competitors that had failed among them, and is in no picture."""
    tables = [read_table(path) for path in sorted(published.glob(f"*/{VERDICTS}"))]
    return [table for table in tables if "basis" in table]


def _check_made(study: Study, files: Sequence[Path]) -> None:
    """Raise BenchError where one of these is missing, as of results that an earlier version judged."""
    for path in files:
        if not path.is_file():
            raise BenchError("it is to be published, and is not there", file=path, remedy=study.command())


def asked_curves(study: Study, curves: pd.DataFrame) -> pd.DataFrame:
    """Those that a rule judges or an experiment asks after, so that all that a verdict is computed from is there; how
    every training went would be ten times as long."""
    ruled = [claim.decided_by.get(study.study) for claim in claims_of(read_claims(), study).values()]
    along = [rule for rule in ruled if rule is not None and rule.is_curve]
    kept = {(name, experiment.metric) for name, experiment in study.experiments.items()}
    kept |= {(rule.experiment, metric) for rule in along for metric in rule.metrics}
    return curves[[each in kept for each in zip(curves.experiment, curves.metric, strict=True)]]


def _commits_of(study: Study) -> list[str]:
    """The commits that made the study. Raises BenchError unless it is whole and they say all that made it."""
    origin = read_json(study.made.origin, f"make the study first: {study.command()}")
    problems = {
        f"{origin['runs_missing']} runs are missing": origin["runs_missing"] > 0,
        "runs were made from uncommitted changes": origin["dirty"],
        "runs carry no commit": None in origin["commits"] or not origin["commits"],
        "no record says which of several commits made which run": len(origin["commits"]) > 1
        and set(origin.get("commit_of", {})) != set(origin["fingerprints"]),
    }
    if outside := own_code_outside(study):
        remedy = "move it into the checkout, commit it, and make the study again"
        raise BenchError(f"no commit holds {', '.join(outside)}", file=study.file, remedy=remedy)
    for problem, holds in problems.items():
        if holds:
            remedy = f"commit, then make the study again from a clean checkout: delete {study.folder}, start it there"
            raise BenchError(problem, file=study.made.origin, remedy=remedy)
    return origin["commits"]


def own_code_outside(study: Study) -> list[str]:
    """The modules of one's own that the study names and that are not in this checkout, whose commit says nothing."""
    modules = own_modules(study)
    files = {module: own_file(module, str(ROOT), os.getcwd(), {module.partition(".")[0]}) for module in modules}
    return sorted(module for module, file in files.items() if file is None or not _in_checkout(file))


def _in_checkout(file: Path) -> bool:
    """Whether git knows the file, and not one of an environment that stands there."""
    return file.resolve().is_relative_to(ROOT) and "site-packages" not in file.parts


def undecided(verdicts: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The verdicts of a study whose budget decides none."""
    note = f"too short to judge: made with budget {study.budget}, which decides no claim"
    empty = dict.fromkeys(column for column in EMPTIED if column in verdicts)
    changed = verdicts.assign(study=study.study, verdict="not tested", holm_verdict="not tested", note=note, **empty)
    kept = verdicts.experiment.isna() | (verdicts.verdict == "not run")
    return changed.where(~kept, verdicts.assign(study=study.study))
