"""The claims of all papers against the studies, as one picture."""

import math

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trigbench.workflow.claims.verdicts import DECIDED, OLD_WORDS, totals
from trigbench.workflow.report.drawing import WIDTH
from trigbench.workflow.report.style import OLD_VERDICT, QUIET, VERDICTS

NOWHERE = "no study here"
GAP = 1.5
"""Squares of space between two columns."""
LETTER = 0.4
"""Squares of space that a letter of a heading takes."""
LABELS = 1.5
"""Inches for the topics' names."""


def draw_matrix(verdicts: pd.DataFrame) -> Figure:
    """A square for each claim and study that may decide it, topics from above; studies without a verdict come last.

    `verdicts` holds the rows of claims.csv of one study or several. A square is filled where its
    verdict survives Holm's adjustment among the study's claims.
    """
    columns = _columns(verdicts)
    topics = sorted(verdicts.topic.unique())
    widths = {
        name: max(int(rows.groupby("topic").size().max()), math.ceil(LETTER * max(map(len, _heading(name, rows)))))
        for name, rows in columns.items()
    }
    across = sum(widths.values()) + GAP * (len(widths) - 1)
    square = (WIDTH - LABELS) / across
    figure, ax = plt.subplots(figsize=(WIDTH, square * (len(topics) + 3.5) + 0.4), layout="constrained")
    left = 0.0
    for name, rows in columns.items():
        for height, topic in enumerate(topics):
            _squares(ax, rows[rows.topic == topic], left, height)
        for above, words in zip((-2.8, -1.9, -1.0), _heading(name, rows), strict=True):
            ax.text(left - 0.4, above, words, va="baseline", fontsize=10)
        left += widths[name] + GAP
    ax.set(xlim=(-0.7, across), ylim=(len(topics) - 0.45, -3.7), aspect="equal")
    ax.set_yticks(range(len(topics)), topics)
    ax.tick_params(axis="y", length=0)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
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


def _columns(verdicts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    decided = verdicts[verdicts.experiment.notna()]
    columns = {f"on {study}": rows for study, rows in decided.groupby("study")}
    columns = dict(sorted(columns.items(), key=lambda column: not totals(column[1])["tested"]))
    rest = verdicts[~verdicts.claim.isin(decided.claim)].drop_duplicates("claim")
    return columns | ({f"on {NOWHERE}": rest} if len(rest) else {})


def _heading(name: str, rows: pd.DataFrame) -> tuple[str, str, str]:
    count = totals(rows)
    if not count["tested"]:
        return "", name, f"{len(rows)} claims"
    older = int(rows.verdict.isin(OLD_WORDS).sum())
    failed = f"{older} not" if older else f"{count['opposite']:.0f} opposite"
    return name, f"{count['tested']:.0f} claims tested", f"{count['reproduced']:.0f} reproduced, {failed}"


def _squares(ax: Axes, rows: pd.DataFrame, left: float, height: int) -> None:
    order = [*VERDICTS, *OLD_WORDS]
    ranked = rows.assign(
        rank=rows.verdict.map(order.index), weak=rows.holm_verdict != rows.verdict
    ).sort_values(["rank", "weak"])  # fmt: skip
    for place, row in enumerate(ranked.itertuples()):
        solid = not row.weak and row.verdict in DECIDED
        ax.plot(left + place, height, **_look(str(row.verdict), solid))
        face, sign = VERDICTS.get(str(row.verdict), OLD_VERDICT)
        ax.plot(
            left + place,
            height,
            marker=f"${sign}$",
            markersize=5,
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
