"""What a run leaves behind: the schema of metrics.json."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json


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


class RunRecord(BaseModel):
    """metrics.json of a run; a diverged run has one like any other, and so has one whose samples are not numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    status: Literal["finished", "diverged"]
    fingerprint: str
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
    protocol: dict[str, Any] = {}
    """What must be said beside its numbers: how many samples, from which seed, against what, in which features."""


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record atomically."""
    write_json(path, record.model_dump())


def read_record(path: Path) -> RunRecord:
    """Read a record, or raise BenchError that names the file."""
    remedy = "delete the file; the workflow makes the run again"
    try:
        return RunRecord.model_validate(read_json(path, remedy))
    except ValidationError as error:
        raise BenchError(f"not a run's record: {error.errors()[0]['msg']}", file=path, remedy=remedy) from error
