"""Folders of images, CIFAR-10 and ImageNet 64, as plans and pages know them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from trigbench.workflow.data.features.settings import OF_IMAGES, ExtractorSettings
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known
from trigbench.workflow.study.models import DataSettings, unfit

METRICS = OF_IMAGES
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {"size": 32, "count": 50_000, "held_out_count": 10_000, "classes": 10},
    "imagenet64": {"size": 64, "resize": "adm", "convert": True, "count": 1_281_167, "classes": 1000},
}
"""What a kind sets, unless a study does."""


class ImagesData(DataSettings):
    """Square RGB images, in [-1, 1] before sigma_d."""

    kind: Literal["images_folder", "cifar10", "imagenet64"]
    """`images_folder` is any folder or zip. `cifar10` is the data set's python or binary files, or folders
    `train` and `test` of images; `imagenet64` a folder or zip of the originals. Both have their counts set."""
    path: str
    """Relative to where the workflow is started."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | str | None = None
    """A share of the images, or another folder or zip; `cifar10` has its own test part."""
    size: PositiveInt
    """Pixels of a side."""
    resize: Literal["none", "adm"] = "none"
    """`none` refuses images of another size; `adm` halves by boxes, then bicubic, then crops the centre."""
    convert: bool = False
    """Grey, palette and transparent images become RGB; without it they are refused."""
    labels: bool = True
    """Named by the subfolders; without it the data are unconditional."""
    conditional: bool = True
    """Whether networks are told the labels, which the classifier needs in any case."""
    count: PositiveInt | None = None
    """Of the training part; another number found is an error. Empty for any."""
    held_out_count: PositiveInt | None = None
    classes: PositiveInt | None = None
    flips: bool = False
    """Mirror half of what is drawn in training."""
    reference: PositiveInt | None = None
    """How many training images distances are to; empty for all."""
    extractor: ExtractorSettings = ExtractorSettings()
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _of_kind(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {**PRESETS.get(str(given.get("kind")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "cifar10") != (self.held_out is None):
            raise unfit(self.kind, self.held_out is None, "held_out")
        if self.extractor.kind == "classifier" and not self.labels:
            problem = "extractor: the classifier learns from labels, and there are none"
            raise Mistake(problem, "set {kind: random}, or name inception or dinov2")
        return self


def _known(data: ImagesData) -> Known:
    told = data.labels and data.conditional
    return Known(
        f"Images of {data.size}×{data.size} pixels from {data.path} (kind {data.kind}).",
        shape=(3, data.size, data.size),
        classes=data.classes if told else 0,
        metrics=METRICS,
        features=data.extractor.features,
        stored=3 * data.size**2 * ((data.count or 0) + (data.held_out_count or 0)),
    )


def _images(arrays: Arrays, count: int) -> Images:
    import numpy as np  # noqa: PLC0415 - for pictures alone

    half = float(arrays["sigma_d"]) / 2

    def decoded(samples: np.ndarray) -> np.ndarray:
        """What is no number is left white, as the gaps are."""
        return np.nan_to_num((samples * half + 0.5).clip(0, 1), nan=1.0).transpose(0, 2, 3, 1)

    def encoded(pictures: np.ndarray) -> np.ndarray:
        import torch  # noqa: PLC0415 - where samples are judged

        from trigbench.workflow.data.kinds.images.draws import to_unit_variance  # noqa: PLC0415

        return to_unit_variance(torch.from_numpy(pictures), float(arrays["sigma_d"])).numpy()

    real = (arrays["train_shown"][:count] / 255).transpose(0, 2, 3, 1)
    return Images(real, decoded, encoded=encoded)


IMAGES = DataKind(
    ImagesData,
    _known,
    "trigbench.workflow.data.kinds.images.making",
    draws="trigbench.workflow.data.kinds.images.draws",
    drawn=frozenset({"about"}),
    judging=frozenset({"reference", "extractor"}),
    small=False,
    places=frozenset({"path", "held_out", "weights"}),
    images=_images,
    labelled="trigbench.workflow.data.kinds.images.labelled",
    licences={
        "cifar10": "none is stated by its authors: Krizhevsky, Learning Multiple Layers of Features from Tiny Images",
        "imagenet64": "ImageNet's terms of access: research and education that are not commercial",
    },
)
