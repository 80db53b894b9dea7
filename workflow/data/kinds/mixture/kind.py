"""Gaussian mixtures, as plans and pages know them."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from trigbench.workflow.study.kinds import DataKind, Known
from trigbench.workflow.study.models import DataSettings

METRICS = {"map": ("map_rms", "map_rms_one_step", "map_worst"), "samples": ("sliced_wasserstein",)}


class MixtureData(DataSettings):
    """A Gaussian mixture whose consistency map is known (core.oracle), standardised to unit variance."""

    kind: Literal["mixture"]
    dimension: PositiveInt
    components: PositiveInt
    std: Annotated[float, Field(ge=0.2, le=2.0)]
    """Of each component, before standardisation, against means of standard deviation 1; below 0.2
    the exact map's fixed steps would lose their stated accuracy."""
    seed: int = 0
    evaluation_points: PositiveInt = 512
    """Points at each angle at which the learned map is held against the exact one."""


def _known(data: MixtureData) -> Known:
    return Known(
        f"A mixture of {data.components} Gaussians in {data.dimension} dimensions, of unit variance.",
        shape=(data.dimension,),
        classes=0,
        metrics=METRICS,
        seen=data.dimension == 2,
    )


MIXTURE = DataKind(
    MixtureData,
    _known,
    "trigbench.workflow.data.kinds.mixture.making",
    draws="trigbench.workflow.data.kinds.mixture.draws",
    drawn=frozenset({"weights", "means", "stds"}),
    judging=frozenset({"evaluation_points"}),
    parts=False,
    exact=True,
    licences={"mixture": "none needed: drawn from a formula of this project"},
)
