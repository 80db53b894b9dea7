"""A run that nears its time limit, or is asked to stop, goes on later to the same bits."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workflow.conftest import environment, snakemake, step
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import stopping as stopping_module
from trigbench.workflow.machine.cluster import seconds_left
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.machine.stopping import stopping
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run import make as run_module
from trigbench.workflow.run import samples as sample_module
from trigbench.workflow.run import sampling
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.study import Run, Study

SCD = Run(arm="scd", seed=0)
PACED = '''
"""Diffusion that waits at each step while a file is there."""

import time
from pathlib import Path

from trigbench.core.objectives.diffusion import diffusion


def paced(fields, x0, draws, settings):
    if Path("pace").exists():
        time.sleep(0.1)
    return diffusion(fields, x0, draws, settings)
'''


def _made(study: Study) -> tuple[dict[str, torch.Tensor], str]:
    folder = study.files(SCD).folder
    return read_tensors(folder / "weights.safetensors", ""), (folder / "log.csv").read_text()


def _same(a: tuple[dict[str, torch.Tensor], str], b: tuple[dict[str, torch.Tensor], str]) -> bool:
    return a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0]) and a[1] == b[1]


@pytest.mark.slow
def test_a_run_without_time_for_more_makes_one_step_a_job_and_ends_with_the_same_bits(scd_arm) -> None:
    study = scd_arm(iterations=7, adaptive_weight=True, snapshots=2)
    train(study, SCD)
    undisturbed = _made(study)
    for path in [*study.files(SCD).checkpoints.glob("step-*"), *study.files(SCD).folder.iterdir()]:
        path.unlink()
    for made in range(1, 7):
        with pytest.raises(BenchError, match=f"stopped at step {made} of 7 with a checkpoint") as caught:
            train(study, SCD, time_limit=0.001)
        assert "time limit of 0.001 minutes" in str(caught.value)
        assert "run again to go on" in str(caught.value)
        assert not study.files(SCD).training.exists()
    assert train(study, SCD, time_limit=0.001).step == 7, "the last step is never a reason to stop"
    assert _same(_made(study), undisturbed)


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_step_stops_after_it_with_a_checkpoint(scd_arm, monkeypatch) -> None:
    study = scd_arm(iterations=30)
    train(study, SCD)
    undisturbed = _made(study)
    for path in study.files(SCD).checkpoints.glob("step-*"):
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


@pytest.mark.slow
def test_a_diverging_run_that_is_stopped_again_and_again_diverges_at_the_same_step(scd_arm) -> None:
    study = scd_arm(rate=3e38, rampup=30, iterations=30)
    undisturbed = train(study, SCD)
    assert undisturbed.reason is not None
    disturbed, jobs = None, 0
    while disturbed is None:
        jobs += 1
        with contextlib.suppress(BenchError):
            disturbed = train(study, SCD, time_limit=0.001)
    assert jobs > 1
    assert (disturbed.step, disturbed.reason) == (undisturbed.step, undisturbed.reason)


def test_the_time_before_python_started_counts(monkeypatch) -> None:
    monkeypatch.setattr(stopping_module, "seconds_since_start", lambda: 39.0)
    with stopping(1) as stop_now:
        assert stop_now() is None, "of 60 seconds 39 are used and 20 are the margin"
    monkeypatch.setattr(stopping_module, "seconds_since_start", lambda: 41.0)
    with stopping(1) as stop_now:
        assert stop_now() == "near its time limit of 1 minutes"
    with stopping(None) as stop_now:
        assert stop_now() is None


@pytest.mark.parametrize(
    ("said", "left"),
    [("0:19", 19.0), ("1:00", 60.0), ("2:03:04", 7384.0), ("1-00:00:01", 86401.0), ("UNLIMITED", None), ("", None)],
)
def test_slurm_is_asked_how_much_time_its_job_has_left(said: str, left: float | None, squeue, monkeypatch) -> None:
    squeue(f'test "$3" = 7 || exit 1; echo " {said}"')
    assert seconds_left() is None, "in no job"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert seconds_left() == left


def test_the_end_of_its_slurm_job_stops_a_run_where_that_is_sooner(squeue, monkeypatch) -> None:
    monkeypatch.setattr(stopping_module, "seconds_since_start", lambda: 1.0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for limit in (1, None):
        squeue("echo 0:30")
        with stopping(limit) as stop_now:
            assert stop_now() is None
        squeue("echo 0:15")
        with stopping(limit) as stop_now:
            assert stop_now() == "near the end of its Slurm job"
        squeue("echo 0:15; exit 1")
        with stopping(limit) as stop_now:
            assert stop_now() is None, "Slurm does not answer: its own limit holds"


@pytest.mark.slow
def test_a_process_that_gets_sigterm_says_so_fails_and_goes_on_to_the_same_bits(
    tiny: dict, scd_arm, tmp_path: Path
) -> None:
    (tmp_path / "paced.py").write_text(PACED)
    tiny["resources"] = {"checkpoint_every": 10}
    study = scd_arm(objective="paced:paced", iterations=50)
    run = ("run", "--study", str(study.file), "--arm", "scd", "--seed", "0")
    step(*run, cwd=tmp_path)
    undisturbed = _made(study)
    for path in study.files(SCD).folder.iterdir():
        path.unlink()
    (tmp_path / "pace").touch()
    command = [sys.executable, "-m", "trigbench.workflow.steps.run", *run[1:]]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(study.files(SCD).checkpoints.glob("step-*.json")):
        assert process.poll() is None, "the run ended before its first checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "asked to stop (SIGTERM): stopped at step" in said
    assert "of 50 with a checkpoint" in said
    (tmp_path / "pace").unlink()
    assert "resuming scd seed 0 from step" in step(*run, cwd=tmp_path).stderr
    assert _same(_made(study), undisturbed)


@pytest.mark.slow
def test_what_a_run_asks_a_scheduler_for_makes_no_run_stale(tiny: dict, write_study, lay_data, tmp_path: Path) -> None:
    lay_data(tmp_path)
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


@pytest.fixture
def in_parts(scd_arm, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A run that is trained, and whose 64 samples are drawn 30 at a time."""
    study = scd_arm(iterations=3)
    monkeypatch.setattr(sampling, "BATCH", 30)
    train(study, SCD)
    return study


@pytest.mark.slow
def test_sampling_without_time_for_more_makes_one_part_a_job_and_ends_with_the_same_bits(in_parts, monkeypatch) -> None:
    made = in_parts.files(SCD).samples
    sample(in_parts, SCD)
    undisturbed = read_arrays(made, "")
    assert [len(values) for values in undisturbed.values()] == [64, 64]
    made.unlink()
    drawn, real = [], sampling.draw
    monkeypatch.setattr(sampling, "draw", lambda *a: drawn.append(a) or real(*a))
    for _ in range(6):
        with pytest.raises(BenchError, match="stopped in drawing samples, with those that were drawn") as caught:
            sample(in_parts, SCD, time_limit=0.001)
        assert "time limit of 0.001 minutes" in str(caught.value)
        assert not made.exists()
    sample(in_parts, SCD, time_limit=0.001)
    assert len(drawn) == 6, "three parts of two samplings, each once"
    found = read_arrays(made, "")
    assert found.keys() == undisturbed.keys()
    assert all((found[key] == undisturbed[key]).all() for key in found)
    made.unlink()  # as Snakemake does where the job ends before the samples are judged
    sample(in_parts, SCD)
    assert len(drawn) == 6, "all parts stay until then"
    run_module.make_run(in_parts, SCD)
    assert not list(in_parts.files(SCD).checkpoints.glob("samples-*"))


@pytest.mark.slow
def test_samples_that_were_saved_are_not_drawn_again_after_a_kill_or_sigterm(in_parts, monkeypatch) -> None:
    monkeypatch.setattr(sample_module, "SAVE_EVERY", 0.0)
    drawn, real = [], sampling.draw

    def draw(*arguments: Any) -> torch.Tensor:
        drawn.append(arguments)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        if len(drawn) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(sampling, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        sample(in_parts, SCD)
    with pytest.raises(BenchError, match=r"SIGTERM.*stopped in drawing samples"):
        sample(in_parts, SCD)
    sample(in_parts, SCD)
    assert len(drawn) == 7, "six parts, one of them twice"
    assert in_parts.files(SCD).samples.is_file()


def test_sigterm_that_comes_too_late_to_stop_ends_the_process_afterwards(monkeypatch) -> None:
    heard = []
    monkeypatch.setattr(signal, "raise_signal", heard.append)
    with stopping() as stop_now:
        assert stop_now() is None
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


@pytest.mark.slow
def test_a_part_of_samples_that_is_half_written_is_drawn_again(in_parts) -> None:
    with pytest.raises(BenchError):
        sample(in_parts, SCD, time_limit=0.001)
    (file,) = in_parts.files(SCD).checkpoints.glob("samples-*/*.npz")
    file.rename(file.with_name(f".{file.stem}.123.npz"))  # as a killed process leaves it, if it were cut short
    (file.parent / ".few.npz").write_bytes(b"PK")
    sample(in_parts, SCD)
    found = read_arrays(in_parts.files(SCD).samples, "")
    assert all(np.isfinite(values).all() for values in found.values())
    file.write_bytes(b"PK")
    with pytest.raises(BenchError, match="delete it; the samples in it are drawn again") as caught:
        sample(in_parts, SCD)
    assert str(file) in str(caught.value)


@pytest.mark.slow
def test_samples_of_other_weights_are_not_gone_on_with(in_parts, monkeypatch) -> None:
    with pytest.raises(BenchError):
        sample(in_parts, SCD, time_limit=0.001)
    weights = in_parts.files(SCD).weights
    write_tensors(weights, {name: value * 0 for name, value in read_tensors(weights, "").items()})
    sample(in_parts, SCD)
    changed = read_arrays(in_parts.files(SCD).samples, "")
    monkeypatch.setattr(sampling, "BATCH", 64)
    sample(in_parts, SCD)
    whole = read_arrays(in_parts.files(SCD).samples, "")
    assert all((changed[key] == whole[key]).all() for key in whole), "samples do not depend on parts either"


@pytest.mark.slow
def test_a_run_is_one_process_s_until_it_is_judged(scd_arm, monkeypatch) -> None:
    study, real = scd_arm(iterations=3), run_module.evaluate

    def another_comes(*arguments):
        with pytest.raises(BenchError, match="another process is working on scd seed 0"):
            run_module.make_run(study, SCD)
        return real(*arguments)

    monkeypatch.setattr(run_module, "evaluate", another_comes)
    record = run_module.make_run(study, SCD)
    assert record is not None and record.status == "finished"
