"""Samples of a run along its training, from what it has kept so far; for whoever watches it."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.study.places import RunFiles
from trigbench.workflow.study.study import Run, Study

COUNT = 64
"""Samples of each, on the CPU: the device is the run's that trains."""
WITHIN = "snapshots/"
"""Where a checkpoint has them."""


def snapshot_samples(
    study: Study, run: Run, known: Collection[int], count: int = COUNT
) -> Iterator[tuple[int, list[tuple[Run, int, np.ndarray]]]]:
    """(step, samples by number of sampling steps) of the main sampler, unguided; but those of the `known` steps."""
    kept = _kept(study.files(run))
    main = study.samplers_of(run.arm)[0]
    ways = [way for way in study.samplings(run.arm) if way.sampler == main and way.guidance in (None, 1.0)]
    here = study.model_copy(update={"device": "cpu"})
    for step in sorted({int(name.partition("/")[0]) for name in kept} - set(known)):
        weights = {name.removeprefix(f"{step}/"): kept[name] for name in kept if name.startswith(f"{step}/")}
        drawn = draw_samples(opened(here, run), weights, ways, count)
        yield step, [(run, way.steps, drawn[way.key].numpy()) for way in ways]


def _kept(files: RunFiles) -> Mapping[str, Tensor]:
    """As `<step>/<name>`: of a trained run from its file, else from the newest checkpoint, which is left as it is."""
    if not files.growing_log.is_file() and files.snapshots.is_file():
        return read_tensors(files.snapshots, "delete the run's folder; the workflow makes it again")
    for seal in sorted(files.checkpoints.glob("step-*.json"), reverse=True):
        with contextlib.suppress(BenchError, OSError, TypeError):  # replaced meanwhile, or damaged: the one before
            return _within(seal)
    return {}


def _within(seal: Path) -> dict[str, Tensor]:
    tensors = checkpoints.open_sealed(seal).tensors
    return {name.removeprefix(WITHIN): tensors[name] for name in tensors if name.startswith(WITHIN)}
