"""What two low-rank adapters of the same weights do together: a style's, and an acceleration's, as LCM-LoRA's.

What they do beyond what each does alone (core.low_rank.interaction), and how far samples of their weighted sum are from
the style's data: the student's own map, with W + 0.8 style + 1.0 acceleration for weights (arXiv 2311.05556).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.fields import bind
from trigbench.core.low_rank import Tensors, interaction, merged
from trigbench.core.trigflow import interpolate
from trigbench.workflow.data.dataset import not_numbers
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.devices import on
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import started_modules
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import Task, open_teacher, opened
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.combined import style_and_acceleration
from trigbench.workflow.study.kinds import kind_module, metrics_of
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Run, Study

PAPER = (0.8, 1.0)
"""Scales of the style and of the acceleration, as the paper's figures have them."""
SCALES = (0.25, 0.5, 1.0)
"""Of both, along which the interaction grows."""
ANGLES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.55)
POINTS = 128
"""At each angle, of the acceleration's data."""
SUM, ALONE = "sum", "acceleration"
"""Samplers of the rows of samples: of both adapters, and of the acceleration's."""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Two adapted runs of a seed."""

    style: Task
    acceleration: Task
    network: nn.Module
    weights: Tensors
    """From which both started."""
    adapters: tuple[Tensors, Tensors]

    def scaled(self, style: float, acceleration: float) -> tuple[tuple[Tensors, float], tuple[Tensors, float]]:
        """Both adapters with their scales."""
        return (self.adapters[0], style), (self.adapters[1], acceleration)


def measure(study: Study, experiment: str) -> Measured:
    """Of every seed that both arms have an adapter of; one that is not of numbers has no rows."""
    try:
        style, acceleration = style_and_acceleration(study, experiment)
    except Mistake as error:
        key, _, problem = str(error).partition(": ")
        raise BenchError(problem, file=study.file, key=key, remedy=error.remedy) from error
    found = Measured()
    for seed in study.seeds_of(experiment):
        pair = _pair(*(opened(study, Run(arm=arm, seed=seed)) for arm in (style, acceleration)))
        if pair is not None:
            _add_interaction(found, pair)
            found.runs.extend(_judged(pair))
    return found


def _pair(style: Task, acceleration: Task) -> Adapted | None:
    tasks, device = (style, acceleration), style.device
    if not all(task.files.adapter.is_file() for task in tasks):
        return None
    one, other = (on(device, read_tensors(task.files.adapter, "delete the run's folder")) for task in tasks)
    if not all(bool(part.isfinite().all()) for part in (*one.values(), *other.values())):
        return None
    network = started_modules(dataclasses.replace(acceleration, teacher=open_teacher(acceleration))).student.eval()
    return Adapted(style, acceleration, network, kept_of(network), (one, other))


def _add_interaction(found: Measured, pair: Adapted) -> None:
    """At every angle at the paper's scales, and over all of them as the scales grow."""
    run = pair.acceleration.run
    x, t, condition = _points(pair.acceleration)

    def evaluate(weights: Tensors) -> Tensor:
        with torch.no_grad():
            return bind(pair.network, weights, condition)(x, t).double()

    def sizes(*scales: float) -> list[Tensor]:
        """Root mean squares at each angle, of what is left over, and of what each adapter changes."""
        both, start = pair.scaled(*scales), evaluate(pair.weights)
        changes = [evaluate(merged(pair.weights, one)) - start for one in both]
        left = interaction(evaluate, pair.weights, *both)
        return [gap.reshape(len(ANGLES), -1).square().mean(1).sqrt() for gap in (left, *changes)]

    at_paper = sizes(*PAPER)
    grown = [float(_over_all(sizes(scale, scale)[0])) for scale in SCALES]
    left, *changes = map(_over_all, at_paper)
    of_all = {"interaction": left / min(changes), "interaction_order": _order(grown)}
    found.runs.extend(
        Row(Value(metric=name, value=_number(value)), run.arm, run.seed) for name, value in of_all.items()
    )
    by_angle = at_paper[0] / torch.minimum(*at_paper[1:])
    along = {
        "interaction_at": zip(ANGLES, by_angle.tolist(), strict=True),
        "interaction_size": zip(SCALES, grown, strict=True),
    }
    found.curves.extend(
        Row(Value(metric=name, value=_number(value), x=x), run.arm, run.seed)
        for name, points in along.items()
        for x, value in points
    )


def _points(task: Task) -> tuple[Tensor, Tensor, Condition]:
    """Noised data at all angles, the same points at each, of one seed for all runs."""
    g, count = generator(task.study.evaluation.seed, "adapters"), len(ANGLES)
    x0, condition = task.data.draw(g, POINTS)
    noise, t = torch.randn(x0.shape, generator=g), torch.tensor(ANGLES, dtype=torch.float64).repeat_interleave(POINTS)
    label = None if condition.label is None else condition.label.repeat(count).to(task.device)
    again = (count, *[1] * (x0.ndim - 1))
    x = interpolate(x0.repeat(again), noise.repeat(again), t)
    return x.to(task.device), t.to(task.device), Condition(label)


def _order(sizes: list[float]) -> float:
    """p of an interaction ~ scale^p, between the two smallest scales."""
    return math.log(sizes[1] / sizes[0], SCALES[1] / SCALES[0]) if min(sizes[:2]) > 0 else math.nan


def _over_all(sizes: Tensor) -> Tensor:
    return sizes.square().mean().sqrt()


def _number(value: Tensor | float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _judged(pair: Adapted) -> Iterator[Row]:
    """Samples of the sum, and of the acceleration alone, against the style's data: in all steps in which the
    acceleration's are drawn, from the noise and labels of all samples."""
    study, style = pair.style.study, pair.style
    kind, wanted = kind_module(study.data[style.arm.data]), metrics_of(study.data)[style.arm.data]["samples"]
    task, ways = (
        dataclasses.replace(pair.acceleration, data=style.data),
        study.main_samplings(pair.acceleration.run.arm),
    )
    for name, scales in ((SUM, PAPER), (ALONE, (0.0, PAPER[1]))):
        drawn = draw_samples(task, merged(pair.weights, *pair.scaled(*scales)), ways, study.evaluation.samples)
        for way in ways:
            samples, about = drawn[way.key], dict[str, Any](way.columns | {"sampler": name})
            judged = {} if not_numbers(samples) else kind.judge_samples(style.data, samples, wanted)
            for metric in wanted:
                value = Value(metric=metric, value=_number(judged.get(metric, math.nan)), **about)
                yield Row(value, style.run.arm, style.run.seed)
