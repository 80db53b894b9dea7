"""What attention with its tangent costs, as ratios to torch's fused forward measured in the same run.

One layer. Every way in turn and in a shuffled order each round, so that a change of the machine's
speed hits all alike; a ratio is the median over rounds of paired ratios. CPU seconds of one thread in
float32, or device seconds in bfloat16 where there is a GPU. Memory is the peak beyond the inputs.

    python benchmarks/attention.py [--rounds 20]
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from core.attention import attention_with_tangent
from workflow.runtime.provenance import provenance

Way = Callable[..., Any]


def unfused(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    """torch.func.jvp of attention written out; forward mode has no rule for the fused one."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v

    return torch.func.jvp(attention, tensors[:3], tensors[3:])[:2]


WAYS: dict[str, Way] = {
    "fused forward": lambda q, k, v, *_: scaled_dot_product_attention(q, k, v),
    "with tangent": attention_with_tangent,
    "unfused jvp": unfused,
}


def measure(length: int, rounds: int, device: str) -> dict[str, Any]:
    """Ratios of time and peak MiB, by way, without recording."""
    shape, dtype = ((4, 8, length, 64), torch.bfloat16) if device == "cuda" else ((1, 4, length, 64), torch.float32)
    tensors = torch.randn(6, *shape, device=device).to(dtype).unbind()
    clock = _device_seconds if device == "cuda" else _cpu_seconds
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    with torch.no_grad():
        for turn in range(rounds + 2):
            for name in random.Random(turn).sample(list(WAYS), len(WAYS)):
                taken = clock(WAYS[name], tensors)
                if turn >= 2:
                    times[name].append(taken)
        memory = {name: round(_peak(way, tensors, device) / 2**20, 1) for name, way in WAYS.items()}
    base = times["fused forward"]
    ratios = {n: round(statistics.median(a / b for a, b in zip(t, base, strict=True)), 2) for n, t in times.items()}
    return {"shape": shape, "dtype": str(dtype), "ratio_to_fused_forward": ratios, "peak_mib_beyond_inputs": memory}


def _cpu_seconds(way: Way, tensors: tuple[Tensor, ...]) -> float:
    before = time.process_time()
    way(*tensors)
    return time.process_time() - before


def _device_seconds(way: Way, tensors: tuple[Tensor, ...]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):  # so that the device waits for no launch
        way(*tensors)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e4


def _peak(way: Way, tensors: tuple[Tensor, ...], device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way(*tensors)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        way(*tensors)
    events: Any = recorded.profiler.kineto_results.events()  # type: ignore
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(change for _, change in changes), default=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lengths = (256, 1024, 4096) if device == "cuda" else (256, 1024)
    found = {f"length {length}": measure(length, rounds, device) for length in lengths}
    print(json.dumps({**found, **provenance()}, indent=1))
