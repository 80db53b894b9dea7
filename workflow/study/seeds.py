"""Which seeds an experiment has: some, or a plan that adds more, and how far it has come."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.files import read_json
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


class Looked(Model):
    """What one look has said."""

    seeds: int
    verdicts: dict[str, str]
    """By claim."""
    commit: str | None = None
    time: str | None = None


class LooksRecord(Model):
    """How far a plan has come: written before a batch is made, so that what was stopped goes on with the same look."""

    plan: SeedPlan
    seeds: int
    """How many are made, or are being made."""
    looks: tuple[Looked, ...] = ()
    """As they were taken; one that was taken again stands here twice only where it said something else."""


def read_looks(plan: SeedPlan, file: Path) -> LooksRecord:
    """The record of a plan; at the first look where there is none. Raises BenchError for one of another plan: alpha
    was shared out by it."""
    start = LooksRecord(plan=plan, seeds=plan.first)
    if not file.is_file():
        return start
    remedy = "put the plan back as it was; or delete the file, and 'start' another plan at seeds that nobody saw"
    try:
        found = LooksRecord.model_validate(read_json(file, remedy))
    except ValidationError as error:
        raise BenchError(f"no record of looks: {error.errors()[0]['msg']}", file=file, remedy=remedy) from error
    if found.plan != plan or found.seeds not in map(len, plan.looks):
        raise BenchError("its looks were by another plan of seeds", file=file, key="plan", remedy=remedy)
    return found


def _seeds(given: Any) -> Any:
    """A mapping is a plan, and only that: its errors are of its own keys."""
    return SeedPlan.model_validate(given) if isinstance(given, dict) else given


Seeds = Annotated[Annotated[tuple[Seed, ...], Field(min_length=1)] | SeedPlan, BeforeValidator(_seeds)]


def looks(seeds: tuple[int, ...] | SeedPlan | None) -> tuple[tuple[int, ...], ...]:
    """The seeds of each look of a plan; none where there is no plan."""
    return seeds.looks if isinstance(seeds, SeedPlan) else ()


def reached(seeds: tuple[int, ...] | SeedPlan | None, file: Path) -> tuple[int, ...]:
    """Those of now: of a plan by its record; none where none are given."""
    if not isinstance(seeds, SeedPlan):
        return seeds or ()
    return tuple(range(seeds.start, seeds.start + read_looks(seeds, file).seeds))
