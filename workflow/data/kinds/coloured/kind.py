"""Coloured digits, as plans and pages know them."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.kinds.coloured.dimensions import LAW
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known
from trigbench.workflow.study.models import DataSettings

if TYPE_CHECKING:
    from numpy import ndarray

METRICS = {"map": (), "samples": ("fd_train", "fd_held_out", "precision", "recall")}


class ColouredData(DataSettings):
    """scikit-learn's 8x8 digits on black, each in one of a few colours of one luminance, which depends on the digit.

    Networks are not told the digit, so that a colour can be known by the shape alone.
    """

    kind: Literal["coloured"]
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0


def _known(data: ColouredData) -> Known:
    sentence = (
        f"scikit-learn's digits, 8×8, on black in one of {len(LAW[0])} colours of one luminance, with probabilities "
        "that the digit decides; networks are not told which digit."
    )
    return Known(sentence, (3, 8, 8), 0, METRICS, CLASSIFIER)


def _images(arrays: Arrays, count: int) -> Images:
    import numpy as np  # noqa: PLC0415 - for pictures alone
    import torch  # noqa: PLC0415

    from trigbench.workflow.data.kinds.coloured.painting import painted  # noqa: PLC0415

    mean, std = float(arrays["mean"]), float(arrays["std"])
    real = painted(*(torch.from_numpy(arrays[name][:count]) for name in ("train", "train_colours"))).numpy()

    def decoded(samples: "ndarray") -> "ndarray":
        """What is no number is left white, as the gaps are."""
        return np.nan_to_num((samples * std + mean).clip(0, 1), nan=1.0).transpose(0, 2, 3, 1)

    def encoded(pictures: "ndarray") -> "ndarray":
        return ((pictures / 255 - mean) / std).astype(np.float32)

    return Images(real.transpose(0, 2, 3, 1), decoded, encoded=encoded)


COLOURED = DataKind(
    ColouredData,
    _known,
    "trigbench.workflow.data.kinds.coloured.making",
    draws="trigbench.workflow.data.kinds.coloured.draws",
    drawn=frozenset({"train", "train_labels", "mean", "std"}),
    images=_images,
    labelled="trigbench.workflow.data.kinds.coloured.labelled",
    licences={
        "coloured": "CC BY 4.0: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI), of scikit-learn"
    },
)
