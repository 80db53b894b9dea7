"""Watch runs as they train: step, loss, norm, time left, images per second, and how many are made, failed, to come.

  trigbench watch                            every study that stands in results/
  trigbench watch oracle --budget smoke      one of them
  trigbench watch --once                     say it once, as where the output is no terminal
  trigbench watch --tensorboard board        write scalars and samples for TensorBoard, too

Start it where the workflow was started, on any machine that sees the folder. It reads files alone: Ctrl-C ends the
watching and nothing else. It ends by itself when every run is made.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trigbench._extras import need

if TYPE_CHECKING:
    import rich.console
    import rich.table
    from rich.text import Text

    from trigbench.workflow.report.tensorboard import Board
    from trigbench.workflow.report.watching import RunView, State, StudyView, Watcher

EVERY = 2.0
"""Seconds between looks; as often as a run says anything."""
WIDTH = 60
"""Of the bar, in letters."""
MOST = 8
"""Runs of a kind that are named; of more, their number is said."""
STYLES = {
    "at work": "cyan", "starting": "cyan", "silent": "yellow", "killed": "red", "failed": "red", "stopped": "yellow",
    "diverged": "yellow",
}  # fmt: skip


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench watch`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("watch", help="see runs as they train", description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", nargs="?", help="a study's name, or a YAML file (default: all there)")
    made.add_argument("--budget", help="a budget of that study (default: laptop)")
    made.add_argument("--once", action="store_true", help="say where things stand, and end")
    made.add_argument("--tensorboard", type=Path, metavar="DIR", help="write what TensorBoard shows to DIR, too")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Show it until every run is made, or Ctrl-C. Raises BenchError where there is no such study, or none at all."""
    need("workflow", "trigbench watch")
    if arguments.tensorboard is not None:
        need("tensorboard", "--tensorboard")
    from rich.console import Console  # noqa: PLC0415 - of the extra
    from rich.live import Live  # noqa: PLC0415

    watchers = _watchers(arguments.study, arguments.budget)
    console = Console(highlight=False)
    board = _board(arguments.tensorboard)
    try:
        views = _look(watchers, board)
        if arguments.once or not console.is_terminal:
            console.print(_shown(views))
            return
        with Live(_shown(views), console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
            while not all(view.is_over for view in views):
                time.sleep(EVERY)
                watchers = _with_new(watchers, arguments.study)
                views = _look(watchers, board)
                live.update(_shown(views), refresh=True)
    except KeyboardInterrupt:
        pass  # what was shown last stays on the screen
    finally:
        if board is not None:
            board.close()


def _watchers(name: str | None, budget: str | None) -> list["Watcher"]:
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.report.watching import Watcher  # noqa: PLC0415
    from trigbench.workflow.study.places import RESULTS  # noqa: PLC0415
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.standing import standing  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    if name is not None:
        return [Watcher(load(name, budget or DEFAULT_BUDGET))]
    if budget is not None:
        raise BenchError("a budget of which study?", key="--budget", remedy="name the study: trigbench watch STUDY")
    studies, problems = standing()
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not studies:
        remedy = "start one here (trigbench run oracle --budget smoke), or go to the folder where results/ is"
        raise BenchError("no study stands here", file=RESULTS, remedy=remedy)
    return [Watcher(study) for study in studies]


def _with_new(watchers: list["Watcher"], name: str | None) -> list["Watcher"]:
    """Those, and of studies that were begun since."""
    from trigbench.workflow.report.watching import Watcher  # noqa: PLC0415
    from trigbench.workflow.study.places import begun  # noqa: PLC0415
    from trigbench.workflow.study.standing import standing  # noqa: PLC0415

    known = {watcher.study.label for watcher in watchers}
    if name is not None or not set(begun()) - known:
        return watchers
    return watchers + [Watcher(study) for study in standing()[0] if study.label not in known]


def _look(watchers: Sequence["Watcher"], board: "Board | None") -> list["StudyView"]:
    views = [watcher.look(time.time()) for watcher in watchers]
    if board is not None:
        for watcher, view in zip(watchers, views, strict=True):
            board.update(watcher.study, view)
    return views


def _board(folder: Path | None) -> "Board | None":
    if folder is None:
        return None
    from trigbench.workflow.report.tensorboard import Board, open_writer  # noqa: PLC0415
    from trigbench.workflow.run.snapshots import snapshot_samples  # noqa: PLC0415

    return Board(folder, open_writer, snapshot_samples)


# --- what is shown --------------------------------------------------------------------------------


def _shown(views: Sequence["StudyView"]) -> "rich.console.Group":
    """All studies; those that are at work first."""
    from rich.console import Group  # noqa: PLC0415

    from trigbench.workflow.report.watching import AT_WORK  # noqa: PLC0415

    ordered = sorted(views, key=lambda view: not view.of(*AT_WORK))
    return Group(*(part for view in ordered for part in _study(view)))


def _study(view: "StudyView") -> list["rich.console.RenderableType"]:
    from rich.text import Text  # noqa: PLC0415

    from trigbench.workflow.report.watching import AT_WORK  # noqa: PLC0415

    done = len(view.of("done", "diverged"))
    counts = [AT_WORK, ("failed",), ("killed",), ("stopped",), ("to come",)]
    head = Text.assemble((view.label, "bold"), f"  {done} of {len(view.runs)} runs done")
    if lost := len(view.of("diverged")):
        head.append(f", {lost} of them diverged", style=STYLES["diverged"])
    for states in counts:
        if number := len(view.of(*states)):
            head.append(f" · {number} {states[0]}", style=STYLES.get(states[0], ""))
    parts: list[rich.console.RenderableType] = [head, _bar(done / max(len(view.runs), 1))]
    if working := view.of(*AT_WORK):
        parts.append(_at_work(working))
        parts += [_warning(view) for view in working if view.live is not None and view.live.warning]
    for state in ("failed", "killed", "stopped", "diverged"):
        parts += _named(view.of(state), state)
    return [*parts, Text("")]


def _bar(share: float) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    full = int(share * WIDTH)
    return Text.assemble(("━" * full, "cyan"), ("─" * (WIDTH - full), "dim"))


def _at_work(views: Sequence["RunView"]) -> "rich.table.Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True, header_style="dim")
    for head in ("run", "phase"):
        made.add_column(head, overflow="fold", min_width=8)
    for head in ("step", "loss", "norm", "images/s", "left"):
        made.add_column(head, justify="right", no_wrap=True)
    for view in views:
        made.add_row(Text(view.name), Text(_phase(view), style=STYLES.get(view.state, "")), *_numbers(view))
    return made


def _warning(view: "RunView") -> "Text":
    from rich.text import Text  # noqa: PLC0415

    assert view.live is not None
    return Text.assemble(("warning: ", "yellow"), f"{view.name}: {view.live.warning}")


def _phase(view: "RunView") -> str:
    from trigbench.workflow.machine.progress import duration  # noqa: PLC0415

    if view.live is None:
        return view.state
    quiet = duration(max(time.time() - view.live.said, 0))
    return f"{view.live.phase}, {view.note} for {quiet}" if view.state == "silent" else view.live.phase


def _numbers(view: "RunView") -> list[str]:
    from trigbench.workflow.machine.progress import duration  # noqa: PLC0415

    said = view.live
    if said is None:
        return ["", "", "", "", ""]
    step = "" if said.done is None else f"{said.done:,} of {said.total:,}"
    measured = ["" if number is None else f"{number:.3g}" for number in (said.loss, said.direction_norm)]
    rate = "" if said.images_per_second is None else f"{said.images_per_second:,.0f}"
    left = "" if said.seconds_left is None else duration(said.seconds_left)
    return [step, *measured, rate, left]


def _why(view: "RunView") -> str:
    from trigbench.workflow.machine.progress import duration  # noqa: PLC0415

    if view.live is None:
        return view.note
    step = "" if view.live.done is None else f" at {view.live.done:,} of {view.live.total:,}"
    return f"{view.note}, last heard of {duration(max(time.time() - view.live.said, 0))} ago in {view.live.phase}{step}"


def _named(views: Sequence["RunView"], state: "State") -> list["rich.console.RenderableType"]:
    from rich.text import Text  # noqa: PLC0415

    lines = []
    for view in views[:MOST]:
        line = Text.assemble((f"{state}: ", STYLES[state]), view.name, f": {note}" if (note := _why(view)) else "")
        lines.append(line.append(f"\n  {view.log}", style="dim") if view.log else line)
    more = len(views) - MOST
    return [*lines, *([Text(f"{state}: {more} more", style=STYLES[state])] if more > 0 else [])]
