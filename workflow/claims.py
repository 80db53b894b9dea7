"""What the papers claim and what decides it: the ledger, its reading, its check against studies.

Imports nothing heavy (no torch, no pandas), since every start of the workflow reads it.
"""

import difflib
import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from workflow.claim import Claim, ClaimName, Rule, Term, refuse_one_statistic
from workflow.errors import BenchError, Mistake
from workflow.reading import load, read_mapping, remedy_of
from workflow.runtime.quantities import QUANTITIES
from workflow.schema import Model
from workflow.study import DEFAULT_BUDGET, Sampling, Study

CLAIMS = Path(__file__).parent / "claims.yaml"
PAPERS = ("sCM", "CM", "iCT", "ECT")
TOPICS = (
    "compute", "conditioning", "discretisation", "guidance", "lineage", "mid time", "sizes", "stability of time",
    "steps", "tangent", "theory", "weighting",
)  # fmt: skip


class Ledger(Model):
    """Claims of the papers, by their id."""

    claims: dict[ClaimName, Claim]

    @model_validator(mode="after")
    def _of_the_papers(self) -> Self:
        for name, claim in self.claims.items():
            for key, known in (("paper", PAPERS), ("topic", TOPICS)):
                if (value := getattr(claim, key)) not in known:
                    names = ", ".join(map(repr, known))
                    problem = f"claims.{name}.{key}: {value!r} is none of the ledger's"
                    raise Mistake(problem, f"choose of: {names}; only a study's own are free")
            for study, rule in claim.decided_by.items():
                try:
                    rule.check_metrics(QUANTITIES)
                except Mistake as error:
                    raise Mistake(f"claims.{name}.decided_by.{study}: {error}", error.remedy) from None
        return self

    @model_validator(mode="after")
    def _each_on_its_own_statistic(self) -> Self:
        refuse_one_statistic(self.claims)
        return self


def read_claims(path: Path = CLAIMS) -> Ledger:
    """The ledger. Raises BenchError naming file, key and remedy."""
    content = read_mapping(path, "a ledger", "see workflow/claims.yaml")
    try:
        return Ledger.model_validate(content)
    except ValidationError as error:
        first: Any = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        problem, key = first["msg"].removeprefix("Value error, "), ".".join(map(str, first["loc"])) or None
        if key is None and ": " in problem:  # a check between claims says its key itself
            key, problem = problem.split(": ", 1)
        raise BenchError(problem + more, file=path, key=key, remedy=remedy_of(first)) from error


def check_claims(ledger: Ledger, studies: Iterable[Study], path: Path = CLAIMS) -> None:
    """Raise BenchError where a claim does not fit one of these studies, in its names or the ways of sampling it means,
    and where two claims have one id.

    Names are held against a study's default budget: a smaller one may lack arms. What the ledger says of studies that
    are not among these, somebody's own say, is held against nothing.
    """
    taken = dict.fromkeys(ledger.claims, path)
    for study in studies:
        whole = in_full(study)
        for claims, file in ((ledger.claims, path), (study.claims, study.file)):
            for name, claim in claims.items():
                rule = claim.decided_by.get(study.study)
                if rule is not None:
                    _check_rule(rule, whole, file, f"claims.{name}.decided_by.{study.study}")
        for name in study.claims:
            if name in taken:
                remedy = "give it another id: claims are targets of the workflow, claims/<id>"
                problem = f"{taken[name]} has a claim {name!r}, too"
                raise BenchError(problem, file=study.file, key=f"claims.{name}", remedy=remedy)
        taken |= dict.fromkeys(study.claims, study.file)


def all_claims(ledger: Ledger, studies: Iterable[Study]) -> dict[str, Claim]:
    """The ledger's claims, and those that studies carry themselves."""
    return ledger.claims | {name: claim for study in studies for name, claim in study.claims.items()}


def claims_of(ledger: Ledger, study: Study) -> dict[str, Claim]:
    """What a study is judged by: its own claims, and those of the ledger; of a study that is not the project's own
    only those that it decides."""
    kept = {n: c for n, c in ledger.claims.items() if study.is_shipped or study.study in c.decided_by}
    return kept | dict(study.claims)


def _check_rule(rule: Rule, study: Study, path: Path, key: str) -> None:
    if rule.experiment not in study.experiments:
        raise unknown("experiment", rule.experiment, study.experiments, path, f"{key}.experiment")
    arms = study.arms_of(rule.experiment)
    for term in rule.measured:
        for pattern in term.arms:
            if not fnmatch.filter(arms, pattern):
                raise unknown(f"arm of {study.study}/{rule.experiment}", pattern, arms, path, key)
        _check_ways(term, term.metric or rule.metric, rule, study, path, key)


def _check_ways(term: Term, metric: str, rule: Rule, study: Study, path: Path, key: str) -> None:
    """A term that does not say how to take several rows must tell the ways apart in which samples are drawn."""
    of_samples = metric == "sample_flops" or (metric in QUANTITIES and QUANTITIES[metric].of == "samples")
    if term.take is not None or not term.arms or not of_samples:
        return
    shown = () if rule.is_curve else study.experiments[rule.experiment].samplers
    for arm in named_by(term, study.arms_of(rule.experiment)):
        wanted = shown or study.samplers_of(arm)[:1]
        ways = [way for way in study.samplings(arm) if way.sampler in wanted and metric in (way.metrics or (metric,))]
        fitting = [way for way in ways if term.fits(way.columns, way.solver)]
        if len(fitting) > 1:
            told = ["{" + ", ".join(f"{k}: {v}" for k, v in written_way(way).items()) + "}" for way in fitting]
            remedy = f"say in the term which of them is meant: {', '.join(told)}; or how to 'take' them"
            raise BenchError(f"{arm!r} is sampled in {len(fitting)} ways that fit", file=path, key=key, remedy=remedy)


def written_way(way: Sampling) -> dict[str, Any]:
    """A way of sampling as a term of a claim has it."""
    said = {"steps": way.steps, "sampling": way.sampler, "times": list(way.times) or None, "guidance": way.guidance}
    return {key: value for key, value in said.items() if value is not None}


def unknown(what: str, name: str, known: Iterable[str], path: Path, key: str) -> BenchError:
    """The error on a name that does not exist; its remedy is the nearest one, or all."""
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose of: {', '.join(sorted(known))}"
    return BenchError(f"unknown {what}: {name!r}", file=path, key=key, remedy=remedy)


def in_full(study: Study) -> Study:
    """The study under its default budget, whose arms a rule means."""
    return study if study.budget == DEFAULT_BUDGET else load(study.file)


def named_by(term: Term, arms: Iterable[str]) -> tuple[str, ...]:
    """Those of the arms that a term means."""
    return tuple(arm for arm in arms if any(fnmatch.fnmatchcase(arm, pattern) for pattern in term.arms))


def resolved(rule: Rule, arms: Sequence[str]) -> Rule:
    """The rule with every pattern replaced by the names of the experiment's arms that it means."""

    def named(term: Term) -> Term:
        return term.model_copy(update={"arms": named_by(term, arms)})

    return rule.model_copy(update={"of": tuple(map(named, rule.of)), "against": tuple(map(named, rule.against))})


def claims_digest(claims: Mapping[str, Claim]) -> str:
    """Changes when any of these claims does."""
    return hashlib.sha256("".join(f"{n} {c.model_dump_json()}" for n, c in claims.items()).encode()).hexdigest()[:16]


def verdicts_file(study: Study) -> Path:
    """The table of verdicts."""
    return study.folder / "claims.csv"


def details_file(study: Study) -> Path:
    """All that is known of every verdict, for the report."""
    return verdicts_file(study).with_suffix(".json")


def verdict_file(study: Study, claim: str) -> Path:
    """One claim's verdict."""
    return study.folder / "claims" / f"{claim}.json"
