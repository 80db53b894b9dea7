"""The claims of all papers against the studies, as one picture."""

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trigbench.workflow.claims.verdicts import DECIDED, OLD_WORDS, totals
from trigbench.workflow.report.drawing import WIDTH
from trigbench.workflow.report.style import OLD_VERDICT, QUIET, VERDICTS

NOTHING = "on no study here"
GAP = 1.5
"""Squares of space between two columns."""
LETTER = 0.078
"""Inches that a letter of a heading takes, at SIZE points."""
SIZE = 10
SIDE = 13 / 72
"""Inches of a square and the space beside it, where there is room."""
ROW = 0.22
"""Inches from a topic to the next."""
LABELS = 1.5
"""Inches for the topics' names."""


def draw_matrix(verdicts: pd.DataFrame) -> Figure:
    """A square for each claim and study that may decide it, topics from above; studies without a verdict come last, and
    of claims without a study their number. Studies stand side by side while their headings can be read, then below.

    `verdicts` holds the rows of claims.csv of one study or several. A square is filled where its
    verdict survives Holm's adjustment among the study's claims.
    """
    bands = _bands(_columns(verdicts))
    rows = [len(_topics(band)) + 3 for band in bands]  # and a heading's lines
    size = WIDTH, ROW * sum(rows) + 0.55
    figure, axes = plt.subplots(len(bands), 1, figsize=size, height_ratios=rows, layout="constrained", squeeze=False)
    for ax, band in zip(axes[:, 0], bands, strict=True):
        _draw_band(ax, band)
    labels = {word: f"{sign} {word}" for word, (_, sign) in VERDICTS.items()}
    labels |= {
        word: f"{OLD_VERDICT[1]} {word}, {meant}"
        for word, meant in OLD_WORDS.items()
        if (verdicts.verdict == word).any()
    }
    entries = [Line2D([], [], **_look(word, False), linestyle="", label=label) for word, label in labels.items()]
    solid = Line2D([], [], linestyle="", marker="s", markersize=10, color=QUIET, label="filled: also after Holm")
    figure.legend(handles=[*entries, solid], loc="outside lower center", ncols=4, handletextpad=0.3)
    return figure


def _draw_band(ax: Axes, columns: Mapping[str, pd.DataFrame]) -> None:
    """Some studies side by side, with the topics that they have."""
    topics, room, inches = _topics(columns), WIDTH - LABELS, _inches(columns)
    smaller = min(1.0, room / sum(inches.values()))
    widths = _widths(columns, {name: smaller * wide for name, wide in inches.items()}, room)
    across = room / _side(widths, room)
    left, line = 0.0, 0.17 * smaller / ROW
    for name, rows in columns.items():
        for height, topic in enumerate(topics):
            own = rows[rows.topic == topic]
            if name == NOTHING:
                ax.text(left, height, str(len(own) or ""), va="center_baseline", ha="center", color=QUIET, fontsize=9)
            else:
                _squares(ax, own, left, height, room / across / SIDE)
        for above, words in zip((2, 1, 0), _heading(name, rows), strict=True):
            ax.text(left - 0.4, -0.9 - above * line, words, va="baseline", fontsize=SIZE * smaller)
        left += widths[name] + GAP
    ax.set(xlim=(-0.7, across), ylim=(len(topics) - 0.45, -1.2 - 3 * line))
    ax.set_yticks(range(len(topics)), topics)
    ax.tick_params(axis="y", length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)


def _bands(columns: Mapping[str, pd.DataFrame]) -> list[dict[str, pd.DataFrame]]:
    """Columns, as many beside each other as there is room for their headings."""
    room, bands = WIDTH - LABELS, [dict[str, pd.DataFrame]()]
    for name, rows in columns.items():
        longer = bands[-1] | {name: rows}
        if bands[-1] and sum(_inches(longer).values()) > room:
            bands.append({name: rows})
        else:
            bands[-1] = longer
    return bands


def _inches(columns: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    return {name: LETTER * (2 + max(map(len, _heading(name, rows)))) for name, rows in columns.items()}


def _topics(columns: Mapping[str, pd.DataFrame]) -> list[str]:
    return sorted({topic for rows in columns.values() for topic in rows.topic})


def _widths(columns: Mapping[str, pd.DataFrame], inches: Mapping[str, float], room: float) -> dict[str, int]:
    """In squares, of as many as a topic's row has, or as its heading is long: the smaller squares are, the more."""
    found = {n: 1 if n == NOTHING else int(rows.groupby("topic").size().max()) for n, rows in columns.items()}
    for _ in range(20):
        square = _side(found, room)
        found = {name: max(width, math.ceil(inches[name] / square)) for name, width in found.items()}
    return found


def _side(widths: Mapping[str, int], room: float) -> float:
    """Inches of a square and the space beside it, where there are so many."""
    return min(SIDE, room / (sum(widths.values()) + GAP * (len(widths) - 1)))


def _columns(verdicts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    decided = verdicts[verdicts.experiment.notna()]
    columns = {f"on {study}": rows for study, rows in decided.groupby("study")}
    columns = dict(sorted(columns.items(), key=lambda column: not totals(column[1])["tested"]))
    rest = verdicts[~verdicts.claim.isin(decided.claim)].drop_duplicates("claim")
    return columns | ({NOTHING: rest} if len(rest) else {})


def _heading(name: str, rows: pd.DataFrame) -> tuple[str, str, str]:
    count = totals(rows)
    if not count["tested"]:
        return "", name, f"{len(rows)} claims"
    older = int(rows.verdict.isin(OLD_WORDS).sum())
    failed = f"{older} not" if older else f"{count['opposite']:.0f} opposite"
    exact = int((rows.verdict.isin(DECIDED) & rows.p.isna()).sum())
    tested = f"{count['tested']:.0f} claims tested" + (f", {exact} exact" if exact else "")
    return name, tested, f"{count['reproduced']:.0f} reproduced, {failed}"


def _squares(ax: Axes, rows: pd.DataFrame, left: float, height: int, size: float) -> None:
    order = [*VERDICTS, *OLD_WORDS]
    ranked = rows.assign(
        rank=rows.verdict.map(order.index), weak=rows.holm_verdict != rows.verdict
    ).sort_values(["rank", "weak"])  # fmt: skip
    for place, row in enumerate(ranked.itertuples()):
        solid = not row.weak and row.verdict in DECIDED
        look = _look(str(row.verdict), solid)
        ax.plot(left + place, height, **look | {"markersize": size * look["markersize"]})
        face, sign = VERDICTS.get(str(row.verdict), OLD_VERDICT)
        ax.plot(
            left + place,
            height,
            marker=f"${sign}$",
            markersize=5 * size,
            color="white" if solid else face,
            markeredgewidth=0.4,
        )


def _look(verdict: str, solid: bool) -> dict:
    face = VERDICTS.get(verdict, OLD_VERDICT)[0]
    shape = {"opposite": "o", "inconclusive": "D"}.get(verdict, "s")
    size = {"inconclusive": 8.0, "not tested": 9.0, "not run": 9.0}.get(verdict, 11.0)
    edge = "#bbbbbb" if verdict in ("not tested", "not run") else face
    return {
        "marker": shape, "markersize": size, "markeredgecolor": edge, "markeredgewidth": 1.2,
        "markerfacecolor": face if solid else "white",
    }  # fmt: skip
