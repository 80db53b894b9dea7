"""The table of objectives: the papers' name -> where it stands and what it needs.

Plain data and no import of torch, so that a study is validated, and its plan made, without one.
Adding an objective is one function `(fields, x0, draws, settings) -> Regression` and one line here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One objective, as `module:function`."""

    path: str
    teacher: bool = False
    """Uses fields.teacher."""
    intervals: bool = False
    """Uses settings.grid."""


OBJECTIVES: dict[str, Method] = {
    "diffusion": Method("core.objectives.diffusion:diffusion"),
    "sct": Method("core.objectives.continuous:sct"),
    "scd": Method("core.objectives.continuous:scd", teacher=True),
    "dsct": Method("core.objectives.discrete:dsct", intervals=True),
    "dscd": Method("core.objectives.discrete:dscd", teacher=True, intervals=True),
}
