"""What a training step costs, as ratios to a diffusion step of the same network in the same run.

Every way to the tangent that this project has (core.forward_mode), the orders in which others evaluate
network and tangent, and the discrete methods. A step is the loss and its gradient, without the
optimiser. A ratio is the median over rounds of paired ratios, with a 95% bootstrap interval. Before a
method is timed, its gradient is compared with ours in float64.

    python benchmarks/steps.py [--rounds 15] [--device cuda] [--publish]
"""

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import shared
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.networks import dit, edm2
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.objectives.regression import settings_for
from trigbench.core.schedules import karras_angles
from trigbench.core.tangents import Derivative, derivative_along
from trigbench.core.trigflow import Field, proposal_grid
from trigbench.workflow.report.style import apply_style, look
from trigbench.workflow.run.operations import Operations

UNIT = "diffusion"
LIMITS = {"scd": 5 / 3, "sct": 4 / 3}
"""What arithmetic allows: teacher, value, tangent and backward (of two) against value and backward."""
FLOORS = {"scd": "dscd", "sct": "ct"}
"""The discrete method with as many evaluations: a plain forward stands where the tangent would."""


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
    """torch.func.jvp, with attention unfused."""
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
EXACT_OTHERS = ("func", "tangent_first", "value_first")
LISTED = 8
"""Operations of a profile that have a row of their own."""
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
    settings: Any

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
    made = {}
    for name, (objective, way) in METHODS.items():
        function = _function(objective)
        settings = settings_for(function, grid=grid, derivative=way)
        made[name] = Step(function, student, teacher, x0, Draws(uniform, noise), settings)
    return made


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


def operations(step: Step) -> float:
    """Floating-point operations of one call, by torch's formulas."""
    with Operations() as counter:
        step()
    return counter.total


def measure(name: str, case: Case, device: str, rounds: int) -> pd.DataFrame:
    """A row per method: ratios of time, memory and operations to the diffusion step's."""
    check(case, device)
    table = steps(case, device)
    times = shared.interleaved(table, rounds, device)
    memory = {method: shared.peak_memory(step, device) for method, step in table.items()}
    flops = {method: operations(step) for method, step in table.items()}
    parameters = sum(p.numel() for p in table[UNIT].student.parameters())
    rows = []
    for method in table:
        ratio, low, high = shared.paired(times[method], times[UNIT])
        rows.append({
            "network": name, "parameters": parameters, "batch": case.batch, "device": device, "method": method,
            "time": ratio, "time_low": low, "time_high": high, "memory": memory[method] / memory[UNIT],
            "operations": flops[method] / flops[UNIT], "unit_seconds": float(np.median(times[UNIT])),
            "unit_mib": memory[UNIT] / 2**20, "rounds": rounds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def profiled(name: str, case: Case, device: str) -> pd.DataFrame:
    """Where the time of our steps goes, and of those with a plain forward in the tangent's place.

    A row per method and operation: its own time over all of a diffusion step's, in steps that are profiled. What no
    operation accounts for is Python, dispatch and autograd; profiling adds to it.
    """
    table, rows, unit = steps(case, device), [], 0.0
    for method in (UNIT, "scd pairs", "dscd", "sct pairs", "ct"):
        own, whole = shared.own_times(table[method], device)
        unit = unit or whole
        largest = sorted(own, key=lambda operation: -own[operation])[:LISTED]
        found = {operation: own[operation] for operation in largest}
        found["other operations"] = sum(own.values()) - sum(found.values())
        found["outside operations"] = whole - sum(own.values())
        rows += [
            {"network": name, "method": method, "operation": operation, "share": seconds / unit}
            for operation, seconds in found.items()
        ]
    return pd.DataFrame(rows)


def goals(table: pd.DataFrame) -> list[str]:
    """What was aimed at, and what was found; then what the machine allows, which the goals do not know."""
    found = []
    for objective, (median, worst) in {"scd": (1.75, 1.80), "sct": (1.42, 1.50)}.items():
        times = table.pivot(index="network", columns="method", values="time")
        ours, memory = times[f"{objective} pairs"], table[table.method == f"{objective} pairs"].memory.max()
        exact = times[[f"{objective} {way}" for way in EXACT_OTHERS]].min(axis=1)
        for words, value, met in (
            (f"time of {objective}, median over networks, at most {median}", ours.median(), ours.median() <= median),
            (f"time of {objective}, every network, at most {worst}", ours.max(), ours.max() <= worst),
            (f"memory of {objective}, every network, at most 1.15", memory, memory <= 1.15),
            (
                f"{objective} against the best other exact order, at least 1.35",
                (exact / ours).median(),
                (exact / ours).median() >= 1.35,
            ),
        ):
            found.append(f"{'met   ' if met else 'missed'} {words}: {value:.2f}")
        floor = times[FLOORS[objective]]
        found += [
            f"       arithmetic allows {LIMITS[objective]:.2f}; one plain forward more than a diffusion step needs"
            f" costs {', '.join(f'{name} {value:.2f}' for name, value in floor.items())} here ({FLOORS[objective]})",
            f"       against that, the tangent costs {(ours / floor).median():.2f}; against central differences,"
            f" which are not exact, it gains {(times[f'{objective} difference'] / ours).median():.2f}",
        ]
    return found


def as_markdown(table: pd.DataFrame) -> str:
    """Time and memory of sCD and sCT by way and network, as the README shows them."""
    networks = list(table.network.unique())
    lines = [f"| | {' | '.join(f'{name}: time, memory' for name in networks)} |", "|---" * (len(networks) + 1) + "|"]
    cells = table.set_index(["method", "network"])
    for method in METHODS:
        objective, _, way = method.partition(" ")
        words = f"{objective}, {WAYS[way][0]}" if way else objective
        values = [cells.loc[(method, name)] for name in networks]
        lines.append(f"| {words} | " + " | ".join(f"{v.time:.2f}, {v.memory:.2f}" for v in values) + " |")
    return "\n".join(lines)


def draw(table: pd.DataFrame) -> Figure:
    """Time of sCD and sCT by way and network, the interval as a line; what arithmetic allows is dashed."""
    apply_style()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), sharey=True, layout="constrained")
    for ax, (objective, limit) in zip(axes, LIMITS.items(), strict=True):
        for place, (name, rows) in enumerate(table.groupby("network", sort=False)):
            own = rows.set_index("method").loc[[f"{objective} {way}" for way in WAYS]]
            heights = np.arange(len(WAYS)) + 0.18 * (place - 1)
            ax.hlines(heights, own.time_low, own.time_high, color=f"C{place}")
            ax.plot(own.time, heights, "osD^v"[place], color=f"C{place}", label=name)
        ax.axvline(limit, color="#555555", linestyle="--", linewidth=1)
        ax.set(title=look(objective).name, xlabel="time of a step / of a diffusion step", xlim=(1, None))
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
    tables, profiles = [], []
    for name, case in cases.items():
        tables.append(measure(name, case, arguments.device, arguments.rounds))
        profiles.append(profiled(name, case, arguments.device))
        print(tables[-1].drop(columns=["network", "device", "rounds"]).round(2).to_string(index=False), flush=True)
    table = pd.concat(tables)
    print(table.pivot(index="method", columns="network", values="time").loc[list(METHODS)].round(2).to_string())
    profile = pd.concat(profiles)
    columns = {"index": ["network", "operation"], "columns": "method", "values": "share", "sort": False}
    print(profile.pivot_table(**columns).round(2).to_string(na_rep=""))
    print("\n".join(goals(table)))
    if arguments.publish:
        print(as_markdown(table))
        shared.publish(table, f"steps-{arguments.device}", arguments.device, draw(table))
        shared.publish(profile, f"profile-{arguments.device}", arguments.device)


if __name__ == "__main__":
    main()
