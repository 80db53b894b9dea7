"""One look for every figure: a colour per method, readable to colour-blind people, on paper and screen."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from trigbench.workflow.machine.files import write_atomically


@dataclass(frozen=True)
class Look:
    """How an objective is shown in every figure."""

    colour: str
    marker: str
    """Where lines are methods."""
    name: str


# Okabe and Ito's palette first; a hue per family: distilled blue and green, trained on data orange to red, with
# a score model purple. Any two also differ in their marker, for the eyes to which some pairs come close.
LOOKS = {
    "scd": Look("#0072B2", "o", "sCD (continuous)"),
    "ms_scd": Look("#56B4E9", "D", "multi-step sCD"),
    "dscd": Look("#009E73", "v", "dsCD (discrete)"),
    "cd": Look("#8FBC5A", "^", "CD"),
    "sct": Look("#D55E00", "s", "sCT (continuous)"),
    "dsct": Look("#CC79A7", "h", "discrete sCT"),
    "ct": Look("#E69F00", "<", "CT"),
    "ict": Look("#5C2E0B", ">", "iCT"),
    "ect": Look("#882255", "P", "ECT"),
    "vsd": Look("#5B1A99", "*", "VSD"),
    "scd_vsd": Look("#C44FD0", "p", "sCD-VSD"),
    "diffusion": Look("#000000", "d", "teacher"),
    "data": Look("#777777", "", "real against real"),
}
"""Of the project's objectives, and of real data in their place."""
GUIDE, QUIET, FAINT = "#999999", "#555555", "#dddddd"
"""Greys: lines to read by, words and marks that speak of no one method, what separates."""
VERDICTS = {
    "reproduced": ("#00619a", "✓"),
    "not reproduced": ("#b04a00", "✕"),
    "inconclusive": ("#8a6d00", "?"),
    "not run": ("#777777", "–"),
}
"""Colour and sign of each verdict, from the surest good news to none; the pages' are in assets/colours.css."""
PRECISIONS = {"fp32": ("-", "o"), "fp16": ("--", "s"), "bf16": (":", "^")}
"""Line style and marker."""
STEP = "optimiser step"
ANGLE = "angle t  (0: data, π/2: noise)"
INTERVALS = "number of intervals N"
DIMENSION = "dimension"
AXES = {"step": STEP, "angle": ANGLE, "intervals": INTERVALS, "dimension": DIMENSION}
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
    """How an objective is shown: here and nowhere else. Somebody's own is grey and has its function's name."""
    return LOOKS.get(objective) or Look(GUIDE, "X", objective.rsplit(":", maxsplit=1)[-1])


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
