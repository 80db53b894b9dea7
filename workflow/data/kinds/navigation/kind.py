"""Demonstrations of the simulated task, as plans and pages know them."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from trigbench.workflow.data.kinds.navigation.courses import ACTIONS, COURSES, OBSERVED
from trigbench.workflow.study.kinds import DataKind, Known
from trigbench.workflow.study.models import DataSettings

METRICS = {"map": (), "samples": ("sliced_wasserstein",)}


class NavigationData(DataSettings):
    """Chunks of an expert's next actions, given what it observes; it chooses between ways by chance."""

    kind: Literal["navigation"]
    course: Literal["easy", "hard"]
    """Where pillars stand: one, with a way on either side, or three rows of narrow gaps with six ways."""
    episodes: Annotated[int, Field(ge=20)] = 1000
    """That the expert shows; those in which it does not arrive are left out."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of episodes that are never trained on, whose observations samples are told."""
    seed: int = 0
    judged: PositiveInt = 4000
    """Held-out chunks that samples are held against, at most."""


def _known(data: NavigationData) -> Known:
    ways = len(COURSES[data.course].ways)
    sentence = f"Chunks of {ACTIONS} movements towards a goal among pillars, shown by an expert that takes {ways} ways."
    return Known(sentence, (ACTIONS, 2), 0, METRICS, seen=False, observed=(OBSERVED,))


NAVIGATION = DataKind(
    NavigationData,
    _known,
    "trigbench.workflow.data.kinds.navigation.making",
    draws="trigbench.workflow.data.kinds.navigation.draws",
    drawn=frozenset({"train", "train_observed", "held_out_observed"}),
    licences={"navigation": "none needed: simulated by this project"},
)
