"""Grey images in the latents of an autoencoder of their own, as plans and pages know them."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from trigbench.workflow.data.features.settings import OF_IMAGES
from trigbench.workflow.data.kinds.idx.kind import IDX, IdxData
from trigbench.workflow.data.kinds.idx.latents.dimensions import CHANNELS, PIXELS_A_LATENT
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known
from trigbench.workflow.study.models import DataSettings

if TYPE_CHECKING:
    from numpy import ndarray

METRICS = OF_IMAGES | {"samples": (*OF_IMAGES["samples"], "recognised")}
FLOAT16 = 2
"""Bytes; of each latent mean and deviation are kept."""
Width = Annotated[int, Field(gt=0, multiple_of=4)]
"""Channels that can be normalised in four groups."""


class IdxLatentsData(DataSettings):
    """Images of the MNIST family in the latents of a small AutoencoderKL (diffusers), trained on their training part.

    Samples are decoded, and judged as the images are: in the features of a classifier of the training part.
    """

    kind: Literal["idx_latents"]
    images: IdxData
    """The images, as a data set of kind idx says them; how these are folded is of no matter here."""
    widths: tuple[Width, Width, Width] = (8, 16, 16)
    """Channels of the autoencoder at the full, half and a quarter of the side."""
    seen: PositiveInt = 40_000
    """Images that its training sees, of the training part in random order, and again."""
    seed: int = 0
    """Of the autoencoder; the images have their own."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.images.size % PIXELS_A_LATENT:
            problem = f"images.size: {self.images.size} pixels cannot be halved twice"
            raise Mistake(problem, f"name images whose side is a multiple of {PIXELS_A_LATENT}")
        if self.images.extractor.kind != "classifier":
            problem = f"images.extractor: features of {self.images.extractor.kind!r} read no class"
            raise Mistake(problem, "remove it: samples are read by the classifier that is trained on the images")
        if not self.images.conditional:
            raise Mistake(
                "images.conditional: without labels nothing is asked for", "remove it: networks are told them"
            )
        return self


def _known(data: IdxLatentsData) -> Known:
    side = data.images.size // PIXELS_A_LATENT
    of_images = IDX.known(data.images)
    return Known(
        f"Grey images of {data.images.size}×{data.images.size} pixels from {data.images.path}, in {CHANNELS}×{side}×"
        f"{side} latents of an autoencoder trained on them (kind idx_latents).",
        shape=(CHANNELS, side, side),
        classes=data.images.classes,
        metrics=METRICS,
        features=of_images.features,
        stored=of_images.stored + 2 * CHANNELS * side**2 * FLOAT16 * (data.images.count or 0),
    )


def _images(arrays: Arrays, count: int) -> Images:
    """As the images themselves are seen, by what the autoencoder decodes."""
    assert IDX.images is not None

    def decoded(samples: "ndarray") -> "ndarray":
        import torch  # noqa: PLC0415 - for pictures alone, as what follows

        from trigbench.workflow.data.kinds.idx.latents.autoencoder import autoencoder_of  # noqa: PLC0415

        return autoencoder_of(arrays).decode(torch.from_numpy(samples).float())[:, 0].numpy() / 255

    return dataclasses.replace(IDX.images(arrays, count), decoded=decoded, encoded=None, fold=1)


def _units(data: IdxLatentsData, arrays: Arrays) -> dict[str, Any]:
    """How samples are an autoencoder's latents, and by its files which one's. Raises BenchError where these are not."""
    from trigbench.workflow.data.kinds.idx.latents.autoencoder import autoencoder_of, said_of  # noqa: PLC0415

    opened, origin = autoencoder_of(arrays), said_of(arrays)
    scale = {"scaling_factor": opened.scale, "shift_factor": opened.shift}
    return {"latents": {**scale, "autoencoder": {"class": "AutoencoderKL", "sha256": origin["sha256"]}}}


IDX_LATENTS = DataKind(
    IdxLatentsData,
    _known,
    "trigbench.workflow.data.kinds.idx.latents.making",
    draws="trigbench.workflow.data.kinds.idx.latents.draws",
    drawn=frozenset({"latents"}),
    small=False,
    images=_images,
    units=_units,
    places=IDX.places,
)
