"""Judge one trained and sampled run, and write its record, metrics.json."""

import csv
import math
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.condition import UNTOLD, Condition
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.noise_left import collapse, worst
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, interpolate, velocity
from trigbench.workflow.data.randomness import generator, seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import carried, device_name, on
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.machine.provenance import peak_memory_mb, provenance
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import check_weights, make_network, student_field
from trigbench.workflow.run.batches import mapped
from trigbench.workflow.run.judging import judge_drawn, judge_field, wanted_of
from trigbench.workflow.run.log import ACTIVE, LEFT, LOG_COLUMNS, NORMS
from trigbench.workflow.run.samples import weights_of_now
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.settings import snapshot_steps
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.fingerprint import marks
from trigbench.workflow.study.freshness import drawn_from, judged_by
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.protocol import protocol
from trigbench.workflow.study.records import (
    AGAIN,
    RunRecord,
    SamplesRecord,
    TrainingRecord,
    Value,
    read_samples,
    write_record,
)
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Sampling, Study

MAP = "map"
"""In RunRecord.lost, beside the keys of samplings."""
TANGENT_POINTS, TANGENT_ANGLES = 128, 25
"""Of the norms of the network's tangent along the angle."""


@dataclass(frozen=True)
class Judged:
    """What is measured of a run."""

    metrics: list[Value]
    curves: list[Value]
    lost: dict[str, str]
    """What is not numbers, and why: samplings by their keys, and MAP."""


def evaluate(study: Study, run: Run) -> RunRecord:
    """Write metrics.json from weights and samples, and from what their records say of them.

    Raises BenchError where the weights were trained, or the samples drawn, from other settings, mathematics, data or
    teacher than these are now.
    """
    started, training = time.monotonic(), weights_of_now(study, run)
    sampled, noted = _samples_of_now(study, run), _noted(study, run, training)  # before data are read
    task = opened(study, run)
    files, arm = task.files, task.arm
    weights = on(task.device, read_tensors(files.weights, AGAIN))
    samples = {key: torch.from_numpy(values) for key, values in read_arrays(files.samples, AGAIN).items()}
    network = make_network(task)
    check_weights(task, network, weights)
    seed_globals(study.evaluation.seed, "evaluate")  # of a network of one's own that draws
    if training.reason is None:
        found = judged(task, partial(student_field, task, network, weights), samples)
        found.curves.extend(_along_training(task))
    else:
        found = _nothing(task, samples)
    log, lost = _read_log(files.log), found.lost
    curves = [*found.curves, *(Value(metric="log_weight", x=t, value=w) for t, w in training.log_weight)]
    seconds = {"start": training.start, "train": round(training.seconds, 3), "sample": sampled.seconds}
    record = RunRecord(
        status="diverged" if training.reason or lost else "finished",
        **noted,
        arm=run.arm,
        seed=run.seed,
        step=training.step,
        last_good_checkpoint=training.last_good_checkpoint,
        reason=training.reason or "; ".join(f"{key}: {fault}" for key, fault in lost.items()) or None,
        lost=list(lost),
        last_direction_norm=training.last_direction_norm,
        parameters=sum(p.numel() for p in network.parameters()),
        metrics=found.metrics + _costs(arm, training, log),
        curves=curves + _log_curves(log),
        seconds={**seconds, "evaluate": round(time.monotonic() - started, 3)},
        peak_memory_mb=max(peak_memory_mb(), training.peak_memory_mb, sampled.peak_memory_mb),
        provenance=provenance(device_name(task.device)) | {"tf32": training.tf32},
        provenance_of={"training": training.provenance, "sampling": sampled.provenance},
        protocol=protocol(study, run),
    )
    write_record(files.metrics, record)
    return record


def judged(task: Task, field_of: Callable[[Condition], Field], samples: Mapping[str, Tensor]) -> Judged:
    """What is measured of the field that a run has trained, told its condition, and of samples by their samplings."""
    kind, ways = _kind(task), _ways(task)
    metrics, curves, lost = list[Value](), list[Value](), dict[str, str]()
    if task.arm.is_map:
        metrics, curves, fault = judge_field(kind, task.data, carried(field_of(UNTOLD), task.device))
        lost |= {MAP: fault} if fault else {}
    if not task.arm.told:
        curves += tangent_norms(task, field_of)
    for key, drawn in samples.items():
        sign_of_life()
        found, fault = judge_drawn(kind, task.data, drawn, wanted_of(kind, ways[key].metrics))
        metrics += _of_samples(ways[key], found)
        lost |= {key: fault} if fault else {}
    return Judged(metrics, curves, lost)


def _nothing(task: Task, samples: Collection[str]) -> Judged:
    """What would be measured of a run that diverged, without values."""
    kind, ways = _kind(task), _ways(task)
    metrics = [Value(metric=m, value=None) for m in kind.METRICS["map"] if task.arm.is_map]
    for key in samples:
        metrics += _of_samples(ways[key], dict.fromkeys(wanted_of(kind, ways[key].metrics)))
    return Judged(metrics, [], {})


def _kind(task: Task) -> Any:
    return kind_module(task.study.data[task.arm.data])


def _ways(task: Task) -> dict[str, Sampling]:
    return {sampling.key: sampling for sampling in task.study.samplings(task.run.arm)}


def _samples_of_now(study: Study, run: Run) -> SamplesRecord:
    """What sampling has left. Raises BenchError unless it was of these weights, and of what it would be of now."""
    file = study.files(run).samples_record
    remedy = "draw them again by trigbench.workflow.steps.sample, or make the run again"
    sampled, now = read_samples(file, remedy), drawn_from(study, run)
    if sampled.weights != now["weights"]:
        problem = f"{file.with_suffix('.npz')} holds samples of other weights"
        raise BenchError(problem, file=file, remedy=remedy, again=True)
    if sampled.fingerprint != now["fingerprint"]:
        problem = f"{run.arm} seed {run.seed} was sampled otherwise: settings or mathematics of sampling changed since"
        raise BenchError(problem, file=file, remedy=remedy, again=True)
    return sampled


def _noted(study: Study, run: Run, training: TrainingRecord) -> dict[str, Any]:
    """What the record says that it was made from."""
    mark = marks(study.specification(run))
    parts = {"training": mark.training, "sampling": mark.sampling}
    inputs = {**training.inputs, "judged": judged_by(study, run)}
    return {"fingerprint": mark.evaluation, "parts": parts, "inputs": inputs}


def _of_samples(way: Sampling, found: Mapping[str, float | None]) -> list[Value]:
    return [Value(metric=name, value=value, **way.columns) for name, value in found.items()]


def _along_training(task: Task) -> list[Value]:
    """The main sampler's metrics of every snapshot, as curves over the optimiser step."""
    if task.arm.snapshots is None:
        return []
    kept, kind, study = read_tensors(task.files.snapshots, AGAIN), _kind(task), task.study
    main = study.samplers_of(task.run.arm)[0]
    ways = {key: way for key, way in _ways(task).items() if way.sampler == main}
    count = study.evaluation.snapshot_samples or study.evaluation.samples
    curves = []
    for step in snapshot_steps(task.arm):
        weights = {n.removeprefix(f"{step}/"): w for n, w in kept.items() if n.startswith(f"{step}/")}
        for key, drawn in draw_samples(task, weights, list(ways.values()), count).items():
            sign_of_life()
            found, _ = judge_drawn(kind, task.data, drawn, wanted_of(kind, study.evaluation.snapshot_metrics))
            values = _of_samples(ways[key], found)
            curves += [value.model_copy(update={"x": float(step)}) for value in values]
    return curves


def tangent_norms(task: Task, field_of: Callable[[Condition], Field]) -> list[Value]:
    """Norms of dF/dx v and of dF/dt along the angle, v the velocity of drawn pairs (arXiv 2410.11081, Fig. 4)."""
    device = task.device
    x0, condition = task.data.draw(generator("tangent norms"), TANGENT_POINTS)
    z = torch.randn(x0.shape, generator=generator("tangent norms", "noise")).to(device)
    x0, field = x0.to(device), field_of(mapped(lambda part: part.to(device), condition))
    found = []
    for angle in torch.linspace(0.05, largest_angle(task.study.sigma_d), TANGENT_ANGLES, dtype=torch.float64):
        t = angle.to(device).expand(len(x0))
        x, v = interpolate(x0, z, t), velocity(x0, z, t)
        zero = torch.zeros_like(x), torch.zeros_like(t)
        with torch.no_grad():
            _, space = value_and_tangent(field, (x, t), (v, zero[1]))
            _, passing = value_and_tangent(field, (x, t), (zero[0], torch.ones_like(t)))
        for name, part in (("space_tangent", space), ("time_tangent", passing)):
            norm = part.flatten(1).square().mean(1).sqrt().mean().item()
            found.append(Value(metric=name, x=float(angle), value=norm if math.isfinite(norm) else None))
    return found


def _costs(arm: Arm, training: TrainingRecord, log: Sequence[Mapping[str, float]]) -> list[Value]:
    """What training took besides time; spikes are the largest norm of any step over the median of the log."""
    found = [
        Value(metric="images_seen", value=float(training.step * arm.batch)),
        Value(metric="rate", value=training.rate),
    ]
    for name in ("direction", "gradient"):
        middle = statistics.median(row[f"{name}_norm"] for row in log) if log else 0.0
        spike = max(row[f"{name}_norm_max"] for row in log) / middle if middle else None
        found.append(Value(metric=f"{name}_spike", value=None if training.reason else spike))
    return found + _activity(log) + _collapse(training)


def _activity(log: Sequence[Mapping[str, float]]) -> list[Value]:
    """How far clipping and the bound of the adaptive weight acted, mean over steps; of a run that has them."""
    steps = [row["step"] - before for row, before in zip(log, [0.0, *(row["step"] for row in log)], strict=False)]
    found = []
    for name in ACTIVE:
        if log and all(name in row for row in log):
            mean = sum(row[name] * n for row, n in zip(log, steps, strict=True)) / sum(steps)
            found.append(Value(metric=name, value=mean))
    return found


def _collapse(training: TrainingRecord) -> list[Value]:
    """Of a run whose student was looked at, and can be told from a dead map in some bin of time."""
    known = [(left, taught, passed) for _, passed, left, taught in training.noise_left if left is not None]
    told = [collapse(left, taught, passed) for left, taught, passed in known if taught is not None]
    found = worst(torch.tensor(told, dtype=torch.float64))
    return [] if math.isnan(found) else [Value(metric="collapse", value=None if training.reason else found)]


def _read_log(path: Path) -> list[dict[str, float]]:
    """Its rows, without the cells that are empty."""
    with path.open(encoding="utf-8") as handle:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(handle)]


def _log_curves(log: Sequence[Mapping[str, float]]) -> list[Value]:
    """The training log's columns as curves over the step; those of bins where there was a look."""
    columns = [name for name in LOG_COLUMNS if name not in ("step", "rate")]
    shown = {c: [row for row in log if c in row and (c not in NORMS or LEFT[0] in row)] for c in columns}
    return [Value(metric=f"training_{c}", x=row["step"], value=row[c]) for c in columns for row in shown[c]]
