"""What may stand in a study's YAML file: data, sizes, arms, evaluation, experiments, budgets.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import difflib
import itertools
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from trigbench.core.constants import ADAM_BETAS, ADAM_EPSILON, EMA_RAMPUP, NORMALISER, PROPOSAL_MEAN, PROPOSAL_STD
from trigbench.core.objectives import OBJECTIVES, Method, method_of
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.plain import resolved
from trigbench.workflow.study.measurements import MEASUREMENTS

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"
"""Of what becomes part of a path."""
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0, le=2**53)]
"""Tables hold it as a number that other programs read as a float."""
Settings = Annotated[dict[str, Any], BeforeValidator(resolved)]
"""Of somebody's own code, whose types the schema does not know."""

PATH = r"^[\w.]+:\w+$"
"""Of what stands elsewhere, `package.module:name`."""


class Model(BaseModel):
    """Frozen, closed to unknown keys and to numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any) -> Any:
        """Pydantic takes true for 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            listed = value if isinstance(value, list) else [value]
            if name not in cls.model_fields or cls.model_fields[name].annotation is bool:
                continue
            if any(one is True or one is False for one in listed):
                raise Mistake(f"{name}: {name!r} cannot be true or false", remedy="write a number, or text in quotes")
        return given


def _unfit(what: str, needed: bool, key: str) -> Mistake:
    """Of a key that is missing where it is needed, or set where nothing uses it."""
    return Mistake(f"{what} {'needs' if needed else 'takes no'} {key!r}", "add it" if needed else f"remove {key!r}")


class MixtureData(Model):
    """A Gaussian mixture whose consistency map is known (core.oracle), standardised to unit variance."""

    kind: Literal["mixture"]
    dimension: PositiveInt
    components: PositiveInt
    std: Annotated[float, Field(ge=0.2, le=2.0)]
    """Of each component, before standardisation, against means of standard deviation 1; below 0.2
    the exact map's fixed steps would lose their stated accuracy."""
    seed: int = 0
    evaluation_points: PositiveInt = 512
    """Points at each angle at which the learned map is held against the exact one."""


class DigitsData(Model):
    """scikit-learn's 8x8 digits: 1797 labelled images, nothing to download."""

    kind: Literal["digits"]
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0


class Extractor(Model):
    """The features in which images are compared; docs/data.md says where weights come from."""

    kind: Literal["classifier", "random", "inception", "dinov2"] = "classifier"
    """The workflow's own classifier of the training part, a network of fixed random weights, which needs no labels, or
    a published network."""
    weights: str | None = None
    """A .safetensors file, of a published network."""

    @model_validator(mode="after")
    def _weights_where_published(self) -> Self:
        if (self.kind in ("classifier", "random")) != (self.weights is None):
            raise _unfit(f"extractor {self.kind!r}", self.weights is None, "weights")
        return self


class ImagesData(Model):
    """Square RGB images, in [-1, 1] before sigma_d."""

    kind: Literal["images_folder", "cifar10", "imagenet64"]
    """`images_folder` is any folder or zip. `cifar10` is the data set's python or binary files, or folders
    `train` and `test` of images; `imagenet64` a folder or zip of the originals. Both have their counts set."""
    path: str
    """Relative to where the workflow is started."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | str | None = None
    """A share of the images, or another folder or zip; `cifar10` has its own test part."""
    size: PositiveInt
    """Pixels of a side."""
    resize: Literal["none", "adm"] = "none"
    """`none` refuses images of another size; `adm` halves by boxes, then bicubic, then crops the centre."""
    convert: bool = False
    """Grey, palette and transparent images become RGB; without it they are refused."""
    labels: bool = True
    """Named by the subfolders; without it the data are unconditional."""
    conditional: bool = True
    """Whether networks are told the labels, which the classifier needs in any case."""
    count: PositiveInt | None = None
    """Of the training part; another number found is an error. Empty for any."""
    held_out_count: PositiveInt | None = None
    classes: PositiveInt | None = None
    flips: bool = False
    """Mirror half of what is drawn in training."""
    reference: PositiveInt | None = None
    """How many training images distances are to; empty for all."""
    extractor: Extractor = Extractor()
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _of_kind(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {**PRESETS.get(str(given.get("kind")), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "cifar10") != (self.held_out is None):
            raise _unfit(self.kind, self.held_out is None, "held_out")
        if self.extractor.kind == "classifier" and not self.labels:
            problem = "extractor: the classifier learns from labels, and there are none"
            raise Mistake(problem, "set {kind: random}, or name inception or dinov2")
        return self


class LatentsData(Model):
    """ImageNet at 512 pixels in the latents of an autoencoder, normalised as in arXiv 2410.11081, App. G."""

    kind: Literal["imagenet512"]
    path: str
    """A folder or zip of the originals, in a subfolder for each class."""
    held_out: str
    size: PositiveInt = 512
    vae: str
    """A folder that diffusers' AutoencoderKL reads: config.json and a .safetensors file."""
    count: PositiveInt | None = 1_281_167
    held_out_count: PositiveInt | None = None
    classes: PositiveInt | None = 1000
    reference: PositiveInt | None = None
    """How many training images distances are to; empty for all."""
    extractor: Extractor
    """Of fd_train and all that is not `dinov2`'s."""
    dinov2: str | None = None
    """Weights of DINOv2, in whose features fdd_train is measured as well."""
    seed: int = 0

    @model_validator(mode="after")
    def _published_features(self) -> Self:
        if self.extractor.weights is None:
            raise Mistake("extractor: latents are judged as images of 512 pixels", "name inception or dinov2")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {"size": 32, "count": 50_000, "held_out_count": 10_000, "classes": 10},
    "imagenet64": {"size": 64, "resize": "adm", "convert": True, "count": 1_281_167, "classes": 1000},
}
"""What kinds of ImagesData set, unless a study does."""


class OwnData(Model):
    """Somebody's own: a module as workflow.study.kinds describes, importable from where one starts."""

    kind: Literal["own"]
    module: str
    settings: Settings = Field(default_factory=dict)
    """Whatever the module's `prepare` wants."""


Data = Annotated[MixtureData | DigitsData | ImagesData | LatentsData | OwnData, Field(discriminator="kind")]


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
            raise _unfit(f"objective {self.objective!r}", method.intervals, "intervals")
        for key, used in (("segments", method.segments), ("points", method.points)):
            if used != (getattr(self, key) is not None):
                raise _unfit(f"objective {self.objective!r}", used, key)
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
                raise _unfit(f"objective {self.objective!r}", False, key)
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
                raise _unfit(f"solver {self.solver!r}", used, key)
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


class Experiment(Model):
    """One figure or table of a paper: the arms it needs and what to look at."""

    title: str
    paper: str
    question: str
    expectation: str
    """What the paper shows, in our words."""
    figure: Literal[
        "discretisation", "map_error", "sizes", "methods", "training", "memorisation", "tangents", "quality_curves",
        "guidance", "steps", "mid_time", "compute", "theory",
    ]  # fmt: skip
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
    override: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    resources: dict[str, Any] = {}
