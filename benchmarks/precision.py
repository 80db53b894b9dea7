"""How exact the tangent is in half and single precision, along t, for the ways a network is told the time.

The median over samples of |g - g64| / |g64|, g the tangent cos t sin t dF/dt of a random network and g64
its value in float64: float32 everywhere, or float16 and bfloat16 by autocast with the time path in
float32, and with the time itself rounded to half precision as some code does. By a positional
embedding of the angle the tangent keeps the precision of the arithmetic, even of a rounded time; of 1000 t or by
Fourier features of scale 16 a rounded time leaves little. Times are drawn around each angle: round ones, such as
1000 t = 600, would survive being rounded.

    python benchmarks/precision.py [--publish]
"""

import argparse
from collections.abc import Callable
from functools import partial

import pandas as pd
import shared
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from trigbench.core.fields import bind
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.tangents import derivative_along
from trigbench.core.trigflow import Field
from trigbench.workflow.report.style import apply_style

ANGLES = (0.02, 0.1, 0.3, 0.6, 0.9, 1.1, 1.3, 1.45, 1.55)
BATCH, SEEDS, SIGMA_D = 8, 3, 0.5
SHAPE = (3, 8, 8)
TOLD: dict[str, Callable[[Tensor], Tensor]] = {
    "t": lambda t: t,
    "1000 t": lambda t: 1000 * t,
    "ln(sigma)/4": lambda t: (SIGMA_D * t.tan()).log() / 4,
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": lambda: ResidualMLP(SHAPE, width=128, blocks=3),
    "MLP, Fourier (16)": lambda: ResidualMLP(SHAPE, width=128, blocks=3, embedding="fourier"),
    "DDPM++": lambda: DDPMpp(SHAPE, width=16, multipliers=(1, 2), blocks=1, attention=(4,)),
    "DiT": lambda: DiT(SHAPE, width=64, depth=3, heads=2),
}
"""Their embedding is positional where nothing else is said."""
PRECISIONS = ("fp32", "fp16", "bf16", "fp16, time too", "bf16, time too")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Told(nn.Module):
    """The network, told a function of the time, perhaps rounded first."""

    def __init__(self, network: nn.Module, told: Callable[[Tensor], Tensor], rounded: torch.dtype | None) -> None:
        super().__init__()
        self.network, self.told, self.rounded = network, told, rounded

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        told = self.told(t)
        return self.network(x, told if self.rounded is None else told.to(self.rounded).to(t.dtype), condition)


def random_network(kind: str, seed: int) -> nn.Module:
    """One in which no layer is at zero."""
    torch.manual_seed(seed)
    made = NETWORKS[kind]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def tangent(field: Field, x: Tensor, t: Tensor, v: Tensor) -> Tensor:
    """cos t sin t dF/dt along dx/dt = v."""
    return derivative_along(field, x, t, v, torch.cos(t) * torch.sin(t))[1]


def measure() -> pd.DataFrame:
    """A row per network, time, precision and angle: the median relative error over samples and seeds."""
    rows = []
    for kind in NETWORKS:
        for told in TOLD:
            for angle in ANGLES:
                errors = [errors_of(kind, told, angle, seed) for seed in range(SEEDS)]
                for precision in PRECISIONS:
                    error = float(torch.cat([found[precision] for found in errors]).median())
                    rows.append({"network": kind, "told": told, "precision": precision, "t": angle, "error": error})
    return pd.DataFrame(rows)


def errors_of(kind: str, told: str, angle: float, seed: int) -> dict[str, Tensor]:
    """By precision, the relative error of each sample; infinite where it is not finite."""
    draw = torch.Generator().manual_seed(seed)
    x, v = torch.randn(2, BATCH, *SHAPE, generator=draw, dtype=torch.float64)
    t = angle * (1 + 0.01 * torch.empty(BATCH, dtype=torch.float64).uniform_(-1, 1, generator=draw))
    made = random_network(kind, seed)
    exact = tangent(bind(Told(made.double(), TOLD[told], None), precision=torch.float64), x, t, v)
    found = {}
    for precision in PRECISIONS:
        dtype = DTYPES[precision[:4]]
        field = bind(Told(made.float(), TOLD[told], dtype if "too" in precision else None), precision=dtype)
        difference = tangent(field, x.float(), t, v.float()).double() - exact
        error = difference.flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        found[precision] = error.nan_to_num(nan=float("inf"))
    return found


def draw(table: pd.DataFrame) -> Figure:
    """Error along t, a panel per network, a colour per time, a line style per precision."""
    apply_style()
    shown = {"fp32": "-", "bf16": "--", "bf16, time too": ":"}
    figure, axes = plt.subplots(1, len(NETWORKS), figsize=(3 * len(NETWORKS), 3), sharey=True, layout="constrained")
    for ax, (kind, rows) in zip(axes, table.groupby("network", sort=False), strict=True):
        for place, told in enumerate(TOLD):
            for precision, style in shown.items():
                line = rows[(rows.told == told) & (rows.precision == precision)]
                label = f"told {told}, {precision}"
                ax.plot(line.t, line.error, style, color=f"C{place}", marker="o", markersize=3, label=label)
        ax.set(yscale="log", xlabel="t", title=kind)
    axes[0].set_ylabel("relative error of the tangent")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = measure()
    show = partial(table.pivot, index=["network", "told", "precision"], columns="t", values="error")
    print(show().to_string(float_format=lambda value: f"{value:.1e}"))
    if arguments.publish:
        shared.publish(table, "precision", figure=draw(table))


if __name__ == "__main__":
    main()
