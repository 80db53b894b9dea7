"""What a study says of one experiment: which figure or table of a paper it redoes, and what is looked at."""

from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.models import Model, Name
from trigbench.workflow.study.seeds import Seeds


def _figure(kind: str) -> str:
    if kind not in FIGURES:
        raise Mistake(f"unknown kind of figure {kind!r}", f"there are {', '.join(FIGURES)}")
    return kind


class Experiment(Model):
    """One figure or table of a paper: the arms it needs and what to look at."""

    title: str
    """A heading of the page."""
    paper: str
    """Whose figure or table it is, as `arXiv 2410.11081, Fig. 5`; or that it is a control."""
    question: str
    """What it asks, in one sentence."""
    expectation: str
    """What the paper shows, in our words."""
    figure: Annotated[str, AfterValidator(_figure)]
    """A kind of figure (workflow.study.figures.FIGURES)."""
    metric: str
    """The column of runs.csv that the figure and its finding rest on."""
    arms: tuple[str, ...]
    """Names or patterns (`dscd-*`) of arms."""
    samplers: tuple[Name, ...] = ()
    """Which of its arms' samplers it shows; empty for the main one of each arm."""
    seeds: Seeds | None = None
    """Of its runs: a list, or a plan that adds some, `{first: 8, batch: 4, most: 24}`; empty for the study's. A budget
    with `seeds` gives every experiment those."""
    measurement: str | None = None
    """What it measures beside its runs (workflow.study.measurements)."""

    @model_validator(mode="after")
    def _known_measurement(self) -> Self:
        if self.measurement is not None and self.measurement not in MEASUREMENTS:
            raise Mistake(f"unknown measurement {self.measurement!r}", f"there are {', '.join(MEASUREMENTS)}")
        return self
