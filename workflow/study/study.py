"""What a study is, and the one place that names runs. What must hold between its parts, reading checks.

Imports nothing heavy (no torch), since every start of the workflow reads it.
"""

import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from trigbench._places import to_make
from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.workflow.machine.files import identity, mark_of
from trigbench.workflow.study.claim import Claim, ClaimName
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.kinds import Data, data_kind, known_of
from trigbench.workflow.study.models import Model, Name, Seed
from trigbench.workflow.study.places import PUBLISHED, REPORTS, STUDIES, RunFiles, StudyFiles, study_files
from trigbench.workflow.study.resources import Resources
from trigbench.workflow.study.samplers import BUILT_IN, EvaluationSettings, Sampler
from trigbench.workflow.study.schema import Arm, ConvertedTeacher, Size
from trigbench.workflow.study.seeds import looks, reached

DEFAULT_BUDGET = "laptop"
NO_PART_OF_A_RUN = {"teacher", "weak_teacher", "rate_of", "samplers", "microbatch", "sharded"}
"""Keys of an arm that say how it is computed, or that its specification gives in full elsewhere."""


class Sampling(Model):
    """One way in which one run is sampled."""

    sampler: str
    """Its name in the study."""
    solver: str
    """A name of core.map_samplers or core.solvers."""
    steps: int
    """Maps, or network evaluations of an ODE solver."""
    times: tuple[float, ...] = ()
    """Middle angles."""
    gamma: float | None = None
    """Of jumps."""
    settings: dict[str, Any] | None = None
    """Of its solver alone."""
    guidance: float | None = None
    """The scale; None is none."""
    metrics: tuple[str, ...] | None = None
    """What is measured; empty for all."""

    @property
    def columns(self) -> dict[str, Any]:
        """How a record names it (workflow.study.records.Value)."""
        said = {"steps": self.steps, "sampler": self.sampler, "guidance": self.guidance}
        return said | {"mid_time": self.times[0] if self.times else None, "times": self.times or None}

    @property
    def key(self) -> str:
        """Its name in samples.npz."""
        times = "".join(f"-t{_exact(time)}" for time in self.times)
        return f"{self.sampler}-{self.steps}{times}" + ("" if self.guidance is None else f"-g{_exact(self.guidance)}")


def _exact(number: float) -> str:
    """In few digits where these say all of it, else in all: two numbers never share a name."""
    return short if float(short := f"{number:g}") == number else repr(number)


class Run(Model):
    """An arm with a seed: what is trained, once, however many experiments ask for it."""

    arm: str
    """Its name in the study."""
    seed: int
    """Of its training: the start of the parameters, batches and noise."""


class Study(Model):
    """A study under one budget; what must hold between its parts is checked where it is read."""

    study: Name
    """Its name, of which the names of its folders are made."""
    version: PositiveInt = 1
    """Raised where its results are no longer comparable with those of before; no part of what a run is."""
    title: str
    """What it is about, in a line."""
    summary: str
    """The same in some sentences, which stand under the title."""
    sigma_d: PositiveFloat
    """Standard deviation of its data in data units, by which noise levels are angles: tan t = sigma / sigma_d."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Of training; each arm is trained once with each."""
    data: dict[Name, Data]
    """Its data sets by name."""
    sizes: dict[Name, Size]
    """Its networks by name."""
    arms: dict[Name, Arm]
    """What is trained, by name."""
    samplers: dict[Name, Sampler] = Field(default_factory=dict)
    """Beside the built-in ones."""
    evaluation: EvaluationSettings
    """How every run is judged."""
    tuning_seeds: tuple[Seed, ...] = ()
    """Of the runs that choose a rate; never reported."""
    tuning_metric: str = "fd_train"
    """What the rate is chosen by, at the fewest steps of the main sampler."""
    experiments: dict[Name, Experiment]
    """Which arms are held against each other, and by what, by name."""
    claims: dict[ClaimName, Claim] = Field(default_factory=dict)
    """Of the study's own, beside those of workflow/claims.yaml; no part of what a run is."""
    one_noise: tuple[str, ...] = ()
    """Arms of one data set, or patterns, that the report draws from one noise; no part of what a run is."""
    leads: PositiveInt | None = None
    """The place of that picture on the front page, 1 the first; no part of what a run is."""
    by_default: PositiveInt | None = None
    """Of the project's own: its place among those that are made where no study is named; no part of what a run is."""
    quick: bool = False
    """Whether its training is too short to judge a claim by; a budget may say so."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What runs are computed on; `auto` is a GPU where there is one. No part of what a run is."""
    resources: Resources = Resources()
    """What a run asks a scheduler for; no part of what a run is."""
    budget: Name = DEFAULT_BUDGET
    """The name of the budget under which it was read; not written by itself."""
    file: Path
    """Where it was read from; not written by itself."""

    # --- names and paths (workflow.study.places) -------------------------------------------------

    @property
    def label(self) -> str:
        """The study's name, with its budget unless that is the default; a target of the workflow."""
        return self.study if self.budget == DEFAULT_BUDGET else f"{self.study}-{self.budget}"

    @property
    def is_whole(self) -> bool:
        """Whether this is the study as its file has it; another budget may leave arms out."""
        return self.budget == DEFAULT_BUDGET

    @property
    def is_shipped(self) -> bool:
        """Whether it is one of the project's own, which the workflow knows by name."""
        return self.file.resolve().parent == STUDIES

    @property
    def said(self) -> str:
        """What a command line calls it: one of the project's own by its name, others by their file."""
        return self.study if self.is_shipped else str(self.file)

    def command(self, part: str = "") -> str:
        """The command that makes it, or a part of it (an experiment's name); `claims/<id>` makes what that needs.

        At the top of a checkout it is Snakemake's; elsewhere no Snakefile lies where one starts.
        """
        target = part if part.startswith("claims/") else "/".join(filter(None, (self.label, part)))
        known = self.is_shipped and (not part.startswith("claims/") or self.by_default is not None)
        other = self.budget != DEFAULT_BUDGET
        chosen = [*([] if known else [f"study={self.said}"]), *([f"budget={self.budget}"] if other else [])]
        return to_make(
            [target, *(["--config", *chosen] if chosen else [])],
            [self.said, *filter(None, [part]), *(["--budget", self.budget] if other else [])],
        )

    @property
    def all_samplers(self) -> dict[str, Sampler]:
        return BUILT_IN | self.samplers

    @property
    def made(self) -> StudyFiles:
        """Its files in results/."""
        return study_files(self.label)

    @property
    def folder(self) -> Path:
        return self.made.folder

    @property
    def report(self) -> Path:
        return REPORTS / f"{self.label}.html"

    @property
    def published(self) -> StudyFiles:
        """The committed results of the same study, beside the workflow."""
        return StudyFiles(PUBLISHED / self.study)

    def data_file(self, data: str) -> Path:
        return self.made.arrays(data)

    def files(self, run: Run) -> RunFiles:
        return self.made.run(run.arm, run.seed)

    # --- runs ------------------------------------------------------------------------------------

    def arms_of(self, experiment: str) -> list[str]:
        """The experiment's arms, in the order of the file."""
        patterns = self.experiments[experiment].arms
        reported = [name for name, arm in self.arms.items() if not arm.tuning]
        meant = {arm for pattern in patterns for arm in fnmatch.filter(reported, pattern)}
        return [arm for arm in reported if arm in meant]

    def seeds_of(self, experiment: str) -> tuple[int, ...]:
        """Its own seeds, or else the study's; of a plan that adds seeds, those of the look that it has come to."""
        return reached(self.experiments[experiment].seeds, self.made.looks(experiment)) or self.seeds

    def looks_of(self, experiment: str) -> tuple[tuple[int, ...], ...]:
        """The seeds of every look of its plan; none where its seeds are all there from the start."""
        return looks(self.experiments[experiment].seeds)

    def runs_of(self, experiment: str) -> list[Run]:
        return [Run(arm=arm, seed=seed) for arm in self.arms_of(experiment) for seed in self.seeds_of(experiment)]

    def runs(self) -> list[Run]:
        """Every run that some experiment needs, once, with those that it waits for."""
        pending = [run for experiment in self.experiments for run in self.runs_of(experiment)]
        wanted: set[Run] = set()
        while pending:
            run = pending.pop()
            if run not in wanted:
                wanted.add(run)
                pending += self.runs_before(run)
        return sorted(wanted, key=lambda run: (list(self.arms).index(run.arm), run.seed))

    def candidates(self, arm: str) -> list[str]:
        """The tuning arms that choose an arm's rate."""
        pattern = self.arms[arm].rate_of
        if pattern is None:
            return []
        return [name for name, other in self.arms.items() if other.tuning and fnmatch.fnmatchcase(name, pattern)]

    def candidate_runs(self, run: Run) -> list[Run]:
        """The runs that choose a run's rate: the same for all its seeds."""
        return [Run(arm=arm, seed=seed) for arm in self.candidates(run.arm) for seed in self.tuning_seeds]

    def samplers_of(self, arm: str) -> tuple[str, ...]:
        """The names of an arm's samplers, the main one first."""
        return self.arms[arm].samplers or (self.arms[arm].method.sampler,)

    def samplings(self, arm: str) -> list[Sampling]:
        """Every way in which the arm's runs are sampled."""
        found = []
        for name in self.samplers_of(arm):
            sampler = self.all_samplers[name]
            said = sampler.model_dump(include={"solver", "gamma", "settings", "metrics"})
            way = MAP_SAMPLERS.get(sampler.solver)
            if way is not None and way.angles is not None:
                ways = [(steps, way.angles(steps, self.sigma_d)) for steps in sampler.evaluations or ()]
            elif sampler.times is not None:
                ways = [(len(times) + 1, times) for times in sampler.times]
            else:
                ways = [(steps, ()) for steps in sampler.evaluations or (self.arms[arm].segments or 1,)]
            found += [
                Sampling(sampler=name, steps=steps, times=times, guidance=guidance, **said)
                for steps, times in ways
                for guidance in sampler.guidance or (None,)
            ]
        return found

    def main_samplings(self, arm: str) -> list[Sampling]:
        """Those of the arm's main sampler, fewest steps first."""
        main = self.samplers_of(arm)[0]
        return sorted((way for way in self.samplings(arm) if way.sampler == main), key=lambda way: way.steps)

    def teacher_run(self, run: Run) -> Run | None:
        """The run whose averaged weights teach this one, if any."""
        teacher = self.arms[run.arm].teacher
        return Run(arm=teacher, seed=run.seed) if isinstance(teacher, str) and teacher != "exact" else None

    def weak_run(self, run: Run) -> Run | None:
        """The run by whose averaged weights this one's teacher is guided, if its arm names one."""
        weak = self.arms[run.arm].weak_teacher
        return Run(arm=weak, seed=run.seed) if weak else None

    def start_run(self, run: Run) -> Run | None:
        """The run from whose averaged weights this one starts, where its arm names one that is not its teacher."""
        start = self.arms[run.arm].starts_from
        return Run(arm=start, seed=run.seed) if start else None

    def runs_before(self, run: Run) -> list[Run]:
        """Those that it waits for: its teachers, the one that it starts from, and those that choose its rate."""
        named = (self.teacher_run(run), self.weak_run(run), self.start_run(run))
        return [*(other for other in named if other is not None), *self.candidate_runs(run)]

    def teacher_file(self, arm: str) -> Path | None:
        """The file of a converted teacher, if it is one that teaches the arm."""
        teacher = self.arms[arm].teacher
        return Path(teacher.file) if isinstance(teacher, ConvertedTeacher) else None

    def generation(self, run: Run) -> int:
        """How many runs come before it, one after the other."""
        arms, number = {run.arm}, -1
        while arms:
            arms = {other.arm for arm in arms for other in self.runs_before(Run(arm=arm, seed=run.seed))}
            number += 1
        return number

    def specification(self, run: Run) -> dict[str, Any]:
        """Everything that decides the run's numbers, its name excluded; plain data, for hashing.

        What decides its weights, and under `sampling` and `evaluation` what decides its samples and what is measured.
        What is None does not apply and is left out: so a key that is new to the schema leaves
        finished runs fresh, while a changed default does not.
        """
        ways, data = self.samplings(run.arm), self.data[self.arms[run.arm].data]
        drawn = self.evaluation.model_dump(include={"samples", "seed", "noise"}, exclude_none=True)
        sampling = {"ways": [way.model_dump(exclude_none=True, exclude={"metrics"}) for way in ways], **drawn}
        evaluation = {
            "metrics": [way.metrics for way in ways],
            "known": known_of(data).metrics,
            "data": data.model_dump(include=set(data_kind(data).judging)),
            **self.evaluation.model_dump(exclude_none=True, exclude={*drawn, "edits"}),
        }
        return {**self.training_specification(run), "sampling": sampling, "evaluation": evaluation}

    def training_specification(self, run: Run) -> dict[str, Any]:
        """Of these, what decides the run's weights."""
        known: dict[Run | str, Any] = {}
        rate_from = [self._trained(candidate, known) for candidate in self.candidate_runs(run)]
        return {**self._trained(run, known), "rate_from": rate_from}

    def _trained(self, run: Run, known: dict[Run | str, Any]) -> dict[str, Any]:
        """The same, with a digest of what chose a rate that it rests on; `known` has what was told, each once."""
        if run in known:
            return known[run]
        arm = self.arms[run.arm]
        data, start, weak = self.data[arm.data], self.start_run(run), self.weak_run(run)
        left_out = NO_PART_OF_A_RUN | (set() if arm.tf32 else {"tf32"})
        teacher = self.teacher_run(run)
        taught: Any = self._trained(teacher, known) if teacher else arm.teacher
        if isinstance(taught, ConvertedTeacher):  # whatever the file is called
            taught = {"kind": taught.kind, "content": identity(Path(taught.file))}
        if run.arm not in known:  # told whole, a chain of tuned runs grows with a power of its length
            rated = [self._trained(candidate, known) for candidate in self.candidate_runs(run)]
            known[run.arm] = mark_of(rated) if rated else []
        told = {
            "arm": {name: value for name, value in arm.said.items() if name not in left_out},
            "rate_from": known[run.arm],
            "rate_by": self.tuning_metric if self.candidates(run.arm) else None,
            "teacher": taught,
            **({"weak_teacher": self._trained(weak, known)} if weak else {}),
            **({"start": self._trained(start, known)} if start else {}),
            "data": data.model_dump(exclude=set(data_kind(data).judging)),
            "size": self.sizes[arm.size].model_dump(exclude_none=True),
            "sigma_d": self.sigma_d,
            "seed": run.seed,
        }
        return known.setdefault(run, told)

    def data_specification(self, data: str) -> dict[str, Any]:
        """Everything that decides a prepared data set; plain data, for hashing."""
        said = {"data": self.data[data].model_dump(), "evaluation": self.evaluation.model_dump(exclude={"noise"})}
        return {**said, "sigma_d": self.sigma_d}
