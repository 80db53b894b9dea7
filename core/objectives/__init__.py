"""The table of objectives: the papers' name -> where it stands, what it needs, what a study may set, how it is shown.

Plain data and no import of torch, so that a study is validated, and its plan made, without one. Adding an objective
is one function `(fields, x0, draws, settings) -> Regression` and one entry here; one that stands elsewhere is named by
its path, `package.module:function`. What it is told stands in the dataclass that its `settings` are annotated as, whose
fields are filled by their names.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trigbench.core import papers
from trigbench.core.map_samplers import is_everywhere, usual
from trigbench.core.papers import Paper


@dataclass(frozen=True)
class Setting:
    """A number, word or truth value of one method alone, of the name that its dataclass gives it."""

    kind: type | tuple[str, ...]
    """int, float, bool or str, or the words to choose from."""
    least: int | float | None = None
    most: int | float | None = None
    needed: bool = False

    def refusal(self, value: Any) -> str | None:
        """What to write instead of a value that does not fit; None where it does.

        >>> Setting(float, least=0).refusal(-1.0), Setting(("low", "high")).refusal("low")
        ('a number of 0 at least', None)
        """
        if isinstance(self.kind, tuple):
            return None if value in self.kind else self.wanted
        number = self.kind in (int, float)
        kinds = (int, float) if self.kind is float else self.kind
        fits = isinstance(value, kinds) and not (number and isinstance(value, bool))
        if fits and (self.least is None or value >= self.least) and (self.most is None or value <= self.most):
            return None
        return self.wanted

    @property
    def wanted(self) -> str:
        """What fits, in words."""
        if isinstance(self.kind, tuple):
            return f"one of {', '.join(self.kind)}"
        name = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[self.kind]
        ends = [f"{end:g} at {which}" for end, which in ((self.least, "least"), (self.most, "most")) if end is not None]
        return f"{name} of {' and '.join(ends)}" if ends else name


@dataclass(frozen=True)
class Curriculum:
    """A growing number of grid points, from s0 to s1 of an arm's `points`."""

    path: str
    """(step from 0, steps, s0, s1) -> points, as `module:function`."""
    fewest: int
    """s0 at least."""
    doubles: bool = False
    """In levels, of which training needs as many steps."""


@dataclass(frozen=True)
class Group:
    """Rows in a row that are compared with each other, which stand in one part of a batch."""

    setting: str
    """By which they are counted."""
    default: int
    """That of its dataclass."""


@dataclass(frozen=True)
class Look:
    """How a method is named and drawn; no part of what it computes."""

    name: str
    paper: Paper | None
    """None of what no paper has."""
    colour: str
    marker: str


@dataclass(frozen=True)
class Method:
    """One objective, as `module:function`."""

    path: str
    accepts: tuple[str, ...] = ()
    """Settings that an arm may give it, of those that workflow.study.schema.Arm has for several methods."""
    needs: tuple[str, ...] = ()
    """Of these, those that it cannot do without."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Those of its own."""
    teacher: bool | None = False
    """Uses fields.teacher; None where its author alone knows."""
    two_times: bool = False
    """Its network is told a target time: it uses fields.student_to, and draws.lower and .middle are drawn."""
    fake: bool = False
    """Trains fields.fake beside the student."""
    log_weights: tuple[str, ...] = ("log_weight",)
    """The adaptive weights that it may use, by their names in Fields."""
    sampler: str = usual()
    """How it is sampled unless told: a name of core.solvers.sampled_by."""
    halves: bool = False
    """Its student may teach one of half as many segments, by the same method."""
    own: bool = False
    """Stands outside the table: what it uses is known to its author alone."""
    boundary: bool = False
    """Keeps CM's boundary: the map is the identity at sigma_min, not at 0."""
    points: Curriculum | None = None
    """Of settings.grid, where the number of its points grows."""
    stages: int = 1
    """Of `stages`, the fewest in which its curriculum comes to its end; from 2 on each is of a step at least."""
    even: bool = False
    """The intervals of settings.grid are CM's, and drawn evenly."""
    group: Group | None = None
    """Of a loss that is no mean over single rows."""
    by_fake: bool = False
    """Nothing but what the fake differs by from the teacher moves it: where they are one, it rests anywhere."""
    forward_mode: bool = False
    """Takes its derivative by torch's own forward mode, which records it, whatever `tangent_method` says."""
    teaches: bool = False
    """It learns the velocity of the flow: its samples are solved for, and it teaches others."""
    own_times: bool = False
    """Its times are those of its own grid, so that an audit cannot place its points."""
    limit: str | None = None
    """The method that it is in continuous time."""
    unsegmented: str | None = None
    """The method that it is with one segment."""
    look: Look | None = None

    @property
    def paper(self) -> str:
        """Where its paper stands; empty where it has none."""
        return self.look.paper.place if self.look and self.look.paper else ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """All settings that an arm may give it."""
        return (*self.accepts, *self.settings)


PROPOSAL = ("proposal_mean", "proposal_std")
WEIGHT = ("adaptive_weight", "weight_max")
CONTROL = ("control", "control_constant", "warmup")
CONTINUOUS = (*PROPOSAL, *WEIGHT, *CONTROL, "tangent_method", "tangent_precision")
DISCRETE = (*PROPOSAL, *WEIGHT, *CONTROL, "intervals", "grid")
SCORE = ("score_scale", "fake_rate")
ROLLOUT = {"rollout_steps": Setting(int, least=1, most=4)}
"""Of core.objectives.distribution_matching.simulated."""
TWO_ANGLES = {
    "law": Setting(("same", "uniform", "lognormal", "edges", "gap")), "second_mean": Setting(float),
    "second_std": Setting(float, least=0.01), "share_same": Setting(float, least=0, most=1),
    "share_zero": Setting(float, least=0, most=1),
}  # fmt: skip
"""Settings of core.two_angles, of a method of two times that leaves its law to an arm."""
DIRECTION = {
    "direction_control": Setting(("none", "clip", "normalise", "power", "huber")),
    "direction_constant": Setting(float, least=0), "direction_power": Setting(float, least=0),
}  # fmt: skip
"""Settings of core.flow_maps.control_of."""
INTERVAL = {key: Setting(float, least=0, most=1) for key in ("guided_from", "guided_to")}
"""Settings of core.objectives.meanflow.GuidedInterval."""
PAIR_WEIGHTS = ("log_weight", "score_log_weight")
"""The parts of core.flow_maps.weight_of_pair."""
TWO_TIMES = (*PROPOSAL, "segments", *WEIGHT)
"""Words of an arm for a method of two angles, with weights of PAIR_WEIGHTS."""
TANGENT = ("tangent_method", "tangent_precision")

# Okabe and Ito's palette first; a hue per family: distilled blue and green, trained on data orange to red, with
# a score model purple. Any two also differ in their marker, for the eyes to which some pairs come close.
OBJECTIVES: dict[str, Method] = {
    "diffusion": Method(
        "trigbench.core.objectives.diffusion:diffusion", (*PROPOSAL, *WEIGHT, "label_dropout"), sampler="heun",
        teaches=True,         look=Look("teacher", papers.SCM, "#000000", "d"),
    ),
    "sct": Method(
        "trigbench.core.objectives.continuous:sct", CONTINUOUS,
        look=Look("sCT (continuous)", papers.SCM, "#D55E00", "s"),
    ),
    "scd": Method(
        "trigbench.core.objectives.continuous:scd", (*CONTINUOUS, "guidance_max"), teacher=True,
        look=Look("sCD (continuous)", papers.SCM, "#0072B2", "o"),
    ),
    "dsct": Method(
        "trigbench.core.objectives.discrete:dsct", DISCRETE, ("intervals",),
        limit="sct", look=Look("discrete sCT", papers.SCM, "#CC79A7", "h"),
    ),
    "dscd": Method(
        "trigbench.core.objectives.discrete:dscd", (*DISCRETE, "solver", "guidance_max"), ("intervals",), teacher=True,
        limit="scd", look=Look("dsCD (discrete)", papers.SCM, "#009E73", "v"),
    ),
    "ms_scd": Method(
        "trigbench.core.objectives.continuous:ms_scd", (*CONTINUOUS, "guidance_max", "segments"), ("segments",),
        teacher=True, two_times=True, sampler="segments", unsegmented="scd",
        look=Look("multi-step sCD", papers.SCM, "#56B4E9", "D"),
    ),
    "vsd": Method(
        "trigbench.core.objectives.score_distillation:vsd", (*WEIGHT, *SCORE, "guidance_max"), teacher=True, fake=True,
        by_fake=True, log_weights=("score_log_weight", "fake_log_weight"), sampler="one",
        look=Look("VSD", papers.SCM, "#5B1A99", "*"),
    ),
    "scd_vsd": Method(
        "trigbench.core.objectives.score_distillation:scd_vsd", (*CONTINUOUS, *SCORE, "guidance_max"), teacher=True,
        fake=True,
        log_weights=("log_weight", "score_log_weight", "fake_log_weight"),
        look=Look("sCD-VSD", papers.SCM, "#C44FD0", "p"),
    ),
    "cd": Method(
        "trigbench.core.objectives.lineage:cd", ("intervals", "solver", "target_decay", "guidance_max"), ("intervals",),
        teacher=True, log_weights=(), boundary=True, even=True, look=Look("CD", papers.CM, "#8FBC5A", "^"),
    ),
    "ct": Method(
        "trigbench.core.objectives.lineage:ct", ("points", "target_decay"), ("points",), log_weights=(), boundary=True,
        points=Curriculum("trigbench.core.schedules:cm_points", fewest=2), even=True,
        look=Look("CT", papers.CM, "#E69F00", "<"),
    ),
    "ict": Method(
        "trigbench.core.objectives.lineage:ict", (*PROPOSAL, "points"), ("points",), log_weights=(), boundary=True,
        points=Curriculum("trigbench.core.schedules:ict_points", fewest=1, doubles=True),
        look=Look("iCT", papers.ICT, "#5C2E0B", ">"),
    ),
    "ctm": Method(
        "trigbench.core.objectives.trajectory:ctm",
        (*PROPOSAL, *WEIGHT, "intervals", "grid", "solver", "target_decay", "guidance_max"), teacher=True,
        settings={
            "reach": Setting(("local", "soft", "global")), "solver_steps": Setting(int, least=1),
            "dsm_weight": Setting(float, least=0),
        },
        two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps", look=Look("CTM", papers.CTM, "#B31CFF", "X"),
    ),
    "pcm": Method(
        "trigbench.core.objectives.phased:pcm",
        (*PROPOSAL, *WEIGHT, "intervals", "grid", "solver", "target_decay", "guidance_max", "segments"), ("segments",),
        teacher=True, settings={"huber": Setting(float, least=1e-6)}, two_times=True, log_weights=PAIR_WEIGHTS,
        sampler="segments", look=Look("PCM", papers.PCM, "#1C6809", "H"),
    ),
    "mscm": Method(
        "trigbench.core.objectives.multistep:mscm",
        (*PROPOSAL, *WEIGHT, "intervals", "grid", "target_decay", "guidance_max", "segments", "stages"), ("segments",),
        teacher=True, two_times=True, log_weights=PAIR_WEIGHTS, sampler="segments",
        settings={"noise_share": Setting(float, least=0, most=1), "distance": Setting(("squared", "norm"))},
        look=Look("multi-step CM", papers.MULTISTEP_CM, "#1355C6", "8"),
    ),
    "ect": Method(
        "trigbench.core.objectives.lineage:ect", (*PROPOSAL, "stages"), log_weights=(),
        look=Look("ECT", papers.ECT, "#882255", "P"),
    ),
    "pd": Method(
        "trigbench.core.objectives.progressive:pd", ("segments", "guidance_max"), ("segments",), teacher=True,
        log_weights=(), sampler="ddim_even", halves=True, own_times=True, settings={
            "snr_weight": Setting(("truncated", "plus_one")), "teacher_steps": Setting(int, least=1, most=2),
        },
        look=Look("PD", papers.PD, "#F60971", "$P$"),
    ),
    "lcm": Method(
        "trigbench.core.objectives.latent_consistency:lcm", ("solver", "target_decay", "guidance_max"), teacher=True,
        log_weights=(), own_times=True, settings={
            "timesteps": Setting(int, least=1), "skip": Setting(int, least=1),
            "distance": Setting(("huber", "squared")), "distance_constant": Setting(float, least=1e-9),
        },
        look=Look("LCM", papers.LCM, "#A1972F", "$L$"),
    ),
    "meanflow": Method(
        "trigbench.core.objectives.meanflow:meanflow", (*TWO_TIMES, *TANGENT, "label_dropout"),
        settings=TWO_ANGLES | DIRECTION | INTERVAL | {
            "omega": Setting(float, least=0), "kappa": Setting(float, least=0, most=0.99),
        },
        two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps",
        look=Look("MeanFlow", papers.MEANFLOW, "#845EEC", "$M$"),
    ),
    "imf": Method(
        "trigbench.core.objectives.meanflow:imf", (*TWO_TIMES, *TANGENT, "label_dropout", "guidance_max"),
        settings=TWO_ANGLES | DIRECTION | INTERVAL,
        two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps",
        look=Look("iMF", papers.IMF, "#F697FF", "$i$"),
    ),
    "ayf": Method(
        "trigbench.core.objectives.align_your_flow:ayf",
        (*TWO_TIMES, *TANGENT, "warmup", "guidance_max", "weak_teacher"),
        settings=TWO_ANGLES | DIRECTION | {"warmup_most": Setting(float, least=0, most=1)},
        teacher=True, two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps",
        look=Look("AYF (Eulerian)", papers.AYF, "#13E3BD", "$A$"),
    ),
    "ayf_lagrangian": Method(
        "trigbench.core.objectives.align_your_flow:ayf_lagrangian",
        (*TWO_TIMES, "tangent_method", "guidance_max", "weak_teacher"),
        settings=TWO_ANGLES | DIRECTION, teacher=True, two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps",
        look=Look("AYF (Lagrangian)", papers.AYF, "#004C4C", "$a$"),
    ),
    "lsd": Method(
        "trigbench.core.objectives.self_distillation:lsd", TWO_TIMES, settings=TWO_ANGLES | DIRECTION, two_times=True,
        forward_mode=True, log_weights=PAIR_WEIGHTS, sampler="jumps",
        look=Look("LSD", papers.LSD, "#42D039", "$S$"),
    ),
    "shortcut": Method(
        "trigbench.core.objectives.shortcut:shortcut", (*WEIGHT, "target_decay"),
        settings=DIRECTION | {
            "halvings": Setting(int, least=1, most=12), "share_shortest": Setting(float, least=0, most=1),
        },
        two_times=True, log_weights=PAIR_WEIGHTS, sampler="halves",
        look=Look("shortcut", papers.SHORTCUT, "#42427B", "$s$"),
    ),
    "tvm": Method(
        "trigbench.core.objectives.self_distillation:tvm", (*PROPOSAL, "segments", "target_decay"), settings=TWO_ANGLES,
        two_times=True, forward_mode=True, log_weights=(), sampler="jumps",
        look=Look("TVM", papers.TVM, "#BD8E5E", "$T$"),
    ),
    "alphaflow": Method(
        "trigbench.core.objectives.alphaflow:alphaflow", (*TWO_TIMES, *TANGENT, "stages"),
        settings=TWO_ANGLES | DIRECTION | {"alpha": Setting(float, least=0, most=1)},
        two_times=True, log_weights=PAIR_WEIGHTS, sampler="jumps", stages=4,
        look=Look("alpha-Flow", papers.ALPHAFLOW, "#557B55", "$F$"),
    ),
    "rcm": Method(
        "trigbench.core.objectives.distribution_matching:rcm", (*CONTINUOUS, "fake_rate", "guidance_max"),
        settings=ROLLOUT | {"reverse_weight": Setting(float, least=0)}, teacher=True, fake=True,
        look=Look("rCM", papers.RCM, "#8E8EFF", "$r$"),
    ),
    "dmd2": Method(
        "trigbench.core.objectives.distribution_matching:dmd2", ("fake_rate", "guidance_max"), settings=ROLLOUT,
        teacher=True, fake=True, by_fake=True, log_weights=(), sampler="one",
        look=Look("DMD2", papers.DMD2, "#2F0939", "$D$"),
    ),
    "sid": Method(
        "trigbench.core.objectives.score_identity:sid", ("fake_rate", "guidance_max"),
        settings={"alpha": Setting(float, least=0)}, teacher=True, fake=True, by_fake=True, log_weights=(),
        sampler="one", look=Look("SiD", papers.SID, "#8E7B84", "$d$"),
    ),
    "imm": Method(
        "trigbench.core.objectives.moment_matching:imm", settings={
            "particles": Setting(int, least=1), "kernel": Setting(("laplace", "energy")),
            "gap_halvings": Setting(int, least=1, most=30), "weight_power": Setting(float, least=0, most=4),
            "weight_shift": Setting(float),
        },
        two_times=True, log_weights=(), sampler="jumps", group=Group("particles", 4),
        look=Look("IMM", papers.IMM, "#C63942", "$I$"),
    ),
}  # fmt: skip


OWN_GROUP = Group("particles", 1)
"""Of an objective outside the table: where it compares rows, its settings count them by this name."""
UNHASHED = (
    "accepts", "needs", "settings", "look", "halves", "stages", "group", "by_fake", "forward_mode", "teaches",
    "own_times", "limit", "unsegmented",
)  # fmt: skip
"""What an arm may say decides no number: what it says is hashed with the run."""


def method_of(name: str) -> Method | None:
    """The table's method, or somebody's own by its path `package.module:function`; None for neither."""
    return OBJECTIVES.get(name) or (Method(name, teacher=None, own=True, group=OWN_GROUP) if ":" in name else None)


def hashed(method: Method) -> dict[str, Any]:
    """What the table says of a method that decides numbers."""
    names = [field.name for field in dataclasses.fields(method) if field.name not in UNHASHED]
    said = {name: getattr(method, name) for name in names}  # not `asdict` of all: a plan asks for every run
    said["points"] = method.points and dataclasses.asdict(method.points)
    return said | {"everywhere": is_everywhere(method.sampler)}  # then its run records whether it collapsed
