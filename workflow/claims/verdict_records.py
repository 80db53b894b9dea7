"""All that is known of every verdict of a study: the schema of claims.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json


class ComparisonRecord(BaseModel):
    """One of several comparisons that a verdict rests on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    effects: dict[str, float | None]
    """By seed."""
    median: float | None
    low: float | None = None
    high: float | None = None
    """Of its own interval."""


class VerdictRecord(BaseModel):
    """One claim on one study: its row of claims.csv, and what a reader wants beside."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    claim: str
    paper: str
    place: str
    study: str
    """Its label."""
    verdict: str
    holm_verdict: str | None = None
    """The same after Holm's adjustment, which needs all claims."""
    effect: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds: int
    note: str
    topic: str
    results_commit: str | None
    experiment: str | None
    """None where no experiment of the study decides it; then it has no rule either."""
    smallest_effect: float | None
    direction: str | None
    scale: str | None
    rule_commit: str | None
    rule_first: str | None
    seen: str | None = None
    """Whether a result that it uses was published before its rule."""
    basis: str | None = None
    """What decides: median, t, exact or divergence."""
    seeds_needed: int | None = None
    """Of an undecided one."""
    planned: bool = False
    """Whether seeds are added by a plan: effects are those of the look that says it, by its share of alpha."""
    correlation: float | None = None
    """Over seeds, of the two sides."""
    metric: str | None
    rule: dict[str, Any] | None
    """As claims.yaml has it."""
    arms: list[str]
    effects: dict[str, float | None]
    """By seed; of several comparisons, of the one that decides."""
    comparisons: dict[str, float | None] = {}
    """Of several, the median effect of each."""
    compared: list[ComparisonRecord] = []
    """Of several, all that is known of each."""
    says: str
    """The claim, in our own words."""
    labels: dict[str, str]
    """Of metrics that the study's data declare."""
    published: dict[str, float]
    erratum: str | None
    caveat: str | None
    needs: str | None
    changed: list[dict[str, Any]] = []
    """Why its rules are not what they were: date, why and studies."""


def write_verdicts(path: Path, verdicts: Iterable[VerdictRecord]) -> None:
    """Write claims.json atomically; numbers that are not finite become null."""
    write_json(path, [verdict.model_dump() for verdict in verdicts])


def read_verdicts(path: Path) -> list[VerdictRecord]:
    """Read claims.json; empty where there is none yet. Raises BenchError that names the file."""
    if not path.is_file():
        return []
    remedy = "judge the study again, by the workflow or by trigbench.workflow.steps.collect"
    try:
        return [VerdictRecord.model_validate(entry) for entry in read_json(path, remedy)]
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or None
        raise BenchError(f"not a study's verdicts: {first['msg']}", file=path, key=key, remedy=remedy) from error
