"""A feature space for small images: the penultimate layer of a classifier trained by the workflow."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.workflow.data.features.small import fitted, kept_under, of_8x8
from trigbench.workflow.data.kinds.digits.dimensions import DIGIT_CLASSES, GREY_LEVELS


def classifier() -> nn.Sequential:
    """8x8 grey images in [0, 1] -> logits of 10 classes; all but the last layer give 64 features."""
    return of_8x8(1, DIGIT_CLASSES)


def train_classifier(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, seed: int
) -> tuple[dict[str, Tensor], float]:
    """The classifier's weights and its accuracy on images that it has not seen; pixels in [0, 16]."""
    x, y = torch.from_numpy(images) / GREY_LEVELS, torch.from_numpy(labels).long()

    def loss_of(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(x[rows]), y[rows])

    weights = fitted(classifier, loss_of, len(x), seed=seed, purpose="classifier", epochs=30, batch=64, rate=1e-3)
    with torch.no_grad():
        guess = functional_call(classifier(), weights, (torch.from_numpy(test_images) / GREY_LEVELS,)).argmax(1).numpy()
    return weights, float((guess == test_labels).mean())


def to_pixels(images: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """Unit-variance images as integer pixels in [0, 16], as the data have them."""
    return (images * float(arrays["std"]) + float(arrays["mean"])).round().clamp(0, GREY_LEVELS)


def features(pixels: Tensor, arrays: Mapping[str, np.ndarray]) -> Tensor:
    """64 features per image, float64 on the CPU; pixels in [0, 16]."""
    module = classifier()
    module.load_state_dict(kept_under("extractor/", arrays))
    with torch.no_grad():
        return module[:-1](pixels / GREY_LEVELS).double()
