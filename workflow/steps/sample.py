"""Draw samples from one trained run: the same noise for every method, k steps each."""

import json
import time

import torch
from torch import Tensor

from core.fields import bind
from core.samplers.consistency import sample_consistency
from core.samplers.noise import noise_of_samples
from core.samplers.ode import heun_step, solve
from core.schedules import karras_noise_levels, largest_angle
from core.trigflow import Field, angle_from_noise_level
from workflow.runtime.files import write_arrays
from workflow.runtime.randomness import generator
from workflow.runtime.tensors import read_tensors
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.steps.train import make_network, open_data
from workflow.study import Run, Study

BATCH = 1000


def sample(study: Study, run: Run) -> float:
    """Write samples.npz (`steps-k` for every k, unit variance; empty for a diverged run); return seconds."""
    started = time.monotonic()
    out, arm = study.run_folder(run), study.arms[run.arm]
    dataset = open_data(study, arm)
    network = make_network(study, arm, dataset)
    weights = read_tensors(out / "weights.safetensors", "delete the file; the workflow trains the run again")
    diverged = json.loads((out / "training.json").read_text())["reason"] is not None
    count = 0 if diverged else study.evaluation.samples
    steps = (study.evaluation.teacher_steps,) if arm.objective == "diffusion" else study.evaluation.steps
    labels = labels_of_samples(count, dataset.classes)
    samples = {k: [torch.empty(0, *dataset.shape)] for k in steps}
    for rows in torch.arange(count).split(BATCH) if count else ():
        field = bind(network, weights, None if labels is None else labels[rows])
        generators = [generator(study.evaluation.seed, "sample", int(row)) for row in rows]
        noise = noise_of_samples(generators, max(study.evaluation.steps), dataset.shape)
        for k in steps:
            with torch.no_grad():
                samples[k].append(
                    _teacher_samples(field, noise[0], k, study)
                    if arm.objective == "diffusion"
                    else sample_consistency(field, noise[:k], _times(study, k))
                )
    write_arrays(out / "samples.npz", {f"steps-{k}": torch.cat(parts).numpy() for k, parts in samples.items()})
    return time.monotonic() - started


def labels_of_samples(count: int, classes: int) -> Tensor | None:
    """Every class in turn; None for data without labels."""
    return torch.arange(count) % classes if classes else None


def _times(study: Study, steps: int) -> list[float]:
    return [largest_angle(study.sigma_d), *study.evaluation.mid_times[: steps - 1]]


def _teacher_samples(field: Field, noise: Tensor, steps: int, study: Study) -> Tensor:
    """EDM's Heun sampler on its own grid (arXiv 2410.11081, App. G.1)."""
    levels = torch.cat([karras_noise_levels(steps), torch.zeros(1, dtype=torch.float64)])
    times = angle_from_noise_level(levels, study.sigma_d)
    return solve(heun_step, field, torch.sin(times[0]).to(noise.dtype) * noise, times)


def command() -> None:
    """Parse the arguments and sample."""
    parsed = run_parser(__doc__).parse_args()
    study = study_of(parsed)
    print(f"sampled in {sample(study, run_of(study, parsed)):.1f} s")


if __name__ == "__main__":
    main(command)
