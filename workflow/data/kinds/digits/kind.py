"""scikit-learn's digits, as plans and pages know them."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.settings import OF_IMAGES
from trigbench.workflow.data.kinds.digits.dimensions import DIGIT_CLASSES, GREY_LEVELS
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known
from trigbench.workflow.study.models import DataSettings

METRICS = OF_IMAGES


class DigitsData(DataSettings):
    """scikit-learn's 8x8 digits: 1797 labelled images, nothing to download."""

    kind: Literal["digits"]
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0
    style: Literal["bold"] | None = None
    """How they are drawn: `bold` in strokes a pixel wider. Empty for as they are."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the style of digits as they are, which had none before: what is made from them stays."""
        return {key: value for key, value in handler(self).items() if key != "style" or value is not None}


def _known(data: DigitsData) -> Known:
    sentence = f"scikit-learn's digits{', drawn bold' if data.style else ''}: 8×8 grey images with labels."
    return Known(sentence, (1, 8, 8), DIGIT_CLASSES, METRICS, CLASSIFIER)


def _images(arrays: Arrays, count: int) -> Images:
    """Above each column of samples a training image of its label, another one where the label comes again."""
    import numpy as np  # noqa: PLC0415 - for pictures alone

    from trigbench.workflow.data.shares import labels_in_shares  # noqa: PLC0415

    labels, mean, std = arrays["train_labels"], arrays["mean"], arrays["std"]
    drawn = labels_in_shares(range(count), np.bincount(labels, minlength=DIGIT_CLASSES).tolist())
    by_label = [np.flatnonzero(labels == k)[(drawn[:i] == k).sum()] for i, k in enumerate(drawn)]
    real = arrays["train"][by_label][:, 0] / arrays["sigma_d"]

    def encoded(pictures: np.ndarray) -> np.ndarray:
        levels = pictures[:, :1].astype(np.float32) * (GREY_LEVELS / 255)
        return ((levels - float(mean)) / float(std)).astype(np.float32)

    black, white = -float(mean / std), float((GREY_LEVELS - mean) / std)
    return Images(real, lambda samples: samples[:, 0], black, white, encoded)


DIGITS = DataKind(
    DigitsData,
    _known,
    "trigbench.workflow.data.kinds.digits.making",
    draws="trigbench.workflow.data.kinds.digits.draws",
    drawn=frozenset({"train", "train_labels"}),
    images=_images,
    labelled="trigbench.workflow.data.kinds.digits.labelled",
    licences={
        "digits": "CC BY 4.0: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI), of scikit-learn"
    },
)
