"""What may stand in a study's YAML file: sizes, arms, evaluation, experiments, budgets; data are of their kinds.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import dataclasses
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from trigbench._nearest import among
from trigbench.core.constants import EMA_RAMPUP, MOST_GRAPHS, NORMALISER, PROPOSAL_MEAN, PROPOSAL_STD
from trigbench.core.map_samplers import MAP_SAMPLERS, by_edges, is_everywhere, usual
from trigbench.core.objectives import OBJECTIVES, Method, method_of
from trigbench.core.solvers import SOLVERS, sampled_by
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.converted import ConvertedTeacher
from trigbench.workflow.study.models import PATH, Model, Name, Settings, check_known, strange, unfit
from trigbench.workflow.study.trained import Adapter, Optimiser


class Size(Model):
    """A residual MLP (core.networks.mlp), or a network by its path."""

    network: Annotated[str, Field(pattern=PATH)] | None = None
    """`package.module:name` of a class or function that makes one, as core.networks.dit:DiT; empty for the MLP."""
    settings: Settings = Field(default_factory=dict)
    """Of the network by its path."""
    width: Annotated[int, Field(ge=8, multiple_of=2)] | None = None
    """Channels of the MLP."""
    blocks: PositiveInt | None = None
    """Of the MLP, residual, of two layers each."""
    conditioning: Literal["double", "adagn", "none"] = "double"
    """How the time enters a block: by the paper's adaptive double normalisation, by AdaGN, or as a sum."""
    embedding: Literal["positional", "fourier"] = "positional"
    """Of the time; `fourier` has features of scale 16, with which the paper finds tangents unstable."""
    coordinate: Literal["angle", "log_noise_level"] = "angle"
    """What of the time is embedded: t itself, or EDM's ln(sigma) / 4."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.network is None and (self.width is None or self.blocks is None):
            raise Mistake("needs 'width' and 'blocks', or a 'network' of one's own", "add them")
        if self.network is None and self.settings:
            raise Mistake("'settings' are for a 'network' of one's own", "remove them, or name the network")
        return self


def _teacher(given: Any) -> Any:
    """A mapping is a converted teacher, and only that: its errors are of its own keys."""
    if isinstance(given, dict):
        return ConvertedTeacher.model_validate(given)
    if given is None or isinstance(given, str | ConvertedTeacher):
        return given
    raise Mistake(f"{given!r} is no teacher", "write 'exact', the name of an arm, or {file: ..., kind: edm}")


def _step(given: str) -> str:
    check_known("solver", given, [name for name, solver in SOLVERS.items() if not solver.whole])
    return given


def _sampled_by(given: str) -> str:
    check_known("sampler", given, sampled_by())
    return given


class OwnObjective(Model):
    """What an objective of one's own needs, said in the place of its path."""

    path: Annotated[str, Field(pattern=PATH)]
    """`package.module:function`."""
    two_times: bool = False
    """Whether its network is told a target time: it gets fields.student_to, and draws.lower and .middle."""
    teacher: bool | None = None
    """Whether it uses fields.teacher; empty where an arm may give one or not."""
    sampler: Annotated[str, AfterValidator(_sampled_by)] | None = None
    """How it is sampled unless its arm says so; empty for `jumps` of two times, else for `few`."""
    settings: Settings = Field(default_factory=dict)
    """Of the dataclass that its `settings` are annotated as."""


class Arm(Model):
    """One setting: an objective with its hyper-parameters, in the paper's units.

    Its method says which of those from `proposal_mean` to `fake_rate` it accepts (core.objectives), and has settings of
    its own beside.
    """

    data: str
    """A name of the study's `data`."""
    objective: str
    """A name of the table, or of one's own a path or the mapping of OwnObjective."""
    declared: OwnObjective | None = None
    """Of an objective of one's own; not written by itself."""
    settings: Settings = Field(default_factory=dict)
    """Of the method's own; not written by itself."""
    size: str
    """A name of the study's `sizes`: the network."""
    teacher: Annotated[str | ConvertedTeacher | None, BeforeValidator(_teacher)] = None
    """`exact` for the data's own velocity, the name of an arm, whose run of the same seed teaches, or a network in a
    file: `{file: ..., kind: edm}`, or of kind meanflow, imf or ctm."""
    start: Name = "random"
    """Where the parameters start, the fake's too: `random` ones are drawn, `teacher` takes its teacher's averaged ones
    (as the paper does), and the name of an arm those of that arm's run of the same seed."""
    adapter: Adapter | None = None
    """Instead of the network's parameters an adapter of them is trained; they stay as they start. Empty for all of
    them."""
    iterations: PositiveInt
    """Steps of the optimiser."""
    batch: PositiveInt
    """Samples of one step, over all processes."""
    rate: PositiveFloat
    """Learning rate of Adam before ramp-up and decay."""
    rate_reference: PositiveInt | None = None
    """t_ref in steps of the inverse-square-root decay; empty for a constant rate."""
    rampup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the rate grows from 0, linearly."""
    optimiser: Optimiser | None = None
    """Empty for Adam with betas (0.9, 0.99) and epsilon 1e-8."""
    proposal_mean: float = PROPOSAL_MEAN
    """P_mean: the mean of ln sigma in training."""
    proposal_std: PositiveFloat = PROPOSAL_STD
    """P_std: its standard deviation."""
    intervals: PositiveInt | None = None
    """N of the discrete objectives."""
    grid: Literal["karras", "uniform"] = "karras"
    """How these lie: even in EDM's sigma^(1/7), or even in the angle."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of every evaluation of the student's network in training; the rest is float32."""
    tangent_precision: Literal["fp32", "fp16", "bf16"] | None = None
    """Of the network while its tangent is computed, in a pass of its own; empty for its value's, in the same pass."""
    tf32: bool = False
    """Whether a GPU may round the inputs of float32's products and convolutions in training to 10 bits."""
    compile: bool | None = None
    """Whether a training step is compiled as a whole (docs/compiled.md), another run than an eager one; empty for on a
    GPU, and not on a CPU, where compiling takes the time of a thousand steps of a small network."""
    microbatch: PositiveInt | None = None
    """Samples whose gradient is computed at once; empty for all that a process has. Results do not depend on it."""
    sharded: bool = False
    """Several processes share parameters, moments and averages out (FSDP2) and hold a part each; else each has all."""
    control: Literal["normalise", "normalise_rms", "clip", "raw"] = "normalise"
    """Of the tangent g: g / (|g| + c), the same by its root mean square, each element cut to [-1, 1], or g itself."""
    control_constant: PositiveFloat = NORMALISER
    """c of the normalisation in the paper's units (0.1 / sigma_d in ours)."""
    tangent_method: Literal["auto", "pairs", "func", "two_pass", "difference"] = "auto"
    """How the tangent is computed (core.forward_mode); results do not depend on it, cost does."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of tangent warm-up, H."""
    adaptive_weight: bool = False
    """Whether the loss is weighted by e^w(t), of a small network trained beside (EDM2's uncertainty)."""
    weight_max: PositiveFloat | None = None
    """Upper bound of e^w; empty leaves it free."""
    solver: Annotated[str, AfterValidator(_step)] | None = None
    """The teacher's step in cd and dscd, of core.solvers; empty for the method's own."""
    points: tuple[PositiveInt, PositiveInt] | None = None
    """(s0, s1) of the growing number of grid points of ct and ict."""
    stages: PositiveInt | None = None
    """How often ect halves its gap, at equal intervals of training."""
    target_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """mu of an average that gives the targets (mu_0 of ct's schedule); empty for the student itself."""
    segments: PositiveInt | None = None
    """M of multi-step sCD, even in the angle."""
    guidance_max: Annotated[float, Field(gt=1)] | None = None
    """The teacher, of imf the student itself, is guided at s ~ U[1, guidance_max], and the student told s; empty for no
    guidance."""
    weak_teacher: Name | None = None
    """A diffusion arm of the same data, smaller or trained for less, whose run of the same seed guides the teacher at s
    (autoguidance); empty for the teacher's own branch without labels."""
    label_dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of labels withheld from a diffusion arm, which then can guide itself, or from a student that is guided by
    itself while it is trained."""
    score_scale: Literal["adaptive", "dmd"] | None = None
    """What scales the difference of scores in vsd; empty for adaptive."""
    fake_rate: PositiveFloat | None = None
    """Learning rate of the fake and of the weights beside it, as `rate`; empty for the student's (the paper's)."""
    ema_half_life: PositiveInt | None = None
    """In images seen."""
    ema_std: Annotated[float, Field(gt=0, lt=0.28)] | None = None
    """Instead: sigma_rel of a power-function average (EDM2)."""
    ema_rampup: PositiveFloat = EMA_RAMPUP
    """The half-life is at most this share of the images seen so far (EDM's start)."""
    snapshots: PositiveInt | None = None
    """How often along training the average is kept and judged."""
    tuning: bool = False
    """Trained at the study's tuning seeds only, as a candidate for another arm's rate."""
    rate_of: str | None = None
    """A pattern of tuning arms: the rate of the best of them replaces `rate`."""
    rate_steps: PositiveInt | None = None
    """At how many steps of their main sampler these are rated; empty for the fewest."""
    samplers: tuple[Name, ...] = ()
    """Of the study's samplers, the arm's main one first; empty for its objective's own."""

    @property
    def method(self) -> Method:
        """What the table, or the study, says of the objective."""
        method = method_of(self.objective)
        assert method is not None  # validated below
        if self.declared is None:
            # a network that is told an edge, which only its segments know
            by_segments = usual(two_times=True, segments=True)
            return dataclasses.replace(method, two_times=True, sampler=by_segments) if self._own_segments else method
        two_times, said = self.declared.two_times or self._own_segments, self.declared.sampler
        sampler = said or usual(two_times, self._own_segments)
        return dataclasses.replace(method, two_times=two_times, teacher=self.declared.teacher, sampler=sampler)

    @property
    def compared(self) -> int:
        """Rows of a batch that the objective compares with each other; 1 where each stands for itself."""
        group = self.method.group
        return 1 if group is None else int(self.settings.get(group.setting, group.default))

    @property
    def starts_from(self) -> str | None:
        """The arm whose weights it starts from, if it names one."""
        return None if self.start in ("random", "teacher") else self.start

    @property
    def _own_segments(self) -> bool:
        return ":" in self.objective and self.segments is not None

    @property
    def told(self) -> tuple[str, ...]:
        """What the network is told beside labels, as core.condition.Condition names it."""
        return ("scale",) * (self.guidance_max is not None) + ("target_time",) * self.method.two_times

    @property
    def is_map(self) -> bool:
        """Whether its student is a map from every angle down to 0, which is told nothing beside labels."""
        sampler = self.method.sampler
        return is_everywhere(sampler) and not MAP_SAMPLERS[sampler].told and not self.told

    @property
    def said(self) -> dict[str, Any]:
        """Plain data of all that decides its numbers: without settings that its method does not accept."""
        accepted = self.method.accepted
        ignored = set() if self.method.own else {name for name in METHOD_SETTINGS if name not in accepted}
        own = self.model_dump(exclude=ignored | {"declared", "settings"} - self.model_fields_set, exclude_none=True)
        return own | ({"start": "arm"} if self.starts_from else {})

    @model_validator(mode="before")
    @classmethod
    def _of_its_method(cls, given: Any) -> Any:
        """An objective of one's own may be a mapping; settings of a method's own stand beside the others."""
        if not isinstance(given, dict):
            return given
        if isinstance(given.get("objective"), dict):
            try:
                own = OwnObjective.model_validate(given["objective"])
            except ValidationError as error:
                first = error.errors()[0]
                key, keys = ".".join(map(str, ("objective", *first["loc"]))), ", ".join(OwnObjective.model_fields)
                problem = first["msg"].removeprefix("Value error, ")
                raise Mistake(f"{key}: {problem}", f"write what fits; it has {keys}") from error
            return {**given, "objective": own.path, "declared": own, "settings": own.settings}
        method = method_of(str(given.get("objective")))
        own_names = method.settings if method else {}
        settings = {name: given[name] for name in own_names if given.get(name) is not None}
        for name, setting in own_names.items():
            wrong = (setting.refusal(settings[name]) or strange(settings[name])) if name in settings else None
            if wrong is not None:
                raise Mistake(f"{name}: {settings[name]!r} is no value of it", f"write {wrong}")
            if setting.needed and name not in settings:
                raise unfit(f"objective {given['objective']!r}", True, name)
        rest = {key: value for key, value in given.items() if key not in own_names}
        return rest | ({"settings": settings} if settings else {})

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if (self.ema_half_life is None) == (self.ema_std is None):
            raise Mistake("the average needs either 'ema_half_life' or 'ema_std'", "set the one and not the other")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        method = method_of(self.objective)
        if method is None:
            remedy = among(self.objective, OBJECTIVES, f"there are {', '.join(OBJECTIVES)}")
            raise Mistake(f"unknown objective {self.objective!r}", remedy)
        if method.own:
            self._check_own()
        else:
            self._check_accepted(method)
        if self.method.teacher and self.teacher is None:
            remedy = "name an arm, 'exact' for data whose velocity is known, or a file"
            raise Mistake(f"objective {self.objective!r} needs a 'teacher'", remedy)
        if self.start == "teacher" and self.teacher in (None, "exact"):
            raise Mistake("start: teacher needs 'teacher' to name an arm, or a file", "name one, or set start: random")
        if self.adapter is not None and self.start == "random":
            remedy = "start from 'teacher', or from the arm whose weights it adapts"
            raise Mistake("an 'adapter' is of trained weights, and 'start' draws random ones", remedy)
        if self.compile and (self.stages or 1) > MOST_GRAPHS:
            problem = f"each of {self.stages} stages would be compiled for itself, and {MOST_GRAPHS} are most"
            raise Mistake(problem, "set compile: false, or fewer 'stages'")
        if self.weight_max is not None and not self.adaptive_weight:
            raise Mistake("'weight_max' bounds the adaptive weight", "set adaptive_weight: true, or remove it")
        return self

    def _check_own(self) -> None:
        if not re.fullmatch(PATH, self.objective):
            raise Mistake(f"{self.objective!r} is no path of an objective", "write package.module:function")
        if self.points is not None:
            raise Mistake("'points' are for ct and ict", "give an objective of one's own 'intervals'")
        if self.declared and self.declared.teacher is False and self.teacher is not None:
            raise Mistake("'objective' says that it uses no teacher", "remove 'teacher', or say teacher: true there")
        sampler = self.declared and self.declared.sampler
        if sampler and by_edges(sampler) and self.segments is None:
            raise unfit(f"sampler {sampler!r}", True, "segments")
        if sampler in MAP_SAMPLERS and MAP_SAMPLERS[sampler].told and not self.method.two_times:
            raise Mistake(
                f"{sampler!r} ask a network for its target time", f"say two_times: true, or sample it by {usual()!r}"
            )

    def _check_accepted(self, method: Method) -> None:
        """Refuse what the method does without, and what it cannot do without."""
        for name in METHOD_SETTINGS:
            if name in self.model_fields_set - set(method.accepts) and getattr(self, name) not in (None, False):
                problem = f"objective {self.objective!r} takes no {name!r}"
                raise Mistake(problem, f"remove {name!r}; it takes {', '.join(method.accepted) or 'no settings'}")
        for name in method.needs:
            if getattr(self, name) is None:
                raise unfit(f"objective {self.objective!r}", True, name)


METHOD_SETTINGS = tuple(
    name for name in Arm.model_fields if any(name in method.accepts for method in OBJECTIVES.values())
)
"""Fields of an arm that some methods accept, and others do not."""
NOT_WRITTEN = ("declared", "settings")


def keys_of_arms() -> list[str]:
    """All keys that some arm may have."""
    own = (name for method in OBJECTIVES.values() for name in method.settings)
    return [*(name for name in Arm.model_fields if name not in NOT_WRITTEN), *own]
