"""What of an arm says what is trained of its network, and what moves it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from trigbench.core.constants import ADAM_BETAS, ADAM_EPSILON
from trigbench.workflow.study.models import Model


class Optimiser(Model):
    """What moves the parameters, as App. G of the paper has it for its networks."""

    method: Literal["adam", "radam"] = "adam"
    """Adam, or rectified Adam (arXiv 1908.03265), as CM has it."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = ADAM_BETAS[0]
    """beta_1: decay per step of the running mean of gradients."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = ADAM_BETAS[1]
    """beta_2: decay per step of that of their squares."""
    epsilon: PositiveFloat = ADAM_EPSILON
    """Added to the root of the second mean."""


class Adapter(Model):
    """Low-rank adapters of a network's linear and convolution layers (core.low_rank), at a scale of 1."""

    rank: PositiveInt
    """r: of the product of two matrices that is added to each layer's."""
