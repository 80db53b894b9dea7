"""What a training step costs, as ratios to a diffusion step of the same network in the same run.

Every way to the tangent that this project has (core.forward_mode), the orders in which others evaluate
network and tangent, and the discrete methods. A step is the loss and its gradient, without the
optimiser. All methods take turns in an order drawn anew each round, so that a change of the machine's
speed hits all alike; a ratio is the median over rounds of paired ratios, with a 95% bootstrap interval.
Before a method is timed, its gradient is compared with ours in float64.

    python benchmarks/steps.py [--rounds 15] [--device cuda] [--publish]
"""

import argparse
import importlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.fields import Draws, Fields, bind
from core.networks import dit, edm2
from core.networks.ddpmpp import DDPMpp
from core.networks.dit import DiT
from core.networks.edm2 import EDM2
from core.networks.mlp import ResidualMLP
from core.objectives import OBJECTIVES
from core.objectives.regression import Settings
from core.schedules import karras_angles
from core.tangents import Derivative, derivative_along
from core.trigflow import Field, proposal_grid
from workflow.report.style import NAMES, apply_style, save
from workflow.runtime.measurements.costs import Operations
from workflow.runtime.provenance import provenance

WARM_UP = 2
BOOTSTRAPS = 2000
UNIT = "diffusion"
LIMITS = {"scd": 5 / 3, "sct": 4 / 3}
"""What arithmetic allows: teacher, value, tangent and backward (of two) against value and backward."""


@dataclass(frozen=True)
class Case:
    """A network at one size."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int


CASES = {
    "residual MLP": Case(lambda: ResidualMLP((1, 8, 8), width=128, blocks=3), (1, 8, 8), 128),
    "DDPM++": Case(
        lambda: DDPMpp((3, 32, 32), width=32, multipliers=(1, 2, 2), blocks=1, attention=(8,)), (3, 32, 32), 8
    ),
    "DiT": Case(lambda: DiT((3, 32, 32), width=128, depth=6, heads=4, patch=4), (3, 32, 32), 16),
}
GPU_CASES = {
    "DDPM++": Case(lambda: DDPMpp((3, 32, 32)), (3, 32, 32), 128),
    "DiT-S/2": Case(lambda: DiT(**dit.PRESETS["s-2"]), (4, 32, 32), 64),
    "EDM2-XS": Case(lambda: EDM2(**edm2.PRESETS["img512-xs"]), (4, 64, 64), 32),
}


def forward_mode(field: Field, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """torch.func.jvp, which has no rule for fused attention; nothing else is asked to do without."""
    with sdpa_kernel(SDPBackend.MATH):
        return derivative_along(field, x, t, v, scale, "func")


def tangent_first(field: Field, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """rCM's order: a forward mode that is not recorded, then the value."""
    with torch.no_grad():
        tangent = forward_mode(field, x, t, v, scale)[1]
    return field(x, t), tangent


def value_first(field: Field, x: Tensor, t: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """FastGen's order: the recorded value, then a forward mode whose own value is thrown away."""
    value = field(x, t)
    with torch.no_grad():
        return value, forward_mode(field, x, t, v, scale)[1]


WAYS: dict[str, tuple[str, Derivative]] = {
    "pairs": ("pairs (ours)", derivative_along),
    "func": ("shared torch.func.jvp (as sCM-mnist)", forward_mode),
    "tangent_first": ("tangent, then value (as rCM)", tangent_first),
    "value_first": ("value, then tangent (as FastGen)", value_first),
    "difference": ("central differences (as FastGen)", partial(derivative_along, method="difference")),
}
METHODS = {
    UNIT: ("diffusion", derivative_along),
    **{f"{name} {way}": (name, derivative) for name in ("scd", "sct") for way, (_, derivative) in WAYS.items()},
    **{name: (name, derivative_along) for name in ("dscd", "cd", "ct")},
}


@dataclass(frozen=True)
class Step:
    """One training step, ready to be called."""

    objective: Callable
    student: nn.Module
    teacher: nn.Module
    x0: Tensor
    draws: Draws
    settings: Settings

    def __call__(self) -> tuple[Tensor, ...]:
        """The gradient in all parameters."""
        fields = Fields(bind(self.student), bind(self.teacher))
        loss = self.objective(fields, self.x0, self.draws, self.settings).loss
        return torch.autograd.grad(loss, list(self.student.parameters()))


def steps(case: Case, device: str, dtype: torch.dtype = torch.float32) -> dict[str, Step]:
    """Every method on the same network, batch and draws."""
    torch.manual_seed(0)
    student, teacher = (_awake(case.make()).to(device, dtype) for _ in range(2))
    uniform = torch.rand(case.batch, dtype=torch.float64, device=device)
    x0, noise = (torch.randn(case.batch, *case.shape, device=device, dtype=dtype) for _ in range(2))
    grid = proposal_grid(karras_angles(1024, 0.5).to(device), -1.0, 1.4, 0.5)
    settings = Settings(grid=grid)
    return {
        name: Step(_function(objective), student, teacher, x0, Draws(uniform, noise), replace(settings, derivative=way))
        for name, (objective, way) in METHODS.items()
    }


def _awake(network: nn.Module) -> nn.Module:
    """No layer starts at zero, so that gradients can be compared."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def _function(name: str) -> Callable:
    module, function = OBJECTIVES[name].path.split(":")
    return getattr(importlib.import_module(module), function)


def check(case: Case, device: str) -> None:
    """Every way gives our gradient: to 1e-10 of its norm in float64, differences to 1e-4."""
    found = {name: step() for name, step in steps(replace(case, batch=2), device, torch.float64).items()}
    for name, gradients in found.items():
        objective, _, way = name.partition(" ")
        if way:
            ours = torch.cat([g.flatten() for g in found[f"{objective} pairs"]])
            error = float((torch.cat([g.flatten() for g in gradients]) - ours).norm() / ours.norm())
            if error > (1e-4 if way == "difference" else 1e-10):
                raise AssertionError(f"{name}: gradient differs from ours by {error:.2g}")


def seconds(step: Step, device: str) -> float:
    """Of one call: processor time on one thread, or the device's clock."""
    if device == "cpu":
        before = time.process_time()
        step()
        return time.process_time() - before
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_memory(step: Step, device: str) -> int:
    """Bytes allocated at most at one time, beyond what was there before."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def operations(step: Step) -> float:
    """Floating-point operations of one call, by torch's formulas."""
    with Operations() as counter:
        step()
    return counter.total


def measure(name: str, case: Case, device: str, rounds: int) -> pd.DataFrame:
    """A row per method: ratios of time, memory and operations to the diffusion step's."""
    check(case, device)
    table = steps(case, device)
    times: dict[str, list[float]] = {method: [] for method in table}
    for turn in range(-WARM_UP, rounds):
        for method in random.Random(turn).sample(list(table), len(table)):
            spent = seconds(table[method], device)
            if turn >= 0:
                times[method].append(spent)
    memory = {method: peak_memory(step, device) for method, step in table.items()}
    flops = {method: operations(step) for method, step in table.items()}
    parameters = sum(p.numel() for p in table[UNIT].student.parameters())
    rows = []
    for method in table:
        ratio, low, high = paired(times[method], times[UNIT])
        rows.append({
            "network": name, "parameters": parameters, "batch": case.batch, "device": device, "method": method,
            "time": ratio, "time_low": low, "time_high": high, "memory": memory[method] / memory[UNIT],
            "operations": flops[method] / flops[UNIT], "unit_seconds": float(np.median(times[UNIT])),
            "unit_mib": memory[UNIT] / 2**20, "rounds": rounds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def paired(times: list[float], unit: list[float]) -> tuple[float, float, float]:
    """Median of the paired ratios and its 95% bootstrap interval."""
    ratios = np.array(times) / np.array(unit)
    draws = np.random.default_rng(0).choice(ratios, (BOOTSTRAPS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def goals(table: pd.DataFrame) -> list[str]:
    """What was aimed at, and what was found."""
    found = []
    for objective, (median, worst) in {"scd": (1.75, 1.80), "sct": (1.42, 1.50)}.items():
        ours = table[table.method == f"{objective} pairs"]
        peers = table[table.method.isin([f"{objective} {way}" for way in WAYS if way != "pairs"])]
        best = peers.groupby("network").time.min()
        gain = (best / ours.set_index("network").time).median()
        for words, value, met in (
            (f"time of {objective}, median, at most {median}", ours.time.median(), ours.time.median() <= median),
            (f"time of {objective}, every network, at most {worst}", ours.time.max(), ours.time.max() <= worst),
            (f"memory of {objective}, every network, at most 1.15", ours.memory.max(), ours.memory.max() <= 1.15),
            (f"{objective} against the best other order, at least 1.35", gain, gain >= 1.35),
        ):
            found.append(f"{'met   ' if met else 'missed'} {words}: {value:.2f}")
        found.append(f"       (arithmetic allows {LIMITS[objective]:.2f})")
    return found


def draw(table: pd.DataFrame) -> Figure:
    """Time of sCD and sCT by way and network, the interval as a line; what arithmetic allows is dashed."""
    apply_style()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 2.9), sharey=True, layout="constrained")
    for ax, (objective, limit) in zip(axes, LIMITS.items(), strict=True):
        for place, (name, rows) in enumerate(table.groupby("network", sort=False)):
            own = rows.set_index("method").loc[[f"{objective} {way}" for way in WAYS]]
            heights = np.arange(len(WAYS)) + 0.18 * (place - 1)
            ax.hlines(heights, own.time_low, own.time_high, color=f"C{place}")
            ax.plot(own.time, heights, "osD^v"[place], color=f"C{place}", label=name)
        ax.axvline(limit, color="#555555", linestyle="--", linewidth=1)
        ax.set(xlabel=f"time of a step of {NAMES[objective]} / of a diffusion step", xlim=(1, None))
        ax.set_yticks(range(len(WAYS)), [words for words, _ in WAYS.values()])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = CASES if arguments.device == "cpu" else GPU_CASES
    tables = []
    for name, case in cases.items():
        tables.append(measure(name, case, arguments.device, arguments.rounds))
        print(tables[-1].drop(columns=["network", "device", "rounds"]).round(2).to_string(index=False), flush=True)
    table = pd.concat(tables)
    print(table.pivot(index="method", columns="network", values="time").loc[list(METHODS)].round(2).to_string())
    print("\n".join(goals(table)))
    if arguments.publish:
        folder = Path(__file__).parents[1] / "results/published/benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / f"steps-{arguments.device}.csv", index=False, float_format="%.5g")
        device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu, one thread"
        origin = provenance() | {"device": device}
        (folder / f"steps-{arguments.device}.json").write_text(json.dumps(origin, indent=1) + "\n")
        save(draw(table), folder / f"steps-{arguments.device}")


if __name__ == "__main__":
    main()
