"""Judge a model from outside: samples, a function or a checkpoint, with what the study's own runs are judged with."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.randomness import seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import device_name, device_of, products
from trigbench.workflow.machine.files import identity, read_json
from trigbench.workflow.machine.progress import Progress
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.machine.tensors import names_in
from trigbench.workflow.run.judging import judge_drawn, judge_field, wanted_of
from trigbench.workflow.run.noise import labels_of_samples, noise_of_rows
from trigbench.workflow.run.outside.checkpoints import (
    ConsistencyModel,
    DiffusionModel,
    MapFile,
    is_diffusers,
    open_diffusers,
    open_safetensors,
)
from trigbench.workflow.run.outside.functions import field_of, minds_times, open_function, sampler_of, times_of
from trigbench.workflow.run.outside.samples import ARRAYS, SAMPLES, Samples, check_scale, open_samples
from trigbench.workflow.run.sampling import parts_of, solved
from trigbench.workflow.run.task import open_data
from trigbench.workflow.study.kinds import data_kind, kind_module
from trigbench.workflow.study.outside import OfSeed, OutsideKind, OutsideRecord, default_steps, outside_mark, way_of
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Sampling, Study

TRIED = 2
"""Samples that are drawn in every way before all are."""


@dataclass(frozen=True)
class Asked:
    """What somebody wants judged, as the command line has it."""

    what: str
    name: str
    data: str
    command: str
    steps: tuple[int, ...] = ()
    """Empty for what the study's built-in samplers take; of samples how many they took, if that is known."""
    seeds: tuple[int, ...] = ()
    """Of the noise: 0 is that of the study's runs. Empty for as many as the study has."""
    labels: Path | None = None
    by: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class OutsideModel:
    """What draws samples."""

    kind: OutsideKind
    draw: Callable[[Sampling, Tensor, Tensor | None], Tensor]
    """(way, noise of (slices, batch, *shape), labels) -> samples in unit variance."""
    files: dict[str, str]
    field: Field | None = None
    """The map from every angle to 0, if it is one."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Results:
    results: list[OfSeed]
    curves: list[Value]
    remarks: list[str]
    seconds: dict[str, float]


def judge(study: Study, asked: Asked) -> OutsideRecord:
    """Measure it. Raises BenchError, before anything long, for what cannot be compared with the study's own."""
    dataset, device = _open_data(study, asked.data), device_of(study.device, study.file)
    seed_globals(study.evaluation.seed, "outside")  # of what draws where it is imported
    given = _open(study, asked, dataset, device)
    if isinstance(given, Samples):
        kind: OutsideKind = "samples"
        ways: list[Sampling] = []
        found = _judge_samples(study, asked, dataset, given)
    else:
        kind = given.kind
        ways = [way_of(study, kind, steps) for steps in asked.steps or default_steps(study, kind)]
        found = _judge_model(study, asked, dataset, given, ways, device)
    data_file = study.data_file(asked.data)
    facts = read_json(data_file.with_suffix(".json"), "delete it; the workflow prepares the data again")["facts"]
    protocol = {"data": asked.data, "samples": study.evaluation.samples, **facts.get("protocol", {})}
    protocol |= {"sampling_seed": study.evaluation.seed}
    return OutsideRecord(
        name=asked.name, study=study.label, data=asked.data, kind=kind, what=asked.what, by=asked.by, note=asked.note,
        command=asked.command, fingerprint=outside_mark(study, asked.data, kind, ways),
        data_mark=identity(data_file), ways=ways, results=found.results, curves=found.curves, remarks=found.remarks,
        files=dict(given.files), seconds=found.seconds, protocol=protocol, provenance=provenance(device_name(device)),
    )  # fmt: skip


def _open_data(study: Study, data: str) -> Dataset:
    if all(arm.data != data for arm in study.arms.values()):
        raise BenchError(f"no arm has the data {data!r}", file=study.file, key="--data", remedy="name data of an arm")
    dataset = open_data(study, data)
    if dataset.observed is not None:
        problem = f"samples of {data!r} are told observations, and what is from outside is told labels alone"
        raise BenchError(problem, file=study.file, key="--data", remedy="name data without observations")
    return dataset


@contextmanager
def _one_thread() -> Iterator[None]:
    """As steps measure, so that the same samples have the same numbers, to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- what is given --------------------------------------------------------------------------------


def check_there(what: str) -> None:
    """Raise BenchError where no such file or folder is; what a module holds is seen when it is imported."""
    place = Path(what)
    if not place.exists() and ":" in what:
        place = Path(what.rpartition(":")[0])
        if place.suffix != ".py":
            return
    if not place.exists():
        remedy = "name a folder or file of samples, a function (module:name, file.py:name) or a checkpoint"
        raise BenchError("there is no such file or folder", file=place, key="WHAT", remedy=remedy)


def _open(study: Study, asked: Asked, dataset: Dataset, device: torch.device) -> Samples | OutsideModel:
    check_there(asked.what)
    place = Path(asked.what)
    if not place.exists() and ":" in asked.what:
        model = _function(study, asked.data, asked.what, dataset, device)
    elif place.is_dir() and is_diffusers(place):
        model = _checkpoint(study, open_diffusers(place, dataset, study.sigma_d, device))
    elif place.suffix == ".safetensors" and not any(name in SAMPLES for name in names_in(place)):
        opened = open_safetensors(place, dataset, study.sigma_d, device)
        model = _from_file(study, opened)
    elif place.is_dir() or place.suffix in (*ARRAYS, ".zip"):
        return _samples(study, asked, dataset, place)
    else:
        ends = f"{', '.join(ARRAYS)}, .zip"
        remedy = f"name a folder, or a file that ends in {ends}; a function of a file is {asked.what}:NAME"
        raise BenchError("nothing that can be judged", file=place, key="WHAT", remedy=remedy)
    if asked.labels is not None:
        remedy = "remove it: a model is told the labels that the study's own runs are told"
        raise BenchError("labels are of samples", file=asked.labels, key="--labels", remedy=remedy)
    return model


def _samples(study: Study, asked: Asked, dataset: Dataset, place: Path) -> Samples:
    if asked.seeds:
        remedy = "remove it: seeds are of what draws samples here"
        raise BenchError("samples that were drawn elsewhere have no seed here", key="--seeds", remedy=remedy)
    if len(asked.steps) > 1:
        remedy = "name the one number of steps that these samples took, and judge others under a name of their own"
        raise BenchError(f"one lot of samples, and {len(asked.steps)} numbers of steps", key="--steps", remedy=remedy)
    images = data_kind(study.data[asked.data]).images
    encode = None if images is None else images(dataset.arrays, 1).encoded
    return open_samples(place, asked.labels, dataset, study.evaluation.samples, study.sigma_d, encode)


def _function(study: Study, data: str, said: str, dataset: Dataset, device: torch.device) -> OutsideModel:
    function, first = open_function(said), largest_angle(study.sigma_d)
    sample = sampler_of(function, study.sigma_d)

    def draw(way: Sampling, noise: Tensor, labels: Tensor | None) -> Tensor:
        return sample(noise[: way.steps], times_of(first, way.times, device), labels)

    field: Field | None = None
    remarks: tuple[str, ...] = ()
    if kind_module(study.data[data]).METRICS["map"] and not dataset.classes:  # a map is told no labels
        if minds_times(sample, dataset.shape, first, device):
            field = field_of(sample, device)
        else:
            remarks = ("no error of the map: the angle that it is told makes no difference",)
    return OutsideModel("function", draw, function.files, field, remarks)


def _from_file(study: Study, opened: DiffusionModel | ConsistencyModel | MapFile) -> OutsideModel:
    if isinstance(opened, MapFile):
        return _map(opened)
    return _consistency(study, opened) if isinstance(opened, ConsistencyModel) else _checkpoint(study, opened)


def _consistency(study: Study, opened: ConsistencyModel) -> OutsideModel:
    def draw(way: Sampling, noise: Tensor, labels: Tensor | None) -> Tensor:
        times = [largest_angle(study.sigma_d), *way.times]
        if times[-1] < opened.boundary:
            problem = f"its map ends at the angle {opened.boundary:.3g}, and the study samples at {times[-1]:.3g}"
            remedy = f"ask for other --steps than {way.steps}"
            raise BenchError(problem, file=study.file, key=f"samplers.{way.sampler}", remedy=remedy)
        return sample_consistency(opened.field(labels), noise[: way.steps], times, opened.boundary)

    return OutsideModel("consistency", draw, opened.files, remarks=opened.remarks)


def _checkpoint(study: Study, opened: DiffusionModel) -> OutsideModel:
    def draw(way: Sampling, noise: Tensor, labels: Tensor | None) -> Tensor:
        return solved(opened.field(labels), noise[0], way.solver, way.steps, study.sigma_d)

    return OutsideModel("checkpoint", draw, opened.files, remarks=opened.remarks)


def _map(opened: MapFile) -> OutsideModel:
    def draw(way: Sampling, noise: Tensor, labels: Tensor | None) -> Tensor:
        times = [largest_angle(opened.sigma_d), *way.times]
        return sample_jumps(opened.jump(labels), noise[: way.steps], times, way.gamma or 0.0)

    return OutsideModel("map", draw, opened.files, remarks=opened.remarks)


# --- measuring ------------------------------------------------------------------------------------


def _judge_samples(study: Study, asked: Asked, dataset: Dataset, given: Samples) -> _Results:
    started = time.monotonic()
    kind = kind_module(study.data[asked.data])
    columns = {"steps": asked.steps[0]} if asked.steps else {}
    metrics = _measured(kind, dataset, given.drawn, columns, asked.what)
    return _Results([OfSeed(seed=None, metrics=metrics)], [], given.remarks, {"evaluate": _since(started)})


def _seeds(study: Study) -> tuple[int, ...]:
    """As many as the study has; where each of its seeds has noise of its own, these."""
    return study.seeds if study.evaluation.noise else tuple(range(len(study.seeds)))


def _judge_model(
    study: Study, asked: Asked, dataset: Dataset, model: OutsideModel, ways: Sequence[Sampling], device: torch.device
) -> _Results:
    kind, seeds = kind_module(study.data[asked.data]), asked.seeds or _seeds(study)
    remarks = dict.fromkeys(model.remarks)
    seconds, curves, results = {"sample": 0.0, "evaluate": 0.0}, list[Value](), list[OfSeed]()
    for way in ways:  # in every way, before the first of them takes its time
        _part(study, dataset, model, way, range(TRIED), study.evaluation.seed, way.steps, device)
    if model.field is not None:
        started = time.monotonic()
        with torch.no_grad(), products(device, tf32=False), _one_thread():
            metrics, curves, fault = judge_field(kind, dataset, model.field)
        _refuse(fault, asked.what)
        results.append(OfSeed(seed=None, metrics=metrics))
        seconds["evaluate"] += _since(started)
    for seed in seeds:
        started = time.monotonic()
        own = study.evaluation.seed + seed
        drawn, scale = _draw(study, f"{asked.name}, seed {seed}", dataset, model, ways, own, device)
        remarks |= dict.fromkeys(scale if seed == seeds[0] else [])
        seconds["sample"] += _since(started)
        started = time.monotonic()
        metrics = [value for way in ways for value in _measured(kind, dataset, drawn[way.key], way.columns, asked.what)]
        results.append(OfSeed(seed=seed, metrics=metrics))
        seconds["evaluate"] += _since(started)
    return _Results(results, curves, list(remarks), {name: round(spent, 3) for name, spent in seconds.items()})


def _draw(
    study: Study,
    said: str,
    dataset: Dataset,
    model: OutsideModel,
    ways: Sequence[Sampling],
    seed: int,
    device: torch.device,
) -> tuple[dict[str, Tensor], list[str]]:
    """(the study's number of samples of each way by its key, what to say of their scale); all from the same noise.

    Raises BenchError as soon as some are not numbers, or the first ones are of another scale than the data.
    """
    slices, count = max(len(way.times) + 1 for way in ways), study.evaluation.samples
    parts: dict[str, list[Tensor]] = {way.key: [] for way in ways}
    progress, done, remarks = Progress(f"samples of {said}", count * len(ways)), 0, list[str]()
    for part in parts_of(dataset.shape, list(ways), count):
        made = _part(study, dataset, model, part.sampling, part.rows, seed, slices, device)
        if part.rows.start == 0 and model.kind != "checkpoint":  # whose units are its format's
            count_of_steps = f"{part.sampling.steps} step{'s' if part.sampling.steps > 1 else ''}"
            remarks += [f"in {count_of_steps}: {one}" for one in check_scale(made, dataset, study.sigma_d, said)]
        parts[part.sampling.key].append(made)
        done += len(part.rows)
        progress.update(done)
    return {key: torch.cat(made) for key, made in parts.items()}, remarks


def _part(
    study: Study, dataset: Dataset, model: OutsideModel, way: Sampling, rows: range, seed: int, slices: int,
    device: torch.device,
) -> Tensor:  # fmt: skip
    """The samples of some rows, on the CPU: from the noise and labels of the study's own runs."""
    noise, labels = noise_of_rows(seed, rows, slices, dataset).to(device), labels_of_samples(rows, dataset)
    seed_globals(seed, "sample", way.key, rows.start)  # of a model that draws
    with torch.no_grad(), products(device, tf32=False):
        made = model.draw(way, noise, None if labels is None else labels.to(device)).cpu()
    if lost := not_numbers(made):
        problem = f"{lost} of {len(made)} samples by {way.key} are not numbers"
        raise BenchError(problem, key="WHAT", remedy="mend the model: what is not finite has no distance")
    return made


def _measured(kind: Any, dataset: Dataset, drawn: Tensor, columns: dict[str, Any], said: str) -> list[Value]:
    with _one_thread():
        found, fault = judge_drawn(kind, dataset, drawn, wanted_of(kind, None))
    _refuse(fault, said)
    return [Value(metric=name, value=value, **columns) for name, value in found.items()]


def _refuse(fault: str | None, said: str) -> None:
    if fault:
        raise BenchError(fault, key=said, remedy="look at the samples: something of them cannot be measured")


def _since(started: float) -> float:
    return time.monotonic() - started
