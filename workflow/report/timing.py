"""Where the reports are and where the time went."""

import csv
import time
from pathlib import Path
from typing import Any

from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.machine.progress import duration
from trigbench.workflow.report.writing import index
from trigbench.workflow.study.places import FRONT, TIMING
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Study

PARTS = ("train", "sample", "evaluate")


def timing(study: Study) -> dict[str, Any]:
    """Seconds of the study's finished runs by part, and what share of their jobs was none of these."""
    found = [files for files in map(study.files, study.runs()) if files.metrics.is_file()]
    records = [read_record(files.metrics) for files in found]
    seconds = {part: sum(r.seconds.get(part, 0.0) for r in records) for part in PARTS}
    jobs = sum(_job_seconds(files.timed) for files in found)
    work = sum(seconds.values())
    return {
        "study": study.label,
        "runs": len(records),
        "diverged": sum(r.status == "diverged" for r in records),
        "job_seconds": round(jobs, 1),
        **{f"{part}_seconds": round(value, 1) for part, value in seconds.items()},
        "overhead_share": round(1 - work / jobs, 3) if jobs > 0 else None,
        "peak_memory_mb": max((r.peak_memory_mb for r in records), default=0.0),
    }


def _job_seconds(path: Path) -> float:
    if not path.is_file():
        return 0.0
    with path.open(encoding="utf-8") as handle:
        return sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))


def summarise(studies: list[Study], started: float | None, workflow_started: float | None) -> None:
    """Print the summary and leave it in results/timing.json."""
    rows = [timing(study) for study in studies]
    now = time.time()
    wall: dict[str, float] = {}
    if started and workflow_started:
        wall["installation"] = round(workflow_started - started)
    if workflow_started:
        wall["workflow"] = round(now - workflow_started)
    if started:
        wall["in all"] = round(now - started)
    of_runs = {f"{r['study']}, jobs of runs one after the other": r["job_seconds"] for r in rows}
    write_json(TIMING, {**wall, **of_runs})
    index()
    print("\nWhere the time went")
    for row in rows:
        share = "unknown" if row["overhead_share"] is None else f"{row['overhead_share']:.0%}"
        parts = ", ".join(f"{part} {duration(row[f'{part}_seconds'])}" for part in PARTS)
        counts = f"{row['runs']} runs ({row['diverged']} diverged)"
        print(f"  {row['study']}: {counts}, {duration(row['job_seconds'])} of jobs:")
        print(f"    {parts}; overhead (process start, imports, bookkeeping) {share}")
        print(f"    peak memory of one run {row['peak_memory_mb']:.0f} MB")
    for label, seconds in wall.items():
        print(f"  {label}: {duration(seconds)} on {cores_here()} cores")
    if "workflow" in wall:
        work = sum(r[f"{part}_seconds"] for r in rows for part in PARTS)
        share = 1 - work / (wall["workflow"] * cores_here())
        print(f"  of the workflow's core-seconds, {share:.0%} were not training, sampling or judging")
    print("\nReports")
    for path in (FRONT, *(study.report for study in studies)):
        print(f"  {path.resolve() if path.is_file() else f'{path} (not made)'}")
