"""Zero-shot editing (CM, arXiv 2303.01469, Sec. 4.2) held against what it should sample.

On a mixture the posterior of data given what is seen is known: EDIT_wasserstein is the distance of edits to exact draws
of it, of trained maps, and, in place of an arm, of the exact map and the exact velocity. On images EDIT_fd is the
distance of edits of held-out images, one of each, to the training part, as draws from the posterior would have about
that of held-out images; where the law of what is not seen is known, exact draws of it stand beside.
Beside them EDIT_missed, EDIT_diversity and EDIT_agreement, all by evaluations; and for a Gaussian, in closed form,
edit_gap, the distance of CM's edits by its exact map to the posterior.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from trigbench.core import oracle, posterior
from trigbench.core.condition import UNTOLD, Condition
from trigbench.core.operators import bases, mask, observe
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field, cos_sin
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.data.labelled import Labelled
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import carried
from trigbench.workflow.machine.named import imported
from trigbench.workflow.run.assembly import boundary_of
from trigbench.workflow.run.editing import Edit, bound, edits_of, even_times, is_map, is_velocity
from trigbench.workflow.run.measurements.edited import STEPS, Seen, Way, by_map, by_velocity, noise_of
from trigbench.workflow.run.measurements.edited_images import (
    MEASURES,
    SHOWN,
    held_images,
    judge_images,
    seen_strip,
    strip_of,
)
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.measurements.trained import trained
from trigbench.workflow.run.task import Task, open_data, opened
from trigbench.workflow.study.edits import EXACT, edits_asked
from trigbench.workflow.study.kinds import Images, data_kind, kind_module
from trigbench.workflow.study.records import REAL, Value
from trigbench.workflow.study.study import Study

OBSERVATIONS = 8
"""Of a mixture, each edited as often as there are samples for it."""
FOLLOWED_IN = 24
"""Runge-Kutta steps of an exact map."""
CORRELATION, FIRST = 0.8, 1.5
"""Of a Gaussian in two dimensions, and its first coordinate."""
IN_CLOSED_FORM = (*STEPS, 200, 1000)
DRAWN = (1, 4, 40)
"""Steps of edits in the picture."""
Ways = list[tuple[str, list[Way]]]
"""By arm."""
OF_A_MIXTURE = ("wasserstein", "missed", "diversity")
"""What is measured of its edits."""
MIXTURES_HAVE = {"weights", "means", "stds"}
"""Arrays by which a posterior is known."""


@dataclass(frozen=True)
class About:
    """What all of a measurement is of."""

    study: Study
    name: str
    """Of the data."""
    seeds: tuple[int, ...]

    @cached_property
    def dataset(self) -> Dataset:
        return open_data(self.study, self.name)

    @cached_property
    def images(self) -> Images | None:
        """How points are seen as images, with as many real ones as are shown."""
        seen_by = data_kind(self.study.data[self.name]).images
        return seen_by(self.dataset.arrays, SHOWN) if seen_by else None

    @property
    def fold(self) -> int:
        """By how much pixels are folded into channels."""
        return self.images.fold if self.images else 1


def measure(study: Study, experiment: str) -> Measured:
    """Of every run. Raises BenchError for arms that cannot edit, and for data without a truth."""
    about = About(study, _data(study, experiment), study.seeds_of(experiment))
    found, known = Measured(), about.dataset.arrays.keys() >= MIXTURES_HAVE
    asked = edits_asked(study.experiments[experiment].metric)
    edits = [edit for edit in edits_of(about.dataset.shape, about.fold) if edit.name in asked]
    for seed in about.seeds:
        tasks = [opened(study, run) for run in study.runs_of(experiment) if run.seed == seed]
        for edit in edits:
            ways = [(task.run.arm, ways) for task in tasks if (ways := _ways(task, edit))]
            if known:
                _add_mixture(found, about, edit, seed, [(EXACT, _exact(about.dataset)), *ways])
            else:
                _add_images(found, about, edit, seed, ways)
    if known:
        found.curves.extend(_closed_form(study.sigma_d))
    return found


def _data(study: Study, experiment: str) -> str:
    arms = {arm: study.arms[arm] for arm in study.arms_of(experiment)}
    names = list(dict.fromkeys(arm.data for arm in arms.values()))
    others = [name for name, arm in arms.items() if not (is_velocity(arm) or is_map(arm))]
    problem = f"its arms have the data {', '.join(names)}" if len(names) > 1 else ""
    if others:
        problem = f"{', '.join(others)}: neither a diffusion model nor a map from every angle to data"
    elif not problem:
        problem = _unfit(study, names[0], study.experiments[experiment].metric)
    if problem:
        remedy = "measure editing of such arms, all of them on one mixture, or on images that a classifier judges"
        raise BenchError(problem, file=study.file, key=f"experiments.{experiment}.measurement", remedy=remedy)
    return names[0]


def _unfit(study: Study, name: str, metric: str) -> str:
    """Why edits of these data cannot be judged, or not by that metric; empty where they can."""
    dataset, (edit, _, asked) = open_data(study, name), metric.partition("_")
    if dataset.arrays.keys() >= MIXTURES_HAVE:
        there = {*OF_A_MIXTURE, "gap"}
    else:
        try:
            truth = _labelled(study, name, dataset).truths.get(edit)
        except LookupError as error:
            return f"{name!r} has no exact posterior, and {error.args[0]}"
        there = {*MEASURES, *(truth.measures if truth else ())}
    return "" if asked in there else f"of edits of {name!r} there is no {metric}"


def _labelled(study: Study, name: str, dataset: Dataset) -> Labelled:
    """Raises LookupError where there is none."""
    place = data_kind(study.data[name]).labelled
    if place is None:
        raise LookupError("no held-out images of known classes")
    return imported(place, "data").labelled(dataset)


def _ways(task: Task, edit: Edit) -> list[Way]:
    """Of a run; none where its weights are not there or are not numbers."""
    left = trained(task)
    if left is None:
        return []
    field_of = _carried(bound(task, *left), task.device)
    if is_velocity(task.arm):
        return by_velocity(field_of, edit.guided)
    return by_map(field_of, boundary_of(task.arm, task.study.sigma_d))


def _carried(field_of: Callable[[Condition], Field], device: torch.device) -> Callable[[Condition], Field]:
    """The same of points and conditions on the CPU."""
    return lambda condition: carried(field_of(tree_map_only(Tensor, lambda part: part.to(device), condition)), device)


def _drawn(way: Way, seen: Seen) -> Tensor:
    with torch.no_grad():
        return way.draw(seen)


def _rows(edit: Edit, arm: str, seed: int, way: Way, judged: dict[str, float]) -> Iterator[Row]:
    for metric, value in judged.items():
        about = {"steps": way.evaluations, "sampler": way.sampler}
        number = value if math.isfinite(value) else None
        told = {"objective": arm} if arm in (EXACT, REAL) else {}
        yield Row(Value(metric=f"{edit.name}_{metric}", value=number, **about), arm, seed, **told)


# --- a mixture ------------------------------------------------------------------------------------


def _add_mixture(found: Measured, about: About, edit: Edit, seed: int, ways: Ways) -> None:
    study, dataset = about.study, about.dataset
    mixture, each = mixture_of(dataset.arrays), max(2, study.evaluation.samples // OBSERVATIONS)
    g = generator(seed, "editing", edit.name, "observations")
    uniform = torch.rand(OBSERVATIONS, generator=g, dtype=torch.float64)
    data = oracle.sample(mixture, uniform, torch.randn(OBSERVATIONS, *dataset.shape, generator=g, dtype=torch.float64))
    observation = observe(edit.operator, data).repeat_interleave(each, 0)
    truth = posterior.given(mixture, edit.operator, observation)
    draws = [_posterior_draws(truth, g) for _ in range(2)]
    null = bases(edit.operator)[1]

    def judge(x: Tensor, told: Tensor) -> dict[str, float]:
        if not_numbers(x):
            return dict.fromkeys(OF_A_MIXTURE, math.nan)
        own, exact = ((part.double() @ null.T).unflatten(0, (OBSERVATIONS, each)) for part in (x, draws[0]))
        gaps = [sliced_wasserstein(*pair) for pair in zip(own, exact, strict=True)]
        missed = observe(edit.operator, x) - told
        return {
            "wasserstein": math.sqrt(sum(gap**2 for gap in gaps) / OBSERVATIONS),
            "missed": float(missed.square().mean().sqrt()),
            "diversity": float(own.var(1).mean().sqrt()),
        }

    found.runs.extend(_rows(edit, REAL, seed, Way("posterior", 1, lambda _: draws[1]), judge(draws[1], observation)))
    for arm, alike in ways:
        told = observation if arm == EXACT else observation.float()
        seen = Seen(edit, told, UNTOLD, noise_of(seed, edit.name, dataset.shape, told), study.sigma_d)
        for way in alike:
            found.runs.extend(_rows(edit, arm, seed, way, judge(_drawn(way, seen).cpu(), told)))


def _posterior_draws(truth: posterior.Posterior, g: torch.Generator) -> Tensor:
    count = len(truth.weights)
    uniform = torch.rand(count, generator=g, dtype=torch.float64)
    noise = torch.randn(count, len(truth.null), generator=g, dtype=torch.float64)
    return posterior.sample_given(truth, uniform, noise)


def _exact(dataset: Dataset) -> list[Way]:
    """The exact map, and RePaint and PiGDM with the exact velocity."""
    mixture = mixture_of(dataset.arrays)

    def to_data(x: Tensor, t: Tensor) -> Tensor:
        c, s = cos_sin(t, x)
        return (c * x - oracle.consistency_map(mixture, x, t, FOLLOWED_IN)) / s

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return oracle.velocity(mixture, x, t)

    return [*by_map(_untold(to_data)), *by_velocity(_untold(velocity), guided=False)]


def _untold(field: Field) -> Callable[[Condition], Field]:
    return lambda _: field


def _closed_form(sigma_d: float) -> Iterator[Row]:
    """2-Wasserstein distance of the law of CM's edits to the posterior, of what is not seen of a Gaussian."""
    covariance = torch.tensor([[1, CORRELATION], [CORRELATION, 1]], dtype=torch.float64)
    operator, seen = mask(torch.tensor([True, False])), torch.tensor([FIRST], dtype=torch.float64)
    mean, spread = (part[..., 1] for part in posterior.gaussian_given(covariance, operator, seen))
    for steps in IN_CLOSED_FORM:
        times = even_times(steps, largest_angle(sigma_d))
        own, width = (part[..., 1] for part in posterior.gaussian_edits(covariance, operator, seen, times))
        gap = math.hypot(float(own - mean), math.sqrt(float(width[1])) - math.sqrt(float(spread[1])))
        yield Row(Value(metric="edit_gap", value=gap, x=steps), objective=EXACT)


# --- images ---------------------------------------------------------------------------------------


def _add_images(found: Measured, about: About, edit: Edit, seed: int, ways: Ways) -> None:
    study, name, dataset = about.study, about.name, about.dataset
    labelled = _labelled(study, name, dataset)
    held = held_images(labelled, edit, study.evaluation.edits or study.evaluation.samples, seed)
    judge = judge_images(kind_module(study.data[name]), dataset, labelled, edit, held)
    if truth := labelled.truths.get(edit.name):
        real = truth.draw(held.images, held.labels, generator(seed, "editing", edit.name, "posterior"))
        found.runs.extend(_rows(edit, REAL, seed, Way("posterior", 1, lambda _: real), judge(real)))
    else:
        real = judge(held.images)
        real.pop("diversity")  # of one image there are no others
        found.runs.extend(_rows(edit, REAL, seed, Way("images", 1, lambda _: held.images), real))
    noise = noise_of(seed, edit.name, dataset.shape, held.observation)
    told = Condition(held.labels) if dataset.classes else UNTOLD
    seen, drawn = Seen(edit, held.observation, told, noise, study.sigma_d), []
    for arm, alike in ways:
        for way in alike:
            made = _drawn(way, seen)
            found.runs.extend(_rows(edit, arm, seed, way, judge(made)))
            if way.sampler != "edit" or way.evaluations in DRAWN:
                drawn.append((arm, way, made))
    images = about.images
    if images is None or seed != about.seeds[0]:
        return
    found.strips.append(strip_of(edit, images, held.images))
    found.strips.append(seen_strip(edit, images, held))
    found.strips.extend(strip_of(edit, images, made, arm, way) for arm, way, made in drawn)
