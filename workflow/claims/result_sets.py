"""Sets of results to compare: a folder, a study under a budget, or what a commit holds."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from trigbench._places import IS_CHECKOUT, ROOT
from trigbench.workflow.claims.deciding import VERDICT_COLUMNS
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.git import git
from trigbench.workflow.study.places import BELOW_PUBLISHED, ORIGIN, RESULTS, RUNS, VERDICTS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.shipped import shipped
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study

FORMS = (
    "name a folder with runs.csv (results/oracle, results/published), STUDY:BUDGET (oracle:smoke), "
    "COMMIT:FOLDER (HEAD~1:results/published/oracle), or a COMMIT, for what was published at it"
)
Reader = Callable[[str], str | None]
"""The text of a file of that name; None where there is none."""


@dataclass(frozen=True)
class Results:
    """One study's."""

    study: str
    """Without its budget, unless a set has several of it."""
    label: str
    runs: pd.DataFrame
    verdicts: pd.DataFrame
    origin: Mapping[str, Any]
    """provenance.json; empty where there is none."""
    digests: Mapping[str, str]
    """Of the tables that are there, by their names."""


@dataclass(frozen=True)
class ResultSet:
    """What was asked for, where it stands, and the results there by study."""

    asked: str
    place: str
    studies: Mapping[str, Results]


def read_set(asked: str) -> ResultSet:
    """The results that a word of the command line means. Raises BenchError where there are none."""
    folder = Path(asked)
    if folder.is_dir():
        return _set(asked, asked, _below(folder))
    before, _, after = asked.partition(":")
    if after and (before in shipped() or Path(before).is_file()):
        return _of_budget(asked, load(before, after))
    # as targets are called; a study of one's own is known by it alone
    for label in (asked, before if after == DEFAULT_BUDGET else f"{before}-{after}"):
        if (RESULTS / label / RUNS).is_file():
            return _set(asked, str(RESULTS / label), _below(RESULTS / label))
    if asked in shipped() or folder.is_file():
        return _of_budget(asked, load(asked))
    return _of_commit(asked, before, after)


def _of_budget(asked: str, study: Study) -> ResultSet:
    """In results/, or else as it was published."""
    if study.made.runs.is_file():
        return _set(asked, str(study.folder), _below(study.folder))
    published = study.published
    origin = published.origin
    if origin.is_file() and json.loads(origin.read_text(encoding="utf-8")).get("study") == study.label:
        return _set(asked, str(published.folder), _below(published.folder))
    remedy = f"make it ({study.command()}), or compare what is there"
    raise BenchError(f"no results of {study.label}", file=study.made.runs, remedy=remedy)


def _of_commit(asked: str, commit: str, path: str) -> ResultSet:
    here = Path.cwd()
    full = git(here, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if full is None:
        raise BenchError(f"{asked!r} is no folder, no study and no commit", key="A or B", remedy=FORMS)
    if not path:
        here = ROOT if IS_CHECKOUT else here
        path = str(BELOW_PUBLISHED)
    folder, name = path.rstrip("/"), full.strip()

    def reader(below: str) -> Reader:
        return lambda file: git(here, "show", f"{name}:./{below}/{file}")

    listed = git(here, "ls-tree", "--name-only", name, f"./{folder}/") or ""
    parts = [Path(line).name for line in listed.splitlines()]
    readers = {part: reader(f"{folder}/{part}") for part in parts if "." not in part}
    whole = {Path(folder).name: reader(folder)} if RUNS in parts else readers
    return _set(asked, f"{folder} at {name[:12]}", whole)


def _below(folder: Path) -> dict[str, Reader]:
    """By the name of each folder with results: itself, or those in it."""

    def reader(place: Path) -> Reader:
        return lambda file: (place / file).read_text(encoding="utf-8") if (place / file).is_file() else None

    places = [folder] if (folder / RUNS).is_file() else sorted(filter(Path.is_dir, folder.iterdir()))
    return {place.resolve().name: reader(place) for place in places}


def _set(asked: str, place: str, readers: Mapping[str, Reader]) -> ResultSet:
    read = (_results(name, place, reader) for name, reader in readers.items())
    found = [results for results in read if results is not None]
    names = [results.study for results in found]
    several = [replace(r, study=r.label) if names.count(r.study) > 1 else r for r in found]  # budgets of one study
    studies = {results.study: results for results in several}
    if not studies:
        raise BenchError(f"no {RUNS} in {place}", key=asked, remedy=FORMS)
    return ResultSet(asked, place, studies)


def _results(name: str, place: str, read: Reader) -> Results | None:
    text = read(RUNS)
    if text is None:
        return None
    judged = read(VERDICTS)
    try:
        origin = json.loads(read(ORIGIN) or "{}")
        runs = read_table(io.StringIO(text))
        verdicts = pd.DataFrame(columns=VERDICT_COLUMNS) if judged is None else read_table(io.StringIO(judged))
        missing = [column for column in ("arm", "seed", "metric", "value") if column not in runs]
    except ValueError as error:  # of JSON, and of pandas
        raise BenchError(f"cannot read the results of {name}: {error}", file=place, remedy=FORMS) from error
    if missing:
        raise BenchError(f"{RUNS} of {name} has no column {', '.join(missing)}", file=place, remedy=FORMS)
    if not isinstance(origin, dict):
        raise BenchError(f"{ORIGIN} of {name} is no record", file=place, remedy=FORMS)
    label = origin.get("study") or name
    files = {RUNS: text, VERDICTS: judged}
    digests = {file: hashlib.sha256(said.encode()).hexdigest() for file, said in files.items() if said is not None}
    return Results(label.removesuffix(f"-{origin.get('budget')}"), label, runs, verdicts, origin, digests)
