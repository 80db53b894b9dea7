"""Low-rank adapters as an arm's setting: what is trained is the adapter, and what a run leaves is as any run's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.workflow.conftest import saved_every
from trigbench.core.low_rank import merged
from trigbench.core.objectives.regression import Regression
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.checkpoints import remove_all
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import Modules, make_network, started_modules, step_function
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.counts import counts_of
from trigbench.workflow.run.gradients import evaluate_step
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.snapshots import snapshot_samples
from trigbench.workflow.run.task import open_teacher, opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.fingerprint import training_fingerprint
from trigbench.workflow.study.freshness import missing_files, weights_stand
from trigbench.workflow.study.study import Run, Study

BASE, X = Run(arm="base", seed=0), Run(arm="x", seed=0)
LORA = {"objective": "lcm", "skip": 100, "teacher": "base", "start": "teacher", "adapter": {"rank": 2}, "rate": 0.01}


@pytest.fixture(autouse=True)
def _shapes_unchecked(unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Small steps: checking shapes at each would take most of the time (other modules check them)."""
    with unchecked():
        yield


@pytest.fixture
def adapted(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """A study of a diffusion arm `base`, trained, and of `x`, as LORA but for what is said."""

    def make(**changed: object) -> Study:
        arms = {"base": {"objective": "diffusion", "iterations": 4}, "x": {**LORA, **changed}}
        tiny["arms"] = {name: {k: v for k, v in arm.items() if v is not None} for name, arm in arms.items()}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
        study = with_data(tiny)
        train(study, BASE)
        return study

    return make


def left(study: Study, run: Run, name: str = "weights") -> dict[str, Tensor]:
    return read_tensors(getattr(study.files(run), name), "")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def modules_of(study: Study, run: Run = X) -> tuple[Modules, Callable[..., Regression]]:
    task = opened(study, run)
    task = train_module.replace(task, teacher=open_teacher(task))
    modules = started_modules(task)
    return modules, step_function(task, modules)


@pytest.mark.slow
def test_a_run_leaves_its_adapter_and_the_weights_that_it_makes(adapted) -> None:
    study = adapted(snapshots=2)
    base = left(study, BASE)
    train(study, X)
    adapter, weights, snapshots = (left(study, X, name) for name in ("adapter", "weights", "snapshots"))
    assert same(left(study, BASE), base), "its own file is as it was"
    matrices = {name for name, weight in base.items() if weight.ndim > 1}
    assert adapter.keys() == {f"{name}.{part}" for name in matrices for part in ("down", "up")}
    assert same(weights, merged(base, (adapter, 1.0)))
    assert all(torch.equal(weights[name], base[name]) for name in base.keys() - matrices), "biases are frozen"
    changes = [weights[name] - base[name] for name in sorted(matrices)]
    assert all(0 < int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= 2 for change in changes)
    last = {name.removeprefix("30/"): value for name, value in snapshots.items() if name.startswith("30/")}
    assert same(last, weights) and {name.split("/")[0] for name in snapshots} == {"15", "30"}
    drawn = draw_samples(opened(study, X), weights, study.samplings("x"), 8)
    assert all(bool(samples.isfinite().all()) for samples in drawn.values())
    assert [step for step, _ in snapshot_samples(study, X, [], 4)] == [15, 30]


def test_a_new_adapter_is_the_start_and_its_seed_is_the_run_s(adapted) -> None:
    study = adapted()
    modules, _ = modules_of(study)
    assert same(modules.kept(), left(study, BASE))
    with modules.adapted():
        assert same(modules.kept(), left(study, BASE)), "inside as outside"
    other, _ = modules_of(study, Run(arm="x", seed=0))
    assert same(modules.own(), other.own())
    assert all(bool(part.any()) == name.endswith(".down") for name, part in modules.own().items())


@pytest.mark.parametrize(
    "arm",
    [
        {},
        {"objective": "scd", "skip": None, "tangent_method": "func", "adaptive_weight": True},
        {"objective": "scd", "skip": None, "tangent_method": "pairs"},
        {"objective": "diffusion", "skip": None, "teacher": None, "start": "base"},
        {"objective": "ms_scd", "skip": None, "segments": 2},
    ],
    ids=["lcm", "scd", "pairs", "diffusion", "two times"],
)
def test_the_gradient_is_autograd_s_through_the_weights_that_are_made(adapted, arm: dict) -> None:
    """The whole gradient of the merged weights G, brought to the factors by hand: up^T G and G down^T."""
    study = adapted(**arm)
    modules, objective = modules_of(study)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, part in modules.adapter.items():
            part.copy_(0.1 * torch.randn(part.shape, generator=g)) if name.endswith(".up") else None
    names = [name.removesuffix(".up") for name in modules.adapter if name.endswith(".up")]
    with modules.adapted():
        found = torch.autograd.grad(objective(1, {}).loss, list(modules.own().values()))
    by_name = dict(zip(modules.own(), found, strict=True))

    made = modules.kept()
    with torch.no_grad():
        for name, parameter in modules.student.named_parameters():
            parameter.copy_(made[name])
    whole = Modules(modules.student, modules.extras)
    task = opened(study, X)
    task = train_module.replace(task, teacher=open_teacher(task))
    loss = step_function(task, whole)(1, {}).loss
    of_weights = dict(zip(names, torch.autograd.grad(loss, [whole.own()[name] for name in names]), strict=True))
    for name, gradient in of_weights.items():
        up, down = modules.adapter[f"{name}.up"].detach(), modules.adapter[f"{name}.down"].detach()
        flat = gradient.reshape(len(up), -1)
        for part, expected in (("up", flat @ down.T), ("down", up.T @ flat)):
            torch.testing.assert_close(by_name[f"{name}.{part}"], expected, rtol=1e-4, atol=1e-6)
    assert any(bool(gradient.abs().max() > 1e-4) for gradient in found)


class Checkpointed(nn.Module):
    """Computes its hidden layer again in the backward pass."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.hidden, self.out, self.again = nn.Linear(3, 12), nn.Linear(12, 2), again

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        given = torch.cat([x, t[:, None].to(x.dtype)], dim=1)
        inner = lambda z: torch.tanh(self.hidden(z)).square()  # noqa: E731
        hidden = checkpoint(inner, given, use_reentrant=False) if self.again else inner(given)
        return self.out(hidden)


def checkpointed(again: bool = True) -> nn.Module:
    return Checkpointed(again)


class Unknown(nn.Module):
    """Of a matrix that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.layer = nn.Parameter(torch.eye(2)), nn.Linear(2, 2)

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        return self.layer(x @ self.matrix)


@pytest.mark.slow
def test_what_computes_again_in_the_backward_pass_finds_the_adapter(tiny: dict, adapted) -> None:
    found = []
    for again in (True, False):
        network = {"network": f"{__name__}:checkpointed", "settings": {"again": again}}
        tiny["sizes"]["small"] = network
        study = adapted(objective="diffusion", skip=None, teacher=None, start="base", iterations=5)
        train(study, X)
        found.append(left(study, X))
    assert same(*found)


def test_a_network_that_cannot_be_adapted_is_refused_before_its_teacher_trains(tiny: dict, adapted) -> None:
    tiny["sizes"]["small"] = {"network": f"{__name__}:Unknown"}
    with pytest.raises(BenchError) as caught:
        adapted()
    assert caught.value.said["key"] == "arms.x.adapter" and "matrix (2, 2)" in caught.value.said["problem"]
    assert caught.value.said["file"].endswith("tiny.yaml") and "remove 'adapter'" in caught.value.said["remedy"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"start": None}, "an 'adapter' is of trained weights, and 'start' draws random ones"),
        ({"adapter": {"rank": 0}}, "key:    arms.x.adapter.rank"),
        ({"adapter": {"rank": 2, "alpha": 4}}, "key:    arms.x.adapter.alpha"),
        ({"adapter": 4}, "key:    arms.x.adapter"),
    ],
)
def test_what_is_no_adapter_is_refused_in_reading(adapted, changed: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said.replace(".", r"\.")):
        adapted(**changed)


def test_an_adapter_may_be_of_weights_of_other_data_and_all_parameters_may_not(tiny: dict, adapted) -> None:
    other = tiny["data"]["mixture"] | {"seed": 5}
    tiny["data"] |= {"other": other, "wide": other | {"dimension": 3}}
    diffusion = {"objective": "diffusion", "skip": None, "teacher": None, "start": "base"}
    assert adapted(**diffusion, data="other").arms["x"].data == "other"
    for refused in ({"data": "other", "adapter": None}, {"data": "wide"}):
        with pytest.raises(BenchError, match="'base' is on data 'mixture'"):
            adapted(**diffusion | refused)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arm",
    [
        {"snapshots": 3},
        {"objective": "ct", "skip": None, "points": [4, 8], "target_decay": 0.9, "teacher": None, "start": "base"},
        {"objective": "vsd", "skip": None, "adaptive_weight": True},
    ],
    ids=["lcm", "ct", "vsd"],
)
def test_a_run_that_breaks_off_ends_with_the_same_bits(adapted, monkeypatch, arm: dict) -> None:
    study = adapted(**arm)
    names = ["weights", "adapter", *(["snapshots"] if "snapshots" in arm else [])]
    train(study, X)
    expected = {name: left(study, X, name) for name in names}
    remove_all(study.files(X).checkpoints)
    evaluated = train_module.evaluate_step

    def stopping(objective, step, *rest):
        if step == 25:
            raise KeyboardInterrupt
        return evaluated(objective, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "evaluate_step", stopping)
        train(saved_every(study, 10), X)
    assert any(study.files(X).checkpoints.glob("step-*20*.json"))
    train(saved_every(study, 10), X)
    assert all(same(left(study, X, name), expected[name]) for name in names)


def test_parts_of_a_batch_add_up_and_the_fake_trains_all_of_its_parameters(adapted) -> None:
    study = adapted(objective="vsd", skip=None, microbatch=5)
    modules, objective = modules_of(study)
    task, parameters = opened(study, X), list(modules.parameters().values())
    batch = draw_batch(task, 1)
    _, in_parts = evaluate_step(objective, 1, batch, {}, parameters, task, modules)
    whole = train_module.replace(task, arm=task.arm.model_copy(update={"microbatch": None}))
    _, at_once = evaluate_step(objective, 1, batch, {}, parameters, whole, modules)
    for name, one, other in zip(modules.parameters(), in_parts, at_once, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)
    fake = {name for name in modules.parameters() if name.startswith("fake.")}
    assert fake == {f"fake.{name}" for name, _ in modules.extras["fake"].named_parameters()}


@pytest.mark.slow
def test_the_adapter_s_file_is_asked_for_and_an_adapter_says_what_a_run_is(adapted) -> None:
    study = adapted()
    train(study, X)
    assert weights_stand(study, X) and study.files(X).adapter not in missing_files(study, X)
    study.files(X).adapter.unlink()
    assert not weights_stand(study, X) and study.files(X).adapter in missing_files(study, X)
    said = study.training_specification(X)["arm"]
    assert said["adapter"] == {"rank": 2} and "adapter" not in study.training_specification(BASE)["arm"]
    plain = {**study.training_specification(X), "arm": {k: v for k, v in said.items() if k != "adapter"}}
    assert training_fingerprint(plain) != training_fingerprint(study.training_specification(X))


def test_an_adapter_s_run_is_estimated_by_what_is_trained(adapted) -> None:
    study = adapted()
    counts = counts_of(opened(study, X))
    assert counts.trained == sum(part.numel() for part in modules_of(study)[0].own().values())
    assert counts.parameters == sum(p.numel() for p in make_network(opened(study, X)).parameters())
    assert counts_of(opened(study, BASE)).trained == counts.parameters
