"""How commands print: a table that fits a terminal, or plain columns of which nothing is cut where there is none."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A line each under the names of the columns."""
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich(columns, rows)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    import rich.table  # noqa: PLC0415 - of the extra
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = rich.table.Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", style=None if number else "cyan", ratio=None)
    for row in rows:
        made.add_row(*map(Text, row))  # as it stands: a bracket is no markup
    Console().print(made)


def lines(labelled: Iterable[tuple[str, str]]) -> None:
    """Label and text, the texts under each other; wrapped on a terminal alone."""
    labelled = list(labelled)
    width = max((len(label) for label, _ in labelled), default=0) + 2
    room = max(shutil.get_terminal_size().columns - width, 30) if sys.stdout.isatty() else None
    for label, text in labelled:
        words = " ".join(text.split())
        first, *more = textwrap.wrap(words, room, break_on_hyphens=False) or [""] if room else [words]
        print(f"{label.ljust(width)}{first}".rstrip())
        for line in more:
            print(" " * width + line)
