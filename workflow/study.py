"""What a study is: the schema of its YAML file, and the one place that names runs and paths.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import difflib
import fnmatch
import itertools
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from core.objectives import OBJECTIVES
from workflow.errors import BenchError
from workflow.runtime.quantities import QUANTITIES

STUDIES = Path(__file__).parent / "studies"
DEFAULT_BUDGET = "laptop"
FEATURES = 64
"""Dimensions of the digits' feature space."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Model(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


Data = Annotated[MixtureData | DigitsData, Field(discriminator="kind")]


class Size(Model):
    """A residual MLP (core.networks.mlp)."""

    width: Annotated[int, Field(ge=8, multiple_of=2)]
    blocks: PositiveInt
    conditioning: Literal["double", "adagn", "none"] = "double"
    embedding: Literal["positional", "fourier"] = "positional"
    coordinate: Literal["angle", "log_noise_level"] = "angle"


class Arm(Model):
    """One setting: an objective with its hyper-parameters, in the paper's units."""

    data: str
    objective: str
    size: str
    teacher: str | None = None
    """`exact` for the data's own velocity, or the name of an arm, whose run of the same seed teaches."""
    start: Literal["random", "teacher"] = "random"
    """Where the parameters start: drawn, or the teacher's averaged ones (as the paper does)."""
    iterations: PositiveInt
    batch: PositiveInt
    rate: PositiveFloat
    """Learning rate of Adam before ramp-up and decay."""
    rate_reference: PositiveInt | None = None
    """t_ref in steps of the inverse-square-root decay; empty for a constant rate."""
    rampup: Annotated[int, Field(ge=0)] = 0
    proposal_mean: float = -1.0
    proposal_std: PositiveFloat = 1.4
    intervals: PositiveInt | None = None
    """N of the discrete objectives."""
    grid: Literal["karras", "uniform"] = "karras"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of every evaluation of the student's network in training; the rest is float32."""
    control: Literal["normalise", "normalise_rms", "clip", "raw"] = "normalise"
    control_constant: PositiveFloat = 0.1
    """c of the normalisation in the paper's units (0.1 / sigma_d in ours)."""
    derivative: Literal["jvp", "finite_difference"] = "jvp"
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of tangent warm-up, H."""
    adaptive_weight: bool = False
    weight_max: PositiveFloat | None = None
    """Upper bound of e^w; empty leaves it free."""
    ema_half_life: PositiveInt
    """In images seen."""
    ema_rampup: PositiveFloat = 0.05
    """The half-life is at most this share of the images seen so far (EDM's start)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        method = OBJECTIVES.get(self.objective)
        if method is None:
            close = difflib.get_close_matches(self.objective, OBJECTIVES, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"unknown objective {self.objective!r}; {hint}there are {', '.join(OBJECTIVES)}")
        if method.intervals != (self.intervals is not None):
            verb = "needs" if method.intervals else "takes no"
            raise ValueError(f"objective {self.objective!r} {verb} 'intervals'")
        if method.teacher and self.teacher is None:
            raise ValueError(f"objective {self.objective!r} needs a 'teacher' (an arm, or 'exact')")
        if self.start == "teacher" and self.teacher in (None, "exact"):
            raise ValueError("start: teacher needs 'teacher' to name an arm")
        if self.weight_max is not None and not self.adaptive_weight:
            raise ValueError("'weight_max' bounds the adaptive weight: set adaptive_weight: true, or remove it")
        return self


class Evaluation(Model):
    """How every run of the study is judged: the final averaged weights, fixed seeds, no selection."""

    samples: PositiveInt
    seed: int = 1_000_003
    mid_times: tuple[PositiveFloat, ...] = (1.1,)
    """Middle angles of multi-step sampling; k steps use the first k - 1."""
    steps: tuple[PositiveInt, ...] = (1, 2)
    teacher_steps: PositiveInt = 18
    """Heun steps of a diffusion arm (NFE = 2 steps - 1)."""

    @model_validator(mode="after")
    def _enough_times(self) -> Self:
        if max(self.steps) > len(self.mid_times) + 1:
            raise ValueError(f"{max(self.steps)} steps need {max(self.steps) - 1} mid_times, got {len(self.mid_times)}")
        if any(a <= b for a, b in itertools.pairwise((1.57, *self.mid_times))):
            raise ValueError("mid_times must descend and stay below pi/2")
        return self


class Experiment(Model):
    """One figure or table of a paper: the arms it needs and what to look at."""

    title: str
    paper: str
    question: str
    expectation: str
    """What the paper shows, in our words."""
    figure: Literal["discretisation", "map_error", "sizes", "methods", "training", "memorisation"]
    metric: str
    """The column of runs.csv that the figure and its finding rest on."""
    arms: tuple[str, ...]
    """Names or patterns (`dscd-*`) of arms."""


class Budget(Model):
    """Replaces seeds, overrides settings of every arm, keeps some arms only."""

    seeds: tuple[int, ...] | None = None
    arms: tuple[str, ...] = ("*",)
    override: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}


class Run(Model):
    """An arm with a seed: what is trained, once, however many experiments ask for it."""

    arm: str
    seed: int


class Study(Model):
    """A validated study under one budget."""

    study: Name
    title: str
    summary: str
    sigma_d: PositiveFloat
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    data: dict[Name, Data]
    sizes: dict[Name, Size]
    arms: dict[Name, Arm]
    evaluation: Evaluation
    experiments: dict[Name, Experiment]
    budget: Name = DEFAULT_BUDGET
    file: Path

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, arm in self.arms.items():
            for key, table in (("data", self.data), ("size", self.sizes)):
                if getattr(arm, key) not in table:
                    raise ValueError(f"arms.{name}.{key}: {getattr(arm, key)!r} is not one of {', '.join(table)}")
            self._check_teacher(name, arm)
        for name, experiment in self.experiments.items():
            for pattern in experiment.arms:
                if self.budget == DEFAULT_BUDGET and not fnmatch.filter(self.arms, pattern):
                    raise ValueError(f"experiments.{name}.arms: no arm is called {pattern!r}; see 'arms'")
            self._check_metric(name, experiment.metric)
        if self.study in ("index", "published"):
            raise ValueError(f"study: {self.study!r} is a name of the project's own; choose another")
        if not self.arms:
            raise ValueError(f"budgets.{self.budget}.arms: no arm is left")
        digits = any(isinstance(data, DigitsData) for data in self.data.values())
        if digits and self.evaluation.samples <= FEATURES:
            raise ValueError(f"evaluation.samples: distances in {FEATURES} features need more than {FEATURES} samples")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each seed may stand once")
        return self

    def _check_metric(self, experiment: str, metric: str) -> None:
        known = [*QUANTITIES, "training_direction_norm", "training_loss", "training_gradient_norm"]
        if metric not in known:
            close = difflib.get_close_matches(metric, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"experiments.{experiment}.metric: unknown {metric!r}; {hint}")

    def _check_teacher(self, name: str, arm: Arm) -> None:
        if arm.teacher is None:
            return
        if arm.teacher == "exact":
            if not isinstance(self.data[arm.data], MixtureData):
                raise ValueError(f"arms.{name}.teacher: only a mixture has an exact velocity, {arm.data!r} has none")
            return
        teacher = self.arms.get(arm.teacher)
        if teacher is None:
            raise ValueError(f"arms.{name}.teacher: there is no arm {arm.teacher!r}")
        if teacher.objective != "diffusion" or teacher.data != arm.data:
            raise ValueError(f"arms.{name}.teacher: {arm.teacher!r} must be a diffusion arm on data {arm.data!r}")
        if arm.start == "teacher" and teacher.size != arm.size:
            raise ValueError(f"arms.{name}.start: the teacher's size {teacher.size!r} is not {arm.size!r}")

    # --- names and paths: computed here and nowhere else -----------------------------------------

    @property
    def label(self) -> str:
        """The study's name, with its budget unless that is the default; a target of the workflow."""
        return self.study if self.budget == DEFAULT_BUDGET else f"{self.study}-{self.budget}"

    @property
    def folder(self) -> Path:
        return Path("results") / self.label

    @property
    def report(self) -> Path:
        return Path("reports") / f"{self.label}.html"

    @property
    def published(self) -> Path:
        """The committed results of the same study, beside the workflow."""
        return Path(__file__).parent.parent / "results" / "published" / self.study

    def data_file(self, data: str) -> Path:
        return self.folder / "data" / f"{data}.npz"

    def run_folder(self, run: Run) -> Path:
        return self.folder / "runs" / run.arm / f"seed-{run.seed}"

    def checkpoint_folder(self, run: Run) -> Path:
        """Not an output of any rule: a place that the workflow never clears."""
        return self.folder / "checkpoints" / run.arm / f"seed-{run.seed}"

    def experiment_folder(self, experiment: str) -> Path:
        return self.folder / "experiments" / experiment

    # --- runs ------------------------------------------------------------------------------------

    def arms_of(self, experiment: str) -> list[str]:
        """The experiment's arms, in the order of the file."""
        patterns = self.experiments[experiment].arms
        return [arm for arm in self.arms if any(fnmatch.fnmatchcase(arm, p) for p in patterns)]

    def runs_of(self, experiment: str) -> list[Run]:
        return [Run(arm=arm, seed=seed) for arm in self.arms_of(experiment) for seed in self.seeds]

    def runs(self) -> list[Run]:
        """Every run that some experiment or its teachers need, once."""
        wanted = {arm for experiment in self.experiments for arm in self.arms_of(experiment)}
        wanted |= {teacher for arm in wanted if (teacher := self.arms[arm].teacher) not in (None, "exact") and teacher}
        return [Run(arm=arm, seed=seed) for arm in self.arms if arm in wanted for seed in self.seeds]

    def teacher_run(self, run: Run) -> Run | None:
        """The run whose averaged weights teach this one, if any."""
        teacher = self.arms[run.arm].teacher
        return None if teacher in (None, "exact") else Run(arm=str(teacher), seed=run.seed)

    def specification(self, run: Run) -> dict[str, Any]:
        """Everything that decides the run's numbers, its name excluded; plain data, for hashing."""
        arm = self.arms[run.arm]
        teacher = self.teacher_run(run)
        return {
            "arm": arm.model_dump(exclude={"teacher"}),
            "teacher": self.specification(teacher) if teacher else arm.teacher,
            "data": self.data[arm.data].model_dump(),
            "size": self.sizes[arm.size].model_dump(),
            "evaluation": self.evaluation.model_dump(),
            "sigma_d": self.sigma_d,
            "seed": run.seed,
        }

    def data_specification(self, data: str) -> dict[str, Any]:
        """Everything that decides a prepared data set; plain data, for hashing."""
        return {
            "data": self.data[data].model_dump(),
            "evaluation": self.evaluation.model_dump(),
            "sigma_d": self.sigma_d,
        }


# --- reading ------------------------------------------------------------------------------------


def load(study: str | Path, budget: str = DEFAULT_BUDGET) -> Study:
    """The study of that name, or in that file, under that budget.

    Raises BenchError naming file, key and remedy.
    """
    path = Path(study)
    if path.suffix not in (".yaml", ".yml"):
        path = STUDIES / f"{study}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.yaml")))
        raise BenchError(f"there is no study {study}", file=path, remedy=f"name a YAML file, or one of: {known}")
    try:
        content = yaml.load(path.read_text(), Loader=_StrictLoader)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise BenchError(f"not valid YAML: {problem}", file=path, remedy="mend the syntax at that line") from error
    if not isinstance(content, dict):
        raise BenchError("a study is a mapping of keys", file=path, remedy="see workflow/studies/oracle.yaml")
    try:
        return Study.model_validate({**_under_budget(content, budget, path), "budget": budget, "file": path})
    except ValidationError as error:
        first = error.errors()[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        key = ".".join(str(part) for part in first["loc"]) or None
        remedy = _remedy(first["type"], first["loc"])
        raise BenchError(
            first["msg"].removeprefix("Value error, ") + more, file=path, key=key, remedy=remedy
        ) from error


def _remedy(kind: str, place: Sequence[int | str]) -> str:
    location = [str(part) for part in place]
    if kind == "extra_forbidden":
        models = {"arms": Arm, "sizes": Size, "experiments": Experiment, "evaluation": Evaluation}
        if location[0] == "data" and len(location) > 2:
            models["data"] = {"mixture": MixtureData, "digits": DigitsData}.get(location[2], MixtureData)
        model = models.get(location[0], Study)
        close = difflib.get_close_matches(location[-1], model.model_fields, n=1)
        return f"did you mean {close[0]!r}?" if close else f"remove it; known keys: {', '.join(model.model_fields)}"
    if kind == "missing":
        return f"add the key {location[-1]!r}"
    return "change the value as the message says"


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, which plain YAML would let win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _under_budget(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The study's content with `defaults` merged, arms expanded and the budget applied."""
    content = dict(content)
    budgets = content.pop("budgets", None) or {}
    defaults = content.pop("defaults", None) or {}
    for key, value in (("budgets", budgets), ("defaults", defaults), ("arms", content.get("arms", {}))):
        if not isinstance(value, dict):
            raise BenchError("must be a mapping", file=file, key=key, remedy=f"write {key} as 'name: settings' lines")
    if name != DEFAULT_BUDGET and name not in budgets:
        known = ", ".join([DEFAULT_BUDGET, *budgets])
        raise BenchError(f"there is no budget {name!r}", file=file, key="budgets", remedy=f"choose one of: {known}")
    try:
        budget = Budget.model_validate(budgets.get(name) or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("budgets", name, *first["loc"])))
        raise BenchError(first["msg"], file=file, key=key, remedy=_remedy(first["type"], first["loc"])) from error
    _check_keys(defaults, Arm, "defaults", file)
    _check_keys(budget.override, Arm, f"budgets.{name}.override", file)
    arms = {}
    for template, settings in (content.get("arms") or {}).items():
        if not isinstance(settings, dict):
            raise BenchError("an arm is a mapping", file=file, key=f"arms.{template}", remedy="give it its settings")
        for arm, expanded in _expand(str(template), {**defaults, **settings}, file):
            if arm in arms:
                remedy = "name each list-valued key in braces in the arm's name, or rename the arm"
                raise BenchError(f"two arms are called {arm!r}", file=file, key=f"arms.{template}", remedy=remedy)
            arms[arm] = {**expanded, **budget.override}
    kept = {a: s for a, s in arms.items() if any(fnmatch.fnmatchcase(a, pattern) for pattern in budget.arms)}
    evaluation = content.get("evaluation", {})
    content |= {"arms": kept, "evaluation": {**evaluation, **budget.evaluation} if budget.evaluation else evaluation}
    if budget.seeds is not None:
        content["seeds"] = budget.seeds
    return content


def _check_keys(settings: Mapping[str, Any], model: type[Model], key: str, file: Path) -> None:
    """Refuse an unknown key where it stands, not in every arm that it reaches."""
    for unknown in settings.keys() - model.model_fields.keys():
        close = difflib.get_close_matches(str(unknown), model.model_fields, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(model.model_fields)}"
        raise BenchError(f"unknown key {unknown!r}", file=file, key=f"{key}.{unknown}", remedy=remedy)


def _expand(template: str, settings: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """One arm for each combination of list-valued settings; `{key}` in strings takes the value."""
    lists = [key for key, value in settings.items() if isinstance(value, list)]
    for values in itertools.product(*(settings[key] for key in lists)):
        chosen = {**settings, **dict(zip(lists, values, strict=True))}
        try:
            filled = {k: v.format(**chosen) if isinstance(v, str) else v for k, v in chosen.items()}
            yield template.format(**chosen), filled
        except (KeyError, ValueError, IndexError) as error:
            fields = [f for _, f, _, _ in string.Formatter().parse(template) if f] if "{" in template else []
            raise BenchError(
                f"cannot fill the braces of {template!r}: {error}",
                file=file,
                key=f"arms.{template}",
                remedy=f"braces take the arm's own keys (found {fields})",
            ) from error
