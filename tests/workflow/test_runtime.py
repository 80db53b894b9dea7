"""Files are whole or absent, checkpoints are sealed, metrics mean what they say."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.workflow.conftest import ROOT
from trigbench.core.optimiser import AdamSettings, adam_step, initial_state
from trigbench.workflow.data.features.metrics import (
    frechet_distance,
    kernel_distance,
    nearest_distance,
    precision_recall,
    sliced_wasserstein,
)
from trigbench.workflow.data.features.reference import Reference, frechet_to
from trigbench.workflow.data.randomness import generator, seed_for
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.files import exclusive, read_arrays, read_json, write_atomically, write_json
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.training import average_decay
from trigbench.workflow.study.reading import load


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert read_json(path, "") == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_numbers_that_are_not_finite_become_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [math.inf, math.nan, 1.5]})
    assert read_json(tmp_path / "x.json", "") == {"a": [None, None, 1.5]}


@pytest.mark.parametrize("reader", [read_json, read_arrays, read_tensors])
def test_a_damaged_file_is_named_with_its_remedy(reader, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"\x00garbage")
    with pytest.raises(BenchError) as caught:
        reader(path, "make it again")
    assert str(path) in str(caught.value)
    assert "make it again" in str(caught.value)


def _save(folder: Path, step: int, fingerprint: str = "f") -> None:
    checkpoints.save(folder, fingerprint, step, {"parameters/w": torch.full((3,), float(step))}, {"rows": [step]})


def test_the_newest_checkpoint_comes_back_with_its_journal_and_only_two_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        _save(tmp_path, step)
    found = checkpoints.newest(tmp_path, "f")
    assert found is not None
    assert (found.step, found.journal) == (30, {"rows": [30]})
    assert torch.equal(found.tensors["parameters/w"], torch.full((3,), 30.0))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "tensors gone", "seal cut short"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(damage: str, tmp_path: Path, capsys) -> None:
    _save(tmp_path, 10)
    _save(tmp_path, 20)
    path = tmp_path / "step-00000020.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "tensors gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"step": 20, "fing')
    found = checkpoints.newest(tmp_path, "f")
    assert found is not None
    assert found.step == 10
    assert str(path) in capsys.readouterr().err


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path: Path, capsys) -> None:
    _save(tmp_path, 10, fingerprint="old")
    assert checkpoints.newest(tmp_path, "new") is None
    assert "other settings" in capsys.readouterr().err


def test_a_second_process_on_the_same_run_is_refused_by_name(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\nfrom trigbench.workflow.machine.files import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1]), 'x'):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BenchError, match=f"scd seed 0(.|\n)*kill {holder.pid}"), exclusive(tmp_path, "scd seed 0"):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    with exclusive(tmp_path, "scd seed 0"):  # the lock went with the process
        pass


def test_randomness_is_a_function_of_its_parts() -> None:
    assert torch.equal(torch.randn(3, generator=generator(1, 2, "a")), torch.randn(3, generator=generator(1, 2, "a")))
    assert len({seed_for(1, 2, "a"), seed_for(1, 2, "b"), seed_for(12, "a"), seed_for(2, 1, "a")}) == 4


def test_the_average_follows_its_half_life_or_the_paper_s_power_of_the_step(tiny: dict, write_study) -> None:
    arm = load(write_study(tiny)).arms["scd"]
    assert average_decay(arm, 10**6) == pytest.approx(0.5 ** (arm.batch / 1000))
    power = arm.model_copy(update={"ema_half_life": None, "ema_std": 0.05})
    assert average_decay(power, 1000) == pytest.approx((1 - 1 / 1000) ** 17.972, rel=1e-6)  # gamma 16.972
    assert average_decay(power, 1) == 0.0


OPTIMISERS = {
    "as it is": (None, torch.optim.Adam, (0.9, 0.99), 1e-8),
    "adam": (AdamSettings(beta2=0.999, epsilon=1e-5), torch.optim.Adam, (0.9, 0.999), 1e-5),
    "radam": (AdamSettings(method="radam"), torch.optim.RAdam, (0.9, 0.99), 1e-8),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_equals_torch_s_optimiser(name: str) -> None:
    settings, theirs_of, betas, epsilon = OPTIMISERS[name]
    start = torch.linspace(-1, 1, 7)
    ours, theirs = {"w": start.clone()}, start.clone().requires_grad_()
    state, optimiser = initial_state(ours), theirs_of([theirs], lr=0.1, betas=betas, eps=epsilon)
    for step in range(9):  # RAdam changes its way after the fifth
        gradient = torch.sin(start * (step + 1))
        adam_step(ours, {"w": gradient}, state, 0.1, settings=settings)
        theirs.grad = gradient.clone()
        optimiser.step()
    torch.testing.assert_close(ours["w"], theirs.detach(), rtol=1e-6, atol=1e-7)


def _features(count: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=g, dtype=torch.float64) + shift


def test_frechet_distance_of_shifted_gaussians_is_the_squared_shift() -> None:
    same = _features(4000)
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(same, same + 2.0) == pytest.approx(8 * 4.0, rel=1e-6)


def test_torch_fidelity_computes_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch.dict(sys.modules):
        for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "torch_fidelity")]:
            monkeypatch.delitem(sys.modules, name)
        rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert frechet_distance(rows, rows + 2.0) == pytest.approx(8 * 4.0, rel=1e-6)
        assert "torch_fidelity.metric_fid" in sys.modules
        assert not [name for name in sys.modules if name.startswith("torchvision")], "the next to ask gets the real one"


def test_frechet_distance_refuses_fewer_samples_than_dimensions() -> None:
    with pytest.raises(BenchError, match="use more than 8"):
        frechet_distance(_features(8), _features(100))


@pytest.mark.slow
def test_kernel_distance_is_near_zero_for_equal_distributions_and_grows_with_a_shift() -> None:
    a, b = _features(600), _features(600, seed=1)
    assert abs(kernel_distance(a, b)) < 0.2 * kernel_distance(a, b + 1)


def test_precision_and_recall_are_not_swapped() -> None:
    real = torch.cat([_features(300), _features(300, 20.0, seed=1)])
    one_mode = _features(600, seed=2)
    precision, recall = precision_recall(one_mode, real)
    assert precision > 0.8
    assert recall < 0.7


def test_nearest_distance_is_zero_to_a_superset() -> None:
    rows = _features(20)
    assert nearest_distance(rows[:5], rows) == pytest.approx(0, abs=1e-6)
    assert nearest_distance(rows[:5] + 3, rows) > 1


@given(st.floats(-3, 3))
def test_sliced_wasserstein_of_a_shift_is_the_mean_projection_of_it(shift: float) -> None:
    rows = _features(50)
    moved = rows.clone()
    moved[:, 0] += shift
    found = sliced_wasserstein(rows, moved)
    assert found == pytest.approx(abs(shift) / math.sqrt(8), rel=0.35, abs=1e-9)
    assert sliced_wasserstein(rows, rows) == 0


def test_on_windows_the_workflow_says_what_it_needs() -> None:
    code = "import sys; sys.platform = 'win32'; import workflow"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.rstrip().endswith("run it under WSL; `core` runs on Windows too")


MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "frechet_distance": frechet_distance,
    "frechet_to": lambda a, b: frechet_to(Reference(b.mean(0).numpy(), b.T.cov().numpy(), b, len(b)), a),
    "kernel_distance": kernel_distance,
    "precision_recall": precision_recall,
    "nearest_distance": nearest_distance,
    "sliced_wasserstein": sliced_wasserstein,
}


@pytest.mark.parametrize("measure", MEASURES)
def test_features_that_are_not_numbers_are_an_error_that_counts_them_in_every_measure(measure: str) -> None:
    """Of features that were all NaN, precision was 0.0 and recall .995."""
    whole = _features(40)
    for wrong in (math.nan, math.inf):
        some, every = whole.clone(), torch.full_like(whole, wrong)
        some[[3, 7], 1] = wrong
        for generated, count in ((some, 2), (every, 40)):
            with pytest.raises(BenchError, match=f"{count} of 40 generated samples are not finite"):
                MEASURES[measure](generated, whole)
        with pytest.raises(BenchError, match=r"(?s)real samples are not finite .*prepare the data again"):
            MEASURES[measure](whole, every)
    with pytest.raises(BenchError, match=r"of \(7,\) and real ones of \(8,\) numbers"):
        MEASURES[measure](whole[:, :7], whole)


@pytest.mark.parametrize(
    ("measure", "fewest"),
    [("frechet_distance", 9), ("kernel_distance", 2), ("precision_recall", 4), ("nearest_distance", 1)],
)
def test_too_few_samples_for_a_measure_are_refused_with_both_numbers(measure: str, fewest: int) -> None:
    many, few = _features(40), _features(fewest - 1, seed=1)
    for generated, real in ((few, many), (many, few)):
        with pytest.raises(BenchError, match=rf"(?s)^{fewest - 1} .*use more than {fewest - 1} samples"):
            MEASURES[measure](generated, real)
    found = MEASURES[measure](_features(fewest, seed=1), many)
    assert np.isfinite(np.array(found)).all()
