"""The feature spaces that a study may name, by which plans know them: takes no torch."""

from typing import Literal, Self

from pydantic import model_validator

from trigbench.workflow.data.features.dimensions import DIMENSIONS
from trigbench.workflow.study.models import Model, unfit

IN_FEATURES = ("fd_train", "fd_held_out", "kid_train", "precision", "recall")
"""What is measured in one."""
OF_IMAGES = {"map": (), "samples": (*IN_FEATURES, "nearest_train", "nearest_held_out")}
"""What judges of images return."""


class ExtractorSettings(Model):
    """The features in which images are compared; docs/data.md says where weights come from."""

    kind: Literal["classifier", "random", "inception", "dinov2"] = "classifier"
    """The workflow's own classifier of the training part, a network of fixed random weights, which needs no labels, or
    a published network."""
    weights: str | None = None
    """A .safetensors file, of a published network."""

    @property
    def features(self) -> int:
        """How many there are."""
        return DIMENSIONS[self.kind]

    @model_validator(mode="after")
    def _weights_where_published(self) -> Self:
        if (self.kind in ("classifier", "random")) != (self.weights is None):
            raise unfit(f"extractor {self.kind!r}", self.weights is None, "weights")
        return self
