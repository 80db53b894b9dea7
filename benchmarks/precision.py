"""How exact the tangent is in half and single precision, along t, for the ways a network is told the time.

The median over samples of |g - g64| / |g64|, g the tangent cos t sin t dF/dt of a random network and g64
its value in float64: float32 everywhere, or float16 and bfloat16 by autocast with the time path in
float32, and with the time itself rounded to half precision as some code does. Told the angle, the
tangent keeps the precision of the arithmetic; told 1000 t, or ln(sigma), it does not.

    python benchmarks/precision.py [--publish]
"""

import argparse
import json
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from core.fields import bind
from core.networks.mlp import ResidualMLP
from core.tangents import derivative_along
from core.trigflow import Field
from workflow.runtime.provenance import provenance

ANGLES = (0.02, 0.1, 0.3, 0.6, 0.9, 1.1, 1.3, 1.45, 1.55)
BATCH, NETWORKS = 64, 5
COORDINATES = {"t": 1.0, "1000 t": 1000.0}


class Told(nn.Module):
    """The network, told the time times a scale, perhaps rounded first."""

    def __init__(self, network: nn.Module, scale: float, rounded: torch.dtype | None) -> None:
        super().__init__()
        self.network, self.scale, self.rounded = network, scale, rounded

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        told = self.scale * t
        return self.network(x, told if self.rounded is None else told.to(self.rounded).to(t.dtype), condition)


def network(seed: int, **options) -> nn.Module:
    """A random one whose output is not zero."""
    torch.manual_seed(seed)
    made = ResidualMLP((3, 8, 8), width=128, blocks=3, **options)
    nn.init.normal_(made.project.weight, std=0.1)
    return made


def tangent(field: Field, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """cos t sin t dF/dt along dx/dt = v."""
    return derivative_along(field, x, t, v, torch.cos(t) * torch.sin(t))[1]


def measure() -> pd.DataFrame:
    """A row per embedding, precision and angle: the median relative error over samples and networks."""
    ways = {f"positional of {name}": ({}, scale) for name, scale in COORDINATES.items()}
    ways |= {"positional of ln(sigma)/4": ({"coordinate": "log_noise_level"}, 1.0)}
    ways |= {"Fourier (16) of t": ({"embedding": "fourier"}, 1.0)}
    ways |= {"Fourier (16) of ln(sigma)/4": ({"embedding": "fourier", "coordinate": "log_noise_level"}, 1.0)}
    rows = []
    for name, (options, scale) in ways.items():
        for precision in ("fp32", "fp16", "bf16", "fp16, time too", "bf16, time too"):
            for angle in ANGLES:
                errors = torch.cat([_errors(seed, options, scale, precision, angle) for seed in range(NETWORKS)])
                rows.append({"told": name, "precision": precision, "t": angle, "error": float(errors.median())})
    return pd.DataFrame(rows)


def _errors(seed: int, options: dict, scale: float, precision: str, angle: float) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    x, v = torch.randn(2, BATCH, 3, 8, 8, generator=draw, dtype=torch.float64)
    t = torch.full((BATCH,), angle, dtype=torch.float64)
    made = network(seed, **options)
    exact = tangent(bind(Told(made, scale, None).double(), precision=torch.float64), x, t, v)
    half = {"fp1": torch.float16, "bf1": torch.bfloat16, "fp3": torch.float32}[precision[:3]]
    told = Told(made.float(), scale, half if precision.endswith("too") else None)
    found = tangent(bind(told, precision=half), x.float(), t, v.float()).double()
    error = (found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    return error.nan_to_num(nan=float("inf"))


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    table = measure()
    show = partial(table.pivot, index=["told", "precision"], columns="t", values="error")
    print(show().to_string(float_format=lambda value: f"{value:.1e}"))
    if parser.parse_args().publish:
        folder = Path(__file__).parents[1] / "results/published/benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "precision.csv", index=False, float_format="%.4g")
        (folder / "precision.json").write_text(json.dumps(provenance(), indent=1) + "\n")


if __name__ == "__main__":
    main()
