"""One look for every figure: a colour per method, readable to colour-blind people, on paper and screen."""

from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's palette; one colour per objective, everywhere
COLOURS = {
    "scd": "#0072B2",
    "sct": "#D55E00",
    "dscd": "#009E73",
    "dsct": "#CC79A7",
    "diffusion": "#000000",
    "data": "#777777",
}
NAMES = {
    "scd": "sCD (continuous)",
    "sct": "sCT (continuous)",
    "dscd": "dsCD (discrete)",
    "dsct": "discrete sCT",
    "diffusion": "teacher",
    "data": "real against real",
}
PRECISIONS = {"fp32": ("-", "o"), "fp16": ("--", "s"), "bf16": (":", "^")}
"""Line style and marker."""


def apply_style() -> None:
    """Set matplotlib up, headless and reproducible: text stays text, ids do not change from run to run."""
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


def name(objective: str) -> str:
    """The objective's name in figures."""
    return NAMES.get(objective, objective)


def save(figure: Figure, stem: Path) -> None:
    """Write stem.svg and stem.png."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})
    figure.savefig(stem.with_suffix(".png"), bbox_inches="tight", dpi=160)
