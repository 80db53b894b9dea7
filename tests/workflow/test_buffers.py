"""Networks that carry state in buffers, and code of one's own that draws: what is kept of the first, and that the
second does not depend on what came before."""

import itertools
import random
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.workflow.conftest import saved_every, say_drawn
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.objectives.diffusion import DiffusionSettings, diffusion
from trigbench.core.objectives.regression import Regression
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.own import OwnData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.checkpoints import remove_all
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run import evaluation as evaluate_module
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import make_network, student_field
from trigbench.workflow.run.distributed import World
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import checkpoint_mark, train
from trigbench.workflow.run.weights import buffers_of, checksum, kept_of
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)


class Net(nn.Module):
    """x and t through one hidden layer, which `norm` is put on."""

    def __init__(self, hidden: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.hidden, self.after = hidden, after or nn.Identity()
        self.out = nn.Linear(12, 2)

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        given = torch.cat([x, t[:, None].to(x.dtype)], dim=1)
        return self.out(torch.tanh(self.after(self.hidden(given))))


class Constants(nn.Module):
    """Buffers of every kind that own networks have: masks with infinities, views of one tensor, none, expanded ones."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        first, second = torch.arange(6.0).chunk(2)
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        self.register_buffer("wide", torch.ones(1).expand(4))
        self.register_buffer("kind", torch.tensor(True))
        self.register_buffer("nothing", None)
        self.register_buffer("made", torch.randn(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Counting(nn.Module):
    """Counts its evaluations, in training and out of it, and puts another tensor in the buffer's place."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + 1
        return x * (1 + 0.01 * self.seen)


class Extra(Net):
    """Keeps a number where no tensor is."""

    def get_extra_state(self) -> int:
        return 1

    def set_extra_state(self, state: int) -> None: ...


def spectral() -> nn.Module:
    return Net(spectral_norm(nn.Linear(3, 12)))


def batch_norm() -> nn.Module:
    return Net(nn.Linear(3, 12), nn.Sequential(nn.BatchNorm1d(12), Constants()))


def instance_norm() -> nn.Module:
    """Its running mean depends on the samples, though its output in training does not."""
    layers = nn.Unflatten(1, (3, 4)), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten()
    return Net(nn.Linear(3, 12), nn.Sequential(*layers))


def counting() -> nn.Module:
    return Net(nn.Linear(3, 12), Counting())


class Late(nn.Module):
    """Makes its buffer, or a longer one, when it is first called."""

    table: Tensor | None

    def __init__(self, table: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        self.table = torch.ones(5)
        return x


def late() -> nn.Module:
    return Net(nn.Linear(3, 12), Late(None))


def growing() -> nn.Module:
    return Net(nn.Linear(3, 12), Late(torch.ones(1)))


def beside() -> nn.Module:
    network = Net(nn.Linear(3, 12))
    network.fake = nn.Linear(1, 1)
    return network


def extra() -> nn.Module:
    return Extra(nn.Linear(3, 12))


def sparse() -> nn.Module:
    network = Net(nn.Linear(3, 12))
    network.register_buffer("adjacency", torch.eye(3).to_sparse())
    return network


@pytest.fixture
def with_network(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """The tiny study with an arm `x` of a network of this file, and its data."""

    def make(network: str, objective: str = "sct", arms: dict | None = None, **settings: object) -> Study:
        tiny["sizes"] = {"own": {"network": f"{__name__}:{network}"}}
        tiny["defaults"] |= {"size": "own", "iterations": 12}
        tiny["arms"] = (arms or {}) | {"x": {"objective": objective, **settings}}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
        return with_data(tiny)

    return make


def _broken_off_after(steps: int, study: Study) -> None:
    real, calls = train_module._update, iter(range(1, 10**6))

    def stopping(*arguments: object):
        if next(calls) > steps:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "_update", stopping)
        train(study, X)


def _end(study: Study) -> dict[str, Tensor]:
    """All that the run ends with: its last checkpoint, weights, and snapshots."""
    found = checkpoints.newest(study.files(X).checkpoints, checkpoint_mark(opened(study, X)))
    assert found is not None and found.step == study.arms["x"].iterations
    tensors = dict(found.tensors)
    for name in ("weights", "snapshots"):
        path = study.files(X).folder / f"{name}.safetensors"
        tensors |= {f"{name} {key}": value for key, value in (read_tensors(path, "") if path.exists() else {}).items()}
    return tensors


KEPT = {
    "sct": {},
    "ct": {"points": [4, 8], "target_decay": 0.9, "snapshots": 3},
    "vsd": {"teacher": "exact"},
}
RESUMED = [("spectral", "sct"), ("spectral", "ct"), ("batch_norm", "ct"), ("spectral", "vsd"), ("counting", "vsd")]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "objective"), RESUMED)
def test_a_run_of_a_network_with_state_that_breaks_off_ends_with_the_same_bits(
    network: str, objective: str, with_network
) -> None:
    study = saved_every(with_network(network, objective, **KEPT[objective]), 5)
    train(study, X)
    whole = _end(study)
    assert any(name.startswith("buffers/") for name in whole)
    remove_all(study.files(X).checkpoints)
    _broken_off_after(8, study)
    train(study, X)
    found = _end(study)
    assert found.keys() == whole.keys()
    assert not [name for name, value in whole.items() if not torch.equal(found[name], value)]


@pytest.mark.slow
@pytest.mark.one_in(2)
@pytest.mark.parametrize("network", ["spectral", "batch_norm"])
def test_weights_and_snapshots_hold_the_student_s_buffers_and_no_average_of_them(network: str, with_network) -> None:
    study = with_network(network, "ct", points=[4, 8], target_decay=0.9, snapshots=3)
    train(study, X)
    end = _end(study)
    own = {name.removeprefix("buffers/"): value for name, value in end.items() if name.startswith("buffers/")}
    assert own and all(torch.equal(end[f"weights {name}"], value) for name, value in own.items())
    assert all(torch.equal(end[f"snapshots 12/{name}"], value) for name, value in own.items())
    moved = [name for name, value in own.items() if not torch.equal(end[f"snapshots 4/{name}"], value)]
    if network == "spectral":
        assert len(moved) == 2
    else:
        assert set(moved) == {f"after.0.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        assert own["after.0.num_batches_tracked"] == 12, "the targets' network counts for itself"
        assert {"after.1.mask", "after.1.kind", "after.1.wide"} <= own.keys()
        assert "after.1.made" not in own


@pytest.mark.slow
def test_a_network_is_judged_and_sampled_with_the_buffers_that_it_was_trained_with(
    with_network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every field that judges see is torch's own module with all its state loaded, and so are samples."""
    study = with_network("spectral", "scd", teacher="exact", rate=0.05, snapshots=2)
    train(study, X)
    sample(study, X)
    task = opened(study, X)
    weights = read_tensors(study.files(X).weights, "")
    loaded = make_network(task, seed=5)
    loaded.load_state_dict(weights)
    x, t = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 1.5, 20)
    expected = loaded(x, t).detach()
    fresh = student_field(task, make_network(task), {n: weights[n] for n, _ in loaded.named_parameters()})
    assert (fresh(x, t) - expected).abs().max() > 1e-3, "with the buffers that the network was made with"
    torch.testing.assert_close(student_field(task, make_network(task), weights)(x, t), expected)
    kind = evaluate_module.kind_module(study.data["mixture"])
    real, seen = kind.judge_map, []
    monkeypatch.setattr(kind, "judge_map", lambda dataset, field: seen.append(field(x, t)) or real(dataset, field))
    record = evaluate(study, X)
    torch.testing.assert_close(seen[0], expected)
    assert record.parameters == sum(p.numel() for p in loaded.parameters())
    patched = draw_samples(task, kept_of(loaded), study.samplings("x"), 64)
    drawn = draw_samples(task, weights, study.samplings("x"), 64)
    assert all(torch.equal(patched[key], drawn[key]) for key in drawn)


@pytest.mark.slow
def test_a_teacher_teaches_with_its_own_buffers_and_is_not_changed_by_it(with_network) -> None:
    """Its count stays what training left, whoever asks it; a student that starts from it starts with its count."""
    arms = {"teacher": {"objective": "diffusion"}}
    study = with_network("counting", "scd", arms, teacher="teacher", start="teacher", iterations=1)
    teacher = Run(arm="teacher", seed=0)
    train(study, teacher)
    file = study.files(teacher).weights
    taught = read_tensors(file, "")
    assert taught["after.seen"] == 12
    seen: list[Tensor] = []
    real = Counting.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "forward", lambda self, x: seen.append(self.seen.clone()) or real(self, x))
        train(study, X)
    assert seen[:2] == [12, 12], "the teacher's and the student's first evaluation"
    assert read_tensors(study.files(X).weights, "")["after.seen"] == 13
    del taught["after.seen"]
    write_tensors(file, taught)
    with pytest.raises(BenchError, match=r"missing: after\.seen"):
        train(study, X)


@pytest.mark.slow
def test_weights_and_checkpoints_without_a_network_s_buffers_are_refused_by_name(with_network) -> None:
    study = saved_every(with_network("spectral"), 6)
    train(study, X)
    sample(study, X)
    file = study.files(X).weights
    weights = read_tensors(file, "")
    write_tensors(file, {name: value for name, value in weights.items() if not name.endswith("_u")})
    say_drawn(study, X)
    for step in (sample, evaluate):
        with pytest.raises(BenchError, match=r"missing: hidden\.parametrizations\.weight\.0\._u") as caught:
            step(study, X)
        assert "delete the run's folder" in str(caught.value)
    folder, mark = study.files(X).checkpoints, checkpoint_mark(opened(study, X))
    found = checkpoints.newest(folder, mark)
    assert found is not None
    tensors = {name: value for name, value in found.tensors.items() if not name.startswith("buffers/")}
    checkpoints.save(folder, mark, found.step, tensors, found.journal)
    with pytest.raises(BenchError, match=r"missing: buffers/hidden"):
        train(study, X)
    checkpoints.save(folder, mark, found.step, {**found.tensors, "buffers/more": torch.ones(1)}, found.journal)
    with pytest.raises(BenchError, match=r"unexpected: buffers/more"):
        train(study, X)


@pytest.mark.parametrize(("network", "name"), [("extra", "_extra_state"), ("sparse", "adjacency")])
def test_state_that_is_no_dense_tensor_is_refused_by_name(network: str, name: str, with_network) -> None:
    study = with_network(network)
    with pytest.raises(BenchError, match=name) as caught:
        train(study, X)
    assert "sizes.own.network" in str(caught.value) and "persistent buffers" in str(caught.value)


def test_a_checksum_is_of_every_bit_and_of_its_place() -> None:
    values = [torch.zeros(40), torch.tensor([True, False]), torch.tensor(7, dtype=torch.int16)]
    sums = [checksum(values, values[0].device).item(), checksum([], values[0].device).item()]
    for place in range(40):
        for bit in range(32):
            changed = values[0].clone()
            changed.view(torch.int32)[place] = -(2**31) if bit == 31 else 1 << bit
            sums.append(checksum([changed, *values[1:]], changed.device).item())
    sums += [checksum(order, values[0].device).item() for order in itertools.permutations(values)][1:]
    assert len(set(sums)) == len(sums) and all(float(number).is_integer() for number in sums)


@pytest.mark.parametrize(
    ("network", "objective", "words"),
    [("late", "sct", "unexpected: after.table"), ("growing", "sct", "after.table"), ("beside", "vsd", "called 'fake'")],
)
def test_state_that_comes_late_or_hides_behind_another_name_is_refused(
    network: str, objective: str, words: str, with_network
) -> None:
    with pytest.raises(BenchError, match=re.escape(words)) as caught:
        train(with_network(network, objective, **KEPT.get(objective, {})), X)
    assert "sizes.own.network" in str(caught.value)


# --- parts of a batch -----------------------------------------------------------------------------


@pytest.mark.slow
def test_buffers_end_as_one_part_leaves_them_and_a_network_of_spectral_norm_trains_in_parts(with_network) -> None:
    found = []
    for microbatch in (None, 5):
        study = with_network("spectral", microbatch=microbatch)
        train(study, X)
        found.append(_end(study))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert len([name for name in found[0] if name.startswith("buffers/")]) == 2


def test_buffers_that_depend_on_the_samples_are_refused_in_parts(with_network, monkeypatch) -> None:
    with pytest.raises(BenchError, match=r"depends on which samples it sees.*after\.1\.running_mean") as caught:
        train(with_network("instance_norm", "diffusion", microbatch=8), X)
    assert "sizes.own.network" in str(caught.value) and "microbatch" in str(caught.value)
    study = with_network("instance_norm", "diffusion")
    assert train(study, X).reason is None
    remove_all(study.files(X).checkpoints)
    monkeypatch.setattr(World, "marks", lambda self, tensors: torch.arange(float(len(list(tensors)))))
    with pytest.raises(BenchError, match="the processes hold other values"):
        train(study, X)


def test_a_field_of_given_buffers_leaves_them_as_they_are() -> None:
    module, x, t = spectral().train(), torch.randn(4, 2), torch.rand(4)
    given = {name: value.clone() for name, value in kept_of(module).items()}
    before = {name: value.clone() for name, value in given.items()}
    field = bind(module, given)
    assert torch.equal(field(x, t), field(x, t))
    assert all(torch.equal(given[name], value) for name, value in before.items())
    assert all(torch.equal(value, before[name]) for name, value in buffers_of(module).items())


# --- code of one's own that draws --------------------------------------------------------------------


def noisy(fields: Fields, x0: Tensor, draws: Draws, settings: DiffusionSettings) -> Regression:
    """Draws from all three global generators."""
    moved = x0 + 0.1 * torch.randn_like(x0) + 0.1 * float(np.random.randn()) + 0.1 * random.gauss(0, 1)
    return diffusion(fields, moved, draws, settings)


def stochastic() -> nn.Module:
    class Stochastic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * torch.randn_like(x) + 0.1 * float(np.random.randn())

    network = Net(nn.Linear(3, 12), Stochastic())
    nn.init.constant_(network.out.bias, float(np.random.randn()) + random.random())
    return network


@pytest.fixture
def disturbed() -> Iterator[Callable[[], None]]:
    """Leaves the global generators somewhere else at every call."""
    count = iter(range(1, 1000))

    def disturb() -> None:
        seed = next(count)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)

    yield disturb


@pytest.mark.slow
@pytest.mark.parametrize("objective", [f"{__name__}:noisy", "diffusion"])
def test_code_of_one_s_own_that_draws_gives_one_result_a_seed(objective: str, with_network, tiny, disturbed) -> None:
    """Twice from the start, and across a kill; of an objective with the project's network, and of a network."""
    study = saved_every(with_network("stochastic", objective), 5)
    if objective != "diffusion":
        plain = study.sizes["own"].model_copy(update={"network": None, "width": 16, "blocks": 1})
        study = study.model_copy(update={"sizes": {"own": plain}})
    ends = []
    for broken in (False, False, True):
        disturbed()
        remove_all(study.files(X).checkpoints)
        if broken:
            _broken_off_after(8, study)
            disturbed()
        train(study, X)
        ends.append(_end(study))
    for other in ends[1:]:
        assert not [name for name, value in ends[0].items() if not torch.equal(other[name], value)]


@pytest.mark.slow
def test_a_network_that_draws_is_sampled_and_judged_the_same_twice(with_network, disturbed) -> None:
    study = with_network("stochastic", "scd", teacher="exact", samplers=["one"])
    train(study, X)
    found = []
    for _ in range(2):
        disturbed()
        sample(study, X)
        disturbed()
        record = evaluate(study, X)
        found.append([(value.metric, value.x, value.value) for value in (*record.metrics, *record.curves)])
    assert found[0] == found[1]


def _torch_s(g: torch.Generator, batch: int) -> Tensor:
    return torch.randn(batch, 2)


def _numpy_s(g: torch.Generator, batch: int) -> Tensor:
    return torch.from_numpy(np.random.randn(batch, 2)).float()


def _python_s(g: torch.Generator, batch: int) -> Tensor:
    return torch.full((batch, 2), random.random())


def _module_s(g: torch.Generator, batch: int, kept=np.random.default_rng(0)) -> Tensor:  # noqa: B008
    return torch.from_numpy(kept.standard_normal((batch, 2))).float()


def _another_of_torch(g: torch.Generator, batch: int, kept=torch.Generator()) -> Tensor:  # noqa: B008
    return torch.randn(batch, 2, generator=kept)


def _its_own(g: torch.Generator, batch: int) -> Tensor:
    return torch.randn(batch, 2, generator=g)


def _seeded_by_it(g: torch.Generator, batch: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(g.initial_seed()).standard_normal((batch, 2))).float()


DRAWN = {"by": _its_own}
"""How `open_dataset`, of this file as a data set of one's own, draws."""


def open_dataset(arrays: dict[str, np.ndarray], sigma_d: float) -> Dataset:
    return Dataset((2,), 0, lambda g, batch: (DRAWN["by"](g, batch), None), lambda x, t: x, arrays)


ALIEN = (_torch_s, _numpy_s, _python_s, _module_s, _another_of_torch)


@pytest.mark.parametrize("draw", [*ALIEN, _its_own, _seeded_by_it])
def test_data_of_one_s_own_that_draw_from_another_generator_are_refused(draw, with_network, monkeypatch) -> None:
    monkeypatch.setitem(DRAWN, "by", draw)
    study = with_network("spectral", "diffusion", iterations=2)
    study = study.model_copy(update={"data": {"mixture": OwnData(kind="own", module=__name__)}})
    if draw not in ALIEN:
        assert train(study, X).step == 2
    else:
        with pytest.raises(BenchError, match=r"drawn from another generator(.|\n)*data\.mixture\.module"):
            train(study, X)
