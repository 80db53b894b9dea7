"""What the papers claim and what decides it: the ledger, its reading, its check against studies.

Imports nothing heavy (no torch, no pandas), since every start of the workflow reads it.
"""

import fnmatch
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from trigbench._nearest import nearest
from trigbench._places import ROOT, place_of
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.study.claim import Claim, ClaimName, Rule, Term, refuse_one_statistic
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.kinds import metrics_of
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.metrics import OfData, measured
from trigbench.workflow.study.mistakes import remedy_of
from trigbench.workflow.study.models import Model
from trigbench.workflow.study.quantities import COSTS, CURVES, QUANTITIES
from trigbench.workflow.study.reading import load, read_mapping
from trigbench.workflow.study.study import DEFAULT_BUDGET, Sampling, Study

CLAIMS = ROOT / "workflow" / "claims.yaml"
PAPERS = (
    "sCM", "CM", "iCT", "ECT", "PD", "CTM", "LCM", "PCM", "multi-step CM", "MeanFlow", "iMF", "alpha-Flow", "SoFlow",
    "AYF", "LSD", "shortcut", "TVM", "rCM", "IMM", "SiD", "LCM-LoRA", "Consistency Policy", "Diffusion Policy",
    "CoMoSpeech", "AnimateLCM", "MCM",
)  # fmt: skip
TOPICS = (
    "compute", "conditioning", "discretisation", "editing", "flow maps", "guidance", "lineage", "mid time", "policies",
    "sizes", "spoken words", "stability of time", "steps", "tangent", "theory", "videos", "weighting",
)  # fmt: skip
OF_RUNS = COSTS.keys() - {name for one in MEASUREMENTS.values() for name in one.costs}
"""Costs that every run has; the others are known where an experiment has them measured."""


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
    content = read_mapping(path, "a ledger", f"see {place_of('workflow/claims.yaml')}")
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
    """Raise BenchError where a claim does not fit one of these studies, in its names, what it measures or the ways of
    sampling it means, and where two claims have one id.

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
                    check_rule(rule, whole, file, f"claims.{name}.decided_by.{study.study}", metrics_of(whole.data))
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
    """What a study is judged by: its own claims, and those of the ledger that nobody withdrew; of a study that is not
    the project's own only those that it decides."""
    standing = {n: c for n, c in ledger.claims.items() if c.withdrawn is None}
    kept = {n: c for n, c in standing.items() if study.is_shipped or study.study in c.decided_by}
    return kept | dict(study.claims)


def check_rule(rule: Rule, study: Study, path: Path, key: str, of_data: OfData) -> None:
    """Raise BenchError where a rule does not fit a study (in full), whose data sets measure what `of_data` has."""
    if rule.experiment not in study.experiments:
        raise unknown("experiment", rule.experiment, study.experiments, path, f"{key}.experiment")
    arms = study.arms_of(rule.experiment)
    bar = [(term, (rule.sane.metric,)) for term in rule.sane.terms] if rule.sane else []
    patterns = [pattern for term in (*rule.measured, *(term for term, _ in bar)) for pattern in term.arms]
    for pattern in (*patterns, *(rule.activity.arms if rule.activity else ())):
        if not fnmatch.filter(arms, pattern):
            raise unknown(f"arm of {study.study}/{rule.experiment}", pattern, arms, path, key)
    measured = [(term, rule.metrics_of(term)) for term in rule.measured]
    for term, metrics, curve in (*((*m, rule.is_curve) for m in measured), *((*b, False) for b in bar)):
        for arm, metric in itertools.product(named_by(term.arms, arms), metrics):
            try:
                _check_term(term, metric, rule.experiment, curve, study, arm, of_data)
            except Mistake as error:
                raise BenchError(str(error), file=path, key=key, remedy=error.remedy) from None
    _check_rates(rule, study, path, key, of_data)


def _check_rates(rule: Rule, study: Study, path: Path, key: str, of_data: OfData) -> None:
    """Arms with rates of their own are compared in as many steps as chose these: the rate that is best in one step is
    not in four. One arm's own steps, what is measured without steps, and curves are free."""
    arms = study.arms_of(rule.experiment)
    sides = [(term, arm) for term in rule.measured for arm in named_by(term.arms, arms)]
    if rule.is_curve or len({arm for _, arm in sides}) < 2:
        return
    for term, arm in sides:
        candidates = study.candidates(arm)
        if not candidates:
            continue
        rated = study.arms[arm].rate_steps or study.main_samplings(candidates[0])[0].steps
        for metric in rule.metrics_of(term):
            ways = _fitting(term, metric, rule.experiment, False, study, arm, of_data)
            if judged := sorted({way.steps for way in ways} - {rated}):
                steps = " and ".join(map(str, judged))
                problem = f"{arm!r} is compared in {steps} steps, and its rate was chosen in {rated}"
                remedy = f"name an arm of the same candidates ({study.arms[arm].rate_of}) with rate_steps: {judged[0]}"
                raise BenchError(problem, file=path, key=key, remedy=remedy)


def _check_term(
    term: Term, metric: str, of_experiment: str, curve: bool, study: Study, arm: str, of_data: OfData
) -> None:
    """A term must find rows of the arm, and say how to take several or tell apart the ways in which samples are drawn.

    What an experiment measures beside its runs is not known here, nor are data that `of_data` lacks.
    """
    experiment, kind = study.experiments[of_experiment], of_data.get(study.arms[arm].data)
    shown = _shown(experiment, curve, study, arm)
    of_samples = _of_samples(metric, study, arm, of_data)
    ways = _ways(metric, shown, curve, study, arm)
    fitting = _fitting(term, metric, of_experiment, curve, study, arm, of_data)
    if kind is not None and experiment.measurement is None:
        of_run = measured(study, arm, shown, of_data) - CURVES.keys() | OF_RUNS
        there = _of_curves(study, arm, of_data) if curve else of_run
        if metric not in there:
            raise Mistake(f"{metric!r} is not measured of {arm!r}", f"choose of: {', '.join(sorted(there))}")
        if term.objective not in (None, study.arms[arm].objective):
            raise Mistake(f"{arm!r} is no arm of objective {term.objective!r}", "remove 'objective' from the term")
        if not of_samples and (said := sorted(term.selected.keys() - {"objective"})):
            raise Mistake(f"{metric!r} is measured of no samples, and has no {said[0]!r}", "remove it from the term")
        if of_samples and not fitting:
            raise Mistake(f"{arm!r} is sampled in no way that fits", f"choose of: {_told(ways)}")
    if len(fitting) > 1 and term.take is None and not term.choose_on:
        remedy = f"say in the term which of them is meant: {_told(fitting)}; or how to 'take' them"
        raise Mistake(f"{arm!r} is sampled in {len(fitting)} ways that fit", remedy)


def _shown(experiment: Experiment, curve: bool, study: Study, arm: str) -> list[str]:
    """The arm's samplers that a term may mean."""
    chosen = () if curve else experiment.samplers
    return [name for name in study.samplers_of(arm) if not chosen or name in chosen][: None if chosen else 1]


def _of_samples(metric: str, study: Study, arm: str, of_data: OfData) -> bool:
    kind = of_data.get(study.arms[arm].data)
    known = metric in kind["samples"] if kind else metric in QUANTITIES and QUANTITIES[metric].of == "samples"
    return known or metric == "sample_flops"


def _ways(metric: str, shown: Sequence[str], curve: bool, study: Study, arm: str) -> list[Sampling]:
    """In which it is measured."""
    ways = [way for way in study.samplings(arm) if way.sampler in shown]
    return ways if curve else [way for way in ways if metric in (way.metrics or (metric,))]


def _fitting(
    term: Term, metric: str, experiment: str, curve: bool, study: Study, arm: str, of_data: OfData
) -> list[Sampling]:
    """The ways of sampling that a term selects; none of a metric without samples."""
    if not _of_samples(metric, study, arm, of_data):
        return []
    ways = _ways(metric, _shown(study.experiments[experiment], curve, study, arm), curve, study, arm)
    return [way for way in ways if term.fits(way.columns, study.all_samplers[way.sampler].solver)]  # as tables have it


def _of_curves(study: Study, arm: str, of_data: OfData) -> set[str]:
    """What is measured along something of an arm's runs: of samples, that of its snapshots."""
    along = set(of_data[study.arms[arm].data]["samples"]) if study.arms[arm].snapshots else set[str]()
    chosen = study.evaluation.snapshot_metrics
    once = {name for name, quantity in QUANTITIES.items() if quantity.of == "training"}
    return measured(study, arm, (), of_data) - once | (along if chosen is None else along & {*chosen})


def _told(ways: Iterable[Sampling]) -> str:
    return ", ".join("{" + ", ".join(f"{k}: {v}" for k, v in written_way(way).items()) + "}" for way in ways)


def written_way(way: Sampling) -> dict[str, Any]:
    """A way of sampling as a term of a claim has it."""
    said = {"steps": way.steps, "sampling": way.sampler, "times": list(way.times) or None, "guidance": way.guidance}
    return {key: value for key, value in said.items() if value is not None}


def unknown(what: str, name: str, known: Iterable[str], path: Path, key: str) -> BenchError:
    """The error on a name that does not exist; its remedy is the nearest one, or all."""
    remedy = nearest(name, known) or f"choose of: {', '.join(sorted(known))}"
    return BenchError(f"unknown {what}: {name!r}", file=path, key=key, remedy=remedy)


def in_full(study: Study) -> Study:
    """The study under its default budget, whose arms a rule means."""
    return study if study.budget == DEFAULT_BUDGET else load(study.file)


def named_by(patterns: Iterable[str], arms: Iterable[str]) -> tuple[str, ...]:
    """Those of the arms that some patterns mean."""
    return tuple(arm for arm in arms if any(fnmatch.fnmatchcase(arm, pattern) for pattern in patterns))


def resolved(rule: Rule, arms: Sequence[str]) -> Rule:
    """The rule with every pattern replaced by the names of the experiment's arms that it means."""

    def named(term: Term) -> Term:
        return term.model_copy(update={"arms": named_by(term.arms, arms)})

    acting = rule.activity and rule.activity.model_copy(update={"arms": named_by(rule.activity.arms, arms)})
    sides = {"of": tuple(map(named, rule.of)), "against": tuple(map(named, rule.against))}
    return rule.model_copy(update=sides | {"activity": acting})
