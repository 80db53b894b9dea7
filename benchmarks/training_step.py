"""What one training step costs, as ratios to a diffusion step measured in the same run.

Times are CPU seconds of whole steps (loss, gradient, no optimiser) on one thread, every method in
turn and in a shuffled order each round, so that a change of the machine's speed hits all alike; the
ratio is the median over rounds of paired ratios.

    python benchmarks/training_step.py [--rounds 30]
"""

import argparse
import importlib
import json
import random
import statistics
import time
from dataclasses import replace
from functools import partial

import torch

from core.fields import Draws, Fields, bind
from core.forward_mode import value_and_tangent
from core.networks.mlp import ResidualMLP
from core.objectives import OBJECTIVES
from core.objectives.regression import Settings
from core.schedules import karras_angles
from core.trigflow import proposal_grid
from workflow.runtime.provenance import provenance

SHAPE, WIDTH, BLOCKS, BATCH = (1, 8, 8), 128, 3, 128


def reference_derivative(field, x, t, v, scale):
    """core.tangents.jvp_derivative, with torch.func.jvp."""
    along = scale.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype) * v
    return value_and_tangent(field, (x, t), (along, scale), method="reference")


def step(name, networks, settings, x0, draws) -> None:
    """One loss and its gradient in all that the method trains."""
    student, teacher, told, fake = networks
    trained = [told if OBJECTIVES[name].segments else student, *([fake] if OBJECTIVES[name].fake else [])]
    fields = Fields(bind(student), bind(teacher), student_to=lambda u: bind(told, condition=(None, u)), fake=bind(fake))
    loss = _function(name)(fields, x0, draws, settings).loss
    torch.autograd.grad(loss, [p for network in trained for p in network.parameters()])


def measure(rounds: int) -> dict[str, float]:
    """Median paired ratio of CPU time to the diffusion step, by method."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    networks = [ResidualMLP(SHAPE, WIDTH, BLOCKS, told=told) for told in (False, False, True, False)]
    grid = proposal_grid(karras_angles(1024, 0.5), -1.0, 1.4, 0.5)
    settings = Settings(grid=grid, segments=torch.tensor([0.0, 0.8], dtype=torch.float64))
    x0 = torch.randn(BATCH, *SHAPE)
    draws = replace(_draws(), start=torch.randn(BATCH, *SHAPE), score=_draws(), fake=_draws())
    methods = {name: partial(step, name, networks, settings, x0, draws) for name in OBJECTIVES}
    by_reference = replace(settings, derivative=reference_derivative)
    for name in ("scd", "sct"):
        methods[f"{name} (torch.func.jvp)"] = partial(step, name, networks, by_reference, x0, draws)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(rounds + 3):
        for name in random.Random(turn).sample(list(methods), len(methods)):
            before = time.process_time()
            methods[name]()
            if turn >= 3:
                times[name].append(time.process_time() - before)
    base = times["diffusion"]
    return {n: round(statistics.median(a / b for a, b in zip(t, base, strict=True)), 2) for n, t in times.items()}


def _draws() -> Draws:
    return Draws(torch.rand(BATCH, dtype=torch.float64), torch.randn(BATCH, *SHAPE))


def _function(name: str):
    module, function = OBJECTIVES[name].path.split(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    print(json.dumps({"ratio_to_diffusion_step": measure(parser.parse_args().rounds), **provenance()}, indent=1))
