"""Devices, batches by sample, parts of a batch, the tangent's own precision, and what a step waits for."""

import dataclasses
import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.workflow import several
from tests.workflow.conftest import step
from trigbench.core.condition import UNTOLD
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.tangents import Apart, derivative_along
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints, devices
from trigbench.workflow.machine.checkpoints import Piece
from trigbench.workflow.machine.files import read_json
from trigbench.workflow.run import batches, gradients, journal, sampling
from trigbench.workflow.run import task as task_module
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import make_modules, make_network, step_function, student_field
from trigbench.workflow.run.batches import Batch, ahead, draw_batch, mapped
from trigbench.workflow.run.distributed import World
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import Sampler
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)
IMAGE = {
    "network": "trigbench.core.networks.ddpmpp:DDPMpp",
    "settings": {"width": 16, "multipliers": [1, 1], "blocks": 1, "attention": [4], "dropout": 0.3},
}


@pytest.fixture
def prepared(one_arm: Callable[..., Study]) -> Callable[..., Study]:
    """The tiny study with one arm, `x`, with a target of its own where its method may have one."""
    extra = {"cd": {"solver": "ddim"}, "ct": {"target_decay": 0.9}, "ctm": {"solver": "ddim", "target_decay": 0.9}}
    return lambda objective, **settings: one_arm(objective, **(extra.get(objective, {}) | settings))


def _flat(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    mapped(lambda value: found.append(value) or value, batch)
    return found


# --- devices -----------------------------------------------------------------------------------------


def _devices(monkeypatch, count: int, rank: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)


@pytest.mark.parametrize(
    ("asked", "count", "rank", "expected"),
    [
        ("auto", 0, None, "cpu"), ("auto", 2, None, "cuda:0"), ("auto", 2, "1", "cuda:1"), ("cpu", 2, "1", "cpu"),
        ("cuda", 1, "0", "cuda:0"),
    ],
)  # fmt: skip
def test_auto_is_the_process_s_own_gpu_where_there_is_one(
    asked: str, count: int, rank: str | None, expected: str, tiny, write_study, monkeypatch
) -> None:
    study = load(write_study(tiny | {"device": asked}))
    _devices(monkeypatch, count, rank)
    assert str(devices.device_of(study.device, study.file)) == expected


@pytest.mark.parametrize(("asked", "count", "rank"), [("cuda", 0, None), ("auto", 2, "2")])
def test_a_gpu_that_is_not_there_is_said_before_anything_is_computed(
    asked: str, count: int, rank: str | None, tiny, write_study, monkeypatch
) -> None:
    study = load(write_study(tiny | {"device": asked}))
    _devices(monkeypatch, count, rank)
    with pytest.raises(BenchError, match=r"(?s)there is no CUDA device.*key:    device.*--device cpu"):
        devices.device_of(study.device, study.file)


def _elsewhere(monkeypatch) -> None:
    """A device that computes nothing, and refuses what is on another, stands in for a GPU; it has no autocast."""
    real = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda kind, **how: nullcontext() if kind == "meta" else real(kind, **how))
    monkeypatch.setattr(task_module, "device_of", lambda *asked: torch.device("meta"))


@pytest.mark.one_in(11)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_of_every_objective_has_all_its_tensors_on_the_device(objective: str, prepared, monkeypatch) -> None:
    adaptive = {"adaptive_weight": True} if OBJECTIVES[objective].log_weights else {}
    study = prepared(objective, **adaptive)
    task = opened(study, X)
    _elsewhere(monkeypatch)
    modules = make_modules(task, None)
    target = {name: p.detach() for name, p in modules.student.named_parameters()} if task.arm.target_decay else {}
    regression = step_function(task, modules)(1, target)
    gradients = torch.autograd.grad(regression.loss, list(modules.parameters().values()), materialize_grads=True)
    assert {t.device.type for t in (regression.loss, regression.direction_norm, *gradients)} == {"meta"}


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        ("scd", {"solver": "few", "times": [[1.1]]}),
        ("ms_scd", {"solver": "segments"}),
        ("diffusion", {"solver": "ddim", "evaluations": [3]}),
    ],
)
def test_sampling_has_all_its_tensors_on_the_device(objective: str, sampler: dict, prepared, monkeypatch) -> None:
    study = prepared(objective)
    study = study.model_copy(update={"samplers": {"s": Sampler.model_validate(sampler)}})
    arm = study.arms["x"].model_copy(update={"samplers": ("s",)})
    study = study.model_copy(update={"arms": {"x": arm}})
    _elsewhere(monkeypatch)
    task = opened(study, X)
    network = make_network(task)
    noise = torch.zeros(2, 5, 2, device="meta")
    (way,) = study.samplings("x")
    with torch.no_grad():
        made = sampling.draw(task, network, dict(network.named_parameters()), UNTOLD, noise, [], way)
    assert (made.device.type, made.shape) == ("meta", (5, 2))


def test_judges_hand_points_on_the_cpu_to_a_field_elsewhere() -> None:
    seen = []

    def field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append((x.device.type, t.device.type))
        return torch.zeros(x.shape)  # what a copy back would give

    assert devices.carried(field, torch.device("meta"))(torch.ones(2), torch.ones(2)).device.type == "cpu"
    assert seen == [("meta", "meta")]


# --- batches -----------------------------------------------------------------------------------------


def test_draws_of_present_batches_are_the_bits_that_they_always_were(prepared) -> None:
    task = opened(prepared("vsd"), X)
    batch = draw_batch(task, step=3)
    normal = lambda purpose: torch.randn(16, 2, generator=generator(0, 3, purpose))  # noqa: E731
    assert torch.equal(batch.x0, task.data.draw(generator(0, 3, "data"), 16)[0])
    for prefix, draws in (("", batch.draws), ("score ", batch.draws.score), ("fake ", batch.draws.fake)):
        uniform = torch.rand(16, generator=generator(0, 3, f"{prefix}time"), dtype=torch.float64)
        assert draws is not None
        assert torch.equal(draws.uniform, uniform)
        assert torch.equal(draws.noise, normal(f"{prefix}noise"))
    assert batch.draws.start is not None
    assert torch.equal(batch.draws.start, normal("start"))
    assert batches.BLOCK >= 128, "the shipped studies draw a batch in one block"


@pytest.mark.parametrize("objective", ["vsd", "scd"])
def test_a_row_is_drawn_the_same_whoever_draws_it(objective: str, prepared, monkeypatch) -> None:
    study = prepared(objective, batch=23)
    monkeypatch.setattr(batches, "BLOCK", 8)
    task = opened(study, X)
    whole = draw_batch(task, step=2)
    assert len(whole) == 23
    assert len(whole.x0.unique(dim=0)) == len(whole.keys.unique()) == 23, "blocks have draws of their own"
    for rows in (range(0, 8), range(5, 9), range(3, 23), range(22, 23)):
        own = draw_batch(task, 2, rows)
        assert own.first == rows.start
        for found, expected in zip(_flat(own), _flat(whole), strict=True):
            assert torch.equal(found, expected[rows.start : rows.stop])


@pytest.mark.parametrize(("processes", "batch"), [(1, 16), (2, 17), (3, 17), (8, 2048)])
def test_processes_share_a_batch_without_gap_or_overlap(processes: int, batch: int) -> None:
    shares = [World(torch.device("cpu"), rank, processes).share(batch) for rank in range(processes)]
    assert [row for share in shares for row in share] == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_batches_drawn_ahead_are_the_same_and_in_order(prepared) -> None:
    draw = partial(draw_batch, opened(prepared("scd"), X))
    found = list(ahead(draw, range(4, 9)))
    assert len(found) == 5
    for at, batch in zip(range(4, 9), found, strict=True):
        assert torch.equal(batch.draws.noise, draw(at).draws.noise)
    assert list(ahead(draw, range(4, 4))) == []


def test_a_batch_is_drawn_while_the_one_before_is_worked_on() -> None:
    drawn = [threading.Event() for _ in range(3)]

    def draw(step: int) -> Batch:
        drawn[step].set()
        return step  # type: ignore[return-value]

    source = ahead(draw, range(3))
    next(source)
    assert drawn[1].wait(30)
    assert not drawn[2].is_set(), "one batch ahead, and no more"


# --- EDM2 ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_step_of_edm2_starts_with_weights_of_unit_magnitude(prepared, tiny, monkeypatch) -> None:
    tiny["sizes"]["image"] = several.SIZES["image"]
    study = prepared("sct", size="image", iterations=3, rate=0.1)
    monkeypatch.setattr(train_module, "opened", several.doubled)
    real, seen = train_module.evaluate_step, []

    def watched(objective, step, batch, target, parameters, *others):
        seen.append(torch.cat([p.detach().square().mean((1, 2, 3)).sqrt() for p in parameters if p.ndim == 4]))
        return real(objective, step, batch, target, parameters, *others)

    monkeypatch.setattr(train_module, "evaluate_step", watched)
    train(study, X)
    assert len(seen) == 3
    for magnitudes in seen:
        torch.testing.assert_close(magnitudes, torch.ones_like(magnitudes), rtol=1e-3, atol=0)
    weights = _ending(study)
    after = torch.cat(
        [w.square().mean((1, 2, 3)).sqrt() for n, w in weights.items() if "parameters/" in n and w.ndim == 4]
    )
    assert (after - 1).abs().max() > 0.01, "a step moves them"


# --- float16 -----------------------------------------------------------------------------------------


def test_gradients_of_a_float16_network_do_not_vanish_in_a_large_batch(prepared) -> None:
    """Of 8 rows of a batch of 2^24: unscaled, the gradient at the output is below float16's smallest number."""
    study = prepared("sct", precision="fp16")
    half = study.arms["x"].model_copy(update={"batch": 2**24})
    large = opened(study, X, half)
    batch, found = draw_batch(large, 1, range(8)), []
    for arm in (half.model_copy(update={"precision": "fp32"}), half):
        task = dataclasses.replace(large, arm=arm)
        modules = make_modules(task, None)
        torch.nn.init.normal_(
            modules.student.get_parameter("project.weight"), generator=torch.Generator().manual_seed(0)
        )
        objective = step_function(task, modules)
        parameters = list(modules.parameters().values())
        found.append(train_module.evaluate_step(objective, 1, batch, {}, parameters, task, modules)[1])
    for exact, scaled in zip(*found, strict=True):
        assert scaled.dtype == torch.float32
        assert (scaled - exact).norm() <= 0.05 * exact.norm()
    assert sum(float(exact.norm()) for exact in found[0]) > 0
    assert gradients.loss_scale(half, 2) == 2.0**21
    assert gradients.loss_scale(half.model_copy(update={"batch": 4}), 2) == 1


# --- parts of a batch --------------------------------------------------------------------------------


def _ending(study: Study) -> dict[str, torch.Tensor]:
    found = checkpoints.newest(study.files(X).checkpoints, several.mark_of(study, "x"))
    assert found is not None
    tensors = dict(found.tensors)
    checkpoints.remove_all(study.files(X).checkpoints)
    return tensors


@pytest.mark.one_in(25)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_in_parts_trains_as_a_whole_one_does(objective: str, prepared, unchecked) -> None:
    endings = []
    adaptive = {"adaptive_weight": True} if OBJECTIVES[objective].log_weights else {}
    group = OBJECTIVES[objective].group
    part = group.default if group else 5
    for settings in ({}, {"microbatch": part}):
        study = prepared(objective, iterations=3, rate=1e-2, **adaptive, **settings)
        with several.float64(), unchecked():
            train(study, X)
        endings.append(_ending(study))
    assert endings[0].keys() == endings[1].keys()
    for name, whole in endings[0].items():
        torch.testing.assert_close(endings[1][name], whole, rtol=0, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.slow
def test_dropout_s_masks_do_not_depend_on_the_parts(prepared, tiny) -> None:
    tiny["sizes"]["image"] = IMAGE
    endings = []
    for settings in ({}, {"microbatch": 5}, {"microbatch": 5, "batch": 15}):
        study = prepared("sct", size="image", iterations=3, rate=1e-2, **settings)
        with several.float64():
            train(study, X)
        endings.append(torch.cat([value.flatten() for name, value in _ending(study).items() if name[:5] == "first"]))
    torch.testing.assert_close(endings[0], endings[1], rtol=0, atol=1e-10)
    assert not torch.allclose(endings[0], endings[2], rtol=0, atol=1e-6)


def test_a_network_is_sampled_and_teaches_without_dropout(prepared, tiny) -> None:
    tiny["sizes"]["image"] = IMAGE
    study = prepared("sct", size="image")
    task = opened(study, X)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, shape=(1, 8, 8)))
    assert not any(module.training for module in make_network(task).modules())
    assert make_modules(task, None).student.training


def _normed(shape: tuple[int, ...]) -> torch.nn.Module:
    class Normed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(math.prod(shape))

        def forward(self, x: torch.Tensor, t: torch.Tensor, condition: None = None) -> torch.Tensor:
            return self.norm(x)

    return Normed()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"tangent_method": "difference", "microbatch": 5}, "tangent_method"),
        ({"size": "normed", "microbatch": 5}, "batch norm"),
    ],
)
def test_what_is_no_sum_over_samples_is_refused_in_parts(settings: dict, key: str, prepared, tiny) -> None:
    tiny["sizes"]["normed"] = {"network": "tests.workflow.test_devices:_normed"}
    study = prepared("sct", **settings)
    with pytest.raises(BenchError, match=key):
        train(study, X)
    whole = prepared("sct", **{**settings, "microbatch": 16, "iterations": 2})
    assert train(whole, X).step == 2


def test_how_a_run_is_computed_is_no_part_of_what_it_is(prepared, tiny, write_study) -> None:
    plain = prepared("scd").specification(X)
    assert plain == prepared("scd", microbatch=4, sharded=True).specification(X)
    assert plain == load(write_study(tiny | {"device": "cpu"})).specification(X)
    assert not {"microbatch", "sharded", "tangent_precision", "device"} & set(plain["arm"])
    assert plain != prepared("scd", tangent_precision="fp32").specification(X)


# --- the tangent's own precision ---------------------------------------------------------------------


def test_the_tangent_has_a_precision_of_its_own(prepared) -> None:
    """The value is that of the half-precision network bit for bit, the tangent that of the other."""
    study = prepared("scd", precision="bf16")
    task = opened(study, X)
    network = make_network(task)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=generator(0, *p.shape)), alpha=0.1)
    g = generator(1, "points")
    x, v, t = torch.randn(64, 2, generator=g), torch.randn(64, 2, generator=g), torch.rand(64, generator=g).double()
    found = {}
    for value, tangent in (("bf16", None), ("fp32", None), ("bf16", "fp32"), ("fp32", "bf16")):
        field = student_field(task, network, precision=value, tangent_precision=tangent)
        assert isinstance(field, Apart) == (tangent is not None)
        found[value, tangent] = derivative_along(field, x, t, v, torch.ones_like(t))
    assert torch.equal(found["bf16", "fp32"][0], found["bf16", None][0])
    assert torch.equal(found["bf16", "fp32"][1], found["fp32", None][1])
    assert torch.equal(found["fp32", "bf16"][0], found["fp32", None][0])
    assert torch.equal(found["fp32", "bf16"][1], found["bf16", None][1])
    assert not torch.equal(found["bf16", None][1], found["fp32", None][1])
    assert found["bf16", "fp32"][0].requires_grad
    assert not found["bf16", "fp32"][1].requires_grad


@pytest.mark.slow
def test_an_arm_s_tangent_precision_changes_what_is_trained(prepared) -> None:
    losses = {}
    for settings in ({}, {"tangent_precision": "bf16"}, {"tangent_precision": "fp32"}):
        study = prepared("scd", iterations=5, rate=1e-2, **settings)
        train(study, X)
        losses[settings.get("tangent_precision")] = torch.cat([v.flatten() for v in _ending(study).values()])
    assert torch.equal(losses[None], losses["fp32"]), "fp32 beside fp32 is one pass as ever"
    assert not torch.equal(losses[None], losses["bf16"])


def test_methods_without_a_tangent_take_no_precision_for_it(prepared) -> None:
    with pytest.raises(BenchError, match="takes no 'tangent_precision'"):
        prepared("dscd", tangent_precision="bf16")


# --- checkpoints in parts ----------------------------------------------------------------------------


def _save_in_parts(folder: Path, step: int, whole: dict[str, torch.Tensor]) -> None:
    """As three processes would, of which the last has next to nothing."""
    shapes = {name: list(value.shape) for name, value in whole.items()}
    digests: list[str] = []
    for rank in (1, 2, 0):
        length = {name: -(-value.numel() // 3) for name, value in whole.items()}
        parts = {n: v.flatten()[rank * length[n] : (rank + 1) * length[n]] for n, v in whole.items()}

        def gather(text: str, rank: int = rank) -> list[str]:
            digests.append(text)
            return [text, *digests[:2]] if rank == 0 else []

        checkpoints.save(folder, "f", step, {**parts, "steps/w": torch.tensor(1.0)}, {}, Piece(rank, 3, shapes, gather))


@pytest.mark.parametrize("damage", ["none", "flipped bit", "gone"])
def test_parts_are_read_as_one_and_checked_one_by_one(damage: str, tmp_path: Path, capsys) -> None:
    whole = {"a/w": torch.arange(14.0).reshape(2, 7), "a/scalar": torch.tensor(3.0), "b/v": torch.arange(4.0)}
    checkpoints.save(tmp_path, "f", 10, whole, {})
    _save_in_parts(tmp_path, 20, whole)
    part = tmp_path / "step-00000020.1-of-3.safetensors"
    if damage == "flipped bit":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    elif damage == "gone":
        part.unlink()
    found = checkpoints.newest(tmp_path, "f")
    assert found is not None
    assert found.step == (20 if damage == "none" else 10)
    assert damage == "none" or str(part) in capsys.readouterr().err
    for name, value in whole.items():
        assert torch.equal(found.tensors[name], value)
        assert found.tensors[name].shape == value.shape
    checkpoints.remove_all(tmp_path)
    assert not list(tmp_path.glob("step-*.safetensors"))


# --- throughput --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_says_how_fast_it_was_and_how_long_it_waited(prepared, monkeypatch) -> None:
    """By a clock that moves when a batch is drawn (1 s, nothing computed) and when gradients are computed (2 s)."""
    wall, spent = [100.0], [0.0]
    clock = SimpleNamespace(monotonic=lambda: wall[0], process_time=lambda: spent[0])
    draw, evaluate = train_module.draw_batch, train_module.evaluate_step

    def drawn(*arguments):
        wall[0] += 1.0
        return draw(*arguments)

    def evaluated(*arguments):
        wall[0] += 2.0
        spent[0] += 2.0
        return evaluate(*arguments)

    study = prepared("scd", iterations=10)
    for module in (train_module, journal, devices):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(train_module, "draw_batch", drawn)
    monkeypatch.setattr(train_module, "evaluate_step", evaluated)
    train(study, X)
    found = read_json(study.files(X).training, "")
    assert (found["processes"], found["seconds"]) == (1, 30.0)
    assert found["images_per_second"] == pytest.approx(10 * 16 / 30)
    assert found["waiting_for_data"] == pytest.approx(1 / 3)
    assert found["device_utilisation"] == pytest.approx(2 / 3 / torch.get_num_threads())


def test_a_gpu_is_as_busy_as_nvml_says_and_nobody_knows_without_it(monkeypatch) -> None:
    clock = iter([0.0, 10.0, 14.0, 20.0])
    monkeypatch.setattr(devices.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 75)
    since = devices.busy_clock(torch.device("cuda"))
    assert (since(), since()) == (7.5, 3.0)

    def missing(device):
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    journal = Journal(busy_seconds=10.5)
    journal.add_busy(since())
    assert journal.busy_seconds is None
    journal.add_busy(1.0)
    assert journal.busy_seconds is None


def test_the_help_says_how_to_start_several_processes(tmp_path: Path) -> None:
    said = step("train", "--help", cwd=tmp_path).stdout
    assert "torchrun --standalone --nproc-per-node" in said
    assert "--device" in said
