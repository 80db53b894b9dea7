"""Grey images in IDX files, as MNIST and Fashion-MNIST come, as plans and pages know them."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from trigbench.workflow.data.features.settings import OF_IMAGES, ExtractorSettings
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.kinds import DataKind, Images, Known
from trigbench.workflow.study.models import DataSettings

METRICS = OF_IMAGES
WHITE = 255


class IdxData(DataSettings):
    """Square grey images with labels, as the MNIST family has them: files `train-*` train, files `t10k-*` are held out.

    Grey levels are shifted and scaled so that the training part has mean 0 and the study's sigma_d as its standard
    deviation, both over all pixels."""

    kind: Literal["idx"]
    path: str = "/usr/share/datasets/fashion-mnist"
    """The folder of the four files, gzipped or not; that of Debian's package dataset-fashion-mnist."""
    size: PositiveInt = 28
    """Pixels of a side."""
    fold: Literal[1, 2, 4] = 1
    """So many pixels squared become the channels of one: 2 makes 28x28 pixels 4 channels of 14x14. The same numbers,
    for networks that are dear in pixels and cheap in channels; samples are unfolded before they are judged."""
    classes: Annotated[int, Field(gt=0, le=256)] = 10
    names: tuple[str, ...] | None = None
    """Of the labels, from 0; empty for their numbers."""
    conditional: bool = True
    """Whether networks are told the labels, which the classifier needs in any case."""
    count: PositiveInt | None = None
    """Of the training part; another number found is an error. Empty for any."""
    held_out_count: PositiveInt | None = None
    content: str | None = None
    """SHA-256 of all images and labels, as the prepared data say it under `content`; others are an error. It is the
    same wherever the files come from, gzipped or not. Empty for any."""
    reference: PositiveInt | None = None
    """How many training images distances are to; empty for all."""
    extractor: ExtractorSettings = ExtractorSettings()
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.size % self.fold:
            raise Mistake(f"fold: {self.size} pixels are no multiple of {self.fold}", "set 1, or a divisor of 'size'")
        if self.names is not None and (len(self.names) != self.classes or len(set(self.names)) != self.classes):
            problem = f"names: expected {self.classes} different ones, got {len(set(self.names))}"
            raise Mistake(problem, "name each class once, in the order of labels, or set 'classes'")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names."""
        return self.names or tuple(map(str, range(self.classes)))


def _known(data: IdxData) -> Known:
    side = data.size // data.fold
    return Known(
        f"Grey images of {data.size}×{data.size} pixels from {data.path} (kind idx).",
        shape=(data.fold**2, side, side),
        classes=data.classes if data.conditional else 0,
        metrics=METRICS,
        features=data.extractor.features,
        stored=data.size**2 * ((data.count or 0) + (data.held_out_count or 0)),
    )


def _images(arrays: Arrays, count: int) -> Images:
    """Above each column of samples a training image of its label, as long as there is another one among those kept."""
    import json  # noqa: PLC0415 - for pictures alone, as what follows

    import numpy as np  # noqa: PLC0415

    from trigbench.workflow.data.shares import labels_in_shares  # noqa: PLC0415

    about = json.loads(str(arrays["about"]))
    fold, mean, std = about["fold"], about["mean"], about["std"]
    shown, labels, shares = arrays["train_shown"][:, 0] / WHITE, arrays["train_shown_labels"], arrays["shares"]
    real = shown[:count]
    if about["conditional"]:
        drawn, real = labels_in_shares(range(count), shares.tolist()), np.zeros((count, *shown.shape[1:]))
        for i, label in enumerate(drawn):
            alike, nth = np.flatnonzero(labels == label), int((drawn[:i] == label).sum())
            if nth < len(alike):
                real[i] = shown[alike[nth]]

    def decoded(samples: np.ndarray) -> np.ndarray:
        n, _, rows, columns = samples.shape
        pixels = samples.reshape(n, fold, fold, rows, columns).transpose(0, 3, 1, 4, 2)
        return (pixels.reshape(n, rows * fold, columns * fold) * std + mean) / WHITE

    def encoded(pictures: np.ndarray) -> np.ndarray:
        import torch  # noqa: PLC0415 - where samples are judged

        from trigbench.workflow.data.kinds.idx.draws import to_unit_variance  # noqa: PLC0415

        return to_unit_variance(torch.from_numpy(pictures[:, :1]), mean, std, fold).numpy()

    return Images(real, decoded, encoded=encoded, fold=fold)


IDX = DataKind(
    IdxData,
    _known,
    "trigbench.workflow.data.kinds.idx.making",
    draws="trigbench.workflow.data.kinds.idx.draws",
    drawn=frozenset({"about"}),
    judging=frozenset({"reference", "extractor"}),
    small=False,
    places=frozenset({"path", "weights"}),
    images=_images,
    labelled="trigbench.workflow.data.kinds.idx.labelled",
)
