"""Training and sampling by two processes against one: the same numbers, whoever holds and reads what."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.workflow import several, warm
from tests.workflow.conftest import TINY, environment, made_by_one, step
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.files import read_arrays, read_json
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run import sampling
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record, read_training
from trigbench.workflow.study.study import Study

pytestmark = pytest.mark.slow
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def torchrun(module: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [warm.python(), *TORCHRUN, "-m", f"tests.workflow.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(command[0]), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Study, Path, str]]:
    """Everything that two processes make, in one start, beside what one process makes; (study, folder, stderr)."""

    def make(folder: Path) -> None:
        (folder / "several.yaml").write_text(yaml.safe_dump(_content(), sort_keys=False))
        study = load(folder / "several.yaml")
        with contextlib.chdir(folder):
            prepare(study, "mixture")
            with several.float64():
                _by_one(study)
                done = torchrun("several", study.file, folder, cwd=folder)
        (folder / "said").write_text(done.stderr)

    folder = made_by_one(tmp_path_factory, "several", make)
    with contextlib.chdir(folder), several.float64():
        yield load(folder / "several.yaml"), folder, (folder / "said").read_text()


def _content() -> dict[str, Any]:
    """Of the study."""
    settings = {"iterations": several.STEPS, "batch": several.BATCH, "rate": 1e-2}
    return {
        **TINY, "study": "several", "sizes": several.SIZES, "defaults": {**TINY["defaults"], **settings},
        "resources": {"checkpoint_every": 2}, "arms": several.arms(),
        "experiments": {"training": {**TINY["experiments"]["training"], "arms": ["*"]}},
    }  # fmt: skip


def _by_one(study: Study) -> None:
    """Every method trained by one process, and checkpoints of `vsd` after step 2 for others to go on from."""
    vsd = study.files(several.run_of("vsd")).checkpoints
    with several.stop_after(2):
        train(study, several.run_of("vsd"))
    for place in (Path("by-one"), *(study.files(several.run_of(name)).checkpoints for name in several.RESUMED)):
        shutil.copytree(vsd, place)
    for name in several.METHODS:
        train(study, several.run_of(name))


def _newest(study: Study, name: str, folder: Path | None = None) -> tuple[int, dict[str, Tensor]]:
    """The step and all tensors of a checkpoint, as one process reads it."""
    found = checkpoints.newest(folder or study.files(several.run_of(name)).checkpoints, several.mark_of(study, name))
    assert found is not None
    return found.step, dict(found.tensors)


@pytest.mark.parametrize(
    ("method", "way"),
    [
        *((method, way) for method in several.METHODS for way in several.ways_of(method)),
        *(name.split(".") for name in several.COMPILED),
    ],
)
def test_two_processes_train_as_one_does(method: str, way: str, trained: tuple[Study, Path, str]) -> None:
    """Weights, averages, targets, snapshots, and gradients by their moments."""
    study = trained[0]
    (_, expected), (at, found) = _newest(study, method), _newest(study, f"{method}.{way}")
    assert at == several.STEPS
    made = read_training(study.files(several.run_of(f"{method}.{way}")).training)
    assert made.compiled == ("compiled" in way), made.fell_back
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")
    first = torch.cat([value.flatten() for name, value in expected.items() if name.startswith("first/")])
    assert first.abs().max() > 1e-3, "nothing was learned, and nothing compared"
    weights, own = (read_tensors(study.files(several.run_of(arm)).weights, "") for arm in (method, f"{method}.{way}"))
    assert all(value.shape == own[name].shape for name, value in weights.items())
    logs = [study.files(several.run_of(a)).log.read_text() for a in (method, f"{method}.{way}")]
    rows = [[float(cell or "nan") for line in log.splitlines()[1:] for cell in line.split(",")] for log in logs]
    assert rows[1] == pytest.approx(rows[0], rel=1e-9, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("method", several.METHODS)
def test_what_is_sharded_is_held_in_halves_and_the_modules_hold_nothing(
    method: str, trained: tuple[Study, Path, str]
) -> None:
    held = [read_json(trained[1] / f"held-{rank}.json", "") for rank in range(2)]
    in_each, sharded = (f"{method}.{way}" for way in several.ways_of(method))
    whole = held[0][in_each]
    assert held[1][in_each] == whole
    for kind in ("parameters", "average", "first", "second", "target"):
        parts = [h[sharded][kind] for h in held]
        assert sum(parts) == whole[kind]
        assert max(parts) <= 0.52 * whole[kind] + 1
    assert [h[sharded]["modules"] for h in held] == [0, 0]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_gradients_are_those_of_torch_s_own_wrappers(way: str, trained: tuple[Study, Path, str]) -> None:
    found = read_tensors(trained[1] / "gradients.safetensors", "")
    theirs = {name.split("/")[1]: value for name, value in found.items() if name.startswith(f"{way}/")}
    assert len(theirs) == 5
    for name, gradient in theirs.items():
        torch.testing.assert_close(found[f"our {way}/{name}"], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", several.RESUMED)
def test_two_processes_read_what_one_wrote_bit_for_bit(name: str, trained: tuple[Study, Path, str]) -> None:
    study, folder, said = trained
    (_, before), (_, after) = _newest(study, name, folder / "by-one"), _newest(study, name, folder / "copies" / name)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].shape == after[key].shape for key in before)
    pieces = sorted(path.name for path in (folder / "copies" / name).glob("*.safetensors"))
    ends = [".0-of-2", ".1-of-2"] if name.endswith("fsdp") else [""]
    assert pieces == [f"step-00000002{end}.safetensors" for end in ends]
    assert f"resuming {name} seed 0 from step 2" in said
    (_, expected), (_, ended) = _newest(study, "vsd"), _newest(study, name)
    for key, value in expected.items():
        torch.testing.assert_close(ended[key], value, rtol=0, atol=1e-10)


def test_two_processes_read_an_adapter_s_checkpoint_of_their_own_bit_for_bit(trained: tuple[Study, Path, str]) -> None:
    study, folder, _ = trained
    (at, before), (_, after) = (
        _newest(study, several.COPIED),
        _newest(study, several.COPIED, folder / "copies" / several.COPIED),
    )
    assert at == several.STEPS and before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].shape == after[key].shape for key in before)
    weights = read_tensors(study.files(several.run_of(several.COPIED)).weights, "")
    assert {name.split("/")[2] for name in before if name.startswith("snapshots/")} == weights.keys()


def test_one_process_goes_on_from_what_two_left(trained: tuple[Study, Path, str], capsys) -> None:
    study = trained[0]
    at, _ = _newest(study, "broken-fsdp")
    assert at == 4
    train(study, several.run_of("broken-fsdp"))
    assert "from step 4" in capsys.readouterr().err
    (_, expected), (end, found) = _newest(study, "vsd"), _newest(study, "broken-fsdp")
    assert end == several.STEPS
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", several.STOPPED)
def test_all_stop_when_one_is_out_of_time_and_go_on_to_the_same_numbers(
    name: str, trained: tuple[Study, Path, str]
) -> None:
    study = trained[0]
    at, _ = _newest(study, name)
    assert at == 1
    train(study, several.run_of(name))
    (_, expected), (end, found) = _newest(study, "vsd"), _newest(study, name)
    assert end == several.STEPS
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)


def test_two_processes_share_samples_stop_together_and_draw_those_of_one(
    trained: tuple[Study, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, run = trained[0], several.run_of(several.SAMPLED)
    made = study.files(run).samples
    by_two = read_arrays(made, "")
    (folder,) = study.files(run).checkpoints.glob("samples-*")
    parts = [name for file in folder.iterdir() for name in read_arrays(file, "")]
    firsts = range(0, study.evaluation.samples, several.AT_ONCE)
    assert sorted(parts) == sorted(f"{key} {first}" for key in by_two for first in firsts), "each part once"
    assert len(list(folder.iterdir())) == 4, "of each process one from before the stop and one from after it"
    made.unlink()
    shutil.rmtree(folder)
    monkeypatch.setattr(sampling, "BATCH", several.AT_ONCE)
    sample(study, run)
    by_one = read_arrays(made, "")
    assert by_one.keys() == by_two.keys()
    assert all((by_one[key] == by_two[key]).all() for key in by_two)


SMOKE = ("--study", "oracle", "--budget", "smoke")


@pytest.fixture
def oracle_data(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """The data of the oracle's smoke budget, in the test's folder."""

    def make(folder: Path) -> None:
        step("prepare", *SMOKE, "--data", "mixture-2d", cwd=folder)

    shutil.copytree(made_by_one(tmp_path_factory, "oracle-data", make), tmp_path, dirs_exist_ok=True)


@pytest.mark.usefixtures("oracle_data")
def test_the_smoke_study_runs_under_torchrun(tmp_path: Path) -> None:
    study = load("oracle", "smoke")
    torchrun("smoke_by_several", cwd=tmp_path)
    for run in study.runs():
        folder = tmp_path / study.files(run).folder
        assert read_record(folder / "metrics.json").status == "finished"
        assert read_json(folder / "training.json", "")["processes"] == 2


@pytest.mark.usefixtures("oracle_data")
def test_a_run_of_a_shipped_study_is_handed_to_torchrun(tmp_path: Path) -> None:
    run = (*SMOKE, "--arm", "scd-fp32", "--seed", "0")
    step("run", *run, "--processes", "2", cwd=tmp_path)
    folder = tmp_path / "results" / "oracle-smoke" / "runs" / "scd-fp32" / "seed-0"
    several_record, several_training = (read_json(folder / name, "") for name in ("metrics.json", "training.json"))
    assert several_record["status"] == "finished"
    assert several_training["processes"] == 2
    assert not list((tmp_path / "results").glob("**/step-*"))
    weights = read_tensors(folder / "weights.safetensors", "")
    shutil.rmtree(folder)
    step("run", *run, cwd=tmp_path)
    assert read_json(folder / "training.json", "")["processes"] == 1
    alone = read_tensors(folder / "weights.safetensors", "")
    for name, value in weights.items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-3)
