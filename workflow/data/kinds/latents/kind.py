"""ImageNet 512 in an autoencoder's latents, as plans and pages know it."""

from typing import Any, Literal, Self

from pydantic import PositiveInt, model_validator

from trigbench.workflow.data.features.dimensions import DIMENSIONS
from trigbench.workflow.data.features.settings import IN_FEATURES, ExtractorSettings
from trigbench.workflow.data.kinds.latents.dimensions import LATENT_CHANNELS, PIXELS_A_LATENT
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Known
from trigbench.workflow.study.models import DataSettings
from trigbench.workflow.study.schema import Arm, ConvertedTeacher

METRICS = {"map": (), "samples": (*IN_FEATURES, "fdd_train")}
FLOAT16 = 2
"""Bytes; of each latent mean and deviation are kept."""


class LatentsData(DataSettings):
    """ImageNet at 512 pixels in the latents of an autoencoder, normalised as in arXiv 2410.11081, App. G."""

    kind: Literal["imagenet512"]
    path: str
    """A folder or zip of the originals, in a subfolder for each class."""
    held_out: str
    size: PositiveInt = 512
    vae: str
    """A folder that diffusers' AutoencoderKL reads: config.json and a .safetensors file."""
    count: PositiveInt | None = 1_281_167
    held_out_count: PositiveInt | None = None
    classes: PositiveInt | None = 1000
    reference: PositiveInt | None = None
    """How many training images distances are to; empty for all."""
    extractor: ExtractorSettings
    """Of fd_train and all that is not `dinov2`'s."""
    dinov2: str | None = None
    """Weights of DINOv2, in whose features fdd_train is measured as well."""
    seed: int = 0

    @model_validator(mode="after")
    def _published_features(self) -> Self:
        if self.extractor.weights is None:
            raise Mistake("extractor: latents are judged as images of 512 pixels", "name inception or dinov2")
        return self


def _known(data: LatentsData) -> Known:
    side = data.size // PIXELS_A_LATENT
    measured = METRICS["samples"] if data.dinov2 else tuple(name for name in METRICS["samples"] if name != "fdd_train")
    each = 2 * LATENT_CHANNELS * side**2 * FLOAT16
    return Known(
        f"Images of {data.size}×{data.size} pixels from {data.path}, in an autoencoder's latents.",
        shape=(LATENT_CHANNELS, side, side),
        classes=data.classes,
        metrics=METRICS | {"samples": measured},
        features=max(data.extractor.features, DIMENSIONS["dinov2"] if data.dinov2 else 0),
        seen=False,
        stored=each * ((data.count or 0) + (data.held_out_count or 0)),
    )


def _check_arm(data: LatentsData, name: str, arm: Arm) -> None:
    if isinstance(arm.teacher, ConvertedTeacher):
        how = "are normalised as in arXiv 2410.11081, App. G, and EDM2's are not"
        problem = f"arms.{name}.teacher.file: the latents of data {arm.data!r} {how}"
        raise Mistake(problem, "let a diffusion arm on these data teach")


def _units(data: LatentsData, arrays: Arrays) -> dict[str, Any]:
    """By which mean and deviation of each channel they are an autoencoder's latents, and by its files which one's.

    Raises BenchError where it is not there.
    """
    from pathlib import Path  # noqa: PLC0415 - for exports alone, as what follows

    from trigbench.workflow.data.kinds.latents.autoencoder import MEAN, STD, check_autoencoder  # noqa: PLC0415
    from trigbench.workflow.machine.files import sha256  # noqa: PLC0415

    files = {file.name: sha256(file) for file in check_autoencoder(Path(data.vae))}
    return {"latents": {"mean": MEAN, "std": STD, "autoencoder": {"class": "AutoencoderKL", "sha256": files}}}


IMAGENET512 = DataKind(
    LatentsData,
    _known,
    "trigbench.workflow.data.kinds.latents.making",
    draws="trigbench.workflow.data.kinds.latents.draws",
    drawn=frozenset({"about"}),
    judging=frozenset({"reference", "extractor", "dinov2"}),
    small=False,
    places=frozenset({"path", "held_out", "vae", "weights", "dinov2"}),
    units=_units,
    licences={"imagenet512": "ImageNet's terms of access: research and education that are not commercial"},
    check_arm=_check_arm,
)
