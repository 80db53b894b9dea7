"""What a finished result was made from, as it records itself, and whether it would be made from the same today.

The plan asks this (workflow/rules/freshness.smk) in place of times of files and of what Snakemake remembers in
`.snakemake`, which neither a copy nor `make clean` leaves. Imports nothing heavy.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import identity, sha256, write_json
from trigbench.workflow.study.claim import Claim, claims_digest
from trigbench.workflow.study.fingerprint import digest, fingerprint
from trigbench.workflow.study.kinds import kind_named
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.outside import standing_outside
from trigbench.workflow.study.study import Run, Study

FRESH = ""
"""The answer where a result is what would be made; else the answer says why not, and is None where no record is."""
SETTINGS = "settings, mathematics or code changed since"
SOURCE = "the files that it was prepared from changed since"
INPUTS = {
    "data": "its data changed since",
    "teacher": "its teacher changed since",
    "start": "the run that it starts from changed since",
    "candidates": "the runs that choose its rate changed since",
}
MADE_FROM = "made_from"
"""Under which tables, figures, pages and measurements record it."""
FILES = "files"
"""Under which a record names what was made beside it and no rule of the workflow does."""
OTHER = "what it is made from changed since"
HEAD = 4096
"""Bytes of a run's record in which fingerprint and inputs stand."""
MADE = (Path("results"), Path("reports"))
"""Folders of the workflow's own; a data set may stand in one, and hold one, but is not made from it."""


def inputs_of(study: Study, run: Run) -> dict[str, list[Path]]:
    """The files that a run is made from, by what they are to it."""
    found = {"data": [study.data_file(study.arms[run.arm].data)]}
    teacher = study.teacher_run(run)
    if teacher is not None:
        found["teacher"] = [study.run_folder(teacher) / "weights.safetensors"]
    if (file := study.teacher_file(run.arm)) is not None:
        found["teacher"] = [file]
    if (start := study.start_run(run)) is not None:
        found["start"] = [study.run_folder(start) / "weights.safetensors"]
    candidates = study.candidate_runs(run)
    if candidates:  # they choose the run's rate
        found["candidates"] = [study.run_folder(c) / "metrics.json" for c in candidates]
    return found


def marks_of(inputs: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """Digests of their contents; of other runs' records, of the metrics in them."""
    return {
        name: _mark([_metrics(path) if path.suffix == ".json" else identity(path) for path in paths])
        for name, paths in inputs.items()
    }


def made_from(study: Study, run: Run) -> dict[str, Any]:
    """What a run would be made from now, as its training notes it before the first step."""
    return {"fingerprint": fingerprint(study.specification(run)), "inputs": marks_of(inputs_of(study, run))}


def run_verdict(study: Study, run: Run, fingerprint: str) -> str | None:
    """Whether a run's record is of these settings, this mathematics, and of what it would be made from."""
    record = _head(study.run_folder(run) / "metrics.json", ("fingerprint", "inputs"))
    if record.get("fingerprint", fingerprint) != fingerprint:
        return SETTINGS
    if not record.get("inputs"):  # written before there were any
        return None
    now = marks_of(inputs_of(study, run))
    changed = [name for name in {**now, **record["inputs"]} if now.get(name) != record["inputs"].get(name)]
    return INPUTS.get(changed[0], OTHER) if changed else FRESH


def data_verdict(study: Study, data: str, fingerprint: str) -> str | None:
    """Whether a prepared data set is of these settings, and its files are those that it was prepared from."""
    path = study.data_file(data).with_suffix(".json")
    record = _read(path)
    if "fingerprint" not in record:
        return None
    if record["fingerprint"] != fingerprint:
        return SETTINGS
    return _missing(record) or (FRESH if _same_source(record.get("source"), study, data) else SOURCE)


def verdict(record: Path, made_from: Callable[[], str]) -> str | None:
    """Whether a table, figure, page or measurement is made from what it would be made from."""
    said = _read(record)
    if MADE_FROM not in said:
        return None
    return _missing(said) or (FRESH if said[MADE_FROM] == made_from() else OTHER)


def measurement_mark(study: Study, experiment: str) -> str:
    """What a measurement depends on beside its files: its source, and the experiment's arms."""
    settings = study.experiments[experiment]
    runs = [study.specification(run) for run in study.runs_of(experiment)]
    chosen = settings.model_dump(include={"metric", "samplers", "measurement"})
    return digest([runs, chosen], [MEASUREMENTS[settings.measurement]] if settings.measurement else [])


def measured_from(study: Study, experiment: str) -> str:
    """What a measurement is made from, its files included."""
    data = sorted({study.data_file(study.arms[arm].data) for arm in study.arms_of(experiment)})
    files = [*_records(study, experiment), *data]
    return _mark([measurement_mark(study, experiment), *map(identity, files)])


def experiment_from(study: Study, experiment: str) -> str:
    """What an experiment's tables and figures are made from."""
    settings, arms = study.experiments[experiment], study.arms_of(experiment)
    facts = sorted({study.data_file(study.arms[arm].data).with_suffix(".json") for arm in arms})
    measured = [study.measured_file(experiment)] if settings.measurement else []
    about = [settings, *(study.arms[arm] for arm in arms), *study.all_samplers.values()]
    said = [study.label, arms, list(study.all_samplers), [model.model_dump(mode="json") for model in about]]
    return _mark([said, *map(identity, (*_records(study, experiment), *facts, *measured))])


def collected_from(study: Study, claims: Mapping[str, Claim]) -> str:
    """What a study's tables and verdicts are made from."""
    return _mark([claims_digest(claims), list(study.experiments), *map(identity, _tables(study, study.experiments))])


def claim_from(study: Study, name: str, claim: Claim) -> str:
    """What one claim's verdict is made from."""
    rule = claim.decided_by.get(study.study)
    experiments = [rule.experiment] if rule and rule.experiment in study.experiments else []
    return _mark([claims_digest({name: claim}), *map(identity, _tables(study, experiments))])


def page_from(study: Study) -> str:
    """What a study's pages are made from."""
    files = [study.folder / name for name in ("provenance.json", "claims.csv", "claims.json")]
    findings = [study.experiment_folder(experiment) / "finding.json" for experiment in study.experiments]
    said = [study.title, study.summary, list(study.experiments), *map(identity, (*files, *findings))]
    outside = standing_outside(study)
    return _mark([*said, outside] if outside else said)


def index_from(reports: Path) -> str:
    """What the front page is made from: what the pages that are there have left for it."""
    pages = sorted({page.stem for page in reports.glob("*.html")} - {"index"})
    return _mark([pages, *(identity(page_record(reports, name)) for name in pages)])


def page_record(reports: Path, label: str) -> Path:
    """Where a study's page, or the front page (`index`), records what it was made from."""
    return reports / "assets" / f"{label}.json"


def claim_record(study: Study, claim: str) -> Path:
    """Where a claim's verdict does."""
    return study.verdict_file(claim)


# --- the files that data are prepared from -----------------------------------------------------------


def places_of(data: Mapping[str, Any]) -> list[Path]:
    """The files and folders that a data set's settings (Study.data_specification) name, and that are there; of one's
    own data, any setting may."""
    places = kind_named(data["kind"]).places
    named = [value for key, value in _strings(data) if key in places]
    named += [value for _, value in _strings(data.get("settings") or {})]
    return [path for path in map(Path, dict.fromkeys(named)) if path.exists()]


def source_of(study: Study, data: str) -> dict[str, Any] | None:
    """What a data set is prepared from: its files by name, size and time, and by content; None where it reads none."""
    files = _files(_places(study, data))
    return {"files": len(files), "listing": _listing(files), "content": _content(files)} if files else None


def _same_source(source: Mapping[str, Any] | None, study: Study, data: str) -> bool:
    """By names, sizes and times; by content where these differ. What is not there at all is not compared."""
    files = _files(_places(study, data))
    if source is None or not files:
        return source is None or not _places(study, data)
    listing, seen = _listing(files), study.data_file(data).with_name(f".{data}.seen.json")
    if listing in (source["listing"], _read(seen).get("listing")):
        return True
    if len(files) != source["files"] or _content(files) != source["content"]:
        return False
    with contextlib.suppress(OSError, BenchError):  # spares the next plan the reading; a plan needs no writing
        write_json(seen, {"listing": listing})
    return True


def _places(study: Study, data: str) -> list[Path]:
    return places_of(study.data_specification(data)["data"])


def _files(places: Iterable[Path]) -> dict[str, tuple[Path, int, int]]:
    """Name -> (file, its size, its time) below these places; what is hidden or the workflow's own is no data."""
    found: dict[str, tuple[Path, int, int]] = {}
    made = frozenset(_inode(folder) for folder in MADE if folder.is_dir())
    for number, place in enumerate(places):
        for path in [place] if place.is_file() else _below(place, made):
            with contextlib.suppress(OSError):  # a dangling link
                known = path.stat()
                found[f"{number}/{path.relative_to(place).as_posix()}"] = (path, known.st_size, known.st_mtime_ns)
    return dict(sorted(found.items()))


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder; links are followed, but not in circles."""
    here = _inode(folder)
    if here in above or folder.name == "__pycache__":
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(Path(entry.path), above | {here})
            else:
                yield Path(entry.path)


def _inode(folder: Path) -> tuple[int, int]:
    known = folder.stat()
    return known.st_dev, known.st_ino


def _listing(files: Mapping[str, tuple[Path, int, int]]) -> str:
    return _mark([[name, size, modified] for name, (_, size, modified) in files.items()])


def _content(files: Mapping[str, tuple[Path, int, int]]) -> str:
    with ThreadPoolExecutor(cores_here()) as pool:
        digests = pool.map(sha256, (path for path, _, _ in files.values()))
        return _mark([[name, found] for name, found in zip(files, digests, strict=True)])


def _strings(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _strings(value)


# --- records -----------------------------------------------------------------------------------------


def _records(study: Study, experiment: str) -> list[Path]:
    return [study.run_folder(run) / "metrics.json" for run in study.runs_of(experiment)]


def _tables(study: Study, experiments: Iterable[str]) -> list[Path]:
    names = ("runs.csv", "curves.csv")
    return [study.experiment_folder(experiment) / name for experiment in experiments for name in names]


def _missing(record: Mapping[str, Any]) -> str | None:
    gone = next((file for file in record.get(FILES, ()) if not Path(file).exists()), None)
    return None if gone is None else f"{gone} is missing"


def _read(path: Path) -> dict[str, Any]:
    """A record; nothing where there is none, or a damaged one, which the step that reads it will name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _metrics(path: Path) -> str | None:
    found = identity(path)
    return None if found is None else _metrics_of(path, found)


@cache
def _metrics_of(path: Path, content: str) -> str:
    return _mark(_read(path).get("metrics"))


def _head(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Of a long record what stands at its head."""
    try:
        with path.open("rb") as handle:
            text = handle.read(HEAD).decode("utf-8", errors="replace")
    except OSError:
        return {}
    found, decoder = {}, json.JSONDecoder()
    for name in names:
        key = f'"{name}": '
        with contextlib.suppress(ValueError):
            found[name] = decoder.raw_decode(text, text.index(key) + len(key))[0]
    return found


def _mark(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
