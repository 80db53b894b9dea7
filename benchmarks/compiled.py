"""What a training step costs compiled (core.compiled), and how exact its gradient is.

sCD and sCT, compiled, as ratios to a compiled diffusion step of the same network in the same run, and to themselves
eagerly: medians over rounds of paired ratios of processor time, with 95% bootstrap intervals. The time of compiling is
the process's own; the C++ compiler's, in processes of its own, comes to it. With --grid a gradient of every objective
on every network is compared with the eager one instead, in float32 and float64.

    python benchmarks/compiled.py [--networks DiT ...] [--rounds 15] [--device cuda] [--publish] [--grid]
"""

import argparse
import dataclasses
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shared
import torch
from steps import CASES, GPU_CASES, UNIT, Case, Step, steps
from torch import Tensor

from trigbench.core.compiled import Graph, gradient_of, in_one, traced
from trigbench.core.fields import Fields, bind
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.objectives.regression import Regression

METHODS = {"diffusion": UNIT, "scd": "scd pairs", "sct": "sct pairs"}
"""By the names that benchmarks/steps.py gives them."""
GOALS = {"DiT": (1.70, 1.38), "residual MLP": (1.75, 1.40)}
"""Of sCD and sCT, in compiled diffusion steps."""
MEMORY, ERROR = 1.05, 1e-6


class SiluDiT(DiT):
    """With SiLU in place of GELU, whose derivative costs a third of a small network's step."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for module in self.modules():
            for name, part in module.named_children():
                if isinstance(part, torch.nn.GELU):
                    setattr(module, name, torch.nn.SiLU())


MORE = {
    "DiT, SiLU": dataclasses.replace(
        CASES["DiT"], make=lambda: SiluDiT((3, 32, 32), width=128, depth=6, heads=4, patch=4)
    ),
    "EDM2": Case(lambda: EDM2((3, 32, 32), width=32, multipliers=(1, 2, 2), blocks=1, attention=(8,)), (3, 32, 32), 8),
}


def inputs_of(step: Step) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Any]:
    """All that moves: weights of the student and the teacher, and the batch."""
    own, taught = (dict(network.named_parameters()) for network in (step.student, step.teacher))
    return own, {name: p.detach() for name, p in taught.items()}, step.x0, step.draws


def graph_of(step: Step) -> Graph:
    """The step as a graph."""

    def loss(parameters: dict[str, Tensor], taught: dict[str, Tensor], x0: Tensor, draws: Any) -> Regression:
        fields = Fields(bind(step.student, parameters), bind(step.teacher, taught))
        return step.objective(fields, x0, draws, step.settings)

    return traced(gradient_of(loss), *inputs_of(step))


def error_of(found: Any, wanted: Any) -> float:
    """Of a gradient, over its norm."""
    ours, eager = (torch.cat([g.flatten() for g in gradients]).double() for gradients in (found, wanted))
    return float((ours - eager).norm() / eager.norm())


def measure(name: str, case: Case, device: str, rounds: int) -> pd.DataFrame:
    """A row for each method: of the compiled step, against the compiled diffusion step and the eager one."""
    table, compiled, seconds = steps(case, device), {}, {}
    for method, way in METHODS.items():
        began = time.process_time()
        graph = in_one(graph_of(table[way]))
        inputs = inputs_of(table[way])
        found = graph(*inputs)[1]
        seconds[method] = time.process_time() - began
        error = error_of(found.values(), table[way]())
        compiled[method] = partial(graph, *inputs), error
        print(f"{name} {method}: compiled in {seconds[method]:.0f} s of this process, error {error:.1e}", flush=True)
    calls = {f"{method} compiled": call for method, (call, _) in compiled.items()}
    calls |= {f"{method} eager": table[way] for method, way in METHODS.items()}
    times = shared.interleaved(calls, rounds, device)
    memory = {key: shared.peak_memory(call, device) for key, call in calls.items()}
    rows = []
    for method in METHODS:
        own = times[f"{method} compiled"]
        ratio, low, high = shared.paired(own, times["diffusion compiled"])
        gain, gain_low, gain_high = shared.paired(own, times[f"{method} eager"])
        eager, eager_low, eager_high = shared.paired(times[f"{method} eager"], times["diffusion eager"])
        rows.append({
            "network": name, "method": f"{method} compiled", "device": device, "batch": case.batch,
            "time": ratio, "time_low": low, "time_high": high,
            "against_eager": gain, "against_eager_low": gain_low, "against_eager_high": gain_high,
            "eager": eager, "eager_low": eager_low, "eager_high": eager_high,
            "memory": memory[f"{method} compiled"] / memory["diffusion eager"],
            "memory_compiled": memory[f"{method} compiled"] / memory["diffusion compiled"],
            "error": compiled[method][1], "unit_seconds": float(np.median(times["diffusion compiled"])),
            "compiling_seconds": seconds[method], "rounds": rounds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def goals(table: pd.DataFrame) -> list[str]:
    """What was aimed at, and what was found."""
    found = []
    for network, rows in table.groupby("network", sort=False):
        own = rows.set_index("method")
        aims = GOALS.get(str(network).partition(",")[0], (None, None))
        for method, aim in zip(("scd", "sct"), aims, strict=True):
            row: Any = own.loc[f"{method} compiled"]
            most = row.eager if aim is None else aim  # no worse than eagerly
            words = f"{row.time:.2f} ({row.time_low:.2f} to {row.time_high:.2f}) compiled diffusion steps"
            met = row.time <= most and row.against_eager < 1
            found.append(
                f"{'met   ' if met else 'missed'} {network}: {method} takes {words}, at most {most:.2f}, and "
                f"{row.against_eager:.2f} ({row.against_eager_low:.2f} to {row.against_eager_high:.2f}) eager ones"
            )
        for what, value, most in (("memory", rows.memory.max(), MEMORY), ("error", rows.error.max(), ERROR)):
            found.append(f"{'met   ' if value <= most else 'missed'} {network}: {what} {value:.2g}, at most {most:g}")
    return found


def grid(device: str) -> pd.DataFrame:
    """Errors of compiled gradients: every objective on every network, in float32 and float64."""
    from grid import NETWORKS, grid_study  # noqa: PLC0415 - it reads a study

    from trigbench.workflow.run.assembly import make_modules, make_network, step_function  # noqa: PLC0415
    from trigbench.workflow.run.batches import draw_batch, mapped  # noqa: PLC0415
    from trigbench.workflow.run.compiled import Compiled, distance  # noqa: PLC0415
    from trigbench.workflow.run.counts import without_data  # noqa: PLC0415
    from trigbench.workflow.run.gradients import differentiated  # noqa: PLC0415
    from trigbench.workflow.run.journal import Journal  # noqa: PLC0415
    from trigbench.workflow.run.weights import kept_of  # noqa: PLC0415

    study, rows = grid_study(Path(tempfile.mkdtemp())), []
    for network in NETWORKS:
        for objective in OBJECTIVES:
            for dtype in (torch.float32, torch.float64):
                torch.manual_seed(0)
                torch.set_default_dtype(dtype)
                task = without_data(study, f"{network}-{objective}")
                modules, teacher = make_modules(task, None), study.teacher_run(task.run)
                for parameter in modules.parameters().values():
                    parameter.data.add_(0.05 * torch.randn_like(parameter))
                if teacher is not None:
                    task = dataclasses.replace(task, teacher=kept_of(make_network(task.of_arm(teacher.arm))))
                function, journal = step_function(task, modules), Journal()
                weights = list(modules.parameters().values())
                rows_of = mapped(lambda a: a.to(dtype) if a.is_floating_point() else a, draw_batch(task, 1))  # noqa: B023
                asked = (function, 1, rows_of, {}, weights, 1.0, modules)
                error = distance(Compiled(task, modules, function, journal)(*asked)[1], differentiated(*asked)[1])
                rows.append({"network": network, "objective": objective, "dtype": str(dtype)[6:], "error": error})
                rows[-1]["fell_back"] = journal.fell_back or ""
                print(*rows[-1].values(), flush=True)
                torch._dynamo.reset()
    torch.set_default_dtype(torch.float32)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--networks", nargs="+", help="all unless named")
    parser.add_argument("--grid", action="store_true", help="errors of every objective on every network instead")
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, where it compiles
    if arguments.grid:
        table = grid(arguments.device)
        print(table.pivot(index="objective", columns=["network", "dtype"], values="error").to_string())
    else:
        cases = CASES | MORE if arguments.device == "cpu" else GPU_CASES
        chosen = {name: cases[name] for name in arguments.networks or cases}
        tables = [measure(name, case, arguments.device, arguments.rounds) for name, case in chosen.items()]
        table = pd.concat(tables)
        print(table.drop(columns=["device", "rounds"]).round(3).to_string(index=False))
        print("\n".join(goals(table)))
    if arguments.publish:
        shared.publish(table, f"compiled-{'grid' if arguments.grid else arguments.device}", arguments.device)


if __name__ == "__main__":
    main()
