"""What a run shows of itself while it trains: its growing log, and what its process says."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import live as live_module
from trigbench.workflow.machine.live import SILENT, Live, live, phase, read_live, say, trouble
from trigbench.workflow.machine.progress import Progress, sign_of_life
from trigbench.workflow.run import training
from trigbench.workflow.run.log import LOG_COLUMNS, GrowingLog, log_text
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.training import train
from trigbench.workflow.study.study import Run, Study

SCD = Run(arm="scd", seed=0)


# --- the log ----------------------------------------------------------------------------------------


def test_a_log_grows_by_whole_lines_and_is_what_is_written_at_the_end(tmp_path: Path) -> None:
    rows = [[1, 0.1, 2.0, 3.0, 4.0, 5.0, 1e-3], [2, 1 / 3, 2.0, 3.0, 4.0, 5.0, 1e-5]]
    file = tmp_path / "deep" / "log.csv"
    log = GrowingLog(file, rows[:1])
    seen = [file.read_text()]
    log.append(rows[1])
    seen.append(file.read_text())
    assert seen == [log_text(rows[:1]), log_text(rows)]
    assert seen[0].startswith(",".join(LOG_COLUMNS) + "\n1,0.1,") and seen[1].endswith(
        "0.3333333333333333,2.0,3.0,4.0,5.0,1e-05\n"
    )
    assert [path.name for path in file.parent.iterdir()] == ["log.csv"]


def broken_off(study: Study, at: int) -> None:
    """Train, and be killed in that step; what a killed process leaves stays."""
    real, calls = training._update, iter(range(1, 10**6))

    def update(*arguments):
        if next(calls) == at:
            raise KeyboardInterrupt
        return real(*arguments)

    training._update = update
    try:
        with pytest.raises(KeyboardInterrupt):
            train(study, SCD)
    finally:
        training._update = real


@pytest.mark.slow
def test_the_log_is_read_while_training_and_after_a_kill_is_that_of_an_undisturbed_run(scd_arm, monkeypatch) -> None:
    study = scd_arm(iterations=40)
    train(study, SCD)
    whole = study.files(SCD).log.read_text()
    assert len(whole.splitlines()) == 41 and not study.files(SCD).growing_log.exists()
    study = study.model_copy(update={"resources": study.resources.model_copy(update={"checkpoint_every": 10})})
    for seal in study.files(SCD).checkpoints.glob("step-*"):
        seal.unlink()
    broken_off(study, at=26)
    there = study.files(SCD).growing_log.read_text()
    assert whole.startswith(there) and len(there.splitlines()) == 26
    begun = []

    class Watched(GrowingLog):
        def __init__(self, file, rows):
            super().__init__(file, rows)
            begun.append(study.files(SCD).growing_log.read_text())

    monkeypatch.setattr(training, "GrowingLog", Watched)
    train(study, SCD)
    assert begun == ["".join(whole.splitlines(keepends=True)[:21])]  # what came after the checkpoint comes again
    assert study.files(SCD).log.read_text() == whole
    assert not study.files(SCD).growing_log.exists()


def test_only_the_first_of_several_processes_shows_anything(scd_arm, monkeypatch) -> None:
    study = scd_arm()
    monkeypatch.setattr(training, "is_first", lambda: False)
    with training.working_on(study, SCD, "training"):
        assert read_live(study.files(SCD).live) is None


def test_no_step_waits_for_the_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waited"))
    log = GrowingLog(tmp_path / "log.csv", [])
    log.append([1, 2.0])
    with live(tmp_path / "live.json", "training"):
        sign_of_life()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch) -> None:
    log = GrowingLog(tmp_path / "log.csv", [])
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(BenchError, match=r"cannot write log\.csv"):
        log.append([1, 2.0])


# --- what a process says of itself --------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word is written."""
    monkeypatch.setattr(live_module, "EVERY", 0.0)


def test_progress_is_what_a_process_says_until_it_ends(tmp_path: Path, at_once: None, capsys) -> None:
    file = tmp_path / "checkpoints" / "live.json"
    progress = Progress("x", 100, every=1e9)
    progress.update(1)
    assert not file.exists()
    with live(file, "training"):
        progress.update(50, "", loss=0.25, direction_norm=float("inf"), images_per_second=10.0)
        said = read_live(file)
        assert said is not None and trouble(said, time.time()) == ""
        assert (said.phase, said.done, said.total, said.loss, said.images_per_second) == (
            "training",
            50,
            100,
            0.25,
            10.0,
        )
        assert said.direction_norm is None and said.seconds_left is not None and said.host == socket.gethostname()
        phase("sampling")
        later = read_live(file)
        assert later is not None and later.phase == "sampling" and later.loss is None and later.since >= said.since
    assert not file.exists()
    with pytest.raises(KeyboardInterrupt), live(file, "training"):
        raise KeyboardInterrupt
    assert not file.exists() and [*file.parent.iterdir()] == []
    say(loss=1.0)
    assert not file.exists()


def test_words_are_written_every_few_seconds_alone(tmp_path: Path, monkeypatch) -> None:
    written = []
    monkeypatch.setattr(live_module, "replace_text", lambda file, text: written.append(json.loads(text)))
    clock = iter(float(n) / 4 for n in range(10**6))
    monkeypatch.setattr(live_module.time, "monotonic", lambda: next(clock))
    with live(tmp_path / "live.json", "training"):
        for step in range(1, 81):
            say(done=step)
    assert len(written) == 1 + 80 // 8  # a clock that goes on by a quarter of a second whenever it is asked


def test_a_killed_process_and_a_silent_one_are_told_from_one_that_works(tmp_path: Path) -> None:
    file = tmp_path / "live.json"
    script = "import os, pathlib\nfrom trigbench.workflow.machine.live import live\n"
    script += f"with live(pathlib.Path({str(file)!r}), 'training'): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    left = read_live(file)
    assert left is not None and trouble(left, left.said) == f"process {left.pid} is gone"
    here = Live("training", 0.0, 1000.0, socket.gethostname(), os.getpid(), live_module._born(os.getpid()))
    assert trouble(here, 1001.0) == "" and trouble(here, 1001.0 + SILENT) == "no sign of life"
    another = dataclasses.replace(here, born=(here.born or 0) + 1)  # of the same number, after a restart
    assert trouble(another, 1001.0).endswith("is gone")
    far = dataclasses.replace(another, host="elsewhere")
    assert trouble(far, 1001.0) == "" and trouble(far, 1001.0 + SILENT) == "no sign of life"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"phase": "training"}'])
def test_what_is_no_such_file_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text(text)
    assert read_live(tmp_path / "live.json") is None
    assert read_live(tmp_path / "none.json") is None


@pytest.mark.slow
def test_a_run_says_its_phases_and_leaves_nothing(scd_arm, monkeypatch) -> None:
    study, seen = scd_arm(), []
    real = live_module.replace_text
    monkeypatch.setattr(live_module, "EVERY", 0.0)
    monkeypatch.setattr(live_module, "replace_text", lambda f, text: (seen.append(json.loads(text)), real(f, text)))
    make_run(study, SCD)
    assert list(dict.fromkeys(said["phase"] for said in seen)) == ["training", "sampling", "evaluating"]
    last = [said for said in seen if said["phase"] == "training"][-1]
    assert (last["done"], last["total"]) == (30, 30)
    assert {"loss", "direction_norm", "images_per_second", "seconds_left"} <= last.keys()
    assert not study.files(SCD).live.exists() and not study.files(SCD).growing_log.exists()
