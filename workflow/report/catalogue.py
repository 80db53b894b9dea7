"""What there is: every kind of thing in one line each, read from the tables that the project itself goes by.

Imports no torch: what a function, a class or a module is stands in its docstring, which is read and not imported.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from trigbench import HOMES
from trigbench._places import ROOT
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.claims.ledger import Ledger, all_claims, read_claims
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.kinds import KINDS, kind_named, known_of
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.quantities import COSTS, CURVES, QUANTITIES
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import BUILT_IN, Sampler
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.shipped import shipped
from trigbench.workflow.study.study import Study

Rows = list[tuple[str, ...]]
Lines = list[tuple[str, str]]
"""What something is, and its text."""
UNSAID = {
    "objective", "data", "samplers", "rate_of", "optimiser", "proposal_mean", "proposal_std", "rampup",
    "rate_reference", "ema_half_life", "ema_std", "ema_rampup", "settings", "declared",
}  # fmt: skip
"""Of an arm in few words: what is said anyway, or seldom tells arms apart."""
NETWORKS = "trigbench.core.networks."


@dataclass(frozen=True)
class Listing:
    """How a kind of thing is listed: a line each."""

    columns: tuple[str, ...]
    """Of which the first is the name."""
    rows: Callable[[Sequence[Study]], Rows]
    of_study: bool = False
    """Whether studies have their own, so that a name may stand in several."""


@cache
def shipped_studies() -> tuple[Study, ...]:
    """The project's own, as their files have them; read once."""
    return tuple(load(name) for name in shipped())


@cache
def papers_claims() -> Ledger:
    """The ledger, read once."""
    return read_claims()


def about(path: str) -> str:
    """The docstring of `package.module:name` of the project, or of `package.module`; its source is read, not run."""
    module, _, name = path.partition(":")
    body = _parsed(module)
    if not name:
        return ast.get_docstring(body) or ""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return next(
        (ast.get_docstring(part) or "" for part in body.body if isinstance(part, kinds) and part.name == name), ""
    )


def defaults(path: str) -> dict[str, str]:
    """What a function's parameters are unless told, as its source writes them; read, not run."""
    module, _, name = path.partition(":")
    (made,) = [part for part in _parsed(module).body if isinstance(part, ast.FunctionDef) and part.name == name]
    plain, named = made.args.args, zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True)
    told = [*zip(plain[len(plain) - len(made.args.defaults) :], made.args.defaults, strict=True), *named]
    return {argument.arg: ast.unparse(value) for argument, value in told if value is not None}


def few_words(text: str) -> str:
    """The first sentence of a docstring, in one line.

    >>> few_words("One thing. Another.")
    'One thing'
    """
    paragraph = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return re.split(r"(?<!App)(?<!Sec)(?<!Fig)\.\s+(?=[A-Z])", paragraph, maxsplit=1)[0].rstrip(".")


@cache
def _parsed(module: str) -> ast.Module:
    place = ROOT.joinpath(*module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def sampling_said(sampler: Sampler) -> str:
    """A way of sampling in words.

    >>> sampling_said(BUILT_IN["few"])
    'few: 1 step, 2 steps through 1.1'
    """
    ways = [
        f"{len(times) + 1} step{'s' * bool(times)}" + (f" through {', '.join(f'{t:g}' for t in times)}" * bool(times))
        for times in sampler.times or ()
    ]
    if len(ways) > 3:
        ways = [*ways[:2], f"{len(ways) - 2} more"]
    if sampler.evaluations:
        ways.append(f"{', '.join(map(str, sampler.evaluations))} evaluations")
    ways += [f"{key} {value}" for key, value in (sampler.settings or {}).items()]
    if sampler.guidance:
        ways.append(f"guided at {', '.join(f'{scale:g}' for scale in sampler.guidance)}")
    return f"{sampler.solver}: {', '.join(ways)}" if ways else sampler.solver


def arms_said(study: Study) -> dict[str, str]:
    """Its arms in words: objective and data, and what of the settings is not as in most arms of the study."""
    every = {name: arm.said for name, arm in study.arms.items()}
    keys = dict.fromkeys(key for said in every.values() for key in said)
    usual = {key: Counter(str(said.get(key)) for said in every.values()).most_common(1)[0][0] for key in keys}
    return {name: _said(settings, usual) for name, settings in every.items()}


def _said(settings: Mapping[str, Any], usual: Mapping[str, str]) -> str:
    apart = [
        f"{key} {_plain(value)}"
        for key, value in settings.items()
        if key not in UNSAID and str(value) != usual[key] and value != Arm.model_fields[key].default
    ]
    return ", ".join([f"{settings['objective']} on {settings['data']}", *apart])


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _studies(studies: Sequence[Study]) -> Rows:
    return [(s.said, s.title, f"{len(s.arms)} arms, {len(s.experiments)} experiments") for s in studies]


def _experiments(studies: Sequence[Study]) -> Rows:
    return [(n, s.said, e.title, e.paper) for s in studies for n, e in s.experiments.items()]


def _arms(studies: Sequence[Study]) -> Rows:
    return [(name, study.said, said) for study in studies for name, said in arms_said(study).items()]


def _objectives(studies: Sequence[Study]) -> Rows:
    own = {arm.objective: "of a study's own" for study in studies for arm in study.arms.values() if arm.method.own}
    found = [(n, few_words(about(m.path)), m.paper) for n, m in OBJECTIVES.items()]
    return [*found, *((path, said, "") for path, said in own.items())]


def _samplers(studies: Sequence[Study]) -> Rows:
    every = [(name, "every study", sampling_said(sampler)) for name, sampler in BUILT_IN.items()]
    return every + [(n, study.said, sampling_said(s)) for study in studies for n, s in study.samplers.items()]


def _solvers(studies: Sequence[Study]) -> Rows:
    return [
        (name, few_words(about(solver.path)), str(solver.evaluations), ", ".join(solver.settings))
        for name, solver in SOLVERS.items()
    ]


def _claims(studies: Sequence[Study]) -> Rows:
    names = {study.study for study in studies}
    known = all_claims(papers_claims(), studies)
    ours = {n: c for n, c in known.items() if names & ({*c.decided_by} | {c.needs}) or len(studies) > 1}
    return [
        (
            n,
            c.claim,
            f"{c.paper}, {c.place}",
            ", ".join(c.decided_by) or (f"needs {c.needs}" if c.needs else "withdrawn"),
        )
        for n, c in ours.items()
    ]


def _data(studies: Sequence[Study]) -> Rows:
    kinds = [(name, "kind", few_words(kind_named(name).schema.__doc__ or "")) for name in KINDS]
    return kinds + [(n, s.said, known_of(d).sentence) for s in studies for n, d in s.data.items()]


def _figures(studies: Sequence[Study]) -> Rows:
    return [(name, few_words(about(kind.path.partition(":")[0]))) for name, kind in FIGURES.items()]


def _metrics(studies: Sequence[Study]) -> Rows:
    of_runs = [(n, q.title, q.meaning, q.better) for n, q in QUANTITIES.items()]
    of_runs += [(n, "cost", said, "lower") for n, said in COSTS.items()]
    along = [(n, f"along {c.along}", c.meaning, "") for n, c in CURVES.items() if n not in QUANTITIES]
    return of_runs + along


def _networks(studies: Sequence[Study]) -> Rows:
    ours = {name: home for name, home in HOMES.items() if home.startswith(NETWORKS)}
    return [(f"{home}:{name}", few_words(about(home))) for name, home in ours.items()]


def _measurements(studies: Sequence[Study]) -> Rows:
    return [(n, few_words(about(m.path)), ", ".join((*m.measures, *m.costs))) for n, m in MEASUREMENTS.items()]


LISTINGS = {
    "studies": Listing(("study", "what", "holds"), _studies),
    "experiments": Listing(("experiment", "study", "what", "paper"), _experiments, of_study=True),
    "arms": Listing(("arm", "study", "what"), _arms, of_study=True),
    "objectives": Listing(("objective", "what", "paper"), _objectives),
    "samplers": Listing(("sampler", "of", "what"), _samplers, of_study=True),
    "solvers": Listing(("solver", "what", "evaluations a step", "settings"), _solvers),
    "claims": Listing(("claim", "what", "paper", "decided by"), _claims),
    "data": Listing(("data", "of", "what"), _data, of_study=True),
    "figures": Listing(("figure", "what"), _figures),
    "metrics": Listing(("metric", "title", "what", "better"), _metrics),
    "networks": Listing(("network", "what"), _networks),
    "measurements": Listing(("measurement", "what", "curves"), _measurements),
}
"""By the word that follows `trigbench list`."""
