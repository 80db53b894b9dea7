"""What a claim says and what decides it: the schema of an entry of claims.yaml, and of a study's own claims.

Imports nothing heavy (no torch, no pandas), since every start of the workflow reads it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from trigbench._nearest import nearest
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.models import Model, Name, Seed, check_known
from trigbench.workflow.study.quantities import ACTIVITIES, COSTS, CURVES, Quantity, is_exact, is_signed
from trigbench.workflow.study.shipped import shipped

ClaimName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


def written(times: tuple[float, ...]) -> str:
    """Middle angles as the tables have them; nothing for none.

    >>> written((1.1, 0.8)), written(())
    ('[1.1, 0.8]', '')
    """
    return str([float(time) for time in times]) if times else ""


def _listed(value: Any) -> Any:
    """One name or term may stand without its brackets."""
    return value if isinstance(value, list | tuple) else [value]


def _shipped(study: str) -> str:
    check_known("study", study, shipped())
    return study


class Term(Model):
    """One number per seed: a metric of some arms under some settings, or a constant."""

    arms: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Names or patterns (`dscd-*`); none for what is measured without an arm."""
    objective: str | None = None
    steps: PositiveInt | None = None
    guidance: float | None = None
    sampler: str | None = None
    """The solver; `sampling` is the study's name for it."""
    sampling: Name | None = None
    mid_time: float | None = None
    """The first middle angle."""
    times: tuple[float, ...] | None = None
    """All middle angles; `[]` for one step."""
    x: float | Literal["first", "last", "all"] | None = None
    """Where on a curve; a number takes the nearest point within a tenth."""
    take: Literal["each", "mean", "geometric_mean", "min", "max"] | None = None
    """How several rows of one seed become one number; without it there must be one row. `each` makes a comparison of
    every arm and setting, and the claim must hold in all (an intersection-union test). The least and the largest are
    of a curve (`x: all`): of arms or settings they would be chosen after the fact."""
    choose_on: tuple[Seed, ...] = ()
    """Instead: of the arms and settings the one that is best on average over these seeds, which then decide nothing."""
    metric: str | None = None
    """Another one than the rule's."""
    value: PositiveFloat | None = None
    """A constant instead of all that."""

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if self.value is not None and self.model_fields_set != {"value"}:
            raise Mistake("a term is a constant 'value' or a selection, not both", "make two terms of it")
        several = len(self.arms) > 1 or any("*" in arm for arm in self.arms)
        if self.choose_on and self.take is not None:
            raise Mistake("'choose_on' and 'take' are two ways to come from several rows to one", "keep one of them")
        if (several or self.x == "all") and self.take is None and not self.choose_on:
            remedy = "add take: each, mean or geometric_mean (on a curve also min or max), or choose_on: [seeds]"
            raise Mistake("a term of several rows says how to 'take' them", remedy)
        if self.take in ("min", "max") and (several or self.x != "all"):
            problem = f"take: {self.take} chooses among arms or settings after the fact"
            remedy = "write take: each, so that the claim must hold against every one, or choose_on: [seeds]"
            raise Mistake(problem, remedy)
        return self

    @property
    def selected(self) -> dict[str, str | float]:
        """The columns that the term fixes, and to what."""
        columns = ("objective", "steps", "guidance", "sampler", "sampling", "mid_time")
        found = {c: getattr(self, c) for c in columns if getattr(self, c) is not None}
        return found | ({} if self.times is None else {"times": written(self.times)})

    def fits(self, way: Mapping[str, Any], solver: str) -> bool:
        """Whether rows that are sampled in a way (Sampling.columns), by that solver, are among those it selects."""
        had = {**way, "sampler": solver, "sampling": way["sampler"], "times": written(way["times"] or ())}
        return all(had[column] == wanted for column, wanted in self.selected.items() if column in had)


Terms = Annotated[tuple[Term, ...], BeforeValidator(_listed)]


class Activity(Model):
    """What shows that an intervention acted: where it did not, arms differ by chance, and nothing is tested."""

    arms: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    metric: str
    """Of runs.csv (workflow.study.quantities.ACTIVITIES)."""
    least: Annotated[float, Field(gt=0, le=1)] = 0.01
    """On average over seeds."""


class Sane(Model):
    """The bar of a named competitor, committed with the claim: one that fails it is no competitor, and nothing is
    tested. It never touches the arm whose failure is the claim."""

    name: str
    """Of the competitor, as VSD."""
    competitor: Term
    metric: str
    of: Term | None = None
    """What its number is a multiple of; empty for the number itself."""
    at_most: PositiveFloat | None = None
    at_least: PositiveFloat | None = None
    """The bound of the median over seeds."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise Mistake("a bar has either 'at_most' or 'at_least'", "give the one that holds")
        if any(term.take or term.choose_on or term.x is not None for term in self.terms):
            raise Mistake("a bar speaks of one number of runs.csv a seed", "select one row: no 'take', no 'x'")
        if any(term.value is not None or len(term.arms) != 1 or "*" in term.arms[0] for term in self.terms):
            raise Mistake("a bar names the one arm that it speaks of", "write its name, without a pattern")
        return self

    @property
    def terms(self) -> tuple[Term, ...]:
        return (self.competitor,) if self.of is None else (self.competitor, self.of)


class Rule(Model):
    """The statistic of one study that decides a claim.

    Each seed gives one effect, the sum of f(term) over `of` less that over `against`; f is the
    logarithm for log_ratio and the identity for difference. docs/verdicts.md says what becomes of them.
    """

    experiment: Name
    metric: str
    also: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Metrics in which the claim must hold as well, as in the distance to the held-out part."""
    of: Annotated[Terms, Field(min_length=1)]
    against: Annotated[Terms, Field(min_length=1)]
    scale: Literal["log_ratio", "difference"]
    direction: Literal["less", "more", "same"]
    smallest: Annotated[float, Field(ge=0)]
    """The smallest effect that matters, d: 0.05 is 5% for log_ratio; 0 where a constant in the terms is the bound."""
    exact: bool | None = None
    """Whether its numbers have no scatter (operations, orders in float64); empty for what their metrics say."""
    floor: float | None = None
    ceiling: float | None = None
    """Values of the metric that nothing passes, beside those of its quantity: who stands there cannot differ."""
    activity: Activity | None = None
    sane: Sane | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.direction == "same" and self.smallest == 0:
            problem = "'smallest' must be more than 0 for a claim of no difference"
            raise Mistake(problem, "write the smallest effect that matters, as 0.05")
        measured = self.measured
        if len({term.x is None for term in measured}) > 1:
            raise Mistake("'x' stands in every term or in none", "give each an 'x' or none: runs and curves do not mix")
        if any(term in self.against for term in self.of if term.value is None):
            problem = "the same term stands in 'of' and in 'against', and takes itself away"
            raise Mistake(problem, "name another arm or setting on one of the sides")
        bar = self.sane
        claimed = [(metric, t.arms, t.selected) for t in self.of for metric in self.metrics_of(t)]
        if bar is not None and (bar.metric, bar.competitor.arms, bar.competitor.selected) in claimed:
            problem = "'sane' bars the very number that the claim is about"
            raise Mistake(problem, "bar the competitor, which stands in 'against', or another number of it")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that it is about."""
        return tuple(dict.fromkeys((self.metric, *self.also, *(t.metric for t in self.measured if t.metric))))

    def metrics_of(self, term: Term) -> tuple[str, ...]:
        """Those in which a term is looked up."""
        return (term.metric,) if term.metric else (self.metric, *self.also)

    def is_exact(self, known: Mapping[str, Quantity]) -> bool:
        """Whether its numbers have no scatter."""
        return self.exact if self.exact is not None else all(is_exact(metric, known) for metric in self.metrics)

    def check_metrics(self, known: Mapping[str, Quantity], own: bool = False) -> None:
        """Raise Mistake on a metric that nothing measures (but `own` ones), and on a ratio that means nothing."""
        names = {*known, *(CURVES if self.is_curve else COSTS)}
        for metric in self.metrics:
            if metric not in names and not (own and metric.isidentifier()):
                hint = nearest(metric, names) or f"there are {', '.join(sorted(names))}"
                table = "curves (with 'x')" if self.is_curve else "runs (without 'x')"
                raise Mistake(f"unknown metric {metric!r} of {table}", hint)
            if self.scale == "log_ratio" and is_signed(metric, known):
                raise Mistake(f"{metric!r} may be zero or less, and has no ratio", "use scale: difference")
        of_runs = {*known, *COSTS, *ACTIVITIES}
        for key, metric in (("activity", self.activity), ("sane", self.sane)):
            if metric is not None and metric.metric not in of_runs and not (own and metric.metric.isidentifier()):
                hint = nearest(metric.metric, of_runs) or f"there are {', '.join(sorted(of_runs))}"
                raise Mistake(f"{key}: unknown metric {metric.metric!r} of runs", hint)

    @property
    def measured(self) -> tuple[Term, ...]:
        """The terms that are no constants."""
        return tuple(term for term in (*self.of, *self.against) if term.value is None)

    @property
    def arms(self) -> tuple[str, ...]:
        """All that it compares."""
        return tuple(dict.fromkeys(arm for term in self.measured for arm in term.arms))

    @property
    def is_curve(self) -> bool:
        """Whether curves.csv decides, and not runs.csv."""
        return any(term.x is not None for term in self.measured)

    @property
    def statistic(self) -> str:
        """What is measured: constants, direction and d only say how it is judged, and swapping the sides its sign."""
        sides = [
            sorted(str(t.model_copy(update={"metric": t.metric or self.metric})) for t in side if t.value is None)
            for side in (self.of, self.against)
        ]
        return str(sorted(sides))

    @property
    def digest(self) -> str:
        """Changes when the rule does, in whatever its file says, and not with how that is written."""
        said = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


class Change(Model):
    """What was done to a claim or its rules and why, which git does not tell."""

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    why: Annotated[str, Field(min_length=1)]
    studies: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = ()
    """Whose rules it is of; all where empty."""


class Claim(Model):
    """What a paper says, and what decides whether it holds here."""

    paper: str
    place: str
    topic: str
    claim: str
    """In our own words."""
    published: dict[str, float] = Field(default_factory=dict)
    """The paper's figures, by label."""
    erratum: str | None = None
    """Where the sources contradict the claim or each other."""
    caveat: str | None = None
    """What a reader of our verdict must know."""
    decided_by: dict[Name, Rule] = Field(default_factory=dict)
    """By the study's name."""
    needs: Annotated[Name, AfterValidator(_shipped)] | None = None
    """The study of the project's own that would decide it, where none of ours can."""
    withdrawn: Change | None = None
    """Instead: since when and why nobody judges it any more. It stays for its history, and is never counted."""
    changed: tuple[Change, ...] = ()
    """Why its rules are not what they were, as a threshold that moved or a study's rule that was withdrawn."""

    @model_validator(mode="after")
    def _decided_or_not(self) -> Self:
        if bool(self.decided_by) + (self.needs is not None) + (self.withdrawn is not None) != 1:
            problem = "a claim has either 'decided_by', or the study that it 'needs', or is 'withdrawn'"
            raise Mistake(problem, "give the one that holds, and not the others")
        if self.withdrawn is not None and self.withdrawn.studies:
            problem = "'withdrawn' is of the whole claim, and names no studies"
            raise Mistake(problem, "say why one study's rule went in 'changed', and remove the rule from 'decided_by'")
        return self


def refuse_one_statistic(claims: Mapping[str, Claim]) -> None:
    """Raise Mistake where two claims rest on the same numbers."""
    seen: dict[str, str] = {}
    for name, claim in claims.items():
        for study, rule in claim.decided_by.items():
            statistic = f"{study} {rule.statistic}"
            if statistic in seen:
                problem = f"rests on the same statistic of the same arms as {seen[statistic]!r}"
                raise Mistake(f"claims.{name}.decided_by.{study}: {problem}", "remove one of them")
            seen[statistic] = name


def claims_digest(claims: Mapping[str, Claim]) -> str:
    """Changes when any of these claims does."""
    return hashlib.sha256("".join(f"{n} {c.model_dump_json()}" for n, c in claims.items()).encode()).hexdigest()[:16]
