"""Judge one trained and sampled run, and write its record, metrics.json."""

import contextlib
import csv
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trigbench.core.condition import Condition
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, interpolate, velocity
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.randomness import generator, seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import carried, device_name, device_of, on
from trigbench.workflow.machine.files import read_arrays, read_json
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.machine.provenance import peak_memory_mb, provenance
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import check_weights, make_network, open_data, snapshot_steps, student_field
from trigbench.workflow.run.batches import mapped
from trigbench.workflow.run.judging import judge_drawn, judge_field, wanted_of
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.study.freshness import made_from
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.protocol import protocol
from trigbench.workflow.study.records import RunRecord, Value, read_record, write_record
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Sampling, Study

AGAIN = "delete the run's folder; the workflow makes it again"
MAP = "map"
"""In RunRecord.lost, beside the keys of samplings."""
TANGENT_POINTS, TANGENT_ANGLES = 128, 25
"""Of the norms of the network's tangent along the angle."""


def evaluate(study: Study, run: Run, seconds: dict[str, float]) -> RunRecord:
    """Write metrics.json from weights and samples; `seconds` are the parts that came before.

    What an earlier record of the same settings says of them, and of its memory, is kept. Raises BenchError where the
    weights were trained from other settings, mathematics, data or teacher than it would be judged by.
    """
    started = time.monotonic()
    out, arm = study.run_folder(run), study.arms[run.arm]
    training: dict[str, Any] = read_json(out / "training.json", AGAIN)
    noted = _still_made_from(study, run, training)
    earlier = _earlier(out / "metrics.json")
    if earlier is not None and earlier.fingerprint != noted["fingerprint"]:
        earlier = None
    seconds = {**earlier.seconds, **seconds} if earlier else seconds
    dataset, kind = open_data(study, arm), kind_module(study.data[arm.data])
    device = device_of(study.device, study.file)
    weights = on(device, read_tensors(out / "weights.safetensors", AGAIN))
    samples = {key: torch.from_numpy(values) for key, values in read_arrays(out / "samples.npz", AGAIN).items()}
    metrics, curves, ways = [], [], {sampling.key: sampling for sampling in study.samplings(run.arm)}
    lost: dict[str, str] = {}
    judged = arm.method.sampler == "few" and not arm.told  # a map from every angle down to 0
    network = make_network(study, arm, dataset)
    check_weights(study, arm, network, weights)
    seed_globals(study.evaluation.seed, "evaluate")  # of a network of one's own that draws
    if training["reason"] is None:
        if judged:
            field = carried(student_field(study, arm, network, weights), device)
            metrics, curves, fault = judge_field(kind, dataset, field)
            lost |= {MAP: fault} if fault else {}
        if not arm.told:
            curves += tangent_norms(study, dataset, partial(student_field, study, arm, network, weights))
        for key, drawn in samples.items():
            sign_of_life()
            found, fault = judge_drawn(kind, dataset, drawn, wanted_of(kind, ways[key].metrics))
            metrics += _of_samples(ways[key], found)
            lost |= {key: fault} if fault else {}
        curves += _along_training(study, run, arm, out)
    else:
        metrics = [Value(metric=m, value=None) for m in kind.METRICS["map"] if judged]
        for key in samples:
            metrics += _of_samples(ways[key], dict.fromkeys(wanted_of(kind, ways[key].metrics)))
    log = _read_log(out / "log.csv")
    metrics += _costs(arm, training, log)
    curves += [Value(metric="log_weight", x=t, value=w) for t, w in training["log_weight"]]
    record = RunRecord(
        status="diverged" if training["reason"] or lost else "finished",
        **noted,
        arm=run.arm,
        seed=run.seed,
        step=training["step"],
        last_good_checkpoint=training["last_good_checkpoint"],
        reason=training["reason"] or "; ".join(f"{key}: {fault}" for key, fault in lost.items()) or None,
        lost=list(lost),
        last_direction_norm=training["last_direction_norm"],
        parameters=sum(p.numel() for p in network.parameters()),
        metrics=metrics,
        curves=curves + _log_curves(log),
        seconds={**seconds, "train": round(training["seconds"], 3), "evaluate": round(time.monotonic() - started, 3)},
        peak_memory_mb=max(peak_memory_mb(), earlier.peak_memory_mb if earlier else 0.0),
        provenance=provenance(device_name(device)) | {"tf32": training.get("tf32")},
        protocol=protocol(study, run),
    )
    write_record(out / "metrics.json", record)
    return record


def _still_made_from(study: Study, run: Run, training: Mapping[str, Any]) -> dict[str, Any]:
    """What training noted that it was made from, which is what it would be made from now, or BenchError."""
    now = made_from(study, run)
    if other := [name for name, value in now.items() if training.get(name) != value]:
        problem = f"{run.arm} seed {run.seed} was trained from something else: its {' and '.join(other)} changed since"
        remedy = "make the run again, by the workflow or by trigbench.workflow.steps.run"
        raise BenchError(problem, file=study.run_folder(run) / "training.json", remedy=remedy, again=True)
    return now


def _earlier(path: Path) -> RunRecord | None:
    """The record that is about to be replaced; None where there is none that can be read."""
    with contextlib.suppress(BenchError):
        return read_record(path)
    return None


def _of_samples(way: Sampling, found: Mapping[str, float | None]) -> list[Value]:
    return [Value(metric=name, value=value, **way.columns) for name, value in found.items()]


def _along_training(study: Study, run: Run, arm: Arm, out: Path) -> list[Value]:
    """The main sampler's metrics of every snapshot, as curves over the optimiser step."""
    if arm.snapshots is None:
        return []
    kept = read_tensors(out / "snapshots.safetensors", AGAIN)
    kind, dataset = kind_module(study.data[arm.data]), open_data(study, arm)
    main = study.samplers_of(run.arm)[0]
    ways = {way.key: way for way in study.samplings(run.arm) if way.sampler == main}
    count = study.evaluation.snapshot_samples or study.evaluation.samples
    curves = []
    for step in snapshot_steps(arm):
        weights = {n.removeprefix(f"{step}/"): w for n, w in kept.items() if n.startswith(f"{step}/")}
        for key, drawn in draw_samples(study, arm, weights, list(ways.values()), count).items():
            sign_of_life()
            found, _ = judge_drawn(kind, dataset, drawn, wanted_of(kind, study.evaluation.snapshot_metrics))
            values = _of_samples(ways[key], found)
            curves += [value.model_copy(update={"x": float(step)}) for value in values]
    return curves


def tangent_norms(study: Study, dataset: Dataset, field_of: Callable[[Condition], Field]) -> list[Value]:
    """Norms of dF/dx v and of dF/dt along the angle, v the velocity of drawn pairs (arXiv 2410.11081, Fig. 4)."""
    device = device_of(study.device, study.file)
    x0, condition = dataset.draw(generator("tangent norms"), TANGENT_POINTS)
    z = torch.randn(x0.shape, generator=generator("tangent norms", "noise")).to(device)
    x0, field = x0.to(device), field_of(mapped(lambda part: part.to(device), condition))
    found = []
    for angle in torch.linspace(0.05, largest_angle(study.sigma_d), TANGENT_ANGLES, dtype=torch.float64):
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


def _costs(arm: Arm, training: Mapping[str, Any], log: Sequence[Mapping[str, float]]) -> list[Value]:
    """What training took besides time; spikes are the largest norm of any step over the median of the log."""
    found = [
        Value(metric="images_seen", value=float(training["step"] * arm.batch)),
        Value(metric="rate", value=training["rate"]),
    ]
    for name in ("direction", "gradient"):
        middle = statistics.median(row[f"{name}_norm"] for row in log) if log else 0.0
        spike = max(row[f"{name}_norm_max"] for row in log) / middle if middle else None
        found.append(Value(metric=f"{name}_spike", value=None if training["reason"] else spike))
    return found


def _read_log(path: Path) -> list[dict[str, float]]:
    with path.open(encoding="utf-8") as handle:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(handle)]


def _log_curves(log: Sequence[Mapping[str, float]]) -> list[Value]:
    """The training log's columns as curves over the step."""
    columns = [name for name in log[0] if name not in ("step", "rate")] if log else []
    return [Value(metric=f"training_{c}", x=row["step"], value=row[c]) for c in columns for row in log]
