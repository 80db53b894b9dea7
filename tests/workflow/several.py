"""What test_several_processes.py trains in one process and in two, in float64; and what torchrun starts for it.

torchrun ... several.py STUDY OUT: trains every arm whose name has a dot, and holds gradients against torch's own.
"""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.tracing import trace_faster
from trigbench.core.condition import UNTOLD, Condition
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.objectives.diffusion import DiffusionSettings, diffusion
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.run import compiled, sampling
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import make_modules
from trigbench.workflow.run.distributed import Layout, World, lay_out, world_of
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.state import State, initial, resume, save
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Study

EDM2 = {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.3, "conditioning": "plain"}
SIZES = {
    "small": {"width": 16, "blocks": 1},
    "image": {"network": "trigbench.core.networks.edm2:EDM2", "settings": EDM2},
    "spectral": {"network": "tests.workflow.test_buffers:spectral"},
}
METHODS: dict[str, dict[str, Any]] = {
    "scd": {"objective": "scd", "teacher": "exact", "adaptive_weight": True},
    "sct": {"objective": "sct"},
    "dscd": {"objective": "dscd", "teacher": "exact", "intervals": 8},
    "vsd": {"objective": "vsd", "teacher": "exact", "adaptive_weight": True},
    "ct": {"objective": "ct", "points": [4, 8], "target_decay": 0.9},
    "adapted": {
        "objective": "ct",
        "start": "sct",
        "adapter": {"rank": 2},
        "points": [4, 8],
        "target_decay": 0.9,
        "snapshots": 2,
    },
    "image": {"objective": "sct", "size": "image", "snapshots": 2},
    "spectral": {"objective": "ct", "size": "spectral", "points": [4, 8], "target_decay": 0.9, "snapshots": 2},
}
COPIED = "adapted.fsdp"
"""Whose last checkpoint two processes read and write again: it holds an adapter, and snapshots of whole weights."""
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp-parts": {"microbatch": 3},
    "fsdp": {"sharded": True},
    "fsdp-parts": {"sharded": True, "microbatch": 4},
}
BATCH, STEPS = 17, 6
"""Rows of a batch, which two processes and their parts share unequally; and steps."""
RESUMED: dict[str, dict[str, Any]] = {"resumed.ddp": {}, "resumed.fsdp": {"sharded": True}}
"""From a checkpoint of one process."""
BROKEN: dict[str, dict[str, Any]] = {"broken-fsdp": {"sharded": True}}
"""Left by two processes after step 4."""
STOPPED: dict[str, dict[str, Any]] = {"stopped-ddp": {}, "stopped-fsdp": {"sharded": True}}
"""Left by two processes of which one is out of time after step 1."""
SAMPLED, AT_ONCE = "scd.ddp", 10
"""Whose samples two processes draw, so many at a time."""


COMPILED: dict[str, dict[str, Any]] = {
    "scd.ddp-compiled": METHODS["scd"] | {"microbatch": 3},
    "ct.fsdp-compiled": METHODS["ct"] | {"sharded": True},
    "adapted.ddp-compiled": METHODS["adapted"],
    "spectral.fsdp-compiled": METHODS["spectral"] | {"sharded": True},
}
"""Steps that are graphs, run operation by operation."""


def ways_of(method: str) -> tuple[str, str]:
    """One that shards nothing and one that does, one in whole batches and one in parts: which, is every other's turn.

    So every two of method, sharding and parts stand together, in half of all.
    """
    return (("ddp", "fsdp-parts"), ("ddp-parts", "fsdp"))[list(METHODS).index(method) % 2]


def arms() -> dict[str, dict[str, Any]]:
    """Each method for one process, and `<method>.<way>` for two."""
    found = dict(METHODS)
    for method, settings in METHODS.items():
        found |= {f"{method}.{way}": {**settings, **WAYS[way]} for way in ways_of(method)}
    found |= {name: {**settings, "compile": True} for name, settings in COMPILED.items()}
    return found | {name: {**METHODS["vsd"], **how} for name, how in (RESUMED | BROKEN | STOPPED).items()}


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Networks, draws and data in double precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "opened", doubled)
        patch.setattr(compiled, "in_one", lambda graph, backend: graph)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def doubled(study: Study, run: Run, arm: Arm | None = None) -> Task:
    """On the mixture's velocity with normal data, or on images of nothing but noise."""
    task = opened(study, run, arm)
    shape = (1, 8, 8) if task.arm.size == "image" else (2,)

    def draw(g: torch.Generator, count: int) -> tuple[Tensor, Condition]:
        return torch.randn(count, *shape, generator=g), UNTOLD

    return dataclasses.replace(task, data=dataclasses.replace(task.data, shape=shape, draw=draw))


def run_of(name: str) -> Run:
    return Run(arm=name, seed=0)


def mark_of(study: Study, name: str) -> str:
    return train_module.checkpoint_mark(opened(study, run_of(name)))


def stop_after(step: int) -> contextlib.AbstractContextManager[Any]:
    """Training breaks off after so many steps."""
    real, patch = train_module._update, pytest.MonkeyPatch.context()

    @contextlib.contextmanager
    def stopping() -> Iterator[None]:
        def update(state: State, gradients: Any, arm: Arm, now: int) -> State:
            if now > step:
                raise KeyboardInterrupt
            return real(state, gradients, arm, now)

        with patch as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(train_module, "_update", update)
            yield

    return stopping()


def main(study: Study, out: Path) -> None:
    """All that needs two processes, in one start."""
    torch.set_num_threads(1)
    held: dict[str, dict[str, int]] = {}

    def recording(modules: Any, layout: Layout, arm: Arm) -> State:
        state = initial(modules, layout, arm)
        kinds = {"parameters": state.parameters, "average": state.average, "first": state.optimiser.first}
        kinds |= {"second": state.optimiser.second, "target": state.target, "modules": modules.parameters()}
        held[name] = {kind: sum(tensor.numel() for tensor in tensors.values()) for kind, tensors in kinds.items()}
        return state

    with (
        world_of(torch.device("cpu"), study.resources.patience) as world,
        float64(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(train_module, "initial", recording)
        trace_faster(patch)
        for name in study.arms:
            if "." in name:
                train_module.train(study, run_of(name))
        for given, alike in (
            ([torch.tensor(math.nan), torch.tensor([True, False]), torch.tensor(3)], True),
            ([], True),
            ([torch.tensor(1), torch.tensor(-0.0 if world.rank else 0.0)], False),
            ([torch.arange(2.0).roll(world.rank)], False),
        ):
            assert (len(set(world.total(world.marks(given)).tolist())) == 1) is alike, given
        for name in RESUMED:
            _read_and_write_again(study, name, world, Path("by-one"), 2)
        _read_and_write_again(study, COPIED, world, study.files(run_of(COPIED)).checkpoints, STEPS)
        with stop_after(4):
            name = "broken-fsdp"
            train_module.train(study, run_of(name))
        for name in STOPPED:
            with pytest.raises(BenchError, match="stopped at step 1 of"):
                train_module.train(study, run_of(name), time_limit=0.001 if world.rank else None)
            assert checkpoints.newest(study.files(run_of(name)).checkpoints, mark_of(study, name)), "whole by then"
        patch.setattr(sampling, "BATCH", AT_ONCE)
        with pytest.raises(BenchError, match="stopped in drawing samples"):
            sample(study, run_of(SAMPLED), time_limit=0.001 if world.rank else None)
        sample(study, run_of(SAMPLED))
        _hold_against_torch(world, out)
    write_json(out / f"held-{world.rank}.json", held)


def _read_and_write_again(study: Study, name: str, world: World, source: Path, last: int) -> None:
    """A checkpoint, as of one process, read by two and written by two."""
    arm, folder = study.arms[name], Path("copies") / name
    modules = make_modules(doubled(study, run_of(name)), None)
    layout = lay_out(world, modules.parameters(), arm.sharded)
    state = initial(modules, layout, arm)
    journal, step = resume(source, mark_of(study, name), state, layout)
    assert step == last
    save(folder, mark_of(study, name), step, state, journal, layout)


def _hold_against_torch(world: World, out: Path) -> None:
    """Gradients of a diffusion loss by DDP and by FSDP2, and ours of the same rows."""
    network = _network()
    g = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(16, 2, generator=g), torch.randn(16, 2, generator=g)
    uniform = torch.rand(16, generator=g)
    rows = slice(world.share(16).start, world.share(16).stop)

    def loss(called: torch.nn.Module) -> Tensor:
        draws = Draws(uniform[rows], noise[rows])
        return diffusion(Fields(bind(called)), x0[rows], draws, DiffusionSettings()).loss

    wrapped = DistributedDataParallel(network)
    loss(wrapped).backward()
    by_ddp = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415 - takes long, and only these processes need it

    split: Any = fully_shard(_network())
    loss(split).backward()
    by_fsdp = {name: p.grad.full_tensor() for name, p in split.named_parameters() if p.grad is not None}
    found = {"ddp": by_ddp, "fsdp": by_fsdp}
    for way, sharded in (("our ddp", False), ("our fsdp", True)):
        own = _network()
        layout = lay_out(world, dict(own.named_parameters()), sharded)
        with layout.gathered() as parameters:
            gradients = torch.autograd.grad(loss(own) * (rows.stop - rows.start) / 16, parameters)
        named = dict(zip(layout.parameters, layout.summed(gradients), strict=True))
        assert layout.norm(list(named.values())) > 0
        found[way] = layout.whole(named)
    if world.first:
        write_tensors(
            out / "gradients.safetensors", {f"{w}/{n}": v.clone() for w, vs in found.items() for n, v in vs.items()}
        )


def _network() -> torch.nn.Module:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
            self.gain = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
            return self.gain * self.inner(torch.cat([x, t[:, None]], dim=1))

    return Net()


if __name__ == "__main__":
    main(load(sys.argv[1]), Path(sys.argv[2]))
