"""Preparing a data set: arrays, exact values or a feature extractor, and the floors of every metric."""

from torch import Tensor

from trigbench.workflow.data.dataset import checked
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import said_of_labels
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import exact_products
from trigbench.workflow.machine.files import write_arrays, write_json
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.study.fingerprint import data_fingerprint
from trigbench.workflow.study.freshness import FILES
from trigbench.workflow.study.kinds import draws_module, is_own, kind_module, settings_of
from trigbench.workflow.study.sources import source_of
from trigbench.workflow.study.standing import MADE_BY, made_by
from trigbench.workflow.study.study import Study

DRAWN = 512
"""Samples that are looked at before the data set is written."""
SPREAD = 0.2
"""By which the standard deviation of draws may miss 1."""
RESCALE = "divide by the training part's standard deviation: data units over sigma_d"


def prepare(study: Study, data: str) -> None:
    """Make the data set's .npz, and a .json that says what it is and how far real is from real.

    Raises BenchError where what is drawn from it is not what it says, and of one's own data where that is not in unit
    variance (images are scaled as the papers scale theirs).
    """
    exact_products()
    settings = study.data[data]
    kind, source = kind_module(settings), source_of(study, data)
    named = settings_of(settings, kind.prepare)
    try:
        arrays, facts = kind.prepare(settings, study.evaluation, study.sigma_d, **named)
    except BenchError as error:
        raise _of_data_set(error, study, data) from error
    dataset = checked(draws_module(settings).open_dataset(arrays, study.sigma_d), f"data.{data}", study.file)
    spread = spread_of(dataset.draw(generator("prepare"), DRAWN)[0])
    if is_own(settings) and abs(spread - 1) > SPREAD:  # every angle would mean another noise than it says
        problem = f"draws have a standard deviation of {spread:.3g}, where 1 is expected"
        raise BenchError(problem, file=study.file, key=f"data.{data}", remedy=RESCALE)
    if dataset.classes and dataset.shares is not None:
        facts = {**facts, "protocol": {"labels": said_of_labels(dataset.shares), **facts.get("protocol", {})}}
    path = study.data_file(data)
    write_arrays(path, arrays)
    values = [value.model_dump() for value in kind.floors(dataset)]
    beside = facts.pop(FILES, [])
    made_from = {"fingerprint": data_fingerprint(study.data_specification(data)), "source": source, FILES: beside}
    about = {MADE_BY: made_by(study), "facts": facts, "floors": values, "provenance": provenance()}
    write_json(path.with_suffix(".json"), {**made_from, **about})


def _of_data_set(error: BenchError, study: Study, data: str) -> BenchError:
    """The same, of what a kind says of its own keys alone: where they stand, and in which study."""
    said, key = error.said, error.said["key"] or ""
    whole = key if key.startswith("data.") else f"data.{data}" + (f".{key}" if key else "")
    if said["file"] not in (None, str(study.file)):
        whole += f" of {study.file}"
    return BenchError(
        said["problem"], file=said["file"] or study.file, key=whole, remedy=said["remedy"], again=error.again
    )


def spread_of(x0: Tensor) -> float:
    """The standard deviation of samples (n, ...): of a few numbers each by itself, of many all together."""
    x0 = x0.double()
    return float(x0.var(0).mean().sqrt()) if x0[0].numel() < 10 else float(x0.std())
