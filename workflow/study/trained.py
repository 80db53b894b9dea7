"""What of an arm says what is trained of its network, and what moves it."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from trigbench.core.constants import ADAM_BETAS, ADAM_EPSILON
from trigbench.workflow.study.models import Model


class Optimiser(Model):
    """What moves the parameters, as App. G of the paper has it for its networks."""

    method: Literal["adam", "radam"] = "adam"
    beta1: Annotated[float, Field(ge=0, lt=1)] = ADAM_BETAS[0]
    beta2: Annotated[float, Field(gt=0, lt=1)] = ADAM_BETAS[1]
    epsilon: PositiveFloat = ADAM_EPSILON


class Adapter(Model):
    """Low-rank adapters of a network's linear and convolution layers (core.low_rank), at a scale of 1."""

    rank: PositiveInt
