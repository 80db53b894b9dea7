"""A data set on a study's page: what it is, its facts, and how far real data are from real data."""

from dataclasses import dataclass

from trigbench.workflow.report.pages.common import Cell, Table, content, label, mean_cell, shown
from trigbench.workflow.study.kinds import data_kind, known_of
from trigbench.workflow.study.quantities import Quantities
from trigbench.workflow.study.study import Study

FACTS = {
    "train": "images in the training part",
    "held_out": "images in the held-out part",
    "classifier_accuracy_held_out": "accuracy of the feature classifier on the held-out part",
    "exact_map_error": "error of the exact map, against a finer integration",
    "component_std": "standard deviation of a component, after standardisation",
}


@dataclass(frozen=True)
class DataSection:
    """A data set: what it is, and how far real data are from real data."""

    name: str
    description: str
    facts: list[tuple[str, str]]
    floors: Table | None
    download: str


def data_section(study: Study, data: str, known: Quantities) -> DataSection | None:
    """A data set as it was prepared; None before it was."""
    path = study.made.facts(data)
    found = content(path)
    if not found:
        return None
    settings = study.data[data]
    against = f"fresh data against fresh data, n = {study.evaluation.samples} each"
    if data_kind(settings).parts:
        facts = found.get("facts", {})
        counts = f"n = {facts.get('held_out', '?')}, training part: n = {facts.get('train', '?')}"
        against = f"the held-out part judged as if it were samples ({counts})"
    given = {**found.get("facts", {})}
    given |= {f"protocol: {key}": value for key, value in (given.pop("protocol", None) or {}).items()}
    plain = {key: value for key, value in given.items() if isinstance(value, bool | int | float | str)}
    facts = [(FACTS.get(key, key.replace("_", " ")), _fact(value)) for key, value in plain.items()]
    rows = [[Cell(label(v["metric"], known)), mean_cell(v["value"])] for v in found.get("floors", [])]
    caption = f"Floors: {against}"
    floors = Table(f"floors-{data}", caption, [("Metric", False), ("Real data", True)], rows) if rows else None
    return DataSection(data, known_of(settings).sentence, facts, floors, f"tables/{study.label}/data-{data}.json")


def _fact(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else shown(value, 4)
