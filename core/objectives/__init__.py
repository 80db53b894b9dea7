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
    """Uses settings.grid with a fixed number of intervals."""
    segments: bool = False
    """Uses settings.segments and fields.student_to."""
    fake: bool = False
    """Trains fields.fake beside the student."""
    boundary: bool = False
    """Keeps CM's boundary: the map is the identity at sigma_min, not at 0."""


OBJECTIVES: dict[str, Method] = {
    "diffusion": Method("core.objectives.diffusion:diffusion"),
    "sct": Method("core.objectives.continuous:sct"),
    "scd": Method("core.objectives.continuous:scd", teacher=True),
    "dsct": Method("core.objectives.discrete:dsct", intervals=True),
    "dscd": Method("core.objectives.discrete:dscd", teacher=True, intervals=True),
    "ms_scd": Method("core.objectives.continuous:ms_scd", teacher=True, segments=True),
    "vsd": Method("core.objectives.score_distillation:vsd", teacher=True, fake=True),
    "scd_vsd": Method("core.objectives.score_distillation:scd_vsd", teacher=True, fake=True),
    "cd": Method("core.objectives.lineage:cd", teacher=True, intervals=True, boundary=True),
    "ct": Method("core.objectives.lineage:ct", boundary=True),
    "ict": Method("core.objectives.lineage:ict", boundary=True),
    "ect": Method("core.objectives.lineage:ect"),
}
