"""What a controlled error of the exact map becomes by the number of steps, with all re-noised and with nothing.

excess_renoised, excess_jumps     root mean square of samples by a map that errs, over that by the exact map from
                                  the same noise, less 1, on the mixture of the experiment's first arm
predicted_renoised, ..._jumps     the same of a Gaussian of standard deviation 0.6, in closed form

all against the number of steps (x). The map errs by 1 + ERROR sin(t - u); steps are even in the angle from pure noise.
"""

import math

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.core.step_errors import erring, gaussian_excess
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.task import open_data
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

STEPS = (1, 2, 4, 8, 16)
GAMMAS = {"renoised": 1.0, "jumps": 0.0}
ERROR, STD = 0.02, 0.6
EXACT = "exact"
"""In place of an objective: no map here is trained."""
SAMPLES, SOLVED_IN = 2000, 24
"""Samples a seed, and Runge-Kutta steps of an exact map."""


def measure(study: Study, experiment: str) -> Measured:
    """Of the experiment's seeds, each with noise of its own; predictions have none."""
    arrays = open_data(study, study.arms[study.arms_of(experiment)[0]].data).arrays
    mixture = mixture_of(arrays)
    rows = []
    for way, gamma in GAMMAS.items():
        for steps in STEPS:
            predicted = gaussian_excess(STD, ERROR, _times(steps), gamma)
            rows.append(Row(Value(metric=f"predicted_{way}", x=float(steps), value=predicted), objective=EXACT))
            for seed in study.seeds_of(experiment):
                found = Value(metric=f"excess_{way}", x=float(steps), value=_excess(mixture, seed, steps, gamma))
                rows.append(Row(found, seed=seed, objective=EXACT))
    return Measured(curves=rows)


def _times(steps: int) -> list[float]:
    return [math.pi / 2 * left / steps for left in range(steps, 0, -1)]


def _excess(mixture: oracle.Mixture, seed: int, steps: int, gamma: float) -> float:
    g = generator(seed, "step errors")
    noise = torch.randn(max(STEPS), SAMPLES, mixture.means.shape[1], generator=g, dtype=torch.float64)

    def exact(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        return oracle.segment_map(mixture, x, t, u, SOLVED_IN)

    erred, right = (sample_jumps(erring(exact, e), noise[:steps], _times(steps), gamma) for e in (ERROR, 0.0))
    return float(erred.square().mean().sqrt() / right.square().mean().sqrt()) - 1
