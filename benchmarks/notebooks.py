"""The notebooks of docs/notebooks, run from the first cell to the last, as pages with what they print and draw.

  python benchmarks/notebooks.py     writes docs/notebooks/*.md, and their figures to results/published/benchmarks

They are Jupytext's percent format: plain Python, which editors know as cells, and Jupyter by Jupytext.
"""

import code
import contextlib
import hashlib
import io
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt

from trigbench.workflow.machine.files import write_text
from trigbench.workflow.machine.provenance import provenance

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))
FIGURES = "results/published/benchmarks"
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
STYLE = {"svg.hashsalt": "trigbench", "svg.fonttype": "none"}


class Interpreter(code.InteractiveInterpreter):
    """Of cells; an error ends them all."""

    def showtraceback(self) -> None:
        raise  # noqa: PLE0704 - called where one is handled


@dataclass(frozen=True)
class Cell:
    """One cell: Markdown, or code."""

    text: str
    code: bool


def cells_of(notebook: Path) -> list[Cell]:
    """Its cells; before the first stands what the file is."""
    _, *parts = CELL.split(notebook.read_text(encoding="utf-8"))
    return [
        Cell((re.sub(r"^# ?", "", body, flags=re.MULTILINE) if markdown else body).strip("\n"), not markdown)
        for markdown, body in zip(parts[::2], parts[1::2], strict=True)
    ]


def run(notebook: Path) -> list[tuple[str, list[Any]]]:
    """(what it prints, its figures) of every cell, one after the other in one namespace. Raises what a cell raises."""
    interpreter, found = Interpreter({"__name__": notebook.stem}), []
    for number, cell in enumerate(cells_of(notebook)):
        printed = io.StringIO()
        if cell.code:
            with contextlib.redirect_stdout(printed):
                interpreter.runcode(compile(cell.text, f"{notebook.name}, cell {number}", "exec"))
        found.append((printed.getvalue(), [plt.figure(which) for which in plt.get_fignums()]))
        plt.close("all")
    return found


def digest(notebook: Path) -> str:
    """Of its source; a page says of which one it is."""
    return hashlib.sha256(notebook.read_bytes()).hexdigest()[:16]


def page_of(notebook: Path, results: Sequence[tuple[str, Sequence[str]]], where: str) -> str:
    """Markdown of the cells, with (what it prints, names of its figures) below each."""
    parts = []
    for cell, (printed, figures) in zip(cells_of(notebook), results, strict=True):
        parts.append(f"```python\n{cell.text}\n```" if cell.code else cell.text)
        parts += [f"```text\n{printed.rstrip()}\n```"] * bool(printed)
        parts += [f"![What the cell above draws](../../{FIGURES}/{name})" for name in figures]
    of = f"This page is [{notebook.name}]({notebook.name}), a notebook of Jupytext's percent format"
    return "\n\n".join([*parts, f"*{of}, as it ran {where}.*", f"<!-- {digest(notebook)} -->"]) + "\n"


def publish(notebook: Path, origin: Mapping[str, Any]) -> None:
    """Run it, and write its page and figures."""
    started, results = time.process_time(), []
    with mpl.rc_context(STYLE):
        for number, (printed, figures) in enumerate(run(notebook)):
            names = [f"{notebook.stem}-{number}-{which}.svg" for which, _ in enumerate(figures)]
            for name, figure in zip(names, figures, strict=True):
                figure.savefig(ROOT / FIGURES / name, bbox_inches="tight", metadata={"Date": None})
            results.append((printed, names))
    seconds = time.process_time() - started
    changed = ", changed since" if origin["dirty"] else ""
    where = f"on one core ({origin['processor']}) in {seconds:.0f} seconds, at commit {origin['commit'][:7]}{changed}"
    write_text(notebook.with_suffix(".md"), page_of(notebook, results, where))
    print(f"{notebook.name}: {where}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    mpl.use("agg")
    found = provenance()  # of before anything is written
    for one in NOTEBOOKS:
        publish(one, found)
