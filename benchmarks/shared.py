"""What the benchmarks share: clocks, peak memory, paired ratios, and how a table is published."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: its profiler writes a line for every start and stop

import json
import random
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch.profiler import ProfilerActivity, profile

from trigbench.workflow.machine.devices import exact_products
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.report.style import save

exact_products()
PUBLISHED = Path(__file__).parents[1] / "results/published/benchmarks"
WARM_UP = 2
BOOTSTRAPS = 2000
ORIGIN = provenance()
"""Of what is published, before anything of it makes the checkout look changed."""
Call = Callable[[], Any]


def interleaved(calls: Mapping[str, Call], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each call in each round, all in turn in an order drawn anew each round.

    So a change of the machine's speed hits all alike, and a ratio within a round does not feel it.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-WARM_UP, rounds):
        for name in random.Random(turn).sample(list(calls), len(calls)):
            spent = seconds(calls[name], device)
            if turn >= 0:
                times[name].append(spent)
    return times


def seconds(call: Call, device: str) -> float:
    """Of one call: processor time on one thread, or the device's clock."""
    if device == "cpu":
        before = time.process_time()
        call()
        return time.process_time() - before
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_memory(call: Call, device: str) -> int:
    """Bytes allocated at most at one time, beyond what was there before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events: Any = recorded.profiler.kineto_results.events()  # type: ignore
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(change for _, change in changes), default=0)


def own_times(call: Call, device: str, calls: int = 5) -> tuple[dict[str, float], float]:
    """(seconds of each operation without those that it calls, seconds of the whole), the mean of some calls."""
    cuda = device == "cuda"
    call()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as recorded:
        whole = sum(seconds(call, device) for _ in range(calls)) / calls
    own = {e.key: e.self_device_time_total if cuda else e.self_cpu_time_total for e in recorded.key_averages()}
    return {operation: spent / 1e6 / calls for operation, spent in own.items() if spent}, whole


def paired(times: list[float], unit: list[float]) -> tuple[float, float, float]:
    """The median over rounds of paired ratios, and its 95% bootstrap interval."""
    ratios = np.array(times) / np.array(unit)
    draws = np.random.default_rng(0).choice(ratios, (BOOTSTRAPS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def publish(table: pd.DataFrame, name: str, device: str = "cpu", figure: Figure | None = None) -> None:
    """Write results/published/benchmarks/<name>.csv, where it comes from beside it, and the figure."""
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    table.to_csv(PUBLISHED / f"{name}.csv", index=False, float_format="%.5g")
    words = torch.cuda.get_device_name() if device == "cuda" else "cpu, one thread"
    (PUBLISHED / f"{name}.json").write_text(json.dumps(ORIGIN | {"device": words}, indent=1) + "\n")
    if figure is not None:
        save(figure, PUBLISHED / name)
