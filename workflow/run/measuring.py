"""Measure what an experiment asks for beside its runs: costs, a search, or what theory says."""

import dataclasses
import importlib

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import exact_products
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.study.freshness import MADE_FROM, measured_from
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.study import Study


def measure(study: Study, experiment: str) -> None:
    """Write measured.json. Raises BenchError for an experiment that measures nothing."""
    name = study.experiments[experiment].measurement
    if name is None:
        problem = f"{experiment} measures nothing beside its runs"
        raise BenchError(problem, file=study.file, key=f"experiments.{experiment}.measurement", remedy="name one")
    made_from = measured_from(study, experiment)
    exact_products()
    found = importlib.import_module(MEASUREMENTS[name].path).measure(study, experiment)
    content = {
        kind: [{**dataclasses.asdict(row), "value": row.value.model_dump()} for row in rows]
        for kind, rows in (("runs", found.runs), ("curves", found.curves))
    }
    shown = {"strips": found.strips, "paths": found.paths, "scenes": found.scenes}
    content |= {kind: [dataclasses.asdict(one) for one in those] for kind, those in shown.items() if those}
    write_json(study.made.measured(experiment), {**content, MADE_FROM: made_from, "provenance": provenance()})
