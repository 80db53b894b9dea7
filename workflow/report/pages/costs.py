"""What runs cost, by arm."""

import pandas as pd

from trigbench.workflow.claims.tables import COSTS, read_table
from trigbench.workflow.report.pages.common import Table, arm_cell, number_cell
from trigbench.workflow.study.study import Study


def cost_table(study: Study) -> pd.DataFrame | None:
    """One row per arm: means over seeds of seconds and memory, and the number of parameters."""
    path = study.made.runs
    runs = read_table(path) if path.is_file() else pd.DataFrame()
    if not len(runs):
        return None
    costs = runs[runs.metric.isin(COSTS)].drop_duplicates(["arm", "seed", "metric"])
    if not len(costs):
        return None
    means = costs.pivot_table(index=["arm", "objective"], columns="metric", values="value", sort=False)
    others = costs.groupby(["arm", "objective"], sort=False).agg(
        parameters=("parameters", "max"), seeds=("seed", "nunique")
    )
    order = {arm: rank for rank, arm in enumerate(study.arms)}
    table = means.reindex(columns=list(COSTS)).join(others).reset_index()
    return table.sort_values("arm", key=lambda arms: arms.map(order), kind="stable", ignore_index=True)


def costs_shown(costs: pd.DataFrame) -> Table:
    """The table to read."""
    names = ["Training, s", "Total, s", "Peak memory, MB", "Parameters", "Seeds"]
    rows = []
    for row in costs.itertuples():
        values = [(row.train_seconds, ".1f"), (row.total_seconds, ".1f"), (row.peak_memory_mb, ",.0f")]
        values += [(row.parameters, ",.0f"), (row.seeds, ".0f")]
        rows.append([arm_cell(str(row.arm), str(row.objective)), *(number_cell(v, form) for v, form in values)])
    caption = "Cost of each arm: means over seeds of wall-clock seconds and of the process's largest resident memory"
    return Table("costs", caption, [("Arm", False), *((name, True) for name in names)], rows)
