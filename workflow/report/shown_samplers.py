"""What `trigbench show` says of a solver and of a way of sampling: formula, order, cost, settings, who uses it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trigbench.core.map_samplers import MAP_SAMPLERS, MapSampler
from trigbench.core.objectives import OBJECTIVES, Setting
from trigbench.core.solvers import SOLVERS, Solver
from trigbench.workflow.report.catalogue import Lines, about, defaults, sampling_said
from trigbench.workflow.study.samplers import BUILT_IN
from trigbench.workflow.study.study import Study


def samplers_shown(name: str, studies: Sequence[Study]) -> Iterator[Lines]:
    """The solver of that name, and the studies' samplers of it."""
    if name in SOLVERS:
        yield [("solver", name), *_solver(SOLVERS[name]), *_used(name, studies)]
    if name in MAP_SAMPLERS:
        yield [("sampler of maps", name), *_map_sampler(MAP_SAMPLERS[name]), *_used(name, studies)]
    for study in studies:
        if name in study.samplers:
            yield _of_study(name, study)
    if name in BUILT_IN and name not in (*SOLVERS, *MAP_SAMPLERS):
        solver = BUILT_IN[name].solver
        what = f"{sampling_said(BUILT_IN[name])} (trigbench show {solver})"
        yield [("sampler", f"{name} of every study"), ("what", what), *_used(solver, studies)]


def _solver(solver: Solver) -> Lines:
    last = " (1 in the last, down to 0)" if solver.evaluations > 1 else ""
    with_noise = ", putting noise in" if "noise" in solver.takes else ""
    return [
        ("what", _paragraph(solver.path)),
        ("source", solver.source),
        ("order", solver.order),
        ("cost", f"{_count(solver.evaluations)} of the network a step{last}; a guided one is two"),
        ("goes", ("all the way in one call" if solver.whole else "by single steps, a teacher's too") + with_noise),
        *(("setting", said) for said in _settings(solver.path, solver.settings)),
        ("function", solver.path),
    ]


def _count(evaluations: int) -> str:
    return f"{evaluations} evaluation" + "s" * (evaluations > 1)


def _map_sampler(sampler: MapSampler) -> Lines:
    beside = f"; it samples methods of {', '.join(sampler.others)}, too" if sampler.others else ""
    return [
        ("what", _paragraph(sampler.path)),
        ("source", sampler.source),
        ("cost", "1 evaluation of the network a step"),
        *([("steps", f"of one length in flow time, a power of two, {sampler.finest} at most")] * bool(sampler.finest)),
        ("is told", f"{', '.join(sampler.takes)}; the network is told {'a' if sampler.told else 'no'} target time"),
        ("of", (", ".join(sorted(_methods(sampler))) or "no method unless told") + beside),
        ("function", sampler.path),
    ]


def _methods(sampler: MapSampler) -> list[str]:
    names = {name for name, other in MAP_SAMPLERS.items() if other is sampler} | {sampler.alone}
    return [name for name, method in OBJECTIVES.items() if method.sampler in names]


def _used(solver: str, studies: Sequence[Study]) -> Lines:
    """The lines of a study that use it, which studies have some, and how one sees them."""
    own = [f"{name} of {study.said}" for study in studies for name, s in study.samplers.items() if s.solver == solver]
    usual = [name for name, sampler in BUILT_IN.items() if sampler.solver == solver]
    return [
        ("in a study", f"samplers: {{mine: {{{_line(solver)}}}}} and, of an arm, samplers: [mine]"),
        *([("always there", f"as the samplers {', '.join(usual)}, which an arm may name")] if usual else []),
        ("samplers", ", ".join(own) or "of no study by another name"),
    ]


def _line(solver: str) -> str:
    """What stands in the braces: the solver with what it cannot do without."""
    way, known = MAP_SAMPLERS.get(solver), SOLVERS.get(solver)
    parts = [f"solver: {solver}"]
    if known is not None:
        parts += [f"{key}: ..." for key, setting in known.settings.items() if setting.needed]
        parts += [] if known.own_steps else [f"evaluations: [{1 + 4 * known.evaluations}]"]
    elif way is not None and way.evaluations:
        parts.append(f"evaluations: [{', '.join(map(str, way.evaluations))}]")
    elif way is not None and way.times:
        parts.append("times: [[], [1.1]]")
    return ", ".join(parts)


def _settings(path: str, settings: Mapping[str, Setting]) -> list[str]:
    usual = defaults(path)
    return [
        f"{key}: {setting.wanted}, {'needed' if setting.needed else f'{usual.get(key)} unless told'}"
        for key, setting in settings.items()
    ]


def _paragraph(path: str) -> str:
    return " ".join(about(path).split("\n\n")[0].split())


def _of_study(name: str, study: Study) -> Lines:
    sampler = study.samplers[name]
    arms = [arm for arm in study.arms if name in study.samplers_of(arm)]
    steps = sorted({way.steps for arm in arms for way in study.samplings(arm) if way.sampler == name})
    judged = [arm for arm in arms if not study.arms[arm].tuning]
    chosen = f"; and {len(arms) - len(judged)} that only choose a rate" if len(arms) > len(judged) else ""
    known: Any = SOLVERS.get(sampler.solver) or MAP_SAMPLERS[sampler.solver]
    shows = [one for one, settings in study.experiments.items() if name in settings.samplers]
    return [
        ("sampler", f"{name} of {study.said}"),
        ("what", sampling_said(sampler)),
        ("solver", f"{sampler.solver}: {known.source} (trigbench show {sampler.solver})"),
        ("cost", f"{', '.join(map(str, steps))} evaluations a sample" if steps else "no arm is sampled by it"),
        *([("measured", ", ".join(sampler.metrics))] if sampler.metrics else []),
        ("arms", (", ".join(judged) or "none") + chosen),
        ("shown in", ", ".join(shows) or "what shows its arms"),
        ("make it", study.command()),
    ]
