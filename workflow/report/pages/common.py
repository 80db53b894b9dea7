"""What all pages share: tables, pictures, verdicts, how numbers are shown, and the filling of templates."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd

from trigbench.workflow.machine.files import read_json
from trigbench.workflow.report.style import OLD_VERDICT, VERDICTS, colour
from trigbench.workflow.report.words import capital
from trigbench.workflow.study.quantities import COSTS, CURVES, QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL

TEMPLATES = Path(__file__).parents[1] / "templates"
ASSETS = Path(__file__).parents[1] / "assets"
AGAIN = "delete it; the workflow makes it again"
DASH = "–"

SYMBOLS = {verdict: sign for verdict, (_, sign) in VERDICTS.items()}
"""A symbol never stands without its word or its colour alone."""


@dataclass(frozen=True)
class Cell:
    """One entry of a table; `sort` is what sorting compares (a number, or the text itself when None)."""

    text: str
    sort: float | None = None
    mark: Literal["", "yes", "no", "warning"] = ""
    dot: str | None = None
    """Colour of the method, as in the figures."""
    link: str | None = None

    @property
    def key(self) -> str | None:
        """`sort` as JavaScript reads it; empty for NaN, which sorts last."""
        if self.sort is None:
            return None
        return "" if math.isnan(self.sort) else str(self.sort).replace("inf", "Infinity")


@dataclass(frozen=True)
class Table:
    """Columns (name, is a number) and rows; the row's header stands in column `header`."""

    name: str
    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    header: int = 0


@dataclass(frozen=True)
class Picture:
    """An image beside the page, with links to its files."""

    svg: str | None
    png: str | None
    alt: str
    caption: str

    @property
    def source(self) -> str | None:
        return self.svg or self.png


@dataclass(frozen=True)
class Badge:
    """A verdict, which always names the study that it is of."""

    verdict: str
    study: str

    @property
    def symbol(self) -> str:
        return SYMBOLS.get(self.verdict, OLD_VERDICT[1])

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return self.verdict.replace(" ", "-")

    def __str__(self) -> str:
        return f"{self.verdict} on {self.study}"


# --- cells ----------------------------------------------------------------------------------------


def arm_cell(arm: str, objective: str) -> Cell:
    """An arm with the colour of its method."""
    return Cell("real data" if arm == REAL else arm, dot=colour(objective))


def mean_cell(value: float | None) -> Cell:
    """A mean; infinity is a diverged run."""
    number = math.nan if value is None or pd.isna(value) else float(value)
    return Cell(shown(number), number, mark="warning" if math.isinf(number) else "")


def number_cell(value: float, form: str) -> Cell:
    """A number in the given format."""
    return Cell(DASH, math.nan) if pd.isna(value) else Cell(format(value, form), float(value))


# --- numbers and words ----------------------------------------------------------------------------


def shown(value: float, digits: int = 3) -> str:
    """A number as people read it; whole ones in full.

    >>> shown(0.02088), shown(1234.6), shown(float("inf")), shown(float("nan")), shown(1.1e-8)
    ('0.0209', '1,235', 'diverged', '–', '1.10e-08')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "diverged"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.{digits}g}".removesuffix(".")


def sentences(text: str) -> list[str]:
    """The text cut after every full stop that a space follows.

    >>> sentences("Best at N = 8 (0.02 [0.01, 0.03]). Worse elsewhere.")
    ['Best at N = 8 (0.02 [0.01, 0.03]).', 'Worse elsewhere.']
    """
    return [part for part in re.split(r"(?<=\.)\s+", text.strip()) if part]


def duration(seconds: float) -> str:
    """Wall-clock time in the two largest units.

    >>> duration(4.24), duration(65), duration(7300)
    ('4.2 s', '1 min 5 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def label(metric: str, known: Quantities = QUANTITIES) -> str:
    """The metric's label, to begin a line with.

    >>> label("recall"), label("ct_minus_cd_loss")
    ('Recall', 'CT minus CD loss')
    """
    if metric in known:
        return capital(known[metric].title)
    own = CURVES[metric].label if metric in CURVES else ""
    return capital(own or " ".join(metric.split("_")))


def meaning(metric: str, known: Quantities = QUANTITIES) -> str:
    """What a metric is, and which way is better."""
    quantity = known.get(metric)
    if quantity is None:
        return CURVES[metric].meaning if metric in CURVES else COSTS.get(metric, "")
    return quantity.meaning if quantity.better == "neither" else f"{quantity.meaning}; {quantity.better} is better"


def short(commits: str | None) -> str:
    """Commits cut to what people compare.

    >>> short("0123456789abcdef fedcba9876543210"), short(None)
    ('0123456789ab, fedcba987654', 'unknown')
    """
    return ", ".join(commit[:12] for commit in (commits or "unknown").split())


# --- files ----------------------------------------------------------------------------------------


def content(path: Path, otherwise: Any = None) -> Any:
    """The JSON file's content; `otherwise`, or an empty mapping, where there is no file."""
    return read_json(path, AGAIN) if path.is_file() else {} if otherwise is None else otherwise


def picture(stem: str, alt: str, caption: str, there: Mapping[str, Path]) -> Picture | None:
    """The picture of that address without suffix, if any file of it is there."""
    svg, png = (f"{stem}.{suffix}" if f"{stem}.{suffix}" in there else None for suffix in ("svg", "png"))
    return Picture(svg, png, alt, caption) if svg or png else None


def render(template: str, *, root: str = "", **context: Any) -> str:
    """The filled template; `root` leads from the page to the reports folder. An unknown name in it is an error."""
    return _environment().get_template(template).render(root=root, **context)


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["symbols"] = SYMBOLS
    environment.globals["asdict"] = asdict
    return environment
