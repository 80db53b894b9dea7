"""What the papers claim and what decides it: the schema of claims.yaml, its reading, its check against studies.

Imports nothing heavy (no torch, no pandas), since every start of the workflow reads it.
"""

import difflib
import fnmatch
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from workflow.errors import BenchError
from workflow.reading import load, read_mapping, shipped
from workflow.runtime.quantities import COSTS, CURVES, QUANTITIES
from workflow.schema import Model, Name
from workflow.study import DEFAULT_BUDGET, Study

CLAIMS = Path(__file__).parent / "claims.yaml"

METRICS = frozenset(QUANTITIES) | frozenset(COSTS)
"""Of runs.csv."""
ALONG = frozenset(QUANTITIES) | frozenset(CURVES)
"""Of curves.csv."""
SIGNED = frozenset({"precision", "recall", "kid_train", "log_weight", "training_loss"})
"""Metrics that may be zero or less, so that ratios of them mean nothing."""


def _listed(value: Any) -> Any:
    """One name or term may stand without its brackets."""
    return value if isinstance(value, list | tuple) else [value]


class Term(Model):
    """One number per seed: a metric of some arms under some settings, or a constant."""

    arms: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Names or patterns (`dscd-*`); none for what is measured without an arm."""
    objective: str | None = None
    steps: PositiveInt | None = None
    guidance: float | None = None
    sampler: str | None = None
    mid_time: float | None = None
    x: float | Literal["first", "last", "all"] | None = None
    """Where on a curve; a number takes the nearest point within a tenth."""
    take: Literal["min", "max", "mean"] | None = None
    """How several rows of one seed become one number; without it there must be one row."""
    metric: str | None = None
    """Another one than the rule's."""
    value: PositiveFloat | None = None
    """A constant instead of all that."""

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if self.value is not None and self.model_fields_set != {"value"}:
            raise ValueError("a term is a constant 'value' or a selection, not both")
        several = len(self.arms) > 1 or any("*" in arm for arm in self.arms) or self.x == "all"
        if several and self.take is None:
            raise ValueError("a term of several rows says how to 'take' them: min, max or mean")
        return self

    @property
    def selected(self) -> dict[str, str | float]:
        """The columns that the term fixes."""
        columns = ("objective", "steps", "guidance", "sampler", "mid_time")
        return {c: getattr(self, c) for c in columns if getattr(self, c) is not None}


Terms = Annotated[tuple[Term, ...], BeforeValidator(_listed)]


class Rule(Model):
    """The statistic of one study that decides a claim.

    Each seed gives one effect, the sum of f(term) over `of` less that over `against`; f is the
    logarithm for log_ratio and the identity for difference.
    """

    experiment: Name
    metric: str
    of: Annotated[Terms, Field(min_length=1)]
    against: Annotated[Terms, Field(min_length=1)]
    scale: Literal["log_ratio", "difference"]
    direction: Literal["less", "more", "same"]
    smallest: Annotated[float, Field(ge=0)]
    """The smallest effect that matters, d: 0.05 is 5% for log_ratio; 0 where a constant in the terms is the bound."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.direction == "same" and self.smallest == 0:
            raise ValueError("'smallest' must be more than 0 for a claim of no difference")
        measured = self.measured
        if len({term.x is None for term in measured}) > 1:
            raise ValueError("'x' stands in every term or in none: runs and curves do not mix")
        known = ALONG if self.is_curve else METRICS
        for metric in (self.metric, *(term.metric for term in measured if term.metric)):
            if metric not in known:
                close = difflib.get_close_matches(metric, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
                table = "curves (with 'x')" if self.is_curve else "runs (without 'x')"
                raise ValueError(f"unknown metric {metric!r} of {table}; {hint}")
            if self.scale == "log_ratio" and metric in SIGNED:
                raise ValueError(f"{metric!r} may be zero or less: use scale: difference")
        return self

    @property
    def measured(self) -> tuple[Term, ...]:
        """The terms that are no constants."""
        return tuple(term for term in (*self.of, *self.against) if term.value is None)

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


class Claim(Model):
    """What a paper says, and what decides whether it holds here."""

    paper: Literal["sCM", "CM", "iCT", "ECT"]
    place: str
    topic: Literal[
        "compute", "conditioning", "discretisation", "guidance", "lineage", "mid time", "sizes", "stability of time",
        "steps", "tangent", "theory", "weighting",
    ]  # fmt: skip
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
    needs: Literal["imagenet512", "imagenet64", "cifar10"] | None = None
    """The study that would decide it, where none of ours can."""

    @model_validator(mode="after")
    def _decided_or_not(self) -> Self:
        if bool(self.decided_by) == (self.needs is not None):
            raise ValueError("give either 'decided_by', or the study that it 'needs'")
        return self


class Ledger(Model):
    """All claims, by their id."""

    claims: dict[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")], Claim]

    @model_validator(mode="after")
    def _each_on_its_own_statistic(self) -> Self:
        seen: dict[str, str] = {}
        for name, claim in self.claims.items():
            for study, rule in claim.decided_by.items():
                statistic = f"{study} {rule.statistic}"
                if statistic in seen:
                    text = "rests on the same statistic of the same arms as"
                    raise ValueError(f"claims.{name}.decided_by.{study} {text} {seen[statistic]!r}; remove one of them")
                seen[statistic] = name
        return self


def read_claims(path: Path = CLAIMS) -> Ledger:
    """The ledger. Raises BenchError naming file, key and remedy."""
    content = read_mapping(path, "a ledger", "see workflow/claims.yaml")
    try:
        return Ledger.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BenchError(
            first["msg"].removeprefix("Value error, ") + more,
            file=path,
            key=".".join(map(str, first["loc"])) or None,
            remedy=_remedy(first["type"], str(first["loc"][-1]) if first["loc"] else ""),
        ) from error


def _remedy(kind: str, key: str) -> str:
    if kind == "extra_forbidden":
        known = [*Claim.model_fields, *Rule.model_fields, *Term.model_fields]
        close = difflib.get_close_matches(key, known, n=1)
        return f"did you mean {close[0]!r}?" if close else f"remove it; known keys: {', '.join(known)}"
    return f"add the key {key!r}" if kind == "missing" else "change the value as the message says"


def check_claims(ledger: Ledger, studies: Iterable[Study], path: Path = CLAIMS) -> None:
    """Raise BenchError where a claim names a study, experiment or arm that does not exist.

    Names are held against the study's default budget: a smaller one may lack arms.
    """
    chosen = {study.study: in_full(study) for study in studies}
    known = {*chosen, *shipped()}
    for name, claim in ledger.claims.items():
        for study, rule in claim.decided_by.items():
            key = f"claims.{name}.decided_by.{study}"
            if study not in known:
                raise unknown("study", study, known, path, key)
            if study in chosen:
                _check_rule(rule, chosen[study], path, key)


def _check_rule(rule: Rule, study: Study, path: Path, key: str) -> None:
    if rule.experiment not in study.experiments:
        raise unknown("experiment", rule.experiment, study.experiments, path, f"{key}.experiment")
    arms = study.arms_of(rule.experiment)
    for term in rule.measured:
        for pattern in term.arms:
            if not fnmatch.filter(arms, pattern):
                raise unknown(f"arm of {study.study}/{rule.experiment}", pattern, arms, path, key)


def unknown(what: str, name: str, known: Iterable[str], path: Path, key: str) -> BenchError:
    """The error on a name that does not exist; its remedy is the nearest one, or all."""
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose of: {', '.join(sorted(known))}"
    return BenchError(f"unknown {what}: {name!r}", file=path, key=key, remedy=remedy)


def in_full(study: Study) -> Study:
    """The study under its default budget, whose arms a rule means."""
    return study if study.budget == DEFAULT_BUDGET else load(study.file)


def resolved(rule: Rule, arms: Sequence[str]) -> Rule:
    """The rule with every pattern replaced by the names of the experiment's arms that it means."""

    def named(term: Term) -> Term:
        names = [arm for arm in arms if any(fnmatch.fnmatchcase(arm, pattern) for pattern in term.arms)]
        return term.model_copy(update={"arms": tuple(names)})

    return rule.model_copy(update={"of": tuple(map(named, rule.of)), "against": tuple(map(named, rule.against))})


def ledger_digest(ledger: Ledger) -> str:
    """Changes when any claim does."""
    return hashlib.sha256(ledger.model_dump_json().encode()).hexdigest()[:16]


def verdicts_file(study: Study) -> Path:
    """The table of verdicts."""
    return study.folder / "claims.csv"


def details_file(study: Study) -> Path:
    """All that is known of every verdict, for the report."""
    return verdicts_file(study).with_suffix(".json")


def verdict_file(study: Study, claim: str) -> Path:
    """One claim's verdict."""
    return study.folder / "claims" / f"{claim}.json"
