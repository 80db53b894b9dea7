"""One look for every figure: a colour per method, readable to colour-blind people, on paper and screen."""

from functools import partial
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from trigbench.core.objectives import OBJECTIVES, Look
from trigbench.workflow.machine.files import write_atomically
from trigbench.workflow.study.records import REAL

GUIDE, QUIET, FAINT = "#999999", "#555555", "#dddddd"
"""Greys: lines to read by, words and marks that speak of no one method, what separates."""
VERDICTS = {
    "reproduced": ("#00619a", "✓"),
    "too small to matter": ("#5b4a8a", "≈"),
    "opposite": ("#b04a00", "✕"),
    "inconclusive": ("#8a6d00", "?"),
    "not tested": ("#777777", "∅"),
    "not run": ("#777777", "–"),
}
"""Colour and sign of each verdict, from the surest good news to none; the pages' are in assets/colours.css."""
OLD_VERDICT = ("#777777", "!")
"""Of a word that verdicts had before (workflow.claims.verdicts.OLD_WORDS)."""
OF_REAL = Look("real against real", None, "#777777", "")
"""Of rows of the data themselves; a method's own is in the table of objectives."""
PRECISIONS = {"fp32": ("-", "o"), "fp16": ("--", "s"), "bf16": (":", "^")}
"""Line style and marker."""
LINES = ("-", "--", "-.", ":")
"""Line styles of arms that are of one method."""
STEP = "optimiser step"
ANGLE = "angle t  (0: data, π/2: noise)"
INTERVALS = "number of intervals N"
DIMENSION = "dimension"
SCALE = "scale of both adapters"
AXES = {
    "step": STEP, "angle": ANGLE, "intervals": INTERVALS, "dimension": DIMENSION, "steps": "steps", "scale": SCALE,
}  # fmt: skip
"""What the axis is called along which a curve goes (workflow.study.quantities.along)."""


def apply_style() -> None:
    """Set matplotlib up, headless and reproducible: text stays text, ids do not change from run to run."""
    mpl.rcdefaults()  # whatever a matplotlibrc of the user's says
    mpl.use("Agg")
    sns.set_theme(context="notebook", style="ticks", rc={"axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "trigbench",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.labelsize": 10.5,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "font.family": ["DejaVu Sans", "sans-serif"],
        }
    )


def look(objective: str) -> Look:
    """How a method, or `data`, is named and drawn: here and nowhere else. Grey where the table does not know it, as
    somebody's own, which has its function's name."""
    method = OBJECTIVES.get(objective)
    own = Look(objective.rsplit(":", maxsplit=1)[-1], None, GUIDE, "X")
    return OF_REAL if objective == REAL else (method and method.look) or own


def colour(objective: str) -> str:
    """The objective's colour."""
    return look(objective).colour


def marker(objective: str) -> str:
    """The objective's marker in figures whose lines are methods."""
    return look(objective).marker


def dashes(steps: float) -> str:
    """The line of a number of steps: solid for one, dashed for two; solid for a teacher's many."""
    return "--" if steps == 2 else "-"


def name(objective: str) -> str:
    """The objective's name in figures."""
    return look(objective).name


def save(figure: Figure, stem: Path) -> None:
    """Write stem.svg and stem.png, each whole or not at all."""
    for suffix, settings in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 160})):
        write_atomically(stem.with_suffix(suffix), partial(figure.savefig, bbox_inches="tight", **settings))
