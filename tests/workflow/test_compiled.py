"""Arms whose steps are compiled: the same gradients, whatever moves; what falls back, and what is said of it.

Graphs run operation by operation here, which shows what is wrong in a graph; `test_inductor...` compile for real.
"""

import dataclasses
import errno
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import grid
from tests.tracing import trace_faster
from tests.workflow.conftest import made_by_one, saved_every
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.trigflow import ProposalGrid
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run import compiled, estimate_table
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import Modules, StepFunction, make_modules, make_network, step_function
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.compiled import Compiled, differentiation, distance, moving
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.estimates import Cost, Rates
from trigbench.workflow.run.gradients import differentiated, evaluate_step
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.run.training import train
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.fingerprint import training_fingerprint
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_training
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)


@pytest.fixture(autouse=True)
def _as_outside_the_tests(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    unchecked: Callable[[], AbstractContextManager[None]],
) -> Iterator[None]:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if "inductor" not in request.node.name:
        monkeypatch.setattr(compiled, "in_one", lambda graph, backend: graph)
        trace_faster(monkeypatch)
    with unchecked():
        yield


@dataclasses.dataclass
class Both:
    """A task's step compiled, and eager."""

    task: Task
    modules: Modules
    objective: StepFunction
    compiled: Compiled

    @classmethod
    def of(cls, task: Task) -> "Both":
        torch.manual_seed(0)
        modules = make_modules(task, None)
        with torch.no_grad():
            for parameter in modules.parameters().values():
                parameter.add_(0.05 * torch.randn_like(parameter))
        objective = step_function(task, modules)
        return cls(task, modules, objective, Compiled(task, modules, objective, Journal()))

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.modules.parameters().values())

    def gradients(self, step: int, factor: float = 0.7, target: dict[str, Tensor] | None = None, **rows: Any) -> Any:
        """(compiled, eager): what is watched and the gradients, from the same buffers; and those that are left."""
        batch = dataclasses.replace(draw_batch(self.task, step), **rows)
        arguments, found = (step, batch, target or {}, self.parameters, factor, self.modules), []
        before = {name: b.clone() for name, b in self.modules.buffers().items()}
        for way in (self.compiled, differentiated):
            for name, buffer in self.modules.buffers().items():
                if not torch.equal(buffer, before[name]):  # an expanded one cannot be written to
                    buffer.copy_(before[name])
            watched, gradients = way(self.objective, *arguments)
            left = [b.clone() for b in self.modules.buffers().values()]
            found.append((watched, [g.detach() for g in gradients], left))
        return found

    def check(self, step: int, most: float = 1e-6, **moved: Any) -> Tensor:
        """Both are the same; returns the gradients in a row."""
        (watched, ours, left), (seen, eager, kept) = self.gradients(step, **moved)
        assert self.compiled.journal.fell_back is None
        assert distance(ours, eager) <= most
        torch.testing.assert_close(watched, seen, rtol=max(most, 1e-5), atol=1e-6, equal_nan=True)
        torch.testing.assert_close(left, kept)
        return torch.cat([g.flatten() for g in ours])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(made_by_one(tmp_path_factory, "grid", grid.grid_study) / "grid.yaml")


def _task(study: Study, network: str, objective: str, **settings: Any) -> Task:
    task = without_data(study, f"{network}-{objective}")
    teacher = study.teacher_run(task.run)
    if teacher is not None:
        torch.manual_seed(1)
        taught = make_network(task.of_arm(teacher.arm))
        with torch.no_grad():
            for parameter in taught.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        task = dataclasses.replace(task, teacher=kept_of(taught))
    return dataclasses.replace(task, arm=task.arm.model_copy(update=settings))


# --- the same gradients -------------------------------------------------------------------------------


@pytest.mark.one_in(30)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_graph_of_every_objective_has_the_eager_gradient_along_training(objective: str, study: Study) -> None:
    both = Both.of(_task(study, "mlp", objective, warmup=20))
    graphs = []
    for step in (1, 12, 29):  # of warm-ups, curricula and stages
        both.check(step)
        graphs.append(len(both.compiled.graphs))
    assert graphs[-1] == (3 if objective == "ect" else graphs[0])


OTHERS = [pair for pair in itertools.product(("scd", "imf"), grid.NETWORKS) if pair[1] != "mlp"]
OTHERS.remove(("scd", "ddpmpp"))  # whose graph the test of what moves makes


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "network"), OTHERS)
def test_a_graph_on_every_other_network_has_the_eager_gradient(objective: str, network: str, study: Study) -> None:
    both = Both.of(_task(study if objective == "scd" else _of_one_level(study), network, objective))
    both.check(1)
    both.check(2)


def _of_one_level(study: Study) -> Study:
    """The study with U-Nets that enlarge nothing: as many kinds of operations but for that, and half as many."""
    one = {"multipliers": [1], "attention": [8]}
    flat = {n: s.model_copy(update={"settings": s.settings | (one if "multipliers" in s.settings else {})})
            for n, s in study.sizes.items()}  # fmt: skip
    return study.model_copy(update={"sizes": flat})


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("tangent", [None, "fp32"])
def test_autocast_and_the_tangent_s_own_precision_are_in_the_graph(precision: str, tangent: str, study: Study) -> None:
    both = Both.of(_task(study, "mlp", "sct", precision=precision, tangent_precision=tangent))
    both.check(1, factor=1024.0)
    halves = {str(node.target) for graph in both.compiled.graphs.values() for node in graph.module.graph.nodes}
    assert any("_to_copy" in name for name in halves)


def test_each_input_of_a_step_changes_it_alone_as_eagerly(one_arm: Callable[..., Study]) -> None:
    study = one_arm("cd", solver="ddim", target_decay=0.9, intervals=8)
    both = Both.of(opened(study, X))
    target = {name: p.detach() * 1.1 for name, p in both.modules.own().items()}
    batch = draw_batch(both.task, 1)
    first = both.check(1, target=target)
    changes: dict[str, dict[str, Any]] = {
        "factor": {"factor": 1.3}, "target": {"target": {name: p * 1.2 for name, p in target.items()}},
        "x0": {"x0": -batch.x0}, "draws": {"draws": dataclasses.replace(batch.draws, uniform=1 - batch.draws.uniform)},
        "noise": {"draws": dataclasses.replace(batch.draws, noise=-batch.draws.noise)},
    }  # fmt: skip
    for name, change in changes.items():
        assert not torch.equal(both.check(1, **dict[str, Any]({"target": target} | change)), first), name
    for parameter in both.parameters:
        with torch.no_grad():
            parameter.mul_(1.1).add_(0.02)
        now = both.check(1, target=target)
        assert not torch.equal(now, first)
        first = now
    assert len(both.compiled.graphs) == 1


@pytest.mark.slow
def test_a_step_s_warm_up_teacher_and_masks_move_in_one_graph(study: Study) -> None:
    size = {"network": "trigbench.core.networks.ddpmpp:DDPMpp", "settings": grid.U_NET | {"dropout": 0.4}}
    sizes = study.sizes | {"mlp": type(study.sizes["mlp"]).model_validate(size)}
    dropped = study.model_copy(update={"sizes": sizes})
    both = Both.of(_task(dropped, "mlp", "scd", warmup=20, batch=4))
    rows = {name: getattr(draw_batch(both.task, 1), name) for name in ("x0", "condition", "keys", "draws")}
    found = [both.check(1, **rows), both.check(9, **rows), both.check(9, **(rows | {"keys": rows["keys"] + 1}))]
    for teacher in both.task.teacher.values():
        teacher.data.mul_(1.1)
    found.append(both.check(9, **rows))
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(found))
    assert len(both.compiled.graphs) == 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize("network", ["spectral", "batch_norm", "counting"])
def test_buffers_are_left_as_an_eager_step_leaves_them(network: str, one_arm: Callable[..., Study], tiny: dict) -> None:
    tiny["sizes"]["own"] = {"network": f"tests.workflow.test_buffers:{network}"}
    both = Both.of(opened(one_arm("ct", size="own", points=[4, 8]), X))
    before = [buffer.clone() for buffer in both.modules.buffers().values()]
    for step in (1, 2):
        both.check(step)
    assert any(not torch.equal(a, b) for a, b in zip(before, both.modules.buffers().values(), strict=True))


def test_a_curriculum_s_grid_has_room_for_its_most_points_and_the_same_draws() -> None:
    edges = torch.tensor([0.0, 0.3, 1.2], dtype=torch.float64)
    grid_of_three = ProposalGrid(edges, torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64))

    @dataclasses.dataclass(frozen=True)
    class Told:
        grid: ProposalGrid
        warmup: float = 0.5

    told = moving(Told(grid_of_three), 6, torch.device("cpu"))
    uniform = torch.linspace(0, 1, 65, dtype=torch.float64)[:-1]
    from trigbench.core.trigflow import draw_interval  # noqa: PLC0415

    assert len(told.grid.angles) == 6
    assert float(told.warmup) == 0.5 and told.warmup.dtype == torch.float64
    for here, there in zip(draw_interval(grid_of_three, uniform), draw_interval(told.grid, uniform), strict=True):
        assert torch.equal(here, there)
    assert moving(Told(grid_of_three), None, torch.device("cpu")).grid is grid_of_three


@pytest.mark.slow
def test_parts_of_a_batch_sum_to_the_whole_s_gradient(one_arm: Callable[..., Study]) -> None:
    both = Both.of(opened(one_arm("sct", microbatch=6, precision="fp16"), X))
    batch = draw_batch(both.task, 1)
    whole = dataclasses.replace(both.task, arm=both.task.arm.model_copy(update={"microbatch": None}))
    found = [
        evaluate_step(both.objective, 1, batch, {}, both.parameters, task, both.modules, way)[1]
        for task, way in ((both.task, both.compiled), (both.task, differentiated), (whole, both.compiled))
    ]
    assert both.compiled.journal.fell_back is None
    assert len(both.compiled.graphs) == 3  # 6, 4 and 16 rows
    assert distance(found[0], found[1]) < 1e-5
    assert distance(found[0], found[2]) < 2e-2


# --- what falls back ----------------------------------------------------------------------------------


class Rolling(nn.Module):
    """Of a network whose output depends on what no graph sees."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind, self.calls = nn.Linear(3, 2), kind, 0

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        self.calls += self.kind == "counts"
        factor = random.random() if self.kind == "draws" else 1 / (1 + self.calls)
        if self.kind == "looks" and x.sum() > 0:
            factor = 2.0
        return factor * self.layer(torch.cat([x, t[:, None]], 1))


def draws() -> nn.Module:
    return Rolling("draws")


def counts() -> nn.Module:
    return Rolling("counts")


def looks() -> nn.Module:
    return Rolling("looks")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "reason"),
    [("draws", "Python or NumPy draws"), ("counts", "or that it counts"), ("looks", "value out of a tracing tensor")],
)
def test_a_network_that_no_graph_can_follow_runs_eagerly_with_one_warning_and_its_reason(
    network: str, reason: str, one_arm: Callable[..., Study], tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny["sizes"]["own"] = {"network": f"tests.workflow.test_compiled:{network}"}
    arm = {"objective": "ct", "size": "own", "points": [4, 8], "iterations": 6}
    study = one_arm(**arm, compile=True)
    train(study, X)
    said = capsys.readouterr().err
    assert said.count("eager, as it cannot be compiled: ") == 1 and reason in said
    record, weights = read_training(study.files(X).training), read_tensors(study.files(X).weights, "")
    assert record.fell_back and reason in record.fell_back and record.fell_back.endswith("(at step 1)")
    assert not record.compiled and record.provenance["steps"] == f"eager: {record.fell_back}"
    if network == "looks":
        study = one_arm(**arm)
        train(study, X)
        eager = read_tensors(study.files(X).weights, "")
        assert all(torch.equal(weights[name], value) for name, value in eager.items())


def _unwarmed(graph: Any, inputs: Any) -> Any:
    """Without the tangent, whatever the warm-up is."""
    told = dataclasses.replace(inputs[3], warmup=torch.zeros((), dtype=torch.float64))
    return graph(*inputs[:3], told, *inputs[4:])


def _of(graph: Any, inputs: Any, change: Callable[..., Any]) -> Any:
    return change(*graph(*inputs))


WRONG: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "gradient": ("gradient is", lambda g, i: _of(g, i, lambda w, d, b: (w, [1.01 * d[0], *d[1:]], b))),
    "tangent": ("gradient is", _unwarmed),
    "loss": ("watched numbers are", lambda g, i: _of(g, i, lambda w, d, b: (1.001 * w, d, b))),
    "clipped": ("watched numbers are", lambda g, i: _of(g, i, lambda w, d, b: (w.nan_to_num(), d, b))),
    "buffers": ("buffers are", lambda g, i: (*g(*i)[:2], {n: b.clone() for n, b in i[1].items()})),
}


@pytest.mark.parametrize(
    "kind", [name if name in ("tangent", "buffers") else pytest.param(name, marks=pytest.mark.slow) for name in WRONG]
)
def test_a_graph_that_does_anything_else_than_an_eager_step_is_refused_with_the_numbers(
    kind: str,
    one_arm: Callable[..., Study],
    tiny: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, change = WRONG[kind]
    monkeypatch.setattr(compiled, "in_one", lambda graph, backend: lambda *inputs: change(graph, inputs))
    tiny["sizes"]["own"] = {"network": "tests.workflow.test_buffers:batch_norm"}
    made = one_arm("ct", size="own", points=[4, 8]) if kind == "buffers" else one_arm("sct", warmup=20)
    both = Both.of(opened(made, X))
    (_, ours, _), (_, eager, _) = both.gradients(1)
    assert all(torch.equal(a, b) for a, b in zip(ours, eager, strict=True))
    reason = both.compiled.journal.fell_back
    assert reason and f"its {words}" in reason
    assert reason.endswith("of the norm from an eager step's, more than 1e-05 (at step 1)")
    both.gradients(2)
    assert capsys.readouterr().err.count("warning") == 1


def test_making_a_graph_leaves_weights_buffers_and_global_draws_as_they_were(one_arm: Callable[..., Study]) -> None:
    both = Both.of(opened(one_arm("sct", warmup=20), X))
    weights, drawn = [p.detach().clone() for p in both.parameters], torch.get_rng_state()
    both.compiled(None, 1, draw_batch(both.task, 1), {}, both.parameters, 1.0, both.modules)
    assert len(both.compiled.graphs) == 1 and torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(p, before) for p, before in zip(both.parameters, weights, strict=True))
    with pytest.raises(ValueError, match="stopped"), compiled._disturbed(both.parameters, 1.0):
        assert not any(torch.equal(p, before) for p, before in zip(both.parameters, weights, strict=True))
        raise ValueError("stopped")
    assert all(torch.equal(p, before) for p, before in zip(both.parameters, weights, strict=True))


def _wrapped(cause: Exception) -> Exception:
    outer = RuntimeError("backend='inductor' raised")
    outer.inner_exception = cause  # type: ignore[attr-defined] - as torch.compile's errors have it
    return outer


def _caused(cause: Exception) -> Exception:
    outer = RuntimeError("it failed")
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), BenchError, "No space left on device"),
        (_wrapped(PermissionError(errno.EACCES, "Permission denied", "a/kernel.so")), BenchError, "write kernel.so"),
        (_caused(OSError(errno.EIO, "Input/output error")), OSError, "Input/output"),
        (RuntimeError("C++ compile error: cannot write: No space left on device"), BenchError, "No space left"),
        (_wrapped(torch.OutOfMemoryError("CUDA out of memory.")), torch.OutOfMemoryError, "CUDA out of memory"),
        (_wrapped(RuntimeError("c++: fatal error: Killed signal terminated program cc1plus")), RuntimeError, "Killed"),
        (_caused(MemoryError("none left")), MemoryError, "none left"),
        (_wrapped(FileNotFoundError(errno.ENOENT, "No such file or directory: 'g++'")), None, "backend="),
        (RuntimeError("value out of a tracing tensor"), None, "tracing tensor"),
    ],
)
def test_what_may_pass_is_raised_and_makes_no_run_eager_for_good(
    error: Exception,
    raised: type[Exception] | None,
    words: str,
    one_arm: Callable[..., Study],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = Both.of(opened(one_arm("sct"), X))

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(compiled, "traced", fails)
    asked = (None, 1, draw_batch(both.task, 1), {}, both.parameters, 1.0, both.modules)
    if raised is None:
        both.compiled(*asked)
        assert both.compiled.journal.fell_back and words in both.compiled.journal.fell_back
        return
    with pytest.raises(raised, match=words) as told:
        both.compiled(*asked)
    assert both.compiled.journal.fell_back is None
    assert not isinstance(told.value, BenchError) or told.value.again


def test_a_run_with_more_kinds_of_inputs_than_graphs_falls_back(
    one_arm: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Both.of(opened(one_arm("sct", microbatch=6), X))
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 1)
    batch = draw_batch(both.task, 1)
    for rows in (2, 3, 2, 4):
        both.compiled(None, 1, batch.rows(0, rows), {}, both.parameters, 1.0, both.modules)
        assert (both.compiled.journal.fell_back is None) == (rows < 4)
    assert "compiled for 2 kinds of inputs" in str(both.compiled.journal.fell_back)
    assert len(both.compiled.graphs) == 2


def test_the_tolerance_is_that_of_the_coarsest_numbers_on_the_task_s_device(one_arm: Callable[..., Study]) -> None:
    task = opened(one_arm("sct"), X)

    def tolerance(device: str, **settings: Any) -> float:
        return compiled.tolerance(task.arm.model_copy(update=settings), torch.device(device))

    assert tolerance("cuda") == tolerance("cpu", tf32=True) == 1e-5
    assert tolerance("cuda", tf32=True) == 1e-3
    assert tolerance("cuda", tf32=True, precision="bf16") == tolerance("cpu", tangent_precision="bf16") == 0.15


# --- whole runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_run_killed_after_a_checkpoint_ends_with_the_same_bits_and_says_compiled(
    one_arm: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = saved_every(one_arm("sct", iterations=40, warmup=36, compile=True, adaptive_weight=True, snapshots=2), 10)
    train(study, X)
    assert capsys.readouterr().err.count("compiling") == 1
    record, expected = read_training(study.files(X).training), read_tensors(study.files(X).weights, "")
    assert record.compiled and record.fell_back is None and record.provenance["steps"] == "compiled"
    assert study.files(X).snapshots.is_file()
    again = _killed_and_gone_on_with(study, capsys)
    assert read_training(study.files(X).training).provenance["steps"] == "compiled"
    assert all(torch.equal(expected[n], value) for n, value in again.items())


def _killed_and_gone_on_with(study: Study, capsys: pytest.CaptureFixture[str]) -> dict[str, Tensor]:
    """The weights of a finished run that was killed after its last checkpoint but one, and made its graph again."""
    iterations = study.arms["x"].iterations
    for path in study.files(X).checkpoints.glob(f"step-{iterations:08d}*"):  # of the two that are kept
        path.unlink()
    study.files(X).training.unlink()
    train(study, X)
    said = capsys.readouterr().err
    assert "resuming x seed 0 from step" in said and said.count("compiling") == 1
    return read_tensors(study.files(X).weights, "")


def test_a_run_that_fell_back_goes_on_eagerly_and_stays_marked(one_arm: Callable[..., Study]) -> None:
    task = opened(one_arm("sct", compile=True), X)
    both = Both.of(task)
    assert isinstance(differentiation(task, both.modules, both.objective, Journal()), Compiled)
    elsewhere = Journal(compiled=False)
    assert differentiation(task, both.modules, both.objective, elsewhere) is differentiated
    assert elsewhere.fell_back == "some of its steps ran on another device"
    fallen = Journal(compiled=True, fell_back="it could not")
    assert differentiation(task, both.modules, both.objective, fallen) is differentiated
    assert compiled.ran(task.arm, train_module.World(task.device), fallen) == {
        "compiled": False,
        "fell_back": "it could not",
    }


def test_a_compiled_arm_is_another_run_and_one_that_says_nothing_is_what_it_was(one_arm: Callable[..., Study]) -> None:
    plain, made = one_arm("sct").training_specification(X), one_arm("sct", compile=True).training_specification(X)
    assert "compile" not in plain["arm"] and made["arm"].pop("compile") is True
    assert plain == made
    assert training_fingerprint(plain) != training_fingerprint(one_arm("sct", compile=True).training_specification(X))


def test_an_arm_is_compiled_where_it_says_so_else_on_a_gpu(one_arm: Callable[..., Study]) -> None:
    arm = one_arm("sct").arms["x"]
    for said, on_cpu, on_gpu in ((None, False, True), (True, True, True), (False, False, False)):
        asked = arm.model_copy(update={"compile": said})
        assert compiled.is_compiled(asked, torch.device("cpu")) is on_cpu
        assert compiled.is_compiled(asked, torch.device("cuda")) is on_gpu


def test_more_stages_than_graphs_are_refused_in_reading(one_arm: Callable[..., Study]) -> None:
    assert one_arm("ect", stages=8, compile=True)
    with pytest.raises(BenchError, match="each of 9 stages"):
        one_arm("ect", stages=9, compile=True)


def test_an_estimate_names_the_arms_for_which_compiling_pays(one_arm: Callable[..., Study]) -> None:
    study = one_arm("sct")
    long, short = (Cost("x", 2, 0, 2e9 * seconds, 0.0, Rates(1e9, 1e9), False, 0, 0) for seconds in (1000, 500))
    assert "would pay on this CPU: x." in estimate_table.to_compile(study, [long])
    assert not estimate_table.to_compile(study, [short])
    assert not estimate_table.to_compile(one_arm("sct", compile=False), [long])


@pytest.mark.parametrize("network", grid.NETWORKS)
def test_compiling_is_not_said_to_pay_where_convolutions_are_most_of_a_network(network: str, study: Study) -> None:
    assert estimate_table.convolves(_task(study, network, "sct")) is (network in ("ddpmpp", "edm2"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_trains_a_run_that_goes_on_to_the_same_bits_and_its_files_are_below_results(
    one_arm: Callable[..., Study], capsys: pytest.CaptureFixture[str]
) -> None:
    study = saved_every(one_arm("diffusion", iterations=4, compile=True), 2)  # tangents: tests/core/test_compiled.py
    train(study, X)
    record, expected = read_training(study.files(X).training), read_tensors(study.files(X).weights, "")
    assert record.compiled, record.fell_back
    assert any(Path("results/.compiled").iterdir())
    capsys.readouterr()
    torch._dynamo.reset()
    again = _killed_and_gone_on_with(study, capsys)
    assert read_training(study.files(X).training).compiled
    assert all(torch.equal(expected[n], value) for n, value in again.items())
