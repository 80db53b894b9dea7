"""What exact tangents cost on a GPU: attention, and whole steps, eager and compiled, in one run of under eight minutes.

Attention with its tangent against torch's fused attention at lengths of 256 to 16,384, forward alone and with the
gradient, plain, causal and masked; and steps of sCD and sCT against a diffusion step of DiT-B and EDM2-S. In bfloat16,
as medians of paired ratios with 95% bootstrap intervals, with the error against float64 or float32. What would begin
after the last minute is left out and named. Writes gpu.csv, gpu.svg and gpu.png.

    python benchmarks/gpu.py [--minutes 8] [--out build/benchmarks]
    python benchmarks/gpu.py --toy        on a CPU, with small networks: whether it runs
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shared
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from steps import Case, Step, distance, steps
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trigbench.core.attention import attention_with_tangent
from trigbench.core.compiled import compiled_step
from trigbench.core.fields import Fields, bind
from trigbench.core.networks import dit, edm2
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.workflow.machine.files import write_atomically
from trigbench.workflow.report.style import apply_style, save

UNIT = "diffusion"
METHODS = {UNIT: UNIT, "scd": "scd pairs", "sct": "sct pairs"}
"""By the names that benchmarks/steps.py gives them."""
KINDS = ("plain", "causal", "masked")


@dataclass(frozen=True)
class Scale:
    """How large all is."""

    device: str
    dtype: torch.dtype
    tokens: int
    """Of all heads and samples together, at each length."""
    lengths: tuple[int, ...]
    cases: dict[str, Case]
    backend: str
    rounds: int


GPU = Scale(
    "cuda", torch.bfloat16, 2**18, (256, 1024, 4096, 16384),
    {
        "DiT-B/2": Case(lambda: DiT(**dit.PRESETS["b-2"]), (4, 32, 32), 32),
        "EDM2-S": Case(lambda: EDM2(**edm2.PRESETS["img512-s"]), (4, 64, 64), 16),
    },
    "inductor", 15,
)  # fmt: skip
TOY = Scale(
    "cpu", torch.float32, 128, (16, 64),
    {"residual MLP": Case(lambda: ResidualMLP((1, 4, 4), width=16, blocks=1), (1, 4, 4), 4)},
    "eager", 2,
)  # fmt: skip


def attention_rows(scale: Scale, length: int, kind: str) -> list[dict[str, Any]]:
    """Forward, and forward with the gradient, against torch's fused ones; the error of the tangent in float64."""
    shape = (1, scale.tokens // length, length, 64)
    tensors = torch.randn(6, *shape, device=scale.device).to(scale.dtype).unbind()
    mask = torch.rand(length, length, device=scale.device) > 0.5 if kind == "masked" else None
    causal = kind == "causal"

    def fused(q: Tensor, k: Tensor, v: Tensor, *_: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask, is_causal=causal)

    def ours(*six: Tensor) -> Tensor:
        return attention_with_tangent(*six, mask=mask, causal=causal)[0]

    def trained(attention: Callable[..., Tensor]) -> None:
        leaves = [a.detach().requires_grad_() for a in tensors[:3]]
        torch.autograd.grad(attention(*leaves, *tensors[3:]), leaves, tensors[3])

    def forward(attention: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            attention(*tensors)

    few = [a[:, :1, :, :] for a in tensors]
    exact = attention_with_tangent(*(a.double() for a in few), mask=mask, causal=causal)[1]
    error = (attention_with_tangent(*few, mask=mask, causal=causal)[1].double() - exact).norm() / exact.norm()
    rows = []
    for way, run in (("forward", forward), ("forward and gradient", trained)):
        calls = {"ours": partial(run, ours), "fused": partial(run, fused)}
        times = shared.interleaved(calls, scale.rounds, scale.device)
        memory = {name: shared.peak_memory(call, scale.device) for name, call in calls.items()}
        rows.append(
            {"what": "attention", "network": "", "method": kind, "mode": way, "length": length}
            | compared(times["ours"], times["fused"])
            | {"memory": memory["ours"] / max(1, memory["fused"]), "error": float(error)}
        )
    return rows


def compared(times: list[float], unit: list[float]) -> dict[str, float]:
    """The ratio with its interval, and what stands below it."""
    ratio, low, high = shared.paired(times, unit)
    return {"time": ratio, "time_low": low, "time_high": high, "unit_seconds": float(np.median(unit))}


def step_rows(scale: Scale, name: str, mode: str) -> list[dict[str, Any]]:
    """Every method in one mode, against a diffusion step in the same mode; errors against an eager step in float32."""
    made = steps(scale.cases[name], scale.device)
    found = {method: made[key] for method, key in METHODS.items()}
    calls = {method: prepared(step, mode, scale) for method, step in found.items()}
    error = {method: distance(calls[method](), step()) for method, step in found.items()}
    times = shared.interleaved(calls, scale.rounds, scale.device)
    memory = {method: shared.peak_memory(call, scale.device) for method, call in calls.items()}
    return [
        {"what": "step", "network": name, "method": method, "mode": mode, "length": 0}
        | compared(times[method], times[UNIT])
        | {"memory": memory[method] / max(1, memory[UNIT]), "error": error[method]}
        for method in METHODS
    ]


def prepared(step: Step, mode: str, scale: Scale) -> Callable[[], tuple[Tensor, ...]]:
    """The step as a function of nothing that returns the gradient, in `dtype` where that is narrower than float32."""
    own, taught = (dict(network.named_parameters()) for network in (step.student, step.teacher))
    fixed = {name: p.detach() for name, p in taught.items()}

    def loss(parameters: dict[str, Tensor], fixed: dict[str, Tensor], x0: Tensor, draws: Any) -> Tensor:
        student = bind(step.student, parameters, precision=scale.dtype)
        teacher = bind(step.teacher, fixed, precision=scale.dtype)
        return step.objective(Fields(student, teacher), x0, draws, step.settings).loss

    if mode == "eager":

        def eager() -> tuple[Tensor, ...]:
            value = loss(own, fixed, step.x0, step.draws)
            return torch.autograd.grad(value, list(own.values()), allow_unused=True, materialize_grads=True)

        return eager
    compiled = compiled_step(loss, scale.backend)
    return lambda: tuple(compiled(own, fixed, step.x0, step.draws)[1].values())


def pieces(scale: Scale) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    """All that is measured, what matters most first."""
    for length in scale.lengths:
        yield f"attention of length {length}", partial(attention_rows, scale, length, "plain")
    for mode in ("eager", "compiled"):
        for name in scale.cases:
            yield f"{name}, {mode}", partial(step_rows, scale, name, mode)
    for kind in KINDS[1:]:
        for length in scale.lengths:
            yield f"{kind} attention of length {length}", partial(attention_rows, scale, length, kind)


def draw(table: pd.DataFrame) -> Figure:
    """Attention by length on the left, steps on the right, with their intervals."""
    apply_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4), layout="constrained")
    attention, whole = (table[table.what == what] for what in ("attention", "step"))
    for place, ((mode, kind), rows) in enumerate(attention.groupby(["mode", "method"], sort=False)):
        left.errorbar(
            rows.length, rows.time, [rows.time - rows.time_low, rows.time_high - rows.time],
            color=f"C{KINDS.index(kind)}", linestyle="-" if mode == "forward" else "--", marker="osD^v<"[place % 6],
            label=f"{kind}, {mode}",
        )  # fmt: skip
    left.set(title="attention with its tangent", xlabel="length", ylabel="time / that of fused attention", xscale="log")
    left.legend(fontsize="x-small")
    rows = whole[whole.method != UNIT]
    at = np.arange(len(rows))
    right.barh(at, rows.time, xerr=[rows.time - rows.time_low, rows.time_high - rows.time], color="C0")
    right.set_yticks(at, [f"{r.network}, {r.method}, {r['mode']}" for _, r in rows.iterrows()])
    right.invert_yaxis()
    right.set(title="a training step", xlabel="time / that of a diffusion step")
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing begins in the last one of these")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks"), help="folder of what is written")
    parser.add_argument("--toy", action="store_true", help="on a CPU, to see that it runs; its numbers mean nothing")
    asked = parser.parse_args(arguments)
    scale = TOY if asked.toy else GPU
    if not asked.toy and not torch.cuda.is_available():
        parser.error("there is no GPU here; --toy shows on a CPU that the script runs")
    torch.manual_seed(0)
    began, tables, left_out = time.monotonic(), [], []
    for words, measure in pieces(scale):
        if time.monotonic() - began > 60 * (asked.minutes - 1):
            left_out.append(words)
            continue
        tables.append(pd.DataFrame(measure()))
        print(tables[-1].round(3).to_string(index=False), flush=True)
    if left_out:
        print(f"left out, as {asked.minutes:g} minutes are nearly over: {'; '.join(left_out)}")
    if not tables:
        parser.error("--minutes leaves no time for anything")
    device = "cpu, toy" if asked.toy else torch.cuda.get_device_name()
    table = pd.concat(tables).assign(device=device, dtype=str(scale.dtype)[6:], rounds=scale.rounds)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.out / "gpu.csv", lambda path: table.to_csv(path, index=False, float_format="%.5g"))
    save(draw(table), asked.out / "gpu")
    print(f"written: {asked.out / 'gpu.csv'}, gpu.svg and gpu.png")


if __name__ == "__main__":
    main()
