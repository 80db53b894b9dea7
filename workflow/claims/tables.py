"""Tidy tables from the records of runs."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from trigbench.workflow.claims.statistics import (
    COLUMNS,
    SAMPLING,
    Interval,
    difference,
    per_seed,
    refuse_doubles,
    summary,
)
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_text
from trigbench.workflow.study.claim import written
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.freshness import FRESH, run_verdict
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, quantities_of
from trigbench.workflow.study.records import RunRecord, Value, read_record
from trigbench.workflow.study.study import Run, Study

COSTS = ("train_seconds", "total_seconds", "peak_memory_mb")
CURVE_COLUMNS = [
    "study", "data", "experiment", "arm", "objective", "intervals", "precision", "size", "steps", "guidance",
    "seed", "metric", "x", "value", "sampler", "mid_time", "sampling", "times",
]  # fmt: skip
LATER = ("sampling", "times")
"""Columns that tables of earlier versions lack."""

NAMES = (
    "study", "data", "experiment", "arm", "objective", "precision", "size", "metric", "status", "sampler", "sampling",
    "times", "teacher", "claim", "paper", "place", "topic", "verdict", "holm_verdict", "note",
)  # fmt: skip
"""Columns of all tables that hold text."""


def experiment_tables(study: Study, experiment: str, runs: Iterable[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(runs, curves): one row per run, sampling setting and metric; one per point of a curve.

    Raises BenchError where a seed has two values under one setting: nothing tells them apart.
    """
    rows, points, data_sets, known = [], [], {}, quantities_of(study.data.values())
    for run in runs:
        record = read_record(study.files(run).metrics)
        about = _about(study, experiment, run)
        data_sets[study.arms[run.arm].data] = None
        shown = study.experiments[experiment].samplers or study.samplers_of(run.arm)[:1]
        values = [value for value in record.metrics if value.sampler in (None, *shown)]
        rows += [{**about, **_result(study, record, value, known)} for value in (*values, *_costs(record))]
        points += [
            {**about, "metric": v.metric, "x": v.x, "value": v.value, **_sampled(study, v)} for v in record.curves
        ]
    measured = _measured_rows(study, experiment)
    rows, points = rows + measured[0], points + measured[1]
    for data in data_sets:
        rows += _floor_rows(study, experiment, data)
    runs, curves = pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(points, columns=CURVE_COLUMNS)
    try:
        refuse_doubles(runs)
        refuse_doubles(curves, "x")
    except ValueError as error:
        remedy = "a run's record names each value once: delete the folder of that run, and the workflow makes it again"
        raise BenchError(f"{experiment}: {error}", file=study.made.all_runs, remedy=remedy) from error
    return runs, curves


def finished_runs(study: Study, experiment: str) -> tuple[list[Run], list[Run]]:
    """(runs with a record of what they would be made from today, runs without) of an experiment."""
    there, missing = [], []
    for run in study.runs_of(experiment):
        (there if is_fresh(study, run) else missing).append(run)
    return there, missing


def is_fresh(study: Study, run: Run) -> bool:
    """Whether the run has a record, and of what it would be made from today, as the plan decides it."""
    verdict = run_verdict(study, run, fingerprint(study.specification(run)))
    return verdict in (FRESH, None) and study.files(run).metrics.is_file()


def read_table(path: Path | TextIO) -> pd.DataFrame:
    """A table as it was written: what is empty is nothing, and names are text, `NA`, `1.50` and `007` among them."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str))


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """CSV, infinities as `inf`."""
    whole = {c: frame[c].astype("Int64") for c in ("intervals", "steps", "seed", "seeds", "seeds_needed") if c in frame}
    write_text(path, frame.assign(**whole).to_csv(index=False, float_format="%.9g"))


def compared(runs: pd.DataFrame, published: pd.DataFrame | None, known: Quantities = QUANTITIES) -> pd.DataFrame:
    """The summary, with the published means beside it and whether the two agree.

    They agree when Welch's 95% interval of the difference holds zero, or when both are the same. Nothing is held
    against a published table of an earlier version where that does not tell two settings apart.
    """
    table = summary(runs, known)
    if published is None or not len(table):
        return table.assign(published=None, agrees=None)
    keys = ["data", "arm", *SAMPLING, "metric"]
    if not published.reindex(columns=LATER).notna().any(axis=None):
        keys = [key for key in keys if key not in LATER]
    ours, theirs = _by_key(runs, keys), _by_key(published, keys)
    means, verdicts = [], []
    for key in (_plain(tuple(row)) for row in table[keys].itertuples(index=False)):
        values, other = ours[key], theirs.get(key)
        there = values is not None and other is not None
        means.append(float(other.mean()) if there else None)
        verdicts.append(_agrees(values, other) if there else None)
    return table.assign(published=means, agrees=verdicts)


def _by_key(rows: pd.DataFrame, keys: list[str]) -> dict[tuple, pd.Series | None]:
    """The values by seed of each setting; None where the keys do not tell settings apart."""
    groups = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *keys]))).groupby(keys, dropna=False)
    return {_plain(key): None if rows.duplicated("seed").any() else per_seed(rows) for key, rows in groups}


def _plain(key: tuple) -> tuple:
    return tuple(None if isinstance(part, float) and math.isnan(part) else part for part in key)


def _agrees(ours: pd.Series, theirs: pd.Series) -> bool | None:
    gap: Interval = difference(ours, theirs)
    if math.isnan(gap.low):
        return None
    return gap.low <= 0 <= gap.high


def _about(study: Study, experiment: str, run: Run) -> dict[str, Any]:
    arm = study.arms[run.arm]
    return {
        "study": study.label, "data": arm.data, "experiment": experiment, "arm": run.arm, "objective": arm.objective,
        "intervals": arm.intervals, "precision": arm.precision, "size": arm.size, "seed": run.seed,
        "iterations": arm.iterations, "batch": arm.batch, "teacher": None if arm.teacher is None else str(arm.teacher),
    }  # fmt: skip


def _result(study: Study, record: RunRecord, value: Value, known: Quantities) -> dict[str, Any]:
    """A diverged run counts as worst; of one of which some samples are not numbers, these do."""
    status = "finished" if record.lost and value.value is not None else record.status
    number = value.value
    if number is None and value.metric in known:
        number = known[value.metric].worst
    return {
        **_sampled(study, value), "metric": value.metric, "value": number,
        "status": status, "parameters": record.parameters,
    }  # fmt: skip


def _sampled(study: Study, value: Value) -> dict[str, Any]:
    """How it was sampled, in the columns of SAMPLING; what is no sampler of the study names itself."""
    sampler = study.all_samplers.get(value.sampler or "")
    return {
        "steps": value.steps, "guidance": value.guidance, "mid_time": value.mid_time,
        "sampler": sampler.solver if sampler else value.sampler, "sampling": value.sampler if sampler else None,
        "times": written(value.times or ()) or None,
    }  # fmt: skip


def _costs(record: RunRecord) -> list[Value]:
    total = sum(record.seconds.values())
    return [
        Value(metric=metric, value=value)
        for metric, value in zip(COSTS, (record.seconds.get("train"), total, record.peak_memory_mb), strict=True)
    ]


def _measured_rows(study: Study, experiment: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the experiment measured beside its runs; a number of no seed stands for every seed."""
    path = study.made.measured(experiment)
    if study.experiments[experiment].measurement is None or not path.is_file():
        return [], []
    content = read_json(path, f"delete it; {study.command(experiment)} makes it again")
    found: dict[str, list[dict[str, Any]]] = {"runs": [], "curves": []}
    for kind, rows in found.items():
        for row in content[kind]:
            value = Value.model_validate(row["value"])
            about: dict[str, Any] = {"study": study.label, "experiment": experiment, "objective": row["objective"]}
            for seed in study.seeds_of(experiment) if row["seed"] is None else (row["seed"],):
                if row["arm"] is not None and row["arm"] not in study.arms:
                    about["arm"] = row["arm"]
                elif row["arm"] is not None:
                    about = _about(study, experiment, Run(arm=row["arm"], seed=seed))
                number = {"seed": seed, "metric": value.metric, "value": value.value, "x": value.x}
                rows.append({**about, **number, **_sampled(study, value), "status": "finished"})
    return found["runs"], found["curves"]


def _floor_rows(study: Study, experiment: str, data: str) -> list[dict[str, Any]]:
    found = read_json(study.made.facts(data), "delete it; the workflow prepares the data again")
    about = {"study": study.label, "data": data, "experiment": experiment, "arm": "data", "objective": "data"}
    return [{**about, "metric": v["metric"], "value": v["value"], "status": "finished"} for v in found["floors"]]
