"""Moving shapes, as plans and pages know them."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.kinds.moving.dimensions import FRAMES, SHAPES, SIDE, TRAVEL
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Films, Images, Known
from trigbench.workflow.study.models import DataSettings

if TYPE_CHECKING:
    from numpy import ndarray

METRICS = {
    "map": (),
    "samples": (
        "lawful", "intact", "motion_error", "shape_error", "speed_error", "fd_train", "fd_held_out", "precision",
        "recall",
    ),
}  # fmt: skip

Shape = Literal["square", "frame", "plus", "cross"]
Speed = Annotated[float, Field(ge=0, le=TRAVEL / 2)]
"""Pixels a frame, as fast as motions are tried; at twice that a motion is also a slower one the other way."""


class MovingData(DataSettings):
    """Videos of one shape each that moves evenly in a box, whose walls throw it back; a class is a shape.

    Where it begins, its direction and its speed are drawn evenly, the shapes come in turn.
    """

    kind: Literal["moving"]
    shapes: Annotated[tuple[Shape, ...], Field(min_length=1)] = tuple(SHAPES)  # pyright: ignore[reportAssignmentType]
    speed: tuple[Speed, Speed] = (0.5, 1.5)
    """The slowest and the fastest, in pixels a frame."""
    videos: PositiveInt = 4000
    """That are trained on."""
    held_out: PositiveInt = 1000
    """Further ones that are never trained on."""
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.shapes)) < len(self.shapes):
            raise Mistake("shapes: one is there twice", "name each once")
        if self.speed[0] > self.speed[1] or not self.speed[1]:
            raise Mistake(f"speed: from {self.speed[0]} to {self.speed[1]}", "give the lower first, the other above 0")
        for key in ("videos", "held_out"):
            if (count := getattr(self, key)) <= CLASSIFIER:
                problem = f"{key}: {count} videos cannot fix a covariance of {CLASSIFIER} features"
                raise Mistake(problem, f"give more than {CLASSIFIER}")
        return self


def _known(data: MovingData) -> Known:
    sentence = (
        f"Videos of {FRAMES} frames, {SIDE}×{SIDE} grey pixels: one of {len(data.shapes)} shapes moves evenly, "
        f"by {data.speed[0]:g} to {data.speed[1]:g} pixels a frame, and is thrown back by the walls of its box."
    )
    return Known(sentence, (FRAMES, SIDE, SIDE), len(data.shapes), METRICS, CLASSIFIER)


def _images(arrays: Arrays, count: int) -> Images:
    """A video is its frames side by side, a grey line between them; shapes come in turn, as those of samples."""
    import numpy as np  # noqa: PLC0415 - for pictures alone

    mean, std = float(arrays["mean"]), float(arrays["std"])
    black, white = -mean / std, (1 - mean) / std

    def decoded(samples: "ndarray") -> "ndarray":
        lined = np.pad(samples, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=(black + white) / 2)
        return np.concatenate(list(lined.swapaxes(0, 1)), axis=2)[:, :, :-1]

    return Images(decoded(arrays["train"][:count] / arrays["sigma_d"]), decoded, black, white)


def _films(arrays: Arrays) -> Films:
    """One of each shape."""
    mean, std, shapes = float(arrays["mean"]), float(arrays["std"]), [str(name) for name in arrays["shapes"]]

    def levels(samples: "ndarray") -> "ndarray":
        return samples * std + mean

    rows = tuple(range(len(shapes)))
    return Films(rows, tuple(shapes), levels(arrays["held_out"][: len(rows)] / arrays["sigma_d"]), levels)


MOVING = DataKind(
    MovingData,
    _known,
    "trigbench.workflow.data.kinds.moving.making",
    draws="trigbench.workflow.data.kinds.moving.draws",
    drawn=frozenset({"train", "train_labels"}),
    images=_images,
    films=_films,
    licences={"moving": "none needed: drawn by this project"},
)
