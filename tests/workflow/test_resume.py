"""A run that is killed, diverges, or meets damaged files."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.workflow.conftest import environment, saved_every, step
from trigbench.workflow.machine.checkpoints import remove_all
from trigbench.workflow.machine.files import read_arrays, read_json, write_arrays
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run import samples as sample_module
from trigbench.workflow.run import sampling as sampling_module
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import TrainingRecord, write_record
from trigbench.workflow.study.study import Run, Study

SCD = Run(arm="scd", seed=0)


def _weights(study: Study, run: Run = SCD) -> dict[str, torch.Tensor]:
    return read_tensors(study.files(run).weights, "")


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_run_killed_between_its_first_and_last_checkpoint_ends_with_the_same_bits(
    adaptive: bool, tiny: dict, scd_arm, tmp_path: Path
) -> None:
    tiny["resources"] = {"checkpoint_every": 20}
    study = scd_arm(iterations=300, adaptive_weight=adaptive, precision="bf16" if adaptive else "fp32")
    again = ("train", "--study", str(study.file), "--arm", "scd", "--seed", "0")
    step(*again, cwd=tmp_path)
    uninterrupted, log = _weights(study), study.files(SCD).log.read_text()
    study.files(SCD).weights.unlink()
    command = [sys.executable, "-m", "trigbench.workflow.steps.train", *again[1:]]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    seals = study.files(SCD).checkpoints
    deadline = time.monotonic() + 120
    while not any(seals.glob("step-*.json")):
        assert process.poll() is None, "the run ended before its first checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not study.files(SCD).weights.exists()
    assert "resuming scd seed 0 from step" in step(*again, cwd=tmp_path).stderr
    assert _equal(_weights(study), uninterrupted)
    assert study.files(SCD).log.read_text() == log


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_still_ends_with_the_same_bits(scd_arm, capsys) -> None:
    study = scd_arm(iterations=40)
    train(study, SCD)
    expected = _weights(study)
    folder = study.files(SCD).checkpoints
    remove_all(folder)
    _interrupt_after(study, checkpoints_at=10, stop_at=30)
    newest = sorted(folder.glob("step-*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    train(saved_every(study, 10), SCD)
    assert str(newest) in capsys.readouterr().err
    assert _equal(_weights(study), expected)


def _interrupt_after(study: Study, checkpoints_at: int, stop_at: int) -> None:
    """Train, and break off with an exception in the given step."""
    real, calls = train_module._update, iter(range(1, 10**6))

    def stopping(*arguments):
        if next(calls) > stop_at:
            raise KeyboardInterrupt
        return real(*arguments)

    train_module._update = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            train(saved_every(study, checkpoints_at), SCD)
    finally:
        train_module._update = real


def test_a_diverging_run_is_a_result_with_its_step_reason_and_last_good_checkpoint(
    tiny: dict, scd_arm, tmp_path: Path
) -> None:
    tiny["resources"] = {"checkpoint_every": 1}
    study = scd_arm(rate=3e38, rampup=30, iterations=30)
    done = step("run", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path)
    record = read_json(study.files(SCD).metrics, "")
    assert record["status"] == "diverged", done.stderr
    assert 1 < record["step"] < 30
    assert f"step {record['step']}" in record["reason"]
    good = record["last_good_checkpoint"]
    assert good is not None
    assert good < record["step"]
    kept = read_tensors(study.files(SCD).checkpoints / f"step-{good:08d}.safetensors", "")
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())
    assert record["last_direction_norm"] is None or record["last_direction_norm"] > 0
    assert {m["metric"] for m in record["metrics"]} >= {"map_rms", "sliced_wasserstein"}
    assert all(m["value"] is None for m in record["metrics"] if m["metric"] not in ("images_seen", "rate"))


def test_damaged_data_and_a_damaged_teacher_are_named(tiny, write_study, with_data, tmp_path: Path) -> None:
    tiny["arms"] |= {"teacher": {"objective": "diffusion"}}
    tiny["arms"]["scd"] |= {"teacher": "teacher", "start": "teacher"}
    study = load(write_study(tiny))
    missing = step("run", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path, check=False)
    assert missing.returncode == 2
    assert "trigbench.workflow.steps.prepare" in missing.stderr
    study = with_data(tiny)
    weights = study.files(Run(arm="teacher", seed=0)).weights
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"not weights")
    write_record(weights.with_name("training.json"), TrainingRecord(fingerprint="f", inputs={}, step=30))
    damaged = step("run", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path, check=False)
    assert damaged.returncode == 2
    assert str(weights) in damaged.stderr
    assert "delete its folder; the workflow trains teacher seed 0 again" in damaged.stderr


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_data_or_another_teacher(tiny, with_data, capsys) -> None:
    tiny["arms"] = {"teacher": {"objective": "diffusion"}, "scd": {"objective": "scd", "teacher": "teacher"}}
    study = with_data(tiny | {"experiments": {"training": tiny["experiments"]["training"]}})
    teacher = Run(arm="teacher", seed=0)
    train(study, teacher)
    train(study, SCD)
    train(study, SCD)
    assert "resuming scd seed 0 from step 30" in capsys.readouterr().err
    weights = study.files(teacher).weights
    write_tensors(weights, {name: value + 1 for name, value in _weights(study, teacher).items()})
    train(study, SCD)
    assert "other settings, code, data or teacher" in capsys.readouterr().err
    data = study.data_file("mixture")
    arrays = read_arrays(data, "")
    write_arrays(data, arrays | {"means": -arrays["means"]})
    train(study, SCD)
    said = capsys.readouterr().err
    assert "other settings, code, data or teacher" in said
    assert "resuming" not in said


def test_students_of_a_diverged_teacher_count_as_diverged(tiny, with_data, tmp_path: Path) -> None:
    tiny["arms"] |= {"teacher": {"objective": "diffusion", "rate": 3e38}}
    tiny["arms"]["scd"] |= {"teacher": "teacher", "start": "teacher"}
    study = with_data(tiny)
    for arm in ("teacher", "scd"):
        step("run", "--study", study.file, "--arm", arm, "--seed", "0", cwd=tmp_path)
    record = read_json(study.files(SCD).metrics, "")
    assert record["status"] == "diverged"
    assert "its teacher teacher seed 0 diverged" in record["reason"]


def test_fourier_networks_are_judged_with_the_frequencies_they_were_trained_with(scd_arm, tiny, write_study) -> None:
    tiny["sizes"]["small"] |= {"embedding": "fourier"}
    study = scd_arm()
    assert study.sizes["small"].embedding == "fourier"
    task = opened(study, SCD)
    nets = [make_network(task, seed) for seed in (0, 1)]
    frequencies = [dict(net.named_buffers())["embed_time.frequencies"] for net in nets]
    assert torch.equal(frequencies[0], frequencies[1])
    first, second = (dict(net.named_parameters())["lift.weight"] for net in nets)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_samples_are_the_same_whatever_the_batch(scd_arm, tmp_path: Path, monkeypatch) -> None:
    study = scd_arm()
    train(study, SCD)
    sample_module.sample(study, SCD)
    whole = read_arrays(study.files(SCD).samples, "")
    monkeypatch.setattr(sampling_module, "BATCH", 7)
    sample_module.sample(study, SCD)
    parts = read_arrays(study.files(SCD).samples, "")
    for name in whole:
        torch.testing.assert_close(torch.from_numpy(whole[name]), torch.from_numpy(parts[name]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "prepare",
        "train",
        "sample",
        "evaluate",
        "run",
        "measure",
        "tabulate",
        "plot",
        "experiment",
        "verdicts",
        "collect",
        "report",
    ],
)
def test_every_step_explains_itself(name: str, tmp_path: Path) -> None:
    assert "--study" in step(name, "--help", cwd=tmp_path).stdout
