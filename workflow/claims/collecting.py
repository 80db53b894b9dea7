"""Tables of one experiment from the records of its runs, and of a study from its experiments'."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trigbench.workflow.claims.deciding import judge_study, study_tables
from trigbench.workflow.claims.ledger import claims_of, read_claims
from trigbench.workflow.claims.redrawn import redrawn_claims, redrawn_studies
from trigbench.workflow.claims.statistics import COLUMNS, summary
from trigbench.workflow.claims.tables import (
    CURVE_COLUMNS,
    experiment_tables,
    finished_runs,
    is_fresh,
    read_table,
    write_table,
)
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json
from trigbench.workflow.machine.provenance import provenance, sources_at
from trigbench.workflow.study.freshness import FILES, MADE_FROM, collected_from
from trigbench.workflow.study.kinds import is_own, module_of
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.records import RunRecord, read_record
from trigbench.workflow.study.study import Study

NO_SETTINGS = {"file", "resources", "claims", "quick", "one_noise"}
"""Of a study, what decides none of its results."""
REDRAWN = 1000
"""Times that labels and signs of each claim are drawn anew."""


def tabulate_experiment(study: Study, experiment: str, partial: bool = False) -> int:
    """Write the experiment's runs.csv, curves.csv and table.csv; return how many runs are missing.

    Raises BenchError when runs are missing, unless `partial`.
    """
    there, missing = finished_runs(study, experiment)
    if missing and not partial:
        names = ", ".join(f"{r.arm} seed {r.seed}" for r in missing[:3])
        problem = f"{len(missing)} of {len(missing) + len(there)} runs are missing: {names} ..."
        raise BenchError(problem, file=study.folder, remedy=f"{study.command(experiment)}, or add --partial")
    runs, curves = experiment_tables(study, experiment, there)
    files = study.made.experiment(experiment)
    write_table(runs, files.runs)
    write_table(curves, files.curves)
    write_table(summary(runs, quantities_of(study.data.values())), files.table)
    return len(missing)


def tabulate_study(study: Study) -> None:
    """Write the study's runs.csv, curves.csv and provenance.json from what its experiments have."""
    files = [study.made.experiment(e) for e in study.experiments]
    _join([each.runs for each in files], COLUMNS, study.made.runs)
    _join([each.curves for each in files], CURVE_COLUMNS, study.made.curves)
    write_json(study.made.origin, study_provenance(study))


def _join(parts: Iterable[Path], columns: list[str], whole: Path) -> None:
    tables = [table for path in parts if path.is_file() and len(table := read_table(path))]
    together = pd.concat(tables) if tables else pd.DataFrame()
    write_table(together.reindex(columns=columns), whole)


def study_provenance(study: Study) -> dict[str, Any]:
    """What made the study's results: its settings, and the commits, versions and hardware of its runs."""
    runs = study.runs()
    records = [read_record(study.files(run).metrics) for run in runs if is_fresh(study, run)]
    origins = [origin for record in records for origin in record.provenances]

    beside = [*origins, *_beside_runs(study)]

    def seen(key: str, of: Iterable[Mapping[str, Any]] = origins) -> list[Any]:
        return [json.loads(text) for text in sorted({json.dumps(o.get(key), sort_keys=True) for o in of})]

    return {
        "study": study.label,
        "budget": study.budget,
        "quick": study.quick,
        "seeds": study.seeds,
        "seeds_of": {name: study.seeds_of(name) for name, e in study.experiments.items() if e.seeds is not None},
        "runs": len(records),
        "runs_missing": len(runs) - len(records),
        "runs_diverged": sum(r.status == "diverged" for r in records),
        "commits": seen("commit"),
        "releases": seen("version"),
        "sources": seen("source", beside),
        "commit_of": {f"{r.arm}/seed-{r.seed}": _commit_of(r) for r in records},
        "commits_of_parts": _of_several_commits(records),
        "steps": [said for said in seen("steps") if said],
        "dirty": any(_is_changed(origin, own_modules(study)) for origin in beside),
        **{key: seen(key) for key in ("processor", "cores", "device", "cuda", "platform", "python", "libraries")},
        "first": min((o["time"] for o in origins), default=None),
        "last": max((o["time"] for o in origins), default=None),
        "run_seconds": round(sum(sum(r.seconds.values()) for r in records), 1),
        "peak_memory_mb": max((r.peak_memory_mb for r in records), default=0.0),
        "protocols": _shared(r.protocol for r in records if r.protocol),
        "fingerprints": {f"{r.arm}/seed-{r.seed}": r.fingerprint for r in records},
        "study_hash": hashlib.sha256(study.model_dump_json(exclude=NO_SETTINGS).encode()).hexdigest()[:16],
        "settings": study.model_dump(exclude=NO_SETTINGS, mode="json"),
        "tabulated_by": provenance(),
        MADE_FROM: None,  # said by `collect`, once verdicts are of these tables too
    }


def _is_changed(origin: Mapping[str, Any], own: set[str]) -> bool:
    """Whether what computed was not as the commit has it.

    What git did not know may have lain beside it, as a log does: then the digest of the sources is the commit's. Code
    of the study's `own` is not in that digest.
    """
    if not origin.get("dirty"):
        return False
    commit, source = origin.get("commit"), origin.get("source")
    return bool(own) or commit is None or source is None or sources_at(commit) != source


def own_modules(study: Study) -> set[str]:
    """The modules of one's own that the study names, for objectives, networks and data."""
    named = [arm.objective for arm in study.arms.values()] + [size.network or "" for size in study.sizes.values()]
    modules = {path.partition(":")[0] for path in named if ":" in path}
    return modules | {module_of(data) for data in study.data.values() if is_own(data)}


def _of_several_commits(records: Iterable[RunRecord]) -> dict[str, dict[str, str | None]]:
    """Which commit made which part, of runs whose parts were not all made by one."""
    return {
        f"{record.arm}/seed-{record.seed}": commits
        for record in records
        if len({*(commits := _commits_of_parts(record)).values()}) > 1
    }


def _commit_of(record: RunRecord) -> str | None:
    """The commit that made all of a run; None where none did, or several, which `commits_of_parts` tells apart."""
    commits = {*_commits_of_parts(record).values()}
    return commits.pop() if len(commits) == 1 else None


def _commits_of_parts(record: RunRecord) -> dict[str, str | None]:
    origins = {**record.provenance_of, "evaluation": record.provenance}
    return {part: origin.get("commit") for part, origin in origins.items()}


def _beside_runs(study: Study) -> list[dict[str, Any]]:
    """Where data and measurements come from."""
    files = [study.made.facts(data) for data in study.data]
    files += [study.made.measured(experiment) for experiment in study.experiments]
    remedy = "delete it; the workflow makes it again"
    return [read_json(path, remedy).get("provenance", {}) for path in files if path.is_file()]


def _shared(protocols: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By data, of the runs' protocols what holds for all that are on these."""
    found: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        own = {key: value for key, value in protocol.items() if key not in ("data", "training_seed")}
        known = found.get(protocol["data"], own)
        found[protocol["data"]] = {key: value for key, value in known.items() if own.get(key) == value}
    return found


def collect(study: Study, beside: Iterable[Path] = ()) -> pd.DataFrame:
    """Tabulate and judge, then record what both were made from, and what was made `beside`; return the verdicts."""
    made_from, file = collected_from(study, claims_of(read_claims(), study)), study.made.origin
    tabulate_study(study)
    verdicts = judge_study(study)
    redraw(study)
    about = {MADE_FROM: made_from, FILES: list(map(str, beside))}
    write_json(file, read_json(file, f"make the study again: {study.command()}") | about)
    return verdicts


def redraw(study: Study) -> None:
    """Write redrawn.csv: how many of the study's verdicts would be false if labels, or signs, were drawn anew."""
    found = redrawn_studies(redrawn_claims(study, study_tables(study), REDRAWN))
    write_table(found, study.made.redrawn)
