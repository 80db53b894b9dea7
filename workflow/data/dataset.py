"""What training, sampling and judging see of a data set."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.condition import UNTOLD, Condition, parts_of
from trigbench.core.trigflow import Field
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import Arrays

NUMBERED = "give each sample one whole number from 0 to {last}: a tensor of ({count},), such as torch.int64"

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Dataset:
    """A prepared data set, in unit variance."""

    shape: tuple[int, ...]
    classes: int
    draw: Callable[[torch.Generator, int], tuple[Tensor, Any]]
    """(generator, batch) -> (x0 of (batch, *shape), the core.condition.Condition with its label of (batch,) from 0 to
    classes - 1, where there are classes, and its observation of (batch, *any), where samples are told such; else
    UNTOLD). One of somebody's own may give the labels alone, or None; `checked` makes these a Condition."""
    velocity: Field | None
    """The exact diffusion field, where it is known."""
    arrays: Arrays
    """As prepared, for the judges."""
    shares: tuple[float, ...] | None = None
    """Of each class among what samples are held against, in any unit, so that counts will do: samples are labelled in
    these shares. None without classes."""
    observed: Tensor | None = None
    """Observations (n, *any), float32, that samples are told by their row, the first again after the last; as of
    held-out data. None where nothing is observed."""

    @property
    def observed_shape(self) -> tuple[int, ...] | None:
        """Of one observation; None where nothing is observed."""
        return None if self.observed is None else tuple(self.observed.shape[1:])


def checked(dataset: Dataset, key: str, file: Path | None = None) -> Dataset:
    """The same, whose every draw is held against what it says of itself; a draw that differs raises BenchError.

    A label that is no class would train what networks are told where there is no label, and samples, which have
    labels, would be of something else. `key` and `file` say where a study names the data. Looks at the CPU's numbers.
    """

    def refused(problem: str, remedy: str) -> BenchError:
        return BenchError(f"the data set {problem}", file=file, key=key, remedy=remedy)

    shares = () if dataset.shares is None else dataset.shares
    counted = len(shares) == dataset.classes and all(share >= 0 for share in shares)
    if not counted or (dataset.classes and not 0 < sum(shares) < math.inf):
        problem = f"has {dataset.classes} classes and these shares of them: {dataset.shares}"
        remedy = "give one number for each class, such as its count; equal ones to draw samples of every class alike"
        raise refused(problem, remedy)

    def draw(g: torch.Generator, batch: int) -> tuple[Tensor, Condition]:
        x0, said = dataset.draw(g, batch)
        expected = (batch, *dataset.shape)
        if not isinstance(x0, Tensor) or x0.shape != expected or not x0.is_floating_point():
            problem = f"draws {_described(x0)}, where floats of {expected} were expected"
            raise refused(problem, "let 'shape' be that of one sample, and draw torch.float32")
        if not bool(x0.isfinite().all()):
            problem = f"draws samples that are not numbers, {not_numbers(x0)} of {batch}"
            raise refused(problem, "take them out when the data are prepared")
        parts = parts_of(said) if isinstance(said, Condition) else {"label": said}
        if more := parts.keys() - {"label", "observation"}:
            remedy = "let it be None: scales and target times are the workflow's"
            raise refused(f"draws {min(more)!r} in its condition", remedy)
        labels, seen = parts.get("label"), parts.get("observation")
        if fault := _fault_of_observations(seen, batch, dataset.observed_shape):
            raise refused(f"draws {fault}", "give 'observed' what samples are told, and draw such, in float32")
        if (labels is None) != (dataset.classes == 0):
            drawn = "no labels" if labels is None else "labels"
            raise refused(f"has {dataset.classes} classes and draws {drawn}", "let both say whether there are labels")
        if labels is None:
            return x0, UNTOLD if seen is None else Condition(observation=seen)
        if fault := fault_of_labels(labels, batch, dataset.classes):
            remedy = NUMBERED.format(last=dataset.classes - 1, count=batch)
            raise refused(f"has {dataset.classes} classes and draws {fault}", remedy)
        return x0, Condition(label=labels.long(), observation=seen)

    return dataclasses.replace(dataset, draw=draw)


def fault_of_labels(labels: Tensor, count: int, classes: int) -> str | None:
    """What is wrong with labels that should be whole numbers of (count,) from 0 to classes - 1; None where nothing."""
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.dtype not in WHOLE:
        return f"labels that are {_described(labels)}"
    low, high = (int(end) for end in labels.aminmax()) if count else (0, 0)
    return None if low >= 0 and high < classes else f"labels from {low} to {high}"


def _fault_of_observations(seen: Any, count: int, shape: tuple[int, ...] | None) -> str | None:
    """What is wrong with observations that should be one of this shape a sample, or None; None where nothing."""
    expected = None if shape is None else (count, *shape)
    is_right = isinstance(seen, Tensor) and seen.shape == expected and seen.dtype == torch.float32
    if not (is_right or seen is expected is None):
        wanted = "none" if expected is None else f"float32 of {expected}"
        return f"observations: {'none' if seen is None else _described(seen)}, where {wanted} was expected"
    if seen is not None and (lost := not_numbers(seen)):
        return f"observations that are not numbers, {lost} of {count}"
    return None


def checked_labels(labels: Tensor, count: int, classes: int, file: Path | None = None) -> Tensor:
    """Prepared labels as int64. Raises BenchError unless there are so many of so many classes."""
    if fault := fault_of_labels(labels, count, classes):
        remedy = f"delete the prepared .npz to prepare the data again; {NUMBERED.format(last=classes - 1, count=count)}"
        raise BenchError(f"{classes} classes, {count} samples, and {fault}", file=file, key="data", remedy=remedy)
    return labels.long()


def not_numbers(samples: Tensor) -> int:
    """How many of the samples (n, ...) hold something that is not a finite number."""
    return int((~samples.flatten(1).isfinite()).any(1).sum())


def _described(drawn: Any) -> str:
    return f"{drawn.dtype} of {tuple(drawn.shape)}" if hasattr(drawn, "dtype") else f"a {type(drawn).__name__}"
