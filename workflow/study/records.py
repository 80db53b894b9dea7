"""What a run leaves behind: the schemas of training.json, samples.json and metrics.json, one for each of its parts."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json

Record = TypeVar("Record", bound=BaseModel)
REAL = "data"
"""The arm, and the objective, of rows that stand for real data judged as if they were samples."""
AGAIN = "delete the run's folder; the workflow makes it again"


class Value(BaseModel):
    """One number: a metric of one sampling setting, or one point of a curve (then `x` is set)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    metric: str
    value: float | None
    """None where the number is not finite."""
    steps: int | None = None
    sampler: str | None = None
    """The study's name of how samples were drawn."""
    guidance: float | None = None
    mid_time: float | None = None
    """The first middle angle of few-step sampling."""
    times: tuple[float, ...] | None = None
    """All of them; records of earlier versions have the first alone."""
    x: float | None = None


class TrainingRecord(BaseModel):
    """training.json: what a run was trained from, how that ended, what it took. Written last of training's files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fingerprint: str
    """Of what decides the weights (workflow.study.fingerprint.Marks)."""
    inputs: dict[str, str]
    """Digests of the files that the weights were made from, by what they are to them (workflow.study.freshness)."""
    step: int
    """Optimiser steps made; of a diverged run, the step whose loss was not finite."""
    reason: str | None = None
    """None when it finished; else why it diverged."""
    last_good_checkpoint: int | None = None
    last_direction_norm: float | None = None
    """Mean over the batch of the last step, before any control."""
    seconds: float = 0.0
    processes: int = 1
    images_per_second: float = 0.0
    """Of all processes together, over `seconds`."""
    waiting_for_data: float = 0.0
    """Share of `seconds` in which the step waited for its batch; the rest is computing, and writing checkpoints."""
    device_utilisation: float | None = None
    """Share of `seconds` in which the first process's device was at work; None where nobody can tell."""
    rate: float = 0.0
    """Of the optimiser; chosen by tuning where the arm says so."""
    tf32: bool = False
    """Whether the device rounded the inputs of products; a CPU does not, whatever the arm says."""
    compiled: bool = False
    """Whether all its steps ran compiled, on every process."""
    fell_back: str | None = None
    """Why not, where they were to be; then some did not, or none."""
    log_weight: list[tuple[float, float | None]] = []
    """(t, w(t)) of the learned adaptive weight at the end."""
    noise_left: list[tuple[float, float, float | None, float | None]] = []
    """(t, t - u, what the student's map from t to u left of the noise at the last look, what its teacher's flow leaves)
    at the middle of each bin of time (core.noise_left); none of a run too short to be looked at."""
    start: float = 0.0
    """Seconds that the process took before it began."""
    peak_memory_mb: float = 0.0
    provenance: dict[str, Any] = {}

    @property
    def steps(self) -> str:
        """How its steps ran, for people: eager, compiled, or eager for some reason."""
        return f"eager: {self.fell_back}" if self.fell_back else "compiled" if self.compiled else "eager"


class SamplesRecord(BaseModel):
    """samples.json: what samples.npz was drawn from. Written after it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    fingerprint: str
    """Of what decides the samples."""
    weights: str | None
    """A digest of the weights."""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    provenance: dict[str, Any] = {}


class RunRecord(BaseModel):
    """metrics.json of a run; a diverged run has one like any other, and so has one whose samples are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    status: Literal["finished", "diverged"]
    fingerprint: str
    """Of all that decides its numbers."""
    parts: dict[str, str] = {}
    """Of what decides its weights, and of what decides its samples."""
    inputs: dict[str, str] = {}
    """Digests of the files that it was made from, by what they are to it (workflow.study.freshness)."""
    arm: str
    seed: int
    step: int
    """Optimiser steps made; of a diverged run, the step whose loss was not finite."""
    last_good_checkpoint: int | None = None
    reason: str | None = None
    lost: list[str] = []
    """Of a run that was trained to its end, what is not numbers: its samplings by their keys, or `map`. What else it
    was judged by counts."""
    last_direction_norm: float | None = None
    parameters: int = 0
    """Trainable numbers of the network."""
    metrics: list[Value] = []
    curves: list[Value] = []
    seconds: dict[str, float] = {}
    """Wall-clock by part: start, train, sample, evaluate, the last time's of each."""
    peak_memory_mb: float = 0.0
    provenance: dict[str, Any] = {}
    """Of what is measured."""
    provenance_of: dict[str, dict[str, Any]] = {}
    """Provenance of the parts before, `training` and `sampling`, which another version may have made."""
    protocol: dict[str, Any] = {}
    """What must be said beside its numbers: how many samples, from which seed, against what, in which features."""

    @property
    def provenances(self) -> list[dict[str, Any]]:
        """Of all its parts."""
        return [origin for origin in (*self.provenance_of.values(), self.provenance) if origin]


def write_record(path: Path, record: TrainingRecord | SamplesRecord | RunRecord) -> None:
    """Write a record atomically; its numbers that are not finite become null."""
    write_json(path, record.model_dump())


def read_record(path: Path) -> RunRecord:
    """Read metrics.json, or raise BenchError that names the file."""
    return _read(RunRecord, path, "delete the file; the workflow makes the run again")


def read_training(path: Path, remedy: str = AGAIN) -> TrainingRecord:
    """Read training.json, or raise BenchError that names the file."""
    return _read(TrainingRecord, path, remedy)


def read_samples(path: Path, remedy: str = AGAIN) -> SamplesRecord:
    """Read samples.json, or raise BenchError that names the file."""
    return _read(SamplesRecord, path, remedy)


def _read(schema: type[Record], path: Path, remedy: str) -> Record:
    try:
        return schema.model_validate(read_json(path, remedy))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or None
        raise BenchError(f"not a run's record: {first['msg']}", file=path, key=where, remedy=remedy) from error
