"""Which two adapted arms of an experiment its measurement `adapters` adds up."""

from trigbench.core.solvers import SOLVERS
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.study import Study

COMBINED = "adapters"
"""The measurement (workflow.study.measurements)."""


def style_and_acceleration(study: Study, experiment: str) -> tuple[str, str]:
    """The adapted arm that is sampled by a solver, as a diffusion model of a style, and the one that is a map.

    Raises Mistake unless the experiment has one of each, from the same weights, whose networks are told labels alone.
    """
    adapted = [arm for arm in study.arms_of(experiment) if study.arms[arm].adapter]
    styles = [arm for arm in adapted if study.arms[arm].method.sampler in SOLVERS]
    maps = [arm for arm in adapted if arm not in styles]
    if len(styles) != 1 or len(maps) != 1:
        problem = f"of its arms with an 'adapter' {len(styles)} are diffusion models and {len(maps)} are maps"
        raise _mistake(experiment, problem, "name one of each among its arms")
    style, acceleration = styles[0], maps[0]
    if _start(study, style) != _start(study, acceleration):
        problem = (
            f"{style!r} starts from {_start(study, style)!r}, {acceleration!r} from {_start(study, acceleration)!r}"
        )
        raise _mistake(experiment, problem, "adapt the weights of one arm in both")
    if told := study.arms[style].told + study.arms[acceleration].told:
        problem = f"a network is told its {' and '.join(told)}, and the other's is not"
        raise _mistake(experiment, problem, "take an objective of one time, and no 'guidance_max'")
    return style, acceleration


def _start(study: Study, arm: str) -> str:
    settings = study.arms[arm]
    return str(settings.teacher) if settings.start == "teacher" else settings.start


def _mistake(experiment: str, problem: str, remedy: str) -> Mistake:
    what = f"{COMBINED!r} adds a style's adapter and an acceleration's"
    return Mistake(f"experiments.{experiment}.measurement: {what}; {problem}", remedy)
