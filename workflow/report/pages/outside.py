"""What came from outside, on the pages: apart from the study's own runs, with where it comes from beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trigbench.workflow.claims.outside import Own, means_of, metrics_in, outside_rows, own_results
from trigbench.workflow.claims.statistics import Interval
from trigbench.workflow.report.outside import said_beside
from trigbench.workflow.report.pages.common import DASH, Cell, Table, label, mean_cell, number_cell, shown
from trigbench.workflow.study.outside import OutsideRecord, outside_records, outside_verdict
from trigbench.workflow.study.study import Study

KINDS = {
    "samples": "samples drawn elsewhere",
    "function": "a function",
    "checkpoint": "a checkpoint",
    "consistency": "a consistency model",
    "map": "a map of two times",
}


@dataclass(frozen=True)
class Entry:
    """One model: where it comes from, and what must be said beside its numbers."""

    name: str
    title: str
    facts: list[tuple[str, str]]
    files: list[tuple[str, str]]
    """(place, digest)."""
    remarks: list[str]
    stale: str
    """Why it would be measured otherwise today; empty where it would not."""
    command: str
    """What judges it again."""


@dataclass(frozen=True)
class OutsideSection:
    """All that came from outside to a study."""

    tables: list[Table]
    """One for each data set."""
    entries: list[Entry]
    download: str


def outside_section(study: Study, tables: dict[str, pd.DataFrame]) -> OutsideSection | None:
    """None where nothing came; the table of all values joins those that are to be written."""
    records = outside_records(study)
    if not records:
        return None
    own, download = own_results(study), f"tables/{study.label}/{study.made.outside_values.name}"
    tables[download] = outside_rows(study, records)
    data_sets = dict.fromkeys(record.data for record in records)
    by_data = {data: [record for record in records if record.data == data] for data in data_sets}
    made = [_table(study, data, there, own, len(by_data) > 1) for data, there in by_data.items()]
    return OutsideSection(made, [_entry(study, record) for record in records], download)


def outside_of(study: Study, experiment: str) -> Table | None:
    """What came from outside in the metric of one experiment and on its data; None where nothing did."""
    metric, data_sets = study.experiments[experiment].metric, {study.arms[a].data for a in study.arms_of(experiment)}
    rows = []
    for record in outside_records(study):
        for mean in means_of(record) if record.data in data_sets else []:
            if mean.metric == metric:
                rows.append(
                    [_name_cell(study, record), _steps(mean.steps), mean_cell(mean.interval.mean), _span(mean.interval),
                     number_cell(mean.interval.seeds, ".0f")]
                )  # fmt: skip
    if not rows:
        return None
    columns = [("From outside", False), ("Steps", True), ("Mean", True), ("95% interval", True)]
    columns += [("Sampling seeds", True)]
    return Table(
        f"{experiment}-outside", f"{label(metric)}: from outside, measured as the runs above are", columns, rows
    )


# --- tables ---------------------------------------------------------------------------------------


def _table(study: Study, data: str, records: Sequence[OutsideRecord], own: Own, several: bool) -> Table:
    """By metric and number of steps: each model, with the best of the study's own and real data beside it."""
    columns = [("Metric", False), ("Better", False), ("Steps", True), ("From outside", False), ("Mean", True)]
    columns += [("The study's best", True), ("Real data", True), ("Seeds", True)]
    made, order = [], metrics_in(records)
    for record in records:
        for mean in means_of(record):
            best = own.best(data, mean.metric, mean.steps)
            seeds = 1 if mean.steps is None else mean.interval.seeds
            cells = [
                Cell(label(mean.metric, own.known)), Cell(_better(mean.metric, own)), _steps(mean.steps),
                _name_cell(study, record), _interval_cell(mean.interval),
                Cell(DASH, math.nan) if best is None else Cell(f"{shown(best.mean)} {best.arm}", best.mean),
                mean_cell(own.real(data, mean.metric)), number_cell(seeds, ".0f"),
            ]  # fmt: skip
            made.append(((order.index(mean.metric), mean.steps or 0), cells))
    rows = [cells for _, cells in sorted(made, key=lambda one: one[0])]
    caption = f"From outside, on {data}" if several else "From outside, beside the best of the study's own"
    return Table(f"outside-{data}", caption, columns, rows, header=3)


def _better(metric: str, own: Own) -> str:
    quantity = own.known.get(metric)
    return DASH if quantity is None or quantity.better == "neither" else quantity.better


def _name_cell(study: Study, record: OutsideRecord) -> Cell:
    """What is stale says so wherever it stands."""
    stale, link = outside_verdict(study, record), f"{study.label}.html#outside-{record.name}"
    return Cell(f"{record.name} (stale)" if stale else record.name, mark="warning" if stale else "", link=link)


def _steps(steps: int | None) -> Cell:
    return Cell(DASH, math.nan) if steps is None else number_cell(steps, "d")


def _interval_cell(found: Interval) -> Cell:
    around = "" if math.isnan(found.low) else f" [{shown(found.low)}, {shown(found.high)}]"
    return Cell(f"{shown(found.mean)}{around}", found.mean)


def _span(found: Interval) -> Cell:
    if math.isnan(found.low):
        return Cell(DASH, math.nan)
    return Cell(f"[{shown(found.low)}, {shown(found.high)}]", found.high - found.low)


# --- where it comes from --------------------------------------------------------------------------


def _entry(study: Study, record: OutsideRecord) -> Entry:
    said = {
        "What": f"{KINDS[record.kind]}: {record.what}",
        "By": record.by or "not said",
        "Note": record.note,
        "Measured": str(record.provenance.get("time", ""))[:10],
        "Measured with": _measured_with(record.provenance),
        "Took, in seconds": ", ".join(f"{name} {spent:.1f}" for name, spent in record.seconds.items()),
        **{f"protocol: {key.replace('_', ' ')}": str(value) for key, value in record.protocol.items()},
    }
    facts = [(term, description) for term, description in said.items() if description]
    title = f"{record.name}, {KINDS[record.kind]}" + (f" by {record.by}" if record.by else "")
    return Entry(
        name=record.name, title=title, facts=facts, files=sorted(record.files.items()),
        remarks=said_beside(study, record), stale=outside_verdict(study, record), command=record.command,
    )  # fmt: skip


def _measured_with(provenance: dict[str, Any]) -> str:
    """trigbench by version and commit, or digest of its files, and what computes."""
    commit, source = provenance.get("commit"), provenance.get("source")
    which = [f"commit {commit[:12]}{' with changes' if provenance.get('dirty') else ''}"] if commit else []
    which += [f"files {source}"] if source else []
    libraries = provenance.get("libraries", {})
    others = [f"{name} {libraries[name]}" for name in ("torch", "numpy", "torch-fidelity") if name in libraries]
    ours = f"trigbench {provenance.get('version', '')}" + (f" ({', '.join(which)})" if which else "")
    return ", ".join([ours, f"Python {provenance.get('python', '')}", *others, f"on {provenance.get('device', '')}"])
