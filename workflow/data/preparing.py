"""Preparing a data set: arrays, exact values or a feature extractor, and the floors of every metric."""

from trigbench.workflow.data.dataset import checked
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import said_of_labels
from trigbench.workflow.machine.devices import exact_products
from trigbench.workflow.machine.files import write_arrays, write_json
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.study.fingerprint import data_fingerprint
from trigbench.workflow.study.freshness import FILES
from trigbench.workflow.study.kinds import draws_module, kind_module, settings_of
from trigbench.workflow.study.sources import source_of
from trigbench.workflow.study.standing import MADE_BY, made_by
from trigbench.workflow.study.study import Study

DRAWN = 512
"""Samples that are looked at before the data set is written."""


def prepare(study: Study, data: str) -> None:
    """Make the data set's .npz, and a .json that says what it is and how far real is from real.

    Raises BenchError where what is drawn from it is not what it says.
    """
    exact_products()
    settings = study.data[data]
    kind, source = kind_module(settings), source_of(study, data)
    named = settings_of(settings, kind.prepare)
    arrays, facts = kind.prepare(settings, study.evaluation, study.sigma_d, **named)
    dataset = checked(draws_module(settings).open_dataset(arrays, study.sigma_d), f"data.{data}", study.file)
    dataset.draw(generator("prepare"), DRAWN)
    if dataset.classes and dataset.shares is not None:
        facts = {**facts, "protocol": {"labels": said_of_labels(dataset.shares), **facts.get("protocol", {})}}
    path = study.data_file(data)
    write_arrays(path, arrays)
    values = [value.model_dump() for value in kind.floors(dataset)]
    beside = facts.pop(FILES, [])
    made_from = {"fingerprint": data_fingerprint(study.data_specification(data)), "source": source, FILES: beside}
    about = {MADE_BY: made_by(study), "facts": facts, "floors": values, "provenance": provenance()}
    write_json(path.with_suffix(".json"), {**made_from, **about})
