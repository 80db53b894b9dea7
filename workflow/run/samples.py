"""Samples of one trained run in their file: drawn by one process or several, gone on with where one was stopped."""

import itertools
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.checkpoints import SAVE_EVERY
from trigbench.workflow.machine.devices import device_name, device_of
from trigbench.workflow.machine.files import names_of_arrays, read_arrays, sha256, write_arrays
from trigbench.workflow.machine.provenance import peak_memory_mb, provenance
from trigbench.workflow.machine.stopping import StopNow, stopping
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.distributed import World, world_of
from trigbench.workflow.run.sampling import Part, Place, draw_parts, parts_of, put, room_for_samples
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.freshness import drawn_from, made_from
from trigbench.workflow.study.places import RunFiles
from trigbench.workflow.study.records import AGAIN, SamplesRecord, TrainingRecord, read_training, write_record
from trigbench.workflow.study.study import Run, Study

REMOVE = "delete it; the samples in it are drawn again"


def sample(study: Study, run: Run, time_limit: float | None = None) -> float:
    """Write samples.npz (one array per Sampling.key, unit variance; empty for a diverged run) and samples.json, and
    return seconds.

    Under torchrun all processes call it, each draws its share, and the first one writes the file. What an earlier
    call, of any number of processes, has left of these weights' samples is gone on with. Raises BenchError where the
    weights are of other settings, mathematics, data or teacher than now, and, with what is drawn saved, shortly before
    `time_limit` (minutes of this process), the end of its Slurm job, and at SIGTERM.
    """
    started = time.monotonic()
    samplings = study.samplings(run.arm)
    with (
        stopping(time_limit) as stop_now,
        world_of(device_of(study.device, study.file), study.resources.patience) as world,
    ):
        world.wait()  # for the first one's files
        training, noted, task = weights_of_now(study, run), drawn_from(study, run), opened(study, run)
        diverged = training.reason is not None
        files, count, shape = task.files, 0 if diverged else study.evaluation.samples, task.data.shape
        samples = room_for_samples(shape, samplings, count) if world.first else {}  # or end before any is drawn
        parts = parts_of(shape, samplings, count)
        begun, fresh = _draw_share(task, noted, parts, world, stop_now)
    if world.first:
        missing = {part.place for part in parts}
        for place, made in itertools.chain(_saved(begun), _taken(fresh)):
            put(samples, place, made)
            missing.discard(place)
        if missing:
            raise BenchError(
                f"samples are missing: {sorted(missing)}", file=begun, remedy="run again to draw them", again=True
            )
        seconds = round(time.monotonic() - started, 3)
        about = {"peak_memory_mb": peak_memory_mb(), "provenance": provenance(device_name(world.device))}
        for record in (files.metrics, files.samples_record):  # of other samples
            record.unlink(missing_ok=True)
        write_arrays(files.samples, {key: drawn.numpy() for key, drawn in samples.items()})
        write_record(files.samples_record, SamplesRecord(**noted, seconds=seconds, **about))
    return time.monotonic() - started


def weights_of_now(study: Study, run: Run) -> TrainingRecord:
    """What training has left. Raises BenchError unless it was of what it would be of now."""
    file = study.files(run).training
    training, now = read_training(file), made_from(study, run)
    if other := [name for name, value in now.items() if getattr(training, name) != value]:
        problem = f"{run.arm} seed {run.seed} was trained from something else: its {' and '.join(other)} changed since"
        remedy = "make the run again, by the workflow or by trigbench.workflow.steps.run"
        raise BenchError(problem, file=file, remedy=remedy, again=True)
    return training


def _draw_share(
    task: Task, noted: Mapping[str, Any], parts: list[Part], world: World, stop_now: StopNow
) -> tuple[Path, dict[Place, Tensor]]:
    """Draw this process's share of what was not drawn before: (where parts are saved, those that are not).

    Everything is saved where several processes draw, or some of it was.
    """
    files = task.files
    begun = files.parts_of_samples(digest([noted["fingerprint"], sha256(files.weights)], []))
    done = {place for file in _files(begun) for place in map(_place, names_of_arrays(file, REMOVE))}
    world.wait()  # before one saves what another has not counted
    left = [part for part in parts if part.place not in done]
    share = world.share(len(left))
    weights, samplings = read_tensors(files.weights, AGAIN), task.study.samplings(task.run.arm)
    fresh, saved, stop = dict[Place, Tensor](), time.monotonic(), None
    for place, made in draw_parts(task, weights, samplings, left[share.start : share.stop]):
        fresh[place] = made
        stop = stop_now()
        if stop or time.monotonic() - saved >= SAVE_EVERY:
            _save(begun, fresh)
            saved = time.monotonic()
        if stop:
            break
    if fresh and (world.size > 1 or _files(begun)):
        _save(begun, fresh)
    if stop := world.agreed(stop):  # when all have saved
        problem = f"{stop}: stopped in drawing samples, with those that were drawn"
        raise BenchError(problem, file=begun, remedy="run again to go on", again=True)
    return begun, fresh


def _save(begun: Path, fresh: dict[Place, Tensor]) -> None:
    """Move what was drawn to a file of its own, named after the first of it, as every process has its own."""
    key, first = next(iter(fresh))
    arrays = {f"{k} {row}": made.numpy() for (k, row), made in fresh.items()}
    write_arrays(begun / f"{key}-{first}.npz", arrays)
    fresh.clear()


def _files(begun: Path) -> list[Path]:
    """What was saved; no file that a killed process has left half-written."""
    return sorted(begun.glob("[!.]*.npz"))


def _saved(begun: Path) -> Iterator[tuple[Place, Tensor]]:
    for file in _files(begun):
        for name in names_of_arrays(file, REMOVE):
            yield _place(name), torch.from_numpy(read_arrays(file, REMOVE, {name})[name])


def _taken(fresh: dict[Place, Tensor]) -> Iterator[tuple[Place, Tensor]]:
    """Everything, each out of memory when the next is asked for."""
    while fresh:
        yield fresh.popitem()


def _place(name: str) -> Place:
    key, first = name.rsplit(" ", 1)
    return key, int(first)


def remove_parts(files: RunFiles) -> None:
    """Remove the parts of a run's samples, of other weights too: when it is judged, as its job may end before."""
    for folder in files.checkpoints.glob(files.parts_of_samples("*").name):
        shutil.rmtree(folder)
