"""How far the exact map's own samples are from data, and how that scatters with the noise they start from.

    python benchmarks/sample_noise.py

Of the mixtures of `flow_maps`, by ten noises of seeds that no study uses, and by the one noise of studies whose runs
share it, in the numbers of steps that the study takes; all is re-noised, as nothing else differs from one step. The
floors of its rules in workflow/claims.yaml, and what docs/verdicts.md says of noise, are of these numbers.
"""

import contextlib
import statistics
import tempfile

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.noise import noise_of_samples
from trigbench.core.schedules import largest_angle
from trigbench.workflow.data.features.metrics import sliced_wasserstein
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

SEEDS = range(1_000_900, 1_000_910)
MAP_STEPS = 24
"""Of the ODE solver, for a map."""


def distances(study: Study, data: str, seed: int) -> dict[int, float]:
    """Sliced Wasserstein distance from the reference, by the number of steps."""
    arrays = read_arrays(study.data_file(data), "delete it")
    mixture, reference = mixture_of(arrays), torch.from_numpy(arrays["reference"])
    ways = [times or () for times in study.samplers["renoised"].times or ()]
    rows, slices = range(study.evaluation.samples), max(map(len, ways)) + 1
    generators = [generator(seed, "sample", row) for row in rows]
    noise = noise_of_samples(generators, slices, (mixture.means.shape[1],)).double()

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        """F of the exact map f, in f = cos(t) x - sin(t) F."""
        exact = oracle.consistency_map(mixture, x, t, MAP_STEPS)
        return (torch.cos(t)[:, None] * x - exact) / torch.sin(t)[:, None]

    top = largest_angle(study.sigma_d)
    found = {}
    for times in ways:
        samples = sample_consistency(velocity, noise[: len(times) + 1], [top, *times])
        found[len(times) + 1] = sliced_wasserstein(samples.float(), reference)
    return found


def main() -> None:
    """Print a line for each mixture and number of steps."""
    study = load("flow_maps")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for data in study.data:
            prepare(study, data)
            shared, *others = (distances(study, data, seed) for seed in (study.evaluation.seed, *SEEDS))
            for steps, value in shared.items():
                by_seed = [each[steps] for each in others]
                mean, scatter = statistics.mean(by_seed), statistics.stdev(by_seed)
                print(f"{data}, {steps} steps: {mean:.4f}, scatter {scatter:.4f}; of the one noise {value:.4f}")
            level = statistics.mean(value for each in others for value in each.values())
            print(f"{data}: {level:.4f} in the mean")


if __name__ == "__main__":
    main()
