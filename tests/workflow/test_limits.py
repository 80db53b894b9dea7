"""A run that nears its time limit, or is asked to stop, goes on later to the same bits."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.workflow.conftest import environment, snakemake
from workflow.errors import BenchError
from workflow.runtime import limits
from workflow.runtime.limits import stopping
from workflow.runtime.tensors import read_tensors
from workflow.steps import train as train_module
from workflow.steps.train import train
from workflow.study import Run, Study

SCD = Run(arm="scd", seed=0)


def _made(study: Study) -> tuple[dict[str, torch.Tensor], str]:
    folder = study.run_folder(SCD)
    return read_tensors(folder / "weights.safetensors", ""), (folder / "log.csv").read_text()


def _same(a: tuple[dict[str, torch.Tensor], str], b: tuple[dict[str, torch.Tensor], str]) -> bool:
    return a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0]) and a[1] == b[1]


def test_a_run_without_time_for_more_makes_one_step_a_job_and_ends_with_the_same_bits(scd_arm) -> None:
    study = scd_arm(iterations=7, adaptive_weight=True, snapshots=2)
    train(study, SCD)
    undisturbed = _made(study)
    for path in [*study.checkpoint_folder(SCD).glob("step-*"), *study.run_folder(SCD).iterdir()]:
        path.unlink()
    for made in range(1, 7):
        with pytest.raises(BenchError, match=f"stopped at step {made} of 7 with a checkpoint") as caught:
            train(study, SCD, time_limit=0.001)
        assert "time limit of 0.001 minutes" in str(caught.value)
        assert "run again to go on" in str(caught.value)
        assert not study.run_folder(SCD).joinpath("training.json").exists()
    assert train(study, SCD, time_limit=0.001).step == 7, "the last step is never a reason to stop"
    assert _same(_made(study), undisturbed)


def test_sigterm_in_the_middle_of_a_step_stops_after_it_with_a_checkpoint(scd_arm, monkeypatch) -> None:
    study = scd_arm(iterations=30)
    train(study, SCD)
    undisturbed = _made(study)
    for path in study.checkpoint_folder(SCD).glob("step-*"):
        path.unlink()
    real, calls = train_module._update, iter(range(1, 1000))

    def asked_in_the_twelfth(*arguments):
        if next(calls) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(train_module, "_update", asked_in_the_twelfth)
    with pytest.raises(BenchError, match=r"SIGTERM.*stopped at step 12 of 30"):
        train(study, SCD)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "outside training it ends the process as ever"
    assert train(study, SCD).step == 30
    assert _same(_made(study), undisturbed)


def test_a_diverging_run_that_is_stopped_again_and_again_diverges_at_the_same_step(scd_arm) -> None:
    study = scd_arm(rate=3e38, rampup=30, iterations=30)
    undisturbed = train(study, SCD, checkpoint_every=1000)
    assert undisturbed.reason is not None
    disturbed, jobs = None, 0
    while disturbed is None:
        jobs += 1
        with contextlib.suppress(BenchError):
            disturbed = train(study, SCD, checkpoint_every=1000, time_limit=0.001)
    assert jobs > 1
    assert (disturbed.step, disturbed.reason) == (undisturbed.step, undisturbed.reason)


def test_the_time_before_python_started_counts(monkeypatch) -> None:
    monkeypatch.setattr(limits, "seconds_since_start", lambda: 39.0)
    with stopping(1) as stop_now:
        assert stop_now() is None, "of 60 seconds 39 are used and 20 are the margin"
    monkeypatch.setattr(limits, "seconds_since_start", lambda: 41.0)
    with stopping(1) as stop_now:
        assert stop_now() == "near its time limit of 1 minutes"
    with stopping(None) as stop_now:
        assert stop_now() is None


@pytest.mark.slow
def test_a_process_that_gets_sigterm_says_so_fails_and_goes_on_to_the_same_bits(scd_arm, tmp_path: Path) -> None:
    study = scd_arm(iterations=1500)
    command = [sys.executable, "-m", "workflow.steps.run", "--study", str(study.file), "--arm", "scd", "--seed", "0"]
    whole = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    undisturbed = _made(study)
    for path in study.run_folder(SCD).iterdir():
        path.unlink()
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(study.checkpoint_folder(SCD).glob("step-*.json")):
        assert process.poll() is None, "the run ended before its first checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "asked to stop (SIGTERM): stopped at step" in said
    assert "of 1500 with a checkpoint" in said
    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resuming scd seed 0 from step" in again.stderr
    assert _same(_made(study), undisturbed)


@pytest.mark.slow
def test_what_a_run_asks_a_scheduler_for_makes_no_run_stale(tiny: dict, write_study, tmp_path: Path) -> None:
    wanted = ("tiny/training", "--config", f"study={write_study(tiny)}")
    snakemake(*wanted, "--cores", "2", cwd=tmp_path)
    tiny["resources"] = {"gpu": 1, "mem_mb": 4000, "runtime": 5}
    write_study(tiny)
    again = snakemake("-n", *wanted, "--set-resources", "run:runtime=7", cwd=tmp_path)
    assert "Nothing to be done" in again.stdout
    tiny["resources"] = {"gpu": 2}
    write_study(tiny)
    plan = snakemake("-n", "-p", *wanted, "--forcerun", "run", "--resources", "gpu=2", cwd=tmp_path)
    assert " --gpus 2 --processes 2 " in plan.stdout, "one process a GPU"
