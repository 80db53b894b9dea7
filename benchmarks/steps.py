"""What a training step costs, as ratios to a diffusion step of the same network in the same run.

Every way to the tangent that this project has (core.forward_mode), the orders in which others evaluate
network and tangent, and the discrete methods: eagerly, and as one compiled graph (core.compiled), which
takes the orders of others too, though their projects compile no such step. A step is the loss and its
gradient, without the optimiser. A ratio is the median over rounds of paired ratios, with a 95% bootstrap
interval: all steps are taken in turn, so that what else the machine does hits them alike. Before a
method is timed, its gradient is compared with ours in float64, and a graph's with the eager one.

    python benchmarks/steps.py [--networks DiT ...] [--eager [DiT ...]] [--rounds 15] [--device cuda] [--publish]
    python benchmarks/steps.py --profile [--publish]
"""

import argparse
import importlib
import time
import warnings
from collections.abc import Callable, Iterable
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

from trigbench.core.compiled import gradient_of, in_one, traced
from trigbench.core.fields import Draws, Fields, bind
from trigbench.core.networks import dit, edm2
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.objectives.regression import Regression, settings_for
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


OURS = (UNIT, "scd pairs", "sct pairs")


@dataclass(frozen=True)
class Case:
    """A network at one size."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    compiled: tuple[str, ...] = OURS
    """Methods that are compiled too, in seconds of an MLP and minutes of a DiT."""


class SiluDiT(DiT):
    """With SiLU in place of GELU, whose derivative costs a third of a small network's step."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for module in self.modules():
            for name, part in module.named_children():
                if isinstance(part, nn.GELU):
                    setattr(module, name, nn.SiLU())


_DIT: dict[str, Any] = {"shape": (3, 32, 32), "width": 128, "depth": 6, "heads": 4, "patch": 4}
_U_NET: dict[str, Any] = {
    "shape": (3, 32, 32), "width": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (8,),
}  # fmt: skip
CASES = {
    "DiT": Case(lambda: DiT(**_DIT), (3, 32, 32), 16),
    "residual MLP": Case(
        lambda: ResidualMLP((1, 8, 8), width=128, blocks=3), (1, 8, 8), 128,
        (*OURS, "scd func", "scd tangent_first", "scd value_first", "scd difference"),
    ),
    "DDPM++": Case(lambda: DDPMpp(**_U_NET), (3, 32, 32), 8),
}  # fmt: skip
MORE = {
    "DiT, SiLU": Case(lambda: SiluDiT(**_DIT), (3, 32, 32), 16),
    "EDM2": Case(lambda: EDM2(**_U_NET), (3, 32, 32), 8),
}
"""Measured where they are named."""
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
EAGER = {"scd": 1.80, "sct": 1.46}
"""What eager steps were to take at most, in eager diffusion steps; then compiled ones, in compiled diffusion steps."""
COMPILED = {"DiT": {"scd": 1.70, "sct": 1.38}, "residual MLP": {"scd": 1.75, "sct": 1.40}}
GAIN, MEMORY, ERROR = 1.6, 1.05, 1e-6
SHOWN = [
    "method", "mode", "time", "time_low", "time_high", "in_mode", "against_eager", "memory", "operations", "error",
    "compiling_seconds",
]  # fmt: skip
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


@dataclass(frozen=True)
class Compiled:
    """A step as one graph, compiled when it is made."""

    call: Callable[[], Any]
    seconds: float
    """Of this process, for compiling; the C++ compiler's, in processes of its own, come to it."""
    error: float
    """Of its gradient against the eager one, over the norm."""

    @classmethod
    def of(cls, step: Step) -> "Compiled":
        """Whatever torch raises where it cannot be followed."""

        def loss(parameters: dict[str, Tensor], taught: dict[str, Tensor], x0: Tensor, draws: Draws) -> Regression:
            fields = Fields(bind(step.student, parameters), bind(step.teacher, taught))
            return step.objective(fields, x0, draws, step.settings)

        own, taught = (dict(network.named_parameters()) for network in (step.student, step.teacher))
        inputs = own, {name: p.detach() for name, p in taught.items()}, step.x0, step.draws
        began = time.process_time()
        graph = in_one(traced(gradient_of(loss), *inputs))
        found = graph(*inputs)[1].values()
        return cls(partial(graph, *inputs), time.process_time() - began, distance(found, step()))


def distance(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> float:
    """Of two gradients, over the norm of the second."""
    ours, eager = (torch.cat([g.flatten() for g in gradients]).double() for gradients in (found, wanted))
    return float((ours - eager).norm() / eager.norm())


def operations(step: Step) -> float:
    """Floating-point operations of one call, by torch's formulas."""
    with Operations() as counter:
        step()
    return counter.total


def compiled(name: str, table: dict[str, Step], methods: tuple[str, ...]) -> tuple[dict[str, Compiled], dict[str, str]]:
    """By method: what compiles, and why the others do not."""
    graphs, refused = {}, {}
    for method in methods:
        try:
            graphs[method] = made = Compiled.of(table[method])
            print(f"{name} {method}: compiled in {made.seconds:.0f} s, error {made.error:.1e}", flush=True)
        except Exception as error:  # what torch raises is of any kind
            refused[method] = str(error).partition("\n")[0]
            print(f"{name} {method}: {refused[method]}", flush=True)
    return graphs, refused


def measure(name: str, case: Case, device: str, rounds: int) -> pd.DataFrame:
    """A row per method and mode: ratios of time, memory and operations to the diffusion step's."""
    check(case, device)
    table = steps(case, device)
    graphs, refused = compiled(name, table, case.compiled)
    calls = {f"eager {method}": step for method, step in table.items()}
    calls |= {f"compiled {method}": graph.call for method, graph in graphs.items()}
    times = shared.interleaved(calls, rounds, device)
    memory = {key: shared.peak_memory(call, device) for key, call in calls.items()}
    flops = {method: operations(step) for method, step in table.items()}
    parameters = sum(p.numel() for p in table[UNIT].student.parameters())
    unit = f"eager {UNIT}"
    rows = []
    for key in calls:
        mode, _, method = key.partition(" ")
        graph = graphs[method] if mode == "compiled" else None
        rows.append({
            "network": name, "parameters": parameters, "batch": case.batch, "device": device, "method": method,
            "mode": mode, **with_interval("time", times[key], times[unit]),
            **with_interval("in_mode", times[key], times.get(f"{mode} {UNIT}", times[unit])),
            **with_interval("against_eager", times[key], times[f"eager {method}"]),
            "memory": memory[key] / memory[unit], "operations": flops[method] / flops[UNIT],
            "error": graph.error if graph else 0.0, "compiling_seconds": graph.seconds if graph else 0.0,
            "unit_seconds": float(np.median(times[unit])), "unit_mib": memory[unit] / 2**20, "rounds": rounds,
            "refused": "",
        })  # fmt: skip
    rows += [{"network": name, "method": m, "mode": "compiled", "refused": why} for m, why in refused.items()]
    return pd.DataFrame(rows)


def with_interval(name: str, times: list[float], unit: list[float]) -> dict[str, float]:
    """The paired ratio, and the ends of its interval."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), shared.paired(times, unit), strict=True))


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
    """What was aimed at, and what was found; then what arithmetic and one more plain forward allow."""
    found = []
    for network, rows in table.groupby("network", sort=False):
        own = rows.set_index(["mode", "method"])
        for objective, aim in EAGER.items():
            ours: Any = own.loc[("eager", f"{objective} pairs")]
            floor = own.loc[("eager", FLOORS[objective])].time
            found.append(
                f"{_met(ours.time <= aim)} {network}, {objective} eagerly, at most {aim}: {_shown(ours, 'time')}; "
                f"arithmetic allows {LIMITS[objective]:.2f}, a plain forward for the tangent takes {floor:.2f}"
            )
            if ("compiled", f"{objective} pairs") not in own.index:
                continue
            graph: Any = own.loc[("compiled", f"{objective} pairs")]
            others = rows[rows.method.isin([f"{objective} {way}" for way in EXACT_OTHERS])].time
            gain, most = others.min() / graph.time, COMPILED.get(str(network), {}).get(objective, ours.time)
            found += [
                f"{_met(graph.in_mode <= most and graph.against_eager < 1)} {network}, {objective} compiled, at most "
                f"{most:.2f} compiled diffusion steps: {_shown(graph, 'in_mode')}, at "
                f"{_shown(graph, 'against_eager')} of the eager time",
                f"{_met(gain >= GAIN)} {network}, {objective}: the best other exact order, in its best mode, takes "
                f"{gain:.2f} times as long, at least {GAIN}",
                f"{_met(graph.memory <= MEMORY)} {network}, {objective}: memory {graph.memory:.2f}, at most {MEMORY}",
                f"{_met(graph.error <= ERROR)} {network}, {objective}: error {graph.error:.1e}, at most {ERROR:g}",
            ]
    return found


def _met(met: bool) -> str:
    return "met   " if met else "missed"


def _shown(row: Any, name: str) -> str:
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def as_markdown(table: pd.DataFrame) -> str:
    """Time eagerly and compiled, and memory, by way and network, as docs/tangent.md shows them."""
    networks = list(table.network.unique())
    lines = [f"| | {' | '.join(networks)} |", "|---" * (len(networks) + 1) + "|"]
    cells = table.set_index(["mode", "method", "network"])
    for method in METHODS:
        objective, _, way = method.partition(" ")
        shown = []
        for name in networks:
            eager, graph = (cells.time.get((mode, method, name), np.nan) for mode in ("eager", "compiled"))
            compiled_time = "-" if np.isnan(graph) else f"{graph:.2f}"
            shown.append(f"{eager:.2f}, {compiled_time}, {cells.memory[('eager', method, name)]:.2f}")
        lines.append(f"| {f'{objective}, {WAYS[way][0]}' if way else objective} | {' | '.join(shown)} |")
    return "\n".join(lines)


def draw(table: pd.DataFrame) -> Figure:
    """Time of sCD and sCT by way and network, the interval as a line; what arithmetic allows eagerly is dashed."""
    apply_style()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), sharey=True, layout="constrained")
    for ax, (objective, limit) in zip(axes, LIMITS.items(), strict=True):
        heights = {f"{objective} {way}": height for height, way in enumerate(WAYS)}
        for place, (name, rows) in enumerate(table.groupby("network", sort=False)):
            for mode, own in rows[rows.time.notna() & rows.method.isin(heights)].groupby("mode", sort=False):
                at = [heights[method] + 0.18 * (place - 1) for method in own.method]
                ax.hlines(at, own.time_low, own.time_high, color=f"C{place}")
                words, fill = (name, None) if mode == "eager" else (f"{name}, compiled", "white")
                ax.plot(own.time, at, "osD^v"[place], color=f"C{place}", markerfacecolor=fill, label=words)
        ax.axvline(limit, color="#555555", linestyle="--", linewidth=1)
        ax.set(title=look(objective).name, xlabel="time of a step / of an eager diffusion step", xlim=(0, None))
        ax.set_yticks(range(len(WAYS)), [words for words, _ in WAYS.values()])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--networks", nargs="+", metavar="NAME", help=f"of {', '.join(CASES | MORE)}")
    parser.add_argument("--eager", nargs="*", metavar="NAME", help="compile nothing of these, or of all")
    parser.add_argument("--profile", action="store_true", help="where the time goes instead; of use where all is idle")
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, where it compiles
    known = CASES | MORE if arguments.device == "cpu" else GPU_CASES
    named = arguments.networks or (CASES if arguments.device == "cpu" else GPU_CASES)
    publish = partial(shared.publish, device=arguments.device) if arguments.publish else lambda *_, **__: None
    if arguments.profile:
        profile = pd.concat([profiled(name, known[name], arguments.device) for name in named])
        columns = {"index": ["network", "operation"], "columns": "method", "values": "share", "sort": False}
        print(profile.pivot_table(**columns).round(2).to_string(na_rep=""))
        return publish(profile, f"profile-{arguments.device}")
    tables = []
    for name in named:
        eager = arguments.eager is not None and name in (arguments.eager or [name])
        case = replace(known[name], compiled=()) if eager else known[name]
        tables.append(measure(name, case, arguments.device, arguments.rounds))
        print(tables[-1][SHOWN].round(2).to_string(index=False), flush=True)
        table = pd.concat(tables)
        publish(table, f"steps-{arguments.device}", figure=draw(table))  # of these so far
    print("\n".join(goals(table)))
    print(as_markdown(table))


if __name__ == "__main__":
    main()
