"""The table of objectives: the papers' name -> where it stands and what it needs.

Plain data and no import of torch, so that a study is validated, and its plan made, without one.
Adding an objective is one function `(fields, x0, draws, settings) -> Regression` and one line here;
one that stands elsewhere is named by its path, `package.module:function`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """One objective, as `module:function`."""

    path: str
    teacher: bool = False
    """Uses fields.teacher."""
    intervals: bool = False
    """Uses settings.grid with a fixed number of intervals."""
    points: bool = False
    """Uses settings.grid with a number of points that grows, from s0 to s1."""
    segments: bool = False
    """Uses settings.segments and fields.student_to."""
    fake: bool = False
    """Trains fields.fake beside the student."""
    log_weights: tuple[str, ...] = ("log_weight",)
    """The adaptive weights that it may use, by their names in Fields."""
    sampler: Literal["few", "one", "segments", "heun"] = "few"
    """How it is sampled unless told: a map from every angle, from t_max alone, by segments, or as an ODE."""
    own: bool = False
    """Stands outside the table: what it uses is known to its author alone."""
    boundary: bool = False
    """Keeps CM's boundary: the map is the identity at sigma_min, not at 0."""


OBJECTIVES: dict[str, Method] = {
    "diffusion": Method("trigbench.core.objectives.diffusion:diffusion", sampler="heun"),
    "sct": Method("trigbench.core.objectives.continuous:sct"),
    "scd": Method("trigbench.core.objectives.continuous:scd", teacher=True),
    "dsct": Method("trigbench.core.objectives.discrete:dsct", intervals=True),
    "dscd": Method("trigbench.core.objectives.discrete:dscd", teacher=True, intervals=True),
    "ms_scd": Method("trigbench.core.objectives.continuous:ms_scd", teacher=True, segments=True, sampler="segments"),
    "vsd": Method(
        "trigbench.core.objectives.score_distillation:vsd",
        teacher=True, fake=True, log_weights=("score_log_weight", "fake_log_weight"), sampler="one",
    ),
    "scd_vsd": Method(
        "trigbench.core.objectives.score_distillation:scd_vsd",
        teacher=True, fake=True, log_weights=("log_weight", "score_log_weight", "fake_log_weight"),
    ),
    "cd": Method("trigbench.core.objectives.lineage:cd", teacher=True, intervals=True, log_weights=(), boundary=True),
    "ct": Method("trigbench.core.objectives.lineage:ct", points=True, log_weights=(), boundary=True),
    "ict": Method("trigbench.core.objectives.lineage:ict", points=True, log_weights=(), boundary=True),
    "ect": Method("trigbench.core.objectives.lineage:ect", log_weights=()),
}  # fmt: skip


def method_of(name: str) -> Method | None:
    """The table's method, or somebody's own by its path `package.module:function`; None for neither."""
    return OBJECTIVES.get(name) or (Method(name, own=True) if ":" in name else None)
