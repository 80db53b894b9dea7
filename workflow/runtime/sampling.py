"""Samples from weights, in every way that a study asks for; equal noise in all of them."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from core.samplers.consistency import sample_consistency, sample_segments
from core.samplers.noise import noise_of_samples
from core.samplers.ode import ddim_step, dpm_solver_2s_step, heun_step, solve, solve_dpm_solver_pp_2m
from core.schedules import karras_noise_levels, largest_angle
from core.trigflow import Field, angle_from_noise_level
from workflow.runtime.assembly import Tensors, guided_field, make_network, open_data, segment_edges, student_field
from workflow.runtime.devices import device_of, on
from workflow.runtime.progress import Progress, sign_of_life
from workflow.runtime.randomness import generator
from workflow.schema import Arm
from workflow.study import Sampling, Study

BATCH, LARGEST = 1000, 2**22
"""Samples at a time, and numbers in them."""
ODE: Mapping[str, Callable[[Field, Tensor, Tensor], Tensor]] = {
    "ddim": partial(solve, ddim_step),
    "heun": partial(solve, heun_step),
    "dpm_2s": partial(solve, dpm_solver_2s_step),
    "dpm_pp_2m": solve_dpm_solver_pp_2m,
}
"""solver -> (field, x at the first time, descending times) -> x at the last."""
TWO_EVALUATIONS = ("heun", "dpm_2s")
"""Solvers with two evaluations a step, but one in the last."""


def draw_samples(study: Study, arm: Arm, weights: Tensors, samplings: list[Sampling], count: int) -> dict[str, Tensor]:
    """`count` samples of each sampling by its key, on the CPU: equal noise and labels in all of them."""
    dataset, device = open_data(study, arm), device_of(study)
    network, weights = make_network(study, arm, dataset), on(device, weights)
    labels = labels_of_samples(count, dataset.classes)
    slices = max([len(s.times) + 1 for s in samplings if s.solver == "few"], default=1)
    drawn = {s.key: torch.empty(count, *dataset.shape) for s in samplings}
    at_once = max(1, min(BATCH, LARGEST // math.prod(dataset.shape)))
    progress = Progress("samples", count)
    for rows in torch.arange(count).split(at_once) if count else ():
        generators = [generator(study.evaluation.seed, "sample", int(row)) for row in rows]
        noise = noise_of_samples(generators, slices, dataset.shape).to(device)
        own = None if labels is None else labels[rows].to(device)
        for sampling in samplings:
            with torch.no_grad():
                made = _draw(study, arm, network, weights, own, noise, sampling)
            drawn[sampling.key][rows] = made.cpu()
            sign_of_life()
        progress.update(int(rows[-1]) + 1)
    return drawn


def labels_of_samples(count: int, classes: int) -> Tensor | None:
    """Every class in turn; None for data without labels."""
    return torch.arange(count) % classes if classes else None


def _draw(
    study: Study, arm: Arm, network: nn.Module, weights: Tensors, labels: Tensor | None, noise: Tensor, how: Sampling
) -> Tensor:
    scale = None if how.guidance is None else torch.full((noise.shape[1],), how.guidance, device=noise.device)
    bound = partial(student_field, study, arm, network, weights, labels)
    if how.solver == "few":
        return sample_consistency(bound(scale), noise[: how.steps], [largest_angle(study.sigma_d), *how.times])
    if how.solver == "segments":
        return sample_segments(bound, noise[0], segment_edges(arm, study.sigma_d).to(noise.device))
    field = guided_field(network, weights, labels, scale)
    steps = math.ceil(how.steps / 2) if how.solver in TWO_EVALUATIONS else how.steps
    levels = torch.cat([karras_noise_levels(steps), torch.zeros(1, dtype=torch.float64)])
    times = angle_from_noise_level(levels, study.sigma_d).to(noise.device)
    return ODE[how.solver](field, torch.sin(times[0]).to(noise.dtype) * noise[0], times)
