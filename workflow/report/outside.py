"""A model from outside to read in a terminal: its numbers, and the best of the study's own beside them."""

from collections.abc import Sequence

from trigbench.workflow.claims.outside import Own, means_of
from trigbench.workflow.claims.statistics import Interval
from trigbench.workflow.report.words import capital
from trigbench.workflow.study.outside import OutsideRecord
from trigbench.workflow.study.study import Study

NONE = "-"


def printed(study: Study, record: OutsideRecord, own: Own) -> str:
    """What it is, a line for each metric and number of steps, and what must be said beside."""
    who = f" by {record.by}" if record.by else ""
    lines = [f"{record.name}{who}, from outside, on {record.data} of {study.label}", ""]
    columns = ("steps", "metric", "better", record.name, "best of the study's own", "real data")
    rows = []
    for mean in means_of(record):
        quantity = own.known.get(mean.metric)
        best, real = own.best(record.data, mean.metric, mean.steps), own.real(record.data, mean.metric)
        beside = NONE if best is None else f"{Interval(best.mean, best.low, best.high, 2)} ({best.arm})"
        rows.append(
            (
                NONE if mean.steps is None else str(mean.steps),
                capital(quantity.title) if quantity else mean.metric,
                quantity.better if quantity and quantity.better != "neither" else NONE,
                str(mean.interval),
                beside,
                NONE if real is None else f"{real:.3g}",
            )
        )
    lines += [*_aligned([columns, *rows]), ""]
    lines += [f"{remark}." for remark in said_beside(study, record)]
    if not len(own.table):
        lines.append(f"Nothing of the study's own stands here to compare with; it is made by: {study.command()}")
    return "\n".join(lines)


def said_beside(study: Study, record: OutsideRecord) -> list[str]:
    """Of what the intervals are, and what the numbers cannot be read without."""
    count = f"{study.evaluation.samples} samples"
    if not record.seeds:
        found = [f"{count}, one lot that was drawn elsewhere: no interval"]
    elif len(record.seeds) == 1:
        found = [f"{count} of one sampling seed ({record.seeds[0]}): no interval"]
    else:
        seeds = ", ".join(map(str, record.seeds))
        own = "trainings and their noise" if study.evaluation.noise else "trainings"
        found = [
            f"{count} of each of the sampling seeds {seeds}: mean and 95% t interval over these, of one model. "
            f"The study's own intervals are over {own}, of which this one is one"
        ]
    return [*found, *record.remarks]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns, as wide as they must be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
