"""Whether the insides of Snakemake that the rules rely on are there; where one moved, the engine is left as it is."""

import heapq
import inspect
from collections.abc import Collection, Iterator
from typing import Any

import snakemake
import snakemake.api  # first: the others import each other
import snakemake.common
import snakemake.dag
import snakemake.jobs
import snakemake.persistence
import snakemake.rules
import snakemake.scheduling.job_scheduler


def strange_insides() -> list[str]:
    """Names of those that are not as versions 9.20 to 9.x have them; none where all are.

    Planning by records, a faster plan, the order of jobs and no second try of a final error rest on them
    (workflow/rules/engine.smk and freshness.smk). Without these Snakemake plans by times of files and by what it
    remembers in `.snakemake`.
    """
    return list(_strange())


def _strange() -> Iterator[str]:
    job, dag, persistence = snakemake.jobs.Job, snakemake.dag.DAG, snakemake.persistence
    kept = getattr(persistence, "Persistence", None) or persistence.PersistenceBase
    for owner, name in ((job, "output_mintime"), (job, "restart_times")):
        if not isinstance(getattr(owner, name, None), property):
            yield f"{owner.__name__}.{name}"
    if list(_parameters(getattr(dag, "check_incomplete", None))) != ["self"]:
        yield "DAG.check_incomplete"
    for module in (snakemake.common, snakemake.rules):
        if list(_parameters(getattr(module, "get_function_params", None))) != ["func"]:
            yield f"{module.__name__}.get_function_params"
    scheduler = snakemake.scheduling.job_scheduler.JobScheduler
    if list(_parameters(getattr(scheduler, "job_selector", None))) != ["self", "jobs"]:
        yield "JobScheduler.job_selector"
    if not hasattr(persistence, "NO_PARAMS_CHANGE"):
        yield "persistence.NO_PARAMS_CHANGE"
    for name in ("params_changed", "input_changed", "has_outdated_metadata", "has_metadata"):
        if "job" not in _parameters(getattr(kept, name, None)):
            yield f"{kept.__name__}.{name}"


def _parameters(function: object) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters) if callable(function) else {}


def most_urgent(jobs: Collection[Any], most: int) -> set[Any]:
    """So many of the jobs at most, none of which has a smaller `priority` than one that is left out."""
    return set(jobs) if len(jobs) <= most else set(heapq.nlargest(most, jobs, key=lambda job: job.priority))


def said_of(strange: list[str]) -> str:
    """For whoever starts the workflow."""
    return (
        f"Snakemake {snakemake.__version__} keeps {', '.join(strange)} otherwise than the workflow knows: "
        "it plans by times and by its own memory, and tries final errors again. Results are the same; "
        "the versions of constraints.txt plan by the records of results."
    )
