"""What a study is: the checks between its parts, and the one place that names runs and paths.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import difflib
import fnmatch
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from workflow.runtime.quantities import QUANTITIES
from workflow.schema import Arm, Data, DigitsData, Evaluation, Experiment, MixtureData, Model, Name, Size

DEFAULT_BUDGET = "laptop"
FEATURES = 64
"""Dimensions of the digits' feature space."""


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
        """Everything that decides the run's numbers, its name excluded; plain data, for hashing.

        What is None does not apply and is left out: so a key that is new to the schema leaves
        finished runs fresh, while a changed default does not.
        """
        arm = self.arms[run.arm]
        teacher = self.teacher_run(run)
        return {
            "arm": arm.model_dump(exclude={"teacher"}, exclude_none=True),
            "teacher": self.specification(teacher) if teacher else arm.teacher,
            "data": self.data[arm.data].model_dump(),
            "size": self.sizes[arm.size].model_dump(exclude_none=True),
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
