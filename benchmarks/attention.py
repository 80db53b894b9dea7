"""What attention with its tangent costs, as ratios to torch's fused forward measured in the same run.

One layer, without recording. A ratio is the median over rounds of paired ratios, with a 95% bootstrap
interval. CPU seconds of one thread in float32, or device seconds in bfloat16 on a GPU. Memory is the peak
beyond the inputs.

    python benchmarks/attention.py [--rounds 20] [--device cuda] [--publish]
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import shared
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trigbench.core.attention import attention_with_tangent

UNIT = "fused forward"
LENGTHS = {"cpu": (256, 1024), "cuda": (256, 1024, 4096)}


def unfused(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    """torch.func.jvp of attention written out; forward mode has no rule for the fused one."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v

    return torch.func.jvp(attention, tensors[:3], tensors[3:])[:2]


WAYS: dict[str, Callable[..., Any]] = {
    UNIT: lambda q, k, v, *_: scaled_dot_product_attention(q, k, v),
    "with tangent (ours)": attention_with_tangent,
    "unfused torch.func.jvp": unfused,
}


def measure(length: int, rounds: int, device: str) -> pd.DataFrame:
    """A row per way."""
    shape, dtype = ((4, 8, length, 64), torch.bfloat16) if device == "cuda" else ((1, 4, length, 64), torch.float32)
    tensors = torch.randn(6, *shape, device=device).to(dtype).unbind()
    repeats = 10 if device == "cuda" else 1  # so that the device waits for no launch

    def repeated(way: Callable[..., Any]) -> None:
        for _ in range(repeats):
            way(*tensors)

    with torch.no_grad():
        times = shared.interleaved({name: partial(repeated, way) for name, way in WAYS.items()}, rounds, device)
        memory = {name: shared.peak_memory(partial(way, *tensors), device) / 2**20 for name, way in WAYS.items()}
    rows = []
    for name in WAYS:
        ratio, low, high = shared.paired(times[name], times[UNIT])
        rows.append({
            "length": length, "shape": "x".join(map(str, shape)), "dtype": str(dtype).removeprefix("torch."),
            "device": device, "way": name, "time": ratio, "time_low": low, "time_high": high,
            "peak_mib": memory[name], "unit_seconds": pd.Series(times[UNIT]).median() / repeats, "rounds": rounds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = arguments.device
    table = pd.concat([measure(length, arguments.rounds, device) for length in LENGTHS[device]])
    print(table.drop(columns=["device", "rounds"]).round(4).to_string(index=False))
    if arguments.publish:
        shared.publish(table, f"attention-{device}", device)


if __name__ == "__main__":
    main()
