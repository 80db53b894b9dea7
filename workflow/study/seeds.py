"""Which seeds an experiment has: some, or a plan that adds more."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.models import Model, Seed


class SeedPlan(Model):
    """Seeds that are added in batches until every verdict is there, or the most are: looks at the results are part of
    the plan, and each spends its share of alpha (docs/verdicts.md)."""

    first: Annotated[int, Field(ge=8)]
    """How many the first look has: with fewer, signs alone do not decide."""
    batch: PositiveInt
    """How many every further look has more."""
    most: PositiveInt
    start: Seed = 0
    """The first seed; the others follow on it."""

    @model_validator(mode="after")
    def _reaches_its_end(self) -> Self:
        if self.most < self.first or (self.most - self.first) % self.batch:
            remedy = "let 'most' be 'first' and a multiple of 'batch'"
            raise Mistake(f"seeds: {self.most} is reached by no batch of {self.batch} after {self.first}", remedy)
        return self

    @property
    def looks(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each look."""
        counts = range(self.first, self.most + 1, self.batch)
        return tuple(tuple(range(self.start, self.start + count)) for count in counts)


def _seeds(given: Any) -> Any:
    """A mapping is a plan, and only that: its errors are of its own keys."""
    return SeedPlan.model_validate(given) if isinstance(given, dict) else given


Seeds = Annotated[Annotated[tuple[Seed, ...], Field(min_length=1)] | SeedPlan, BeforeValidator(_seeds)]


def looks(seeds: tuple[int, ...] | SeedPlan | None) -> tuple[tuple[int, ...], ...]:
    """The seeds of each look of a plan; none where there is no plan."""
    return seeds.looks if isinstance(seeds, SeedPlan) else ()


def first_seeds(seeds: tuple[int, ...] | SeedPlan | None) -> tuple[int, ...]:
    """Those that are there from the start; none where none are given."""
    return seeds.looks[0] if isinstance(seeds, SeedPlan) else seeds or ()
