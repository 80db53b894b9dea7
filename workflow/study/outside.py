"""What came from outside: the record of a model that was trained elsewhere and judged as the study's own runs are.

It stands beside the study's runs and is none of them: no experiment, figure or claim reads it.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trigbench.core.map_samplers import halved_times, usual
from trigbench.core.solvers import SOLVERS, hashed, of_velocities
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import identity, read_json, write_json
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.kinds import draws_of, module_of
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import DEFAULT_BUDGET, Sampling, Study

OutsideKind = Literal["samples", "function", "checkpoint", "consistency", "map"]
"""`checkpoint` is of a diffusion model, `consistency` of a consistency model, `map` of a map of two times."""
JUDGED_BY: dict[OutsideKind, tuple[str, ...]] = {
    "samples": ("trigbench.workflow.run.outside.samples",),
    "function": ("trigbench.workflow.run.outside.judging",),
    "checkpoint": ("trigbench.workflow.run.outside.judging",),
    "consistency": ("trigbench.workflow.run.outside.judging",),
    "map": ("trigbench.workflow.run.outside.judging",),
}
"""Modules that decide the numbers, beside the data's own and workflow.run.judging."""
CHANGED = "what the study evaluates with changed since: its settings of data and evaluation, or their code"
OTHER_DATA = "the study's data changed since"
NO_DATA = "the study has no such data any more"


class OfSeed(BaseModel):
    """What one sampling seed gave; samples that were drawn elsewhere have none, and nor has a map."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int | None
    metrics: list[Value]


class OutsideRecord(BaseModel):
    """outside.json: one model, its numbers, where they come from and what they were measured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    study: str
    data: str
    kind: OutsideKind
    what: str
    """As the command line said it: a place of samples, a function, a checkpoint."""
    by: str | None
    note: str | None
    command: str
    """What judges it again."""
    fingerprint: str
    """Of what the study evaluated with."""
    data_mark: str | None
    """Digest of the prepared data."""
    ways: list[Sampling] = []
    """How a model was sampled; samples that were drawn elsewhere have none."""
    results: list[OfSeed]
    curves: list[Value] = []
    remarks: list[str] = []
    """What must be said beside the numbers."""
    files: dict[str, str]
    """Digests (sha256) of what was judged, by place."""
    seconds: dict[str, float] = {}
    protocol: dict[str, Any] = {}
    provenance: dict[str, Any] = {}

    @property
    def seeds(self) -> list[int]:
        """The sampling seeds."""
        return [result.seed for result in self.results if result.seed is not None]


def outside_mark(study: Study, data: str, kind: OutsideKind, ways: Sequence[Sampling]) -> str:
    """A digest of what the study evaluates with, for what is of that kind."""
    settings = study.data[data]
    said = {
        "data": settings.model_dump(),
        "samples": study.evaluation.samples,
        "seed": study.evaluation.seed,
        **({"noise": study.evaluation.noise} if study.evaluation.noise else {}),
        "sigma_d": study.sigma_d,
        "ways": [way.model_dump() for way in ways],
        "solvers": [hashed(way.solver) for way in ways if way.solver in SOLVERS],
    }
    modules = (module_of(settings), draws_of(settings), "trigbench.workflow.run.judging", *JUDGED_BY[kind])
    return digest(said, modules)


def outside_verdict(study: Study, record: OutsideRecord) -> str:
    """Why a record is of another evaluation than the study's own today; empty where it is of this one."""
    if record.data not in study.data:
        return NO_DATA
    try:
        ways = ways_again(study, record)
    except BenchError:
        return CHANGED
    if outside_mark(study, record.data, record.kind, ways) != record.fingerprint:
        return CHANGED
    return "" if identity(study.data_file(record.data)) in (None, record.data_mark) else OTHER_DATA


def ways_again(study: Study, record: OutsideRecord) -> list[Sampling]:
    """How the study would sample it today."""
    return [way_of(study, record.kind, way.steps) for way in record.ways]


def way_of(study: Study, kind: OutsideKind, steps: int) -> Sampling:
    """How the study samples in so many steps: a function, and a consistency model, at its middle angles, a diffusion
    model by Heun on EDM's grid, a map of two times by jumps between angles of the study's that re-noise nothing, or
    else by even ones in flow time.

    Raises BenchError where nothing of the study does.
    """
    if kind == "checkpoint":
        name = of_velocities()
        if steps < 1 or (steps - 1) % SOLVERS[name].evaluations:
            remedy = f"Heun's method takes an odd number of evaluations: --steps {max(steps - 1, 1)}"
            raise BenchError(f"{steps} is no number of evaluations", key="--steps", remedy=remedy)
        return Sampling(sampler=name, solver=name, steps=steps)
    solver = usual(two_times=kind == "map")
    known = _times(study, solver)
    if kind == "map":
        name, times = known.get(steps, ("halves", halved_times(steps, study.sigma_d)))
        return Sampling(sampler=name, solver=solver, steps=steps, times=times, gamma=0.0)
    if steps not in known:
        remedy = f"choose of {', '.join(map(str, sorted(known)))}: the study samples maps in so many steps"
        raise BenchError(f"no sampler of the study takes {steps} steps", file=study.file, key="--steps", remedy=remedy)
    name, times = known[steps]
    return Sampling(sampler=name, solver=solver, steps=steps, times=times)


def default_steps(study: Study, kind: OutsideKind) -> tuple[int, ...]:
    """In how many steps a model is judged where nothing is said: as the built-in samplers have it.

    Raises BenchError where the study gives their name to another way of sampling.
    """
    name = of_velocities() if kind == "checkpoint" else usual(two_times=kind == "map")
    sampler = study.all_samplers[name]
    found = sampler.evaluations or tuple(len(times) + 1 for times in sampler.times or ())
    if sampler.solver != name or not found:
        problem = f"the study's sampler {name!r} is another than that of this name"
        raise BenchError(problem, file=study.file, key="--steps", remedy="say in how many steps, as --steps 1,2")
    return found


def _times(study: Study, solver: str) -> dict[int, tuple[str, tuple[float, ...]]]:
    """By number of steps the first sampler of maps by this solver that re-noises as it does by itself, and its middle
    angles."""
    found: dict[int, tuple[str, tuple[float, ...]]] = {}
    for name, sampler in study.all_samplers.items():
        for times in (sampler.times or ()) if sampler.solver == solver and not sampler.gamma else ():
            found.setdefault(len(times) + 1, (name, times))
    return found


# --- files ----------------------------------------------------------------------------------------


def outside_file(study: Study, name: str) -> Path:
    """Where the record of that name is."""
    return study.made.of_outside(name)


def outside_records(study: Study) -> list[OutsideRecord]:
    """All that stand there, by name. Raises BenchError for one that is damaged."""
    return [read_outside(path) for path in _paths(study)]


def read_outside(path: Path) -> OutsideRecord:
    """One record, or BenchError that names the file."""
    remedy = "judge that model again, with --replace, or delete its folder"
    try:
        return OutsideRecord.model_validate(read_json(path, remedy))
    except ValidationError as error:
        problem = f"not the record of a model from outside: {error.errors()[0]['msg']}"
        raise BenchError(problem, file=path, remedy=remedy) from error


def write_outside(study: Study, record: OutsideRecord) -> Path:
    """Write it in its place."""
    path = outside_file(study, record.name)
    write_json(path, record.model_dump())
    return path


def standing_outside(study: Study) -> list[tuple[str, str | None, str]]:
    """(name, digest of the record, why it is stale) of each, for the plan: what a page shows of them."""
    return [(path.parent.name, identity(path), _verdict_at(study, path)) for path in _paths(study)]


def _paths(study: Study) -> list[Path]:
    every = study.made.of_outside("*")
    return sorted(study.made.outside.glob(f"*/{every.name}"))


def _verdict_at(study: Study, path: Path) -> str:
    try:
        return outside_verdict(study, read_outside(path))
    except BenchError:
        return "damaged"


def judge_command(study: Study, what: str, name: str, **options: str | None) -> str:
    """The command line that judges it again, and replaces what is there."""
    said = {"--budget": None if study.budget == DEFAULT_BUDGET else study.budget, **options}
    words = [part for key, value in said.items() if value is not None for part in (key, value)]
    return shlex.join(["trigbench", "judge", study.said, what, "--name", name, *words, "--replace"])
