"""What limits a study's verdicts: how long its methods were trained, and how near the best come to real data."""

from collections.abc import Iterable
from typing import Any

from trigbench.workflow.claims.statistics import COLUMNS, SAMPLING, summary
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.report.pages.common import content
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.records import REAL
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study


def lengths_of(study: Study) -> list[dict[str, Any]]:
    """By method: how many arms there are, and the least and the most of their steps and of the samples they saw."""
    found: dict[str, list[Arm]] = {}
    for name in dict.fromkeys(run.arm for run in study.runs()):
        if not study.arms[name].tuning:
            found.setdefault(study.arms[name].objective, []).append(study.arms[name])
    return [
        {"objective": objective, "arms": len(arms), "steps": _ends(arm.iterations for arm in arms),
         "images": _ends(arm.iterations * arm.batch for arm in arms)}
        for objective, arms in found.items()
    ]  # fmt: skip


def _ends(numbers: Iterable[int]) -> list[int]:
    all_of_them = list(numbers)
    return [min(all_of_them), max(all_of_them)]


def redrawn_of(study: Study) -> list[dict[str, Any]]:
    """How many of its verdicts would be false if chance had decided which way each seed points."""
    path = study.made.redrawn
    return read_table(path).to_dict("records") if path.is_file() else []


def floors_of(study: Study) -> list[dict[str, Any]]:
    """By data set and metric that real data have a number in: that number, and the best mean of any arm."""
    path = study.made.runs
    if not path.is_file():
        return []
    known, runs = quantities_of(study.data.values()), read_table(path).reindex(columns=COLUMNS)
    floors = {data: content(study.made.facts(data)).get("floors", []) for data in study.data}
    wanted = {floor["metric"] for own in floors.values() for floor in own}
    once = runs[runs.metric.isin(wanted)].drop_duplicates(["data", "arm", "seed", "metric", *SAMPLING])
    means, found = summary(once, known), []
    for data, own in floors.items():
        for floor in own:
            rows = means[(means.data == data) & (means.metric == floor["metric"]) & (means.arm != REAL)]
            rows = rows[rows["mean"].abs() < float("inf")]
            quantity = known.get(floor["metric"])
            if quantity is None or quantity.better == "neither" or not len(rows):
                continue
            best = rows.loc[rows["mean"].idxmin() if quantity.better == "lower" else rows["mean"].idxmax()]
            about = {"data": data, "metric": quantity.title, "better": quantity.better, "real": floor["value"]}
            found.append({**about, "best": float(best["mean"]), "arm": str(best.arm), "seeds": int(best.seeds)})
    return found
