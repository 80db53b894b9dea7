"""Edits of one image by a trained map of a study: what `trigbench edit` draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.operators import LUMINANCE, averages, colour, mask, observe
from trigbench.core.samplers import Callback
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.editing import denoise, edit, from_guide, slerp
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import Field
from trigbench.workflow.data.files.pictures import to_pixels
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import on
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import boundary_of, check_weights, make_network
from trigbench.workflow.run.editing import (
    ENLARGED,
    GUIDED_FROM,
    STROKE,
    Edit,
    bound,
    even_times,
    is_map,
    of_folded,
    seen_of,
    unfolded,
)
from trigbench.workflow.run.samples import weights_of_now
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.kinds import Images, data_kind
from trigbench.workflow.study.study import Run, Study

NEEDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "inpaint": (("--image", "--mask"), ("--steps",)),
    "colourise": (("--image",), ("--steps",)),
    "enlarge": (("--image",), ("--factor", "--steps")),
    "strokes": (("--image",), ("--strength", "--steps")),
    "denoise": (("--image", "--noise"), ()),
    "interpolate": ((), ()),
}
"""What a task needs, and what it may be given."""
WORDS = {
    "--image": "my.png",
    "--mask": "mask.png, white where the image is to be made",
    "--noise": "20, its standard deviation in levels of 255",
}
MOST_NOISE = 1e5
STEPS = 8
SHOWN_SIDE, GAP = 112, 6
"""Pixels of an image's side, at least, in what is written, and between two."""
RGB = 3


@dataclass(frozen=True)
class Asked:
    """What is edited, and how."""

    task: str
    image: Path | None = None
    mask: Path | None = None
    """White where the image is to be made."""
    steps: int | None = None
    """Of the map; None takes STEPS, or one where a task has no more."""
    count: int = 6
    """Edits, each of its own noise; of an interpolation its points."""
    seed: int = 0
    factor: int | None = None
    """By which the image is made smaller and enlarged again."""
    strength: float | None = None
    """The angle to which strokes are noised."""
    noise: float | None = None
    """Standard deviation of the noise in the image, in 255 levels."""

    @property
    def taken(self) -> int:
        """Steps that the task takes."""
        return (self.steps or STEPS) if "--steps" in NEEDS[self.task][1] else 1


@dataclass(frozen=True)
class Edited:
    """Points: images in unit variance."""

    seen: tuple[Tensor, ...]
    """The image, and what is seen of it, where there are any."""
    edits: Tensor
    missed: float | None
    """By how much edits miss what is seen, root mean square in 255 levels; None where nothing is to be kept."""


@dataclass(frozen=True)
class Editor:
    """A trained map, and how its points are seen."""

    task: Task
    field_of: Callable[[int], Field]
    """The map of so many rows, told their label."""
    images: Images
    encoded: Callable[[np.ndarray], np.ndarray]

    @property
    def side(self) -> int:
        return self.images.real.shape[1]

    def points_of(self, pixels: np.ndarray) -> Tensor:
        """One picture, uint8 of (3, side, side), as a point (1, *shape); of grey data its luminance."""
        if self.images.real.ndim == 3:
            pixels = _grey(pixels)
        return torch.from_numpy(np.ascontiguousarray(self.encoded(pixels[None]))).float()

    def plain(self, level: int) -> Tensor:
        """A picture of one level of 255, as a point."""
        return self.points_of(np.full((3, self.side, self.side), level, np.uint8))

    @property
    def levels(self) -> float:
        """How many of 255 levels are one in unit variance."""
        return 255 / float((self.plain(255) - self.plain(0)).mean())


def editor_of(study: Study, run: Run, label: int | None) -> Editor:
    """Of a finished run. Raises BenchError where it is no map to data, its data are no pictures, or it is stale."""
    arm = study.arms[run.arm]
    if not is_map(arm):
        maps = [name for name, other in study.arms.items() if is_map(other)]
        remedy = f"name a run of a map to data: {', '.join(maps) or 'this study has none'}"
        raise BenchError(f"{run.arm!r} ({arm.objective}) does not edit", file=study.file, key="--run", remedy=remedy)
    weights_of_now(study, run)
    task, kind = opened(study, run), data_kind(study.data[arm.data])
    images = kind.images(task.data.arrays, 1) if kind.images else None
    if images is None or images.encoded is None:
        problem = f"{arm.data!r} has no pictures to edit"
        raise BenchError(problem, file=study.file, key="--run", remedy="name a run on data that are pictures")
    classes = task.data.classes
    if (label is None) != (not classes) or (label is not None and not 0 <= label < classes):
        said = "no label" if label is None else f"the label {label}"
        remedy = f"give --label, from 0 to {classes - 1}" if classes else "leave --label out"
        raise BenchError(f"{said}, of data with {classes} classes", file=study.file, key="--label", remedy=remedy)
    weights, network = on(task.device, read_tensors(task.files.weights, "delete the run's folder")), make_network(task)
    check_weights(task, network, weights)

    def field_of(rows: int) -> Field:
        labels = None if label is None else torch.full((rows,), label, device=task.device)
        return bound(task, network, weights)(Condition(labels))

    return Editor(task, field_of, images, images.encoded)


def draw_edits(editor: Editor, asked: Asked, callback: Callback | None = None) -> Edited:
    """What is asked for, each edit from a noise of its own, which is a function of the seed.

    Raises BenchError for what the task lacks or cannot use, or what does not fit the data, before anything is drawn.
    """
    check(asked)
    _check_sizes(asked, editor.side)
    task, field = editor.task, editor.field_of(asked.count)
    boundary, top = boundary_of(task.arm, task.study.sigma_d), largest_angle(task.study.sigma_d)
    pixels = None if asked.image is None else _pixels("--image", asked.image, editor.side)
    image = None if pixels is None else editor.points_of(pixels).to(task.device)
    with torch.no_grad():
        if pixels is None or image is None:
            first, second = _noise(asked, task, 2)[:, :1].expand(2, asked.count, *task.data.shape)
            between = slerp(first, second, torch.linspace(0, 1, asked.count, device=task.device))
            return Edited((), sample_consistency(field, between[None], [top], boundary, callback), None)
        if asked.noise is not None:
            return Edited((image,), denoise(editor.field_of(1), image, asked.noise / editor.levels), None)
        how, noise = _edit_of(editor, asked), _noise(asked, task, asked.taken)
        times = even_times(asked.taken, (asked.strength or GUIDED_FROM) if how.guided else top)
        if times[-1] <= boundary:
            problem = f"the last of {asked.taken} steps is below the map's boundary"
            raise BenchError(problem, key="--steps", remedy="take fewer steps")
        observation = seen_of(how, image).expand(asked.count, -1)
        guide = how.guide(observation)
        if how.guided:
            return Edited((image, guide[:1]), from_guide(field, guide, noise, times, boundary, callback), None)
        made = edit(field, how.operator, observation, noise, times, boundary, callback)
        missed = float((observe(how.operator, made) - observation).square().mean().sqrt())
        of_means = (asked.factor or ENLARGED) if asked.task == "enlarge" else 1  # averages are seen times that
        seen = editor.points_of(_grey(pixels)).to(task.device) if how.name == "colourise" else guide[:1]
        return Edited((image, seen), made, editor.levels * missed / of_means)


def check(asked: Asked) -> None:
    """Raise BenchError for what a task needs and is not given, for what it would not look at, and for no numbers."""
    given = {
        "--image": asked.image, "--mask": asked.mask, "--factor": asked.factor, "--strength": asked.strength,
        "--noise": asked.noise, "--steps": asked.steps,
    }  # fmt: skip
    needed, may = NEEDS[asked.task]
    for key, value in given.items():
        if value is None and key in needed:
            raise BenchError(f"{asked.task} needs {key}", key=key, remedy=f"give {key} {WORDS[key]}")
        if value is not None and key not in (*needed, *may):
            takes = ", ".join((*needed, *may)) or "neither image nor mask"
            raise BenchError(f"{asked.task} does not look at {key}", key=key, remedy=f"leave it out; it takes {takes}")
    fewest = {"--steps": 1, "--count": 2 if asked.task == "interpolate" else 1, "--factor": 2}
    for key, value in {"--steps": asked.steps, "--count": asked.count, "--factor": asked.factor}.items():
        if value is not None and value < fewest[key]:
            raise BenchError(f"{key} is {value}", key=key, remedy=f"give {fewest[key]} or more")
    if asked.strength is not None and not 0 < asked.strength < math.pi / 2:
        raise BenchError(f"no angle: {asked.strength}", key="--strength", remedy="give one between 0 and 1.57")
    if asked.noise is not None and not 0 <= asked.noise <= MOST_NOISE:
        remedy = f"give its standard deviation in levels of 255, from 0 to {MOST_NOISE:.0f}"
        raise BenchError(f"no noise: {asked.noise}", key="--noise", remedy=remedy)


def drawn_together(editor: Editor, edited: Edited) -> Image.Image:
    """What is seen and what is made of it in one row, each image as large as people see it."""
    points = torch.cat([*edited.seen, edited.edits]).cpu().numpy()
    pictures = editor.images.decoded(points)
    levels = (pictures - editor.images.black) / (editor.images.white - editor.images.black)
    whole = np.rint(255 * np.clip(levels, 0, 1)).astype(np.uint8)
    times = max(1, -(-SHOWN_SIDE // editor.side))
    large = [np.kron(one, np.ones((times, times, *[1] * (one.ndim - 2)), np.uint8)) for one in whole]
    gap = np.full((large[0].shape[0], GAP, *large[0].shape[2:]), 255, np.uint8)
    return Image.fromarray(np.concatenate([part for one in large for part in (one, gap)][:-1], axis=1))


def _edit_of(editor: Editor, asked: Asked) -> Edit:
    points, side, fold = editor.task.data.shape, editor.side, editor.images.fold
    shape = unfolded(points, fold)
    if asked.mask is not None:
        white = 255 * (_grey(_pixels("--mask", asked.mask, side)) > 127).astype(np.uint8)  # all colours of a pixel
        seen = (editor.points_of(white) < (editor.plain(0) + editor.plain(255)) / 2)[0]
        if bool(seen.all()) or not bool(seen.any()):
            problem = f"the mask hides {'nothing' if bool(seen.all()) else 'everything'}"
            raise BenchError(
                problem, file=asked.mask, key="--mask", remedy="paint white what should be made, else black"
            )
        return Edit("inpaint", mask(seen))
    if asked.task == "colourise":
        if shape[0] != RGB or shape[1:] != (side, side):
            problem = f"the data are points of {shape}, and no colours"
            raise BenchError(
                problem, file=editor.task.study.file, key="--task", remedy="take a run on images in colour"
            )
        return Edit("colourise", colour(shape))
    patch = STROKE if asked.task == "strokes" else asked.factor or ENLARGED
    if shape[1:] != (side, side) or side % patch:
        problem = f"squares of {patch} pixels do not tile images of {side} as points of {shape}"
        mendable = shape[1:] == (side, side) and asked.task == "enlarge"
        key, remedy = ("--factor", "give another") if mendable else ("--task", "take another, or a run on other data")
        raise BenchError(problem, file=editor.task.study.file, key=key, remedy=remedy)
    return Edit(asked.task, of_folded(averages(shape, patch), points, fold), guided=asked.task == "strokes")


def _check_sizes(asked: Asked, side: int) -> None:
    """Raise BenchError where scaling would lay the mask elsewhere, or change the noise that is told."""
    if asked.image is None:
        return
    size = _size("--image", asked.image)
    if asked.mask is not None and _size("--mask", asked.mask) != size:
        problem = f"the image has {size[0]} x {size[1]} pixels, and the mask not"
        raise BenchError(problem, file=asked.mask, key="--mask", remedy="give a mask of the image's size")
    if asked.noise is not None and size != (side, side):
        problem = f"the image has {size[0]} x {size[1]} pixels, and scaled to {side} x {side} another noise"
        raise BenchError(problem, file=asked.image, key="--image", remedy=f"give one of {side} x {side} pixels")


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance in every channel; what is grey stays as it is."""
    grey = np.rint(np.tensordot(np.array(LUMINANCE), pixels, 1) / sum(LUMINANCE)).astype(np.uint8)
    return np.broadcast_to(grey, pixels.shape)


def _noise(asked: Asked, task: Task, slices: int) -> Tensor:
    g = generator(asked.seed, "edit")
    return torch.randn(slices, asked.count, *task.data.shape, generator=g).to(task.device)


def _pixels(key: str, path: Path, side: int) -> np.ndarray:
    """Scaled and cropped to the data's size, as the data sets' own pictures are."""
    return to_pixels(path, path.read_bytes, side, "adm", convert=True)


def _size(key: str, path: Path) -> tuple[int, int]:
    """Width and height, the right way up."""
    if not path.is_file():
        raise BenchError("no such file", file=path, key=key, remedy="name a picture, such as a .png")
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).size
    except UnidentifiedImageError as error:
        remedy = "name a picture, such as a .png"
        raise BenchError("this is no picture", file=path, key=key, remedy=remedy) from error
