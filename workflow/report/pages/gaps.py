"""What has no result yet, and the commands that make it."""

from collections.abc import Iterable
from dataclasses import dataclass

from trigbench.workflow.claims.tables import finished_runs
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Gap:
    """Runs of one arm that are not there."""

    arm: str
    seeds: list[int]


@dataclass(frozen=True)
class Missing:
    """What an experiment lacks, and the command that makes it."""

    title: str
    experiment: str | None
    gaps: list[Gap]
    runs: int
    total: int
    command: str


def missing(study: Study) -> list[Missing]:
    """By experiment, the arms and seeds that have no result; teachers that no experiment shows come last."""
    found, listed = [], set()
    for name, experiment in study.experiments.items():
        there, absent = finished_runs(study, name)
        listed |= {*there, *absent}
        if absent:
            total = len(there) + len(absent)
            found.append(Missing(experiment.title, name, _gaps(absent), len(absent), total, study.command(name)))
    behind = [run for run in study.runs() if run not in listed]
    absent = [run for run in behind if not is_done(study, run)]
    if absent:
        title, command = "Teachers, and candidates for a rate", study.command()
        found.append(Missing(title, None, _gaps(absent), len(absent), len(behind), command))
    return found


def is_done(study: Study, run: Run) -> bool:
    """Whether the run has a record."""
    return study.files(run).metrics.is_file()


def _gaps(runs: Iterable[Run]) -> list[Gap]:
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.arm, []).append(run.seed)
    return [Gap(arm, found) for arm, found in seeds.items()]
