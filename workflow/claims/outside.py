"""Tables of what came from outside, with the best of the study's own beside it. No experiment or claim reads them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trigbench.workflow.claims.statistics import Interval, interval, summary
from trigbench.workflow.claims.tables import read_table, write_table
from trigbench.workflow.machine.files import read_json
from trigbench.workflow.study.claim import written
from trigbench.workflow.study.outside import OutsideRecord, outside_records, outside_verdict
from trigbench.workflow.study.quantities import Quantities, quantities_of
from trigbench.workflow.study.records import REAL
from trigbench.workflow.study.study import Study

COLUMNS = [
    "study", "data", "name", "kind", "by", "steps", "sampler", "times", "seed", "metric", "value", "stale",
]  # fmt: skip
"""Of outside.csv: one row for each model, way of sampling, sampling seed and metric."""


@dataclass(frozen=True)
class Mean:
    """A metric of one model from outside, over its sampling seeds."""

    name: str
    data: str
    steps: int | None
    metric: str
    interval: Interval


@dataclass(frozen=True)
class Best:
    """The best of the study's own arms in one metric and number of steps."""

    arm: str
    """With what of its sampling is not said by the number of steps."""
    mean: float
    low: float
    high: float


def outside_rows(study: Study, records: Iterable[OutsideRecord]) -> pd.DataFrame:
    """Every value of these, tidy."""
    rows = []
    for record in records:
        about = {"study": study.label, "data": record.data, "name": record.name, "kind": record.kind, "by": record.by}
        stale = outside_verdict(study, record)
        rows += [
            {
                **about, "steps": value.steps, "sampler": value.sampler, "times": written(value.times or ()) or None,
                "seed": result.seed, "metric": value.metric, "value": value.value, "stale": stale or None,
            }
            for result in record.results
            for value in result.metrics
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def write_outside_table(study: Study) -> pd.DataFrame:
    """Write the table of all that stand there."""
    rows = outside_rows(study, outside_records(study))
    write_table(rows, study.made.outside_values)
    return rows


def means_of(record: OutsideRecord) -> list[Mean]:
    """In the order in which they were measured."""
    values: dict[tuple[int | None, str], list[float]] = {}
    for result in record.results:
        for value in result.metrics:
            number = math.nan if value.value is None else value.value
            values.setdefault((value.steps, value.metric), []).append(number)
    return [
        Mean(record.name, record.data, steps, metric, interval(np.array(found)))
        for (steps, metric), found in values.items()
    ]


@dataclass(frozen=True)
class Own:
    """The study's own results, as far as they are there."""

    table: pd.DataFrame
    known: Quantities
    floors: dict[tuple[str, str], float]
    """(data, metric) -> that of real data."""

    def best(self, data: str, metric: str, steps: int | None) -> Best | None:
        """The best arm on these data; in any number of steps, where the number is not known."""
        rows = self._of(data, metric, steps)
        rows = rows[(rows.arm != REAL) & np.isfinite(rows["mean"].astype(float))]
        better = self.known[metric].better if metric in self.known else "neither"
        if not len(rows) or better == "neither":
            return None
        row = rows.sort_values("mean", ascending=better == "lower", kind="stable").iloc[0]
        guided = "" if pd.isna(row.guidance) else f", guidance {row.guidance:g}"
        through = f", through {row.mid_time:g}" if row.steps == 2 and pd.notna(row.mid_time) else ""
        return Best(f"{row.arm}{guided}{through}", float(row["mean"]), float(row.low), float(row.high))

    def real(self, data: str, metric: str) -> float | None:
        """Real data judged as if they were samples."""
        return self.floors.get((data, metric))

    def _of(self, data: str, metric: str, steps: int | None) -> pd.DataFrame:
        rows = self.table[(self.table.data == data) & (self.table.metric == metric)]
        return rows if steps is None else rows[(rows.steps == steps) | rows.steps.isna()]


def own_results(study: Study) -> Own:
    """From the study's table of runs, which is empty where none was made, and what its data say of themselves."""
    known, path = quantities_of(study.data.values()), study.made.runs
    runs = read_table(path) if path.is_file() else pd.DataFrame(columns=["metric", "status"])
    keys = [column for column in runs if column not in ("experiment", "value")]
    return Own(summary(runs.drop_duplicates(keys), known), known, _floors(study))


def _floors(study: Study) -> dict[tuple[str, str], float]:
    files = {data: study.made.facts(data) for data in study.data}
    remedy = "delete it; the workflow prepares the data again"
    facts = {data: read_json(file, remedy) for data, file in files.items() if file.is_file()}
    return {
        (data, floor["metric"]): floor["value"]
        for data, said in facts.items()
        for floor in said.get("floors", [])
        if floor["value"] is not None
    }


def metrics_in(records: Sequence[OutsideRecord]) -> list[str]:
    """The metrics that these have, in their order."""
    return list(dict.fromkeys(v.metric for record in records for result in record.results for v in result.metrics))
