"""One noise through every method: the picture that a report leads with, and what is said of it.

Images stand in columns of one noise and one label. Points of a mixture have the colour of the mode that the exact flow
takes their noise to, so that a map that takes them elsewhere shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.core import oracle
from trigbench.core.noise_left import COLLAPSED
from trigbench.core.samplers.noise import noise_of_samples
from trigbench.core.schedules import largest_angle
from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import Arrays, read_arrays, write_json
from trigbench.workflow.report.pictures import AGAIN
from trigbench.workflow.report.rows import TEACHERS, steps_label
from trigbench.workflow.report.style import QUIET, apply_style, save
from trigbench.workflow.report.words import short_name
from trigbench.workflow.study.kinds import Images, data_kind, draws_module
from trigbench.workflow.study.one_noise import one_noise_runs
from trigbench.workflow.study.places import forms
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Run, Study

COLUMNS = 10
"""Noises of which images are shown."""
POINTS = 1000
"""Of a mixture, as many at most are drawn; errors are of all."""
ACROSS = 4
"""Panels of points side by side."""
MODES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5C2E0B", "#000000")
"""Colours of modes, of methods elsewhere."""


@dataclass(frozen=True)
class Drawn:
    """A run's samples without guidance, (samples, *shape) by steps; none of a run that diverged."""

    name: str
    arm: str
    samples: dict[int, np.ndarray]
    """Of several ways with as many steps, of the first."""
    objective: str
    collapsed: bool

    @property
    def many(self) -> bool:
        """Whether steps are evaluations of a solver, as a teacher's are."""
        return self.objective in TEACHERS


def draw_one_noise(study: Study) -> list[Path]:
    """Write one-noise.json, with the picture beside it where there is something to show; return what was written."""
    apply_style()
    runs = one_noise_runs(study)
    there = [run for run in runs if is_fresh(study, run)]
    methods = _methods(study, there)
    record = study.made.one_noise
    figure = caption = None
    if any(method.samples for method in methods):
        figure, caption = _drawn(study, methods)
    beside = [*forms(record)] if figure else []
    if figure is not None:
        save(figure, record.with_suffix(""))
    for old in {*forms(record)} - {*beside}:
        old.unlink(missing_ok=True)
    plt.close("all")
    names = ", ".join(method.name for method in methods)
    missing = [run.arm for run in runs if run not in there]
    said = " ".join([caption or "", *_besides(methods, missing)]).strip()
    write_json(record, {"alt": f"Samples of {names}, from the same noise.", "caption": said})
    return [record, *beside]


def _besides(methods: Sequence[Drawn], missing: Sequence[str]) -> list[str]:
    lost = [method.name for method in methods if not method.samples]
    dead = [method.name for method in methods if method.collapsed]
    return [
        *([f"Collapsed, as they leave the noise that comes in: {', '.join(dead)}."] if dead else []),
        *([f"Diverged, so that nothing is drawn: {', '.join(lost)}."] if lost else []),
        *([f"Not run yet: {', '.join(missing)}."] if missing else []),
    ]


def _methods(study: Study, runs: Sequence[Run]) -> list[Drawn]:
    names = _names(study, [run.arm for run in runs])
    found = []
    for run in runs:
        main = study.samplers_of(run.arm)[0]
        ways = [way for way in study.samplings(run.arm) if way.sampler == main and way.guidance in (None, 1.0)]
        archive = read_arrays(study.files(run).samples, AGAIN, {way.key for way in ways})
        samples = {way.steps: archive[way.key] for way in reversed(ways) if len(archive.get(way.key, ()))}
        record = read_record(study.files(run).metrics)
        left = [v.value for v in record.metrics if v.metric == "collapse" and v.value is not None]
        collapsed = record.status == "finished" and max(left, default=0.0) >= COLLAPSED
        objective = study.arms[run.arm].objective
        found.append(Drawn(names[run.arm], run.arm, samples, objective, collapsed))
    return found


def _names(study: Study, arms: Sequence[str]) -> dict[str, str]:
    """The method's name, with its N; arms that share one keep their own."""
    found = {}
    for name in arms:
        arm = study.arms[name]
        found[name] = short_name(arm.objective) + (f", N = {arm.intervals}" if arm.intervals else "")
    several = [name for name in arms if list(found.values()).count(found[name]) > 1]
    return found | {name: name for name in several}


def _drawn(study: Study, methods: Sequence[Drawn]) -> tuple[Figure | None, str | None]:
    data = study.arms[methods[0].arm].data
    kind = data_kind(study.data[data])
    arrays = read_arrays(study.data_file(data), AGAIN)
    noise = one_noise_of(study, data, arrays)
    if noise is None:
        return None, "No picture: the methods' samples do not start from one noise."
    seed = f"Training seed {study.seeds[0]}; the noise was fixed beforehand, and no sample is chosen."
    if kind.images is not None:
        said = "A column is one noise and one label, the same for every method and in both halves."
        return strips(methods, kind.images(arrays, COLUMNS)), f"{said} {seed}"
    if {"weights", "means", "stds"} - arrays.keys():
        return None, None
    said = (
        "Each method's map, in one step (a teacher's solver in all of its own), of the same noise, over the true "
        "density (grey). A point has the colour of the mode that the exact flow takes its noise to; the number is the "
        "root mean square error against that flow."
    )
    return clouds(methods, arrays, exact_flow(study, arrays, noise)), f"{said} {seed}"


# --- the noise ------------------------------------------------------------------------------------


def one_noise_of(study: Study, data: str, arrays: Arrays) -> np.ndarray | None:
    """The noise (samples, *shape) that every method's samples on a data set start from; None unless it is one.

    A sample's noise is a function of the sampling seed (of the first training seed's, where each has its own) and its
    row, of which methods draw one slice a step: the first is the same for any number of them only where the
    generator's draws of more begin with those of fewer.
    """
    shape = draws_module(study.data[data]).open_dataset(arrays, study.sigma_d).shape
    rows, seed = range(study.evaluation.samples), study.evaluation.noise_seed(study.seeds[0])

    def first(slices: int, rows: range) -> torch.Tensor:  # as workflow.run.noise has it
        return noise_of_samples([generator(seed, "sample", row) for row in rows], slices, shape)[0]

    ways = [way for run in one_noise_runs(study) for way in study.samplings(run.arm)]
    few, most = range(min(COLUMNS, len(rows))), 1 + max((len(way.times) for way in ways), default=0)
    if any(not torch.equal(first(slices, few), first(1, few)) for slices in range(2, most + 1)):
        return None
    return first(1, rows).numpy()


def exact_flow(study: Study, arrays: Arrays, noise: np.ndarray) -> np.ndarray:
    """Where the mixture's own flow takes the noise, in float64."""
    top = largest_angle(study.sigma_d)
    start = math.sin(top) * torch.from_numpy(noise).double()
    return oracle.consistency_map(
        mixture_of(arrays), start, torch.full((len(start),), top, dtype=torch.float64)
    ).numpy()


# --- drawing --------------------------------------------------------------------------------------


def strips(methods: Sequence[Drawn], images: Images) -> Figure:
    """A row a method, in one step to the left and in two to the right; solvers of many steps stand in both."""
    figure, axes = plt.subplots(
        len(methods), 2, figsize=(10.5, 0.5 * len(methods) + 0.4), squeeze=False, gridspec_kw={"wspace": 0.03}
    )
    for row, method in zip(axes, methods, strict=True):
        row[0].set_ylabel(_label(method), rotation=0, ha="right", va="center", fontsize=9)
        for ax, samples in zip(row, _halves(method), strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if samples is None:
                ax.text(
                    0.5, 0.5, _empty(method), transform=ax.transAxes, ha="center", va="center", color=QUIET, fontsize=9
                )
            else:
                _strip(ax, images, samples[: images.fitting(COLUMNS)])
    for ax, title in zip(axes[0], ("one step", "two steps"), strict=True):
        ax.set_title(title, fontsize=10)
    figure.subplots_adjust(left=0.14, right=0.995, bottom=0.01, top=1 - 0.32 / figure.get_figheight(), hspace=0.06)
    return figure


def _label(method: Drawn) -> str:
    """The method, and in how many steps its samples to the right are, where these are not two."""
    most = max(method.samples, default=0)
    if method.many and most:
        return f"{method.name}\n{steps_label(most, method.objective)}"
    return f"{method.name}\n{steps_label(most)}" if most > 2 and 2 not in method.samples else method.name


def _empty(method: Drawn) -> str:
    """Why there is nothing of so many steps."""
    return "has none" if method.samples else "diverged"


def _halves(method: Drawn) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(one step, two steps); of steps that are more than two, to the right, and a solver's in both."""
    most = max(method.samples, default=0)
    last = method.samples.get(most)
    return (last, last) if method.many else (method.samples.get(1), method.samples.get(2, last if most > 2 else None))


def _strip(ax: Axes, images: Images, samples: np.ndarray) -> None:
    shown = images.decoded(samples)
    grey = shown.ndim == 3
    between = [(0, 0), (0, 0), (0, max(1, shown.shape[2] // 14)), *[(0, 0)] * (shown.ndim - 3)]
    padded = np.pad(shown, between, constant_values=np.nan if grey else 1.0)
    how: dict[str, Any] = {"cmap": "gray", "vmin": images.black, "vmax": images.white} if grey else {}
    ax.imshow(np.concatenate(list(padded), axis=1), interpolation="nearest", aspect="equal", **how)


def clouds(methods: Sequence[Drawn], arrays: Arrays, exact: np.ndarray) -> Figure:
    """A panel for the exact flow and one for each method's map in one step, over the true density."""
    panels: list[tuple[str, np.ndarray | str]] = [("exact flow (teacher)", exact)]
    for method in methods:
        own = _halves(method)[0]
        error = "" if own is None else f": {float(np.sqrt(np.square(own - exact).mean())):.2g}"
        name = _label(method).replace("\n", ", ") if method.many else method.name
        panels.append((f"{name}{error}", _empty(method) if own is None else own))
    rows = -(-len(panels) // ACROSS)
    figure, axes = plt.subplots(rows, ACROSS, figsize=(10.5, 2.85 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    near = np.square(exact[:, None, :] - arrays["means"][None]).sum(axis=2).argmin(axis=1)
    faces = np.array(MODES)[near % len(MODES)][:POINTS]
    limit = float(np.abs(exact).max()) * 1.05
    for ax, (title, points) in zip(axes.flat, panels, strict=False):
        ax.set_axis_on()
        _density(ax, arrays, limit)
        if isinstance(points, str):
            ax.text(0.5, 0.5, points, transform=ax.transAxes, ha="center", va="center", color=QUIET)
        else:
            ax.scatter(*points[:POINTS].T, s=3, c=faces, linewidth=0, alpha=0.8, rasterized=True)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=10)
    figure.tight_layout(h_pad=1.5, w_pad=0.6)
    return figure


def _density(ax: Axes, arrays: Arrays, limit: float) -> None:
    grid = np.linspace(-limit, limit, 160)
    points = np.stack(np.meshgrid(grid, grid), axis=-1)
    away = np.square(points[..., None, :] - arrays["means"]).sum(axis=-1)
    variances = np.square(arrays["stds"])
    density = (arrays["weights"] / variances * np.exp(-away / (2 * variances))).sum(axis=-1)
    steps = [0.02, 0.1, 0.3, 0.6, 1.0]
    drawn = ax.contourf(grid, grid, density / density.max(), levels=steps, cmap="Greys", vmin=0, vmax=2.2, zorder=0)
    drawn.set_rasterized(True)
