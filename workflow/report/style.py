"""One look for every figure: a colour per method, readable to colour-blind people, on paper and screen."""

from functools import partial
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from trigbench.workflow.machine.files import write_atomically

# Okabe and Ito's palette first; a hue per family: distilled blue and green, trained on data orange to red, with
# a score model purple. Any two also differ in their marker, for the eyes to which some pairs come close.
COLOURS = {
    "scd": "#0072B2",
    "ms_scd": "#56B4E9",
    "dscd": "#009E73",
    "cd": "#8FBC5A",
    "sct": "#D55E00",
    "dsct": "#CC79A7",
    "ct": "#E69F00",
    "ict": "#5C2E0B",
    "ect": "#882255",
    "vsd": "#5B1A99",
    "scd_vsd": "#C44FD0",
    "diffusion": "#000000",
    "data": "#777777",
}
MARKERS = {
    "scd": "o",
    "ms_scd": "D",
    "dscd": "v",
    "cd": "^",
    "sct": "s",
    "dsct": "h",
    "ct": "<",
    "ict": ">",
    "ect": "P",
    "vsd": "*",
    "scd_vsd": "p",
    "diffusion": "d",
    "data": "",
}
NAMES = {
    "scd": "sCD (continuous)",
    "ms_scd": "multi-step sCD",
    "dscd": "dsCD (discrete)",
    "cd": "CD",
    "sct": "sCT (continuous)",
    "dsct": "discrete sCT",
    "ct": "CT",
    "ict": "iCT",
    "ect": "ECT",
    "vsd": "VSD",
    "scd_vsd": "sCD-VSD",
    "diffusion": "teacher",
    "data": "real against real",
}
PRECISIONS = {"fp32": ("-", "o"), "fp16": ("--", "s"), "bf16": (":", "^")}
"""Line style and marker."""


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


def colour(objective: str) -> str:
    """The objective's colour; grey for one that the table does not know."""
    return COLOURS.get(objective, "#999999")


def marker(objective: str) -> str:
    """The objective's marker in figures whose lines are methods."""
    return MARKERS.get(objective, "X")


def dashes(steps: float) -> str:
    """The line of a number of steps: solid for one, dashed for two; solid for a teacher's many."""
    return "--" if steps == 2 else "-"


def name(objective: str) -> str:
    """The objective's name in figures; somebody's own has its function's."""
    return NAMES.get(objective, objective.rsplit(":", maxsplit=1)[-1])


def save(figure: Figure, stem: Path) -> None:
    """Write stem.svg and stem.png, each whole or not at all."""
    for suffix, settings in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 160})):
        write_atomically(stem.with_suffix(suffix), partial(figure.savefig, bbox_inches="tight", **settings))
