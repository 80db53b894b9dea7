"""Say what differs between two sets of results: verdicts, means, and what they were made with; write a page of it.

  trigbench compare results/published/oracle results/oracle-full
  trigbench compare oracle:smoke oracle:full               one study under two budgets
  trigbench compare HEAD~5 HEAD                            what was published at two commits
  trigbench compare HEAD~5:results/published/digits results/digits-full --out digits.html

Means are held against each other by Welch's t over seeds, adjusted for their number; the page says which differ, and
what stands in one set alone. That they differ is no error: the exit status is 0.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trigbench._extras import need

if TYPE_CHECKING:
    import rich.table

    from trigbench.workflow.report.pages.common import Table
    from trigbench.workflow.report.pages.compare import ComparePage

SHOWN = 12
"""Rows of each table on a terminal; the page has all."""
VERDICTS = ("Claim", "Study", "Was", "Is", "Effect was", "Effect is")
MEANS = ("Arm", "Metric", "Sampled", "Study", "Was", "Is", "Relative", "adjusted")
"""Columns for which a terminal has room."""
STYLES = {"yes": "green", "no": "yellow", "warning": "red"}
"""Of marks; what is said needs no colour."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench compare`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser(
        "compare", help="what differs between two sets of results", description=__doc__, formatter_class=raw
    )
    made.add_argument("first", metavar="A", help="a folder, STUDY:BUDGET, COMMIT:FOLDER, or COMMIT")
    made.add_argument("second", metavar="B", help="another")
    made.add_argument("--out", type=Path, metavar="FILE", help="the page (default: reports/compare/A-B.html)")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Compare, print the short of it and write the page. Raises BenchError for what is not there."""
    need("workflow", "trigbench compare")
    from trigbench.workflow.claims.compare import compare  # noqa: PLC0415 - of the extra
    from trigbench.workflow.claims.result_sets import read_set  # noqa: PLC0415
    from trigbench.workflow.machine.files import write_text  # noqa: PLC0415
    from trigbench.workflow.report.pages.compare import address_of, compare_html, compare_page  # noqa: PLC0415

    page = compare_page(compare(read_set(arguments.first), read_set(arguments.second)))
    out = arguments.out or address_of(arguments.first, arguments.second)
    write_text(out, compare_html(page))
    _print(page)
    print(out)


def _print(page: "ComparePage") -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(f"{page.places[0]} -> {page.places[1]}", style="bold", markup=False, soft_wrap=True)
    for sentence in page.summary:
        console.print(f"  {sentence}", markup=False, soft_wrap=True)
    for table, columns in ((page.verdicts, VERDICTS), (page.means, MEANS)):
        if table is not None:
            console.print()
            console.print(_table(table, columns))
            if len(table.rows) > SHOWN:
                console.print(f"  and {len(table.rows) - SHOWN} more on the page", style="dim")
    if page.tested:
        console.print(f"  {page.method}", style="dim", markup=False)
    if page.changes:
        counts = ", ".join(f"{topic} ({len(table.rows)})" for topic, table in page.changes)
        console.print(f"  Made with other {counts}.", markup=False)


def _table(content: "Table", columns: tuple[str, ...]) -> "rich.table.Table":
    """Of a page's table these columns, and its first rows."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(title=content.caption, title_justify="left", title_style="bold", box=None, pad_edge=True)
    kept = [number for number, (name, _) in enumerate(content.columns) if name in columns]
    for number in kept:
        name, is_number = content.columns[number]
        made.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in content.rows[:SHOWN]:
        made.add_row(*(Text(row[number].text, style=STYLES.get(row[number].mark, "")) for number in kept))
    return made
