"""What may stand in a study's YAML file: sizes, arms, evaluation, experiments, budgets; data are of their kinds.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import difflib
import itertools
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from trigbench.core.constants import ADAM_BETAS, ADAM_EPSILON, EMA_RAMPUP, NORMALISER, PROPOSAL_MEAN, PROPOSAL_STD
from trigbench.core.objectives import OBJECTIVES, Method, method_of
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.models import PATH, Model, Name, Settings, unfit


class Size(Model):
    """A residual MLP (core.networks.mlp), or a network by its path."""

    network: Annotated[str, Field(pattern=PATH)] | None = None
    """`package.module:name` of a class or function that makes one, as core.networks.dit:DiT; empty for the MLP."""
    settings: Settings = Field(default_factory=dict)
    """Of the network by its path."""
    width: Annotated[int, Field(ge=8, multiple_of=2)] | None = None
    blocks: PositiveInt | None = None
    conditioning: Literal["double", "adagn", "none"] = "double"
    embedding: Literal["positional", "fourier"] = "positional"
    coordinate: Literal["angle", "log_noise_level"] = "angle"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.network is None and (self.width is None or self.blocks is None):
            raise Mistake("needs 'width' and 'blocks', or a 'network' of one's own", "add them")
        if self.network is None and self.settings:
            raise Mistake("'settings' are for a 'network' of one's own", "remove them, or name the network")
        return self


class Optimiser(Model):
    """What moves the parameters, as App. G of the paper has it for its networks."""

    method: Literal["adam", "radam"] = "adam"
    beta1: Annotated[float, Field(ge=0, lt=1)] = ADAM_BETAS[0]
    beta2: Annotated[float, Field(gt=0, lt=1)] = ADAM_BETAS[1]
    epsilon: PositiveFloat = ADAM_EPSILON


class ConvertedTeacher(Model):
    """A published network in a file that `python -m trigbench.workflow.steps.convert` made (docs/teachers.md)."""

    file: str
    """A .safetensors file; relative to where the workflow is started."""
    kind: Literal["edm"]
    """A network of EDM (DDPM++) or EDM2."""

    def __str__(self) -> str:
        """As tables name it."""
        return f"{self.kind}:{PurePath(self.file).name}"


def _teacher(given: Any) -> Any:
    """A mapping is a converted teacher, and only that: its errors are of its own keys."""
    if isinstance(given, dict):
        return ConvertedTeacher.model_validate(given)
    if given is None or isinstance(given, str | ConvertedTeacher):
        return given
    raise Mistake(f"{given!r} is no teacher", "write 'exact', the name of an arm, or {file: ..., kind: edm}")


class Arm(Model):
    """One setting: an objective with its hyper-parameters, in the paper's units."""

    data: str
    objective: str
    size: str
    teacher: Annotated[str | ConvertedTeacher | None, BeforeValidator(_teacher)] = None
    """`exact` for the data's own velocity, the name of an arm, whose run of the same seed teaches, or a network in a
    file: `{file: ..., kind: edm}`."""
    start: Literal["random", "teacher"] = "random"
    """Where the parameters start: drawn, or the teacher's averaged ones (as the paper does)."""
    iterations: PositiveInt
    batch: PositiveInt
    rate: PositiveFloat
    """Learning rate of Adam before ramp-up and decay."""
    rate_reference: PositiveInt | None = None
    """t_ref in steps of the inverse-square-root decay; empty for a constant rate."""
    rampup: Annotated[int, Field(ge=0)] = 0
    optimiser: Optimiser | None = None
    """Empty for Adam with betas (0.9, 0.99) and epsilon 1e-8."""
    proposal_mean: float = PROPOSAL_MEAN
    proposal_std: PositiveFloat = PROPOSAL_STD
    intervals: PositiveInt | None = None
    """N of the discrete objectives."""
    grid: Literal["karras", "uniform"] = "karras"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of every evaluation of the student's network in training; the rest is float32."""
    tangent_precision: Literal["fp32", "fp16", "bf16"] | None = None
    """Of the network while its tangent is computed, in a pass of its own; empty for its value's, in the same pass."""
    tf32: bool = False
    """Whether a GPU may round the inputs of float32's products and convolutions in training to 10 bits."""
    microbatch: PositiveInt | None = None
    """Samples whose gradient is computed at once; empty for all that a process has. Results do not depend on it."""
    sharded: bool = False
    """Several processes share parameters, moments and averages out (FSDP2) and hold a part each; else each has all."""
    control: Literal["normalise", "normalise_rms", "clip", "raw"] = "normalise"
    control_constant: PositiveFloat = NORMALISER
    """c of the normalisation in the paper's units (0.1 / sigma_d in ours)."""
    tangent_method: Literal["auto", "pairs", "func", "two_pass", "difference"] = "auto"
    """How the tangent is computed (core.forward_mode); results do not depend on it, cost does."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of tangent warm-up, H."""
    adaptive_weight: bool = False
    weight_max: PositiveFloat | None = None
    """Upper bound of e^w; empty leaves it free."""
    solver: Literal["ddim", "heun"] | None = None
    """The teacher's step in cd and dscd; empty for the method's own."""
    points: tuple[PositiveInt, PositiveInt] | None = None
    """(s0, s1) of the growing number of grid points of ct and ict."""
    stages: PositiveInt | None = None
    """How often ect halves its gap, at equal intervals of training."""
    target_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """mu of an average that gives the targets (mu_0 of ct's schedule); empty for the student itself."""
    segments: PositiveInt | None = None
    """M of multi-step sCD, even in the angle."""
    guidance_max: Annotated[float, Field(gt=1)] | None = None
    """The teacher is guided at s ~ U[1, guidance_max], and the student told s; empty for no guidance."""
    label_dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of labels withheld from a diffusion arm, which then can guide itself."""
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
    samplers: tuple[Name, ...] = ()
    """Of the study's samplers, the arm's main one first; empty for its objective's own."""

    @property
    def method(self) -> Method:
        """What the table says of the objective."""
        method = method_of(self.objective)
        assert method is not None  # validated below
        return method

    @property
    def told(self) -> int:
        """How many numbers the network is told: the guidance scale, and then its segment's lower edge."""
        return (self.guidance_max is not None) + (self.segments is not None)

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if (self.ema_half_life is None) == (self.ema_std is None):
            raise Mistake("the average needs either 'ema_half_life' or 'ema_std'", "set the one and not the other")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        method = method_of(self.objective)
        if method is None:
            close = difflib.get_close_matches(self.objective, OBJECTIVES, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise Mistake(f"unknown objective {self.objective!r}", f"{hint}there are {', '.join(OBJECTIVES)}")
        if method.own:
            if not re.fullmatch(PATH, self.objective):
                raise Mistake(f"{self.objective!r} is no path of an objective", "write package.module:function")
            if self.points is not None:
                raise Mistake("'points' are for ct and ict", "give an objective of one's own 'intervals'")
            return self
        if method.intervals != (self.intervals is not None):
            raise unfit(f"objective {self.objective!r}", method.intervals, "intervals")
        for key, used in (("segments", method.segments), ("points", method.points)):
            if used != (getattr(self, key) is not None):
                raise unfit(f"objective {self.objective!r}", used, key)
        uses = {
            "stages": self.objective == "ect",
            "solver": self.objective in ("cd", "dscd"),
            "target_decay": self.objective in ("cd", "ct"),
            "score_scale": method.fake,
            "fake_rate": method.fake,
            "guidance_max": method.teacher,
            "label_dropout": self.objective == "diffusion",
            "adaptive_weight": bool(method.log_weights),
            "tangent_precision": self.objective in ("sct", "scd", "ms_scd", "scd_vsd"),
        }
        for key, used in uses.items():
            if getattr(self, key) and not used:
                raise unfit(f"objective {self.objective!r}", False, key)
        if method.teacher and self.teacher is None:
            remedy = "name an arm, 'exact' for a mixture, or a file"
            raise Mistake(f"objective {self.objective!r} needs a 'teacher'", remedy)
        if self.start == "teacher" and self.teacher in (None, "exact"):
            raise Mistake("start: teacher needs 'teacher' to name an arm, or a file", "name one, or set start: random")
        if self.weight_max is not None and not self.adaptive_weight:
            raise Mistake("'weight_max' bounds the adaptive weight", "set adaptive_weight: true, or remove it")
        return self


class Sampler(Model):
    """A way to draw samples from a trained run."""

    solver: Literal["few", "segments", "ddim", "heun", "dpm_2s", "dpm_pp_2m"]
    """`few` is multistep consistency sampling, `segments` goes through the edges of multi-step sCD, the
    others solve the probability-flow ODE of a diffusion arm on EDM's grid."""
    times: tuple[tuple[PositiveFloat, ...], ...] | None = None
    """`few`: one list of middle angles per sampling, so [[], [1.1]] is one step, and two."""
    evaluations: tuple[PositiveInt, ...] | None = None
    """ODE solvers: one number of network evaluations per sampling."""
    guidance: tuple[PositiveFloat, ...] | None = None
    """Scales, each with every sampling; 1 is no guidance. Empty for arms without guidance."""
    metrics: tuple[str, ...] | None = None
    """What is measured of these samples; empty for all that the data's judge knows."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key, used in (("times", self.solver == "few"), ("evaluations", self.solver not in ("few", "segments"))):
            if used != bool(getattr(self, key)):
                raise unfit(f"solver {self.solver!r}", used, key)
        for key in ("times", "evaluations", "guidance"):
            given = getattr(self, key) or ()
            if len(set(given)) != len(given):
                raise Mistake(f"{key!r}: each may stand once", "take the repeated one out: its samples are drawn once")
        for times in self.times or ():
            if any(a <= b for a, b in itertools.pairwise((1.57, *times))):
                remedy = "write angles so, as [1.3, 0.8]: arctan(sigma / sigma_d) of EDM's noise level sigma"
                raise Mistake("middle times must descend and stay below pi/2", remedy)
        for count in self.evaluations or ():
            if self.solver in ("heun", "dpm_2s") and count % 2 == 0:
                problem = f"{self.solver} needs an odd number of evaluations (2 n - 1), got {count}"
                raise Mistake(problem, f"write {count - 1} or {count + 1}")
        return self


class Evaluation(Model):
    """How every run of the study is judged: the final averaged weights, fixed seeds, no selection."""

    samples: PositiveInt
    snapshot_samples: PositiveInt | None = None
    """Of each snapshot along training; empty for as many."""
    snapshot_metrics: tuple[str, ...] | None = None
    """What is measured of them; empty for all."""
    seed: int = 1_000_003


def _figure(kind: str) -> str:
    if kind not in FIGURES:
        raise Mistake(f"unknown kind of figure {kind!r}", f"there are {', '.join(FIGURES)}")
    return kind


class Experiment(Model):
    """One figure or table of a paper: the arms it needs and what to look at."""

    title: str
    paper: str
    question: str
    expectation: str
    """What the paper shows, in our words."""
    figure: Annotated[str, AfterValidator(_figure)]
    """A kind of figure (workflow.study.figures.FIGURES)."""
    metric: str
    """The column of runs.csv that the figure and its finding rest on."""
    arms: tuple[str, ...]
    """Names or patterns (`dscd-*`) of arms."""
    samplers: tuple[Name, ...] = ()
    """Which of its arms' samplers it shows; empty for the main one of each arm."""
    measurement: str | None = None
    """What it measures beside its runs (workflow.study.measurements)."""

    @model_validator(mode="after")
    def _known_measurement(self) -> Self:
        if self.measurement is not None and self.measurement not in MEASUREMENTS:
            raise Mistake(f"unknown measurement {self.measurement!r}", f"there are {', '.join(MEASUREMENTS)}")
        return self


class Resources(Model):
    """What a run asks a scheduler for, and how it guards against faults; decides no result, and is no part of a run's
    fingerprint."""

    gpu: Annotated[int, Field(ge=0)] = 0
    """How many; 0 trains on the CPU, and so does a machine without any."""
    gpu_model: Annotated[str, Field(pattern=r"^[\w.]+$")] | None = None
    """As the cluster calls it; empty for any."""
    mem_mb: PositiveInt = 1000
    runtime: PositiveInt = 60
    """Minutes of one job. A longer run stops in time, and goes on in the next job."""
    checkpoint_every: PositiveInt = 500
    """Steps of training; what is killed loses at most so many."""
    patience: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 120
    """Minutes without a sign of life (a step, a part of the samples, a distance) after which a run counts as hung:
    it ends itself, and is tried again. Processes that train one run wait twice as long for each other."""

    def of_attempt(self, attempt: int) -> Self:
        """A first job asks for this much, one that has to try again for twice the memory and time."""
        factor = min(attempt, 2)
        return self.model_copy(update={"mem_mb": factor * self.mem_mb, "runtime": factor * self.runtime})


class Budget(Model):
    """Replaces seeds, overrides settings of every arm, trains longer, keeps some arms and experiments only."""

    seeds: tuple[int, ...] | None = None
    tuning_seeds: tuple[int, ...] | None = None
    arms: tuple[str, ...] = ("*",)
    experiments: tuple[str, ...] | None = None
    """Names or patterns; empty for all."""
    longer: PositiveFloat = 1.0
    """Multiplies the iterations of every arm."""
    override: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    resources: dict[str, Any] = Field(default_factory=dict)
