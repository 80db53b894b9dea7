"""What CM's and iCT's theory says, measured without training, in float64, on data whose map is exact.

fixed_point_error_<solver>  CM's Theorem 1: the map that satisfies the discrete objective exactly is the
                            solver's own trajectory along the grid; its RMS distance to the exact map.
ct_minus_cd_loss            CM's Theorem 2: L_CT - L_CD over L_CD at a fixed network (lambda = sin(t)^2); the theorem's
                            o(step) says nothing of this ratio, since both losses are themselves O(step^2).
gradient_bias               iCT's Sec. 3.2: the mean gradient over the grid's step against that of CT on the
                            finest grid, relative; it grows with N when the targets come from an average
                            that lags behind (objective ct_ema).
gradient_noise              the gradient's standard deviation over batches, over its mean.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench.core import oracle
from trigbench.core.constants import SIGMA_MIN
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives.lineage import cd, ct
from trigbench.core.objectives.regression import Regression, settings_for
from trigbench.core.samplers import Step
from trigbench.core.samplers.ode import ddim_step, heun_step
from trigbench.core.schedules import cm_angles
from trigbench.core.trigflow import Field, angle_from_noise_level, even_grid
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.data.randomness import generator, seed_for
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.task import open_data
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

POINTS = (8, 16, 32, 64, 128, 256, 512)
"""Intervals N of the grids."""
FINEST = 4096
"""N at which the limit of the gradient is taken."""
Objective = Callable[[Fields, Tensor, Draws, Any], Regression]
SOLVERS: dict[str, Step] = {"euler": ddim_step, "heun": heun_step}
LAG = 0.99
"""The average that gives the targets here: this share of the student's parameters, the rest zero."""
BATCH, REPEATS = 2048, 8


def measure(study: Study, experiment: str) -> Measured:
    """All three, on the data of the experiment's first arm."""
    dataset = open_data(study, study.arms[study.arms_of(experiment)[0]].data)
    arrays = dataset.arrays
    mixture = mixture_of(arrays)
    points = torch.from_numpy(arrays["points"][-1])
    rows = _fixed_point_errors(mixture, points, study.sigma_d)
    for seed in study.seeds_of(experiment):
        rows += _losses(mixture, study.sigma_d, seed)
    return Measured(curves=rows)


def _fixed_point_errors(mixture: oracle.Mixture, points: Tensor, sigma_d: float) -> list[Row]:
    field = _exact(mixture)
    low = angle_from_noise_level(SIGMA_MIN, sigma_d)
    rows = []
    for count in POINTS:
        edges = cm_angles(count + 1, sigma_d).flip(0)
        exact = oracle.segment_map(mixture, points, edges[0].expand(len(points)), low.expand(len(points)))
        for name, step in SOLVERS.items():
            x = points
            for t, u in itertools.pairwise(edges):
                x = step(field, x, t.expand(len(x)), u.expand(len(x)))
            error = float(((x - exact) / torch.cos(low)).square().mean().sqrt())
            rows.append(Row(Value(metric=f"fixed_point_error_{name}", x=float(count), value=error), objective="cd"))
    return rows


def _losses(mixture: oracle.Mixture, sigma_d: float, seed: int) -> list[Row]:
    network = _network(mixture.means.shape[1], seed)
    student = _bound(network, 1.0)
    kinds: dict[str, tuple[Objective, Fields]] = {
        "cd": (cd, Fields(student, _exact(mixture))),
        "ct": (ct, Fields(student)),
        "ct_ema": (ct, Fields(student, target=_bound(network, LAG))),
    }
    batches = [_draws(mixture, seed, repeat) for repeat in range(REPEATS)]

    def found(name: str, intervals: int) -> tuple[float, Tensor]:
        """Loss, and the gradient over the grid's mean step of every batch (batches, parameters)."""
        objective, fields = kinds[name]
        grid = even_grid(cm_angles(intervals + 1, sigma_d))
        settings = settings_for(objective, grid=grid, solver=ddim_step)
        losses = [objective(fields, *batch, settings).loss for batch in batches]
        parameters = list(network.parameters())
        gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]) for loss in losses]
        return sum(loss.item() for loss in losses), torch.stack(gradients) / float(grid.angles.diff().mean())

    limit = found("ct", FINEST)[1].mean(0)
    rows = []
    for points in POINTS:
        losses = {}
        for name in kinds:
            losses[name], gradients = found(name, points)
            mean = gradients.mean(0)
            bias, noise = (mean - limit).norm() / limit.norm(), gradients.std(0).norm() / mean.norm()
            for metric, number in (("gradient_bias", bias), ("gradient_noise", noise)):
                value = Value(metric=metric, x=float(points), value=float(number))
                rows.append(Row(value, seed=seed, objective=name))
        relative = Value(metric="ct_minus_cd_loss", x=float(points), value=losses["ct"] / losses["cd"] - 1)
        rows.append(Row(relative, seed=seed, objective="ct"))
    return rows


def _draws(mixture: oracle.Mixture, seed: int, repeat: int) -> tuple[Tensor, Draws]:
    """The same for every N and method."""
    g, dimension = generator(seed, "theory", repeat), mixture.means.shape[1]
    uniform, kind = (torch.rand(BATCH, generator=g, dtype=torch.float64) for _ in range(2))
    noise, spread = (torch.randn(BATCH, dimension, generator=g, dtype=torch.float64) for _ in range(2))
    return oracle.sample(mixture, kind, spread), Draws(uniform, noise)


def _exact(mixture: oracle.Mixture) -> Field:
    return lambda x, t: oracle.velocity(mixture, x, t)


def _network(dimension: int, seed: int) -> nn.Module:
    """A smooth function of point and angle, its parameters a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "theory"))
        layers = nn.Linear(dimension + 1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, dimension)
        return nn.Sequential(*layers).double()


def _bound(network: nn.Module, share: float) -> Field:
    """The network at a share of its parameters, as a field."""
    scaled = None if share == 1.0 else {name: share * p.detach() for name, p in network.named_parameters()}

    def field(x: Tensor, t: Tensor) -> Tensor:
        inputs = torch.cat([x, t[:, None]], dim=1)
        return network(inputs) if scaled is None else functional_call(network, scaled, (inputs,))

    return field
