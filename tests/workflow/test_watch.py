"""`trigbench watch`: what is said of runs that train, fail, are killed, are made and are to come."""

import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.workflow.made_up import DIVERGED, STUDY, make_results
from trigbench import _extras, cli
from trigbench.commands import watch
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.live import SILENT, Live, _born
from trigbench.workflow.report import tensorboard
from trigbench.workflow.report.pictures import Drawn
from trigbench.workflow.report.tensorboard import Board, open_writer
from trigbench.workflow.report.watching import STARTS, StudyView, Watcher, last_error
from trigbench.workflow.run.log import LOG_COLUMNS, GrowingLog, log_text
from trigbench.workflow.run.settings import snapshot_steps
from trigbench.workflow.run.snapshots import snapshot_samples
from trigbench.workflow.run.training import train
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

CONTINUOUS = [Run(arm="continuous", seed=seed) for seed in range(3)]
DISCRETE = [Run(arm="discrete-8", seed=seed) for seed in range(3)]
EMPTY = [None] * len(LOG_COLUMNS[7:])
"""Of a run that clips nothing and is too short to be looked at."""
ROWS = [[5, 0.5, 2.0, 3.0, 4.0, 5.0, 1e-3, *EMPTY], [10, 0.25, 2.0, 3.0, 4.0, 5.0, 5e-4, *EMPTY]]


def made(study: Study, runs: list[Run], diverged: tuple[Run, ...] = ()) -> None:
    """Results of these runs, in a folder that says whose it is."""
    make_results(study, runs, diverged)
    said = {"made_by": {"study": "tiny.yaml", "budget": "laptop"}, "facts": {}, "floors": []}
    study.made.facts("blobs").write_text(json.dumps(said))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Of six runs, none made, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)
    found = load("tiny.yaml")
    made(found, [])
    return found


def says(study: Study, run: Run, **changed: object) -> Live:
    """What a process says that works on the run; this one's, unless told otherwise."""
    now, pid = time.time(), os.getpid()
    live = Live("training", now, now, socket.gethostname(), pid, _born(pid), 1500, 20000, 65.0, 0.04321, 1.25, 12345.6)
    live = dataclasses.replace(live, **changed)  # type: ignore[arg-type]
    file = study.files(run).live
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dataclasses.asdict(live)))
    return live


def printed_by(study: Study, run: Run, text: str, ago: float = 0.0) -> Path:
    log = study.files(run).printed
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    then = time.time() - ago
    os.utime(log, (then, then))
    return log


def look(study: Study) -> dict[str, tuple[str, str]]:
    view = Watcher(study).look(time.time())
    return {seen.name: (seen.state, seen.note) for seen in view.runs}


# --- states -----------------------------------------------------------------------------------------


def test_runs_are_told_apart_by_what_they_left(study: Study) -> None:
    made(study, [CONTINUOUS[0], DIVERGED], (DIVERGED,))
    says(study, CONTINUOUS[1])
    printed_by(study, CONTINUOUS[2], "tiny: 1/10\nerror: out of memory\n  key:    x\n  remedy: less\n", ago=900)
    printed_by(study, DISCRETE[0], "error: SIGTERM: stopped at step 7 of 10 with a checkpoint\n", ago=900)
    assert look(study) == {
        "continuous seed 0": ("done", ""),
        "continuous seed 1": ("at work", ""),
        "continuous seed 2": ("failed", "out of memory"),
        "discrete-8 seed 0": ("stopped", "SIGTERM: stopped at step 7 of 10 with a checkpoint"),
        "discrete-8 seed 1": ("to come", ""),
        "discrete-8 seed 2": ("diverged", "loss is nan"),
    }


def test_a_killed_run_and_a_silent_one_are_never_at_work(study: Study) -> None:
    says(study, CONTINUOUS[0], born=1)
    says(study, CONTINUOUS[1], said=time.time() - SILENT - 1)
    says(study, CONTINUOUS[2], said=time.time() - SILENT - 1, host="elsewhere")
    states = look(study)
    assert states["continuous seed 0"] == ("killed", f"process {os.getpid()} is gone")
    assert states["continuous seed 1"] == states["continuous seed 2"] == ("silent", "no sign of life")


def test_a_run_that_was_killed_with_its_record_written_is_done(study: Study) -> None:
    made(study, [CONTINUOUS[0]])
    says(study, CONTINUOUS[0], born=1)
    assert look(study)["continuous seed 0"][0] == "done"


def test_a_job_that_has_just_begun_is_starting_and_one_that_left_no_word_is_to_come(study: Study) -> None:
    printed_by(study, CONTINUOUS[0], "")
    printed_by(study, CONTINUOUS[1], "", ago=STARTS + 1)
    made(study, [CONTINUOUS[2]])
    printed_by(study, CONTINUOUS[2], "continuous seed 2: finished\n", ago=1)
    states = look(study)
    assert [states[f"continuous seed {n}"][0] for n in range(3)] == ["starting", "to come", "done"]


def test_a_result_of_other_settings_is_to_come_again_and_what_is_made_meanwhile_is_seen(study: Study) -> None:
    watcher = Watcher(study)
    made(study, CONTINUOUS[:2])
    path = study.files(CONTINUOUS[0]).metrics
    path.write_text(path.read_text().replace(json.loads(path.read_text())["fingerprint"], "0" * 16))
    assert [seen.state for seen in watcher.look(time.time()).runs][:3] == ["to come", "done", "to come"]
    made(study, study.runs())
    view = watcher.look(time.time())
    assert view.is_over and len(view.of("done")) == 6
    path.unlink()
    assert not watcher.look(time.time()).is_over


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", None),
        ("all well\n", None),
        ("error: first\n  remedy: x\nerror: last\n  remedy: y\n", "last"),
        ("Traceback (most recent call last):\n  File\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("torch.OutOfMemoryError: CUDA out of memory\n", "torch.OutOfMemoryError: CUDA out of memory"),
        ("slurmstepd: error: Detected 1 oom_kill event\n", "Detected 1 oom_kill event"),
        ("the error: was small\nStopIterationError\n"[:21], None),
    ],
)
def test_the_last_error_of_a_log(text: str, said: str | None, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    assert last_error(tmp_path / "log") == said
    assert last_error(tmp_path / "none") is None


# --- the command ------------------------------------------------------------------------------------


def test_a_table_says_where_all_stands(study: Study, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    made(study, [CONTINUOUS[0], DIVERGED], (DIVERGED,))
    says(study, CONTINUOUS[1], warning="the student has collapsed")
    log = printed_by(study, CONTINUOUS[2], "error: out of memory\n  remedy: less\n", ago=900)
    says(study, DISCRETE[0], born=1, said=time.time() - 125)
    cli.main(["watch", "--once"])
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert lines[0] == "tiny 2 of 6 runs done, 1 of them diverged · 1 at work · 1 failed · 1 killed · 1 to come"
    assert "continuous seed 1 training 1,500 of 20,000 0.0432 1.25 12,346 1 min 05 s" in lines
    gone = f"process {os.getpid()} is gone, last heard of 2 min 05 s ago in training at 1,500 of 20,000"
    assert "warning: continuous seed 1: the student has collapsed" in lines
    assert f"killed: discrete-8 seed 0: {gone}" in lines
    assert "failed: continuous seed 2: out of memory" in lines and str(log) in lines
    assert "diverged: discrete-8 seed 2: loss is nan" in lines


def test_one_study_is_named_with_its_budget_and_may_have_nothing_yet(study: Study, capsys) -> None:
    cli.main(["watch", "tiny.yaml", "--budget", "short", "--once"])
    assert "tiny-short  0 of 4 runs done · 4 to come" in capsys.readouterr().out


def test_of_many_failures_some_are_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST", 2)
    for run in study.runs():
        printed_by(study, run, "error: x\n", ago=900)
    console = Console(record=True, width=100)
    console.print(watch._shown([Watcher(study).look(time.time())]))
    said = console.export_text()
    assert said.count("failed: continuous") == 2 and "failed: 4 more" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nothing"], "there is no study nothing"), (["--budget", "smoke"], "a budget of which study"), ([], "no study")],
)
def test_what_cannot_be_watched_is_refused(words: list[str], said: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=said):
        cli.main(["watch", *words])


def test_a_folder_whose_study_is_gone_hides_no_other(study: Study, capsys) -> None:
    (Path("results") / "lost" / "data").mkdir(parents=True)
    cli.main(["watch", "--once"])
    done = capsys.readouterr()
    assert "tiny  0 of 6" in done.out and "left out: nothing says which study makes this" in done.err


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a terminal has it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")


def test_it_looks_again_until_every_run_is_made(study: Study, terminal: None, monkeypatch, capsys) -> None:
    left = iter([CONTINUOUS, DISCRETE])
    monkeypatch.setattr(watch.time, "sleep", lambda _: made(study, next(left)))
    cli.main(["watch", "tiny.yaml"])
    printed = capsys.readouterr().out
    assert "3 of 6 runs done" in printed and "6 of 6 runs done" in printed
    with pytest.raises(StopIteration):
        next(left)


def test_studies_begun_meanwhile_are_seen_and_ctrl_c_ends_it(study: Study, terminal: None, monkeypatch, capsys) -> None:
    def sleep(_: float) -> None:
        if (Path("results") / "oracle-smoke").exists():
            raise KeyboardInterrupt
        (Path("results") / "oracle-smoke" / "data").mkdir(parents=True)

    monkeypatch.setattr(watch.time, "sleep", sleep)
    cli.main(["watch"])
    assert "oracle-smoke" in capsys.readouterr().out


# --- TensorBoard --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Recorded:
    """A writer that keeps what it is given."""

    place: Path
    scalars: list[tuple[str, float, int]] = dataclasses.field(default_factory=list)
    figures: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    closed: bool = False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.scalars.append((tag, scalar_value, global_step))

    def add_figure(self, tag: str, figure: object, global_step: int) -> None:
        self.figures.append((tag, global_step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def written() -> list[Recorded]:
    return []


@pytest.fixture
def board(written: list[Recorded], tmp_path: Path) -> Board:
    return Board(tmp_path / "board", lambda place: written.append(Recorded(place)) or written[-1])


def looked(study: Study) -> StudyView:
    return Watcher(study).look(time.time())


def test_scalars_follow_the_log_as_it_grows_each_once(study: Study, board: Board, written: list[Recorded]) -> None:
    board.update(study, looked(study))
    assert not written
    log = study.files(CONTINUOUS[0]).growing_log
    log.parent.mkdir(parents=True)
    for rows in (ROWS[:1], ROWS, ROWS[:1], ROWS):  # it went on from a checkpoint in between
        log.write_text(log_text(rows))
        board.update(study, looked(study))
    (own,) = written
    assert own.place == board.folder / "tiny" / "continuous" / "seed-0"
    assert [scalar[1:] for scalar in own.scalars if scalar[0] == "training/loss"] == [(0.5, 5), (0.25, 10)]
    assert {tag for tag, _, _ in own.scalars} == {
        f"training/{name}"
        for name in ("loss", "direction_norm", "direction_norm_max", "gradient_norm", "gradient_norm_max", "rate")
    }
    log.write_text(log_text([[5, 0.75, *ROWS[0][2:]]]))  # other settings
    board.update(study, looked(study))
    assert len(written) == 2 and own.closed and written[1].scalars[0] == ("training/loss", 0.75, 5)
    board.close()
    assert written[1].closed


def test_samples_of_runs_that_are_made_are_drawn_once(study: Study, board: Board, written: list[Recorded]) -> None:
    made(study, CONTINUOUS[:1])
    for run in CONTINUOUS[:2]:
        log = study.files(run).log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(log_text(ROWS))
    for _ in range(2):
        board.update(study, looked(study))
    assert [own.figures for own in written] == [[("samples", 10)], []]
    made(study, CONTINUOUS[:1])
    board.update(study, looked(study))
    assert written[0].figures == [("samples", 10)] * 2


@pytest.mark.slow
def test_snapshots_are_drawn_while_the_run_trains_and_after_it_each_once(scd_arm, written: list[Recorded]) -> None:
    study, run = scd_arm(iterations=20, snapshots=2), Run(arm="scd", seed=0)
    board = Board(Path("board"), lambda place: written.append(Recorded(place)) or written[-1], snapshot_samples)
    real, steps = GrowingLog.append, []

    def append(log: GrowingLog, row: list[float]) -> None:
        real(log, row)
        board.update(study, looked(study))
        steps.append([step for _, step in written[0].figures])

    study = study.model_copy(update={"resources": study.resources.model_copy(update={"checkpoint_every": 6})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GrowingLog, "append", append)
        train(study, run)
    kept = snapshot_steps(study.arms["scd"])
    assert len(kept) == 2 and kept[-1] == 20 and steps[0] == [] and steps[-1] == [kept[0]]
    board.update(study, looked(study))
    board.update(study, looked(study))
    assert written[0].figures == [("snapshots", step) for step in kept]


def test_snapshots_that_cannot_be_drawn_end_no_watching(study: Study, written: list[Recorded], capsys) -> None:
    def broken(*_: object) -> Iterator[tuple[int, Drawn]]:
        raise BenchError("gone", remedy="x")

    board = Board(Path("board"), lambda place: written.append(Recorded(place)) or written[-1], broken)
    study = study.model_copy(
        update={"arms": {name: arm.model_copy(update={"snapshots": 2}) for name, arm in study.arms.items()}}
    )
    log = study.files(CONTINUOUS[0]).growing_log
    log.parent.mkdir(parents=True)
    log.write_text(log_text(ROWS))
    board.update(study, looked(study))
    assert "no snapshots of continuous seed 0 this time: gone" in capsys.readouterr().err
    assert len(written[0].scalars) == 12


@pytest.mark.slow
def test_tensorboard_s_own_files_are_written_and_written_anew(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    made(study, CONTINUOUS[:1])
    study.files(CONTINUOUS[0]).log.write_text(log_text(ROWS))
    for _ in range(2):
        cli.main(["watch", "tiny.yaml", "--once", "--tensorboard", "board"])
    place = Path("board/tiny/continuous/seed-0")
    assert len(list(place.glob(f"*{tensorboard.SUFFIX}"))) == 1
    read = EventAccumulator(str(place))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("training/loss")] == [(5, 0.5), (10, 0.25)]
    assert [event.step for event in read.Images("samples")] == [10]
    assert open_writer(place) is not None


def test_without_tensorboard_the_line_to_type_is_said(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _extras.find_spec
    monkeypatch.setattr(_extras, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    with pytest.raises(SystemExit, match=r"pip install 'trigbench\[tensorboard\]'"):
        cli.main(["watch", "tiny.yaml", "--once", "--tensorboard", "board"])
    cli.main(["watch", "tiny.yaml", "--once"])
