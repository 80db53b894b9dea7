"""What speaking takes, and whether what is heard is what was asked for.

Runs are those on spoken words, sampled in each way that the experiment shows: the seconds of the network for a clip,
over the clip's own, and those of the vocoder apart; and how often the recogniser reads the word that was asked for,
once samples were made sound and spectrograms again. Beside them stand held-out clips.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.speech.dimensions import SECONDS
from trigbench.workflow.data.kinds.speech.hearing import spectra_of, vocoder
from trigbench.workflow.data.kinds.speech.making import part, words_recognised
from trigbench.workflow.data.kinds.speech.recogniser import features
from trigbench.workflow.data.randomness import seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import on, products
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.run.batches import mapped
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.measurements.trained import trained
from trigbench.workflow.run.noise import condition_of_samples, noise_of_rows, noise_of_steps
from trigbench.workflow.run.sampling import draw
from trigbench.workflow.run.task import Task, open_data, opened
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.records import REAL, Value
from trigbench.workflow.study.study import Sampling, Study

HEARD = 40
"""Samples that are made sound."""
TIMED = 20
"""Clips whose time is taken, one after the other."""


def measure(study: Study, experiment: str) -> Measured:
    """Of every run, in every way that the experiment shows. Raises BenchError for data that are no spoken words."""
    dataset, found = _spoken(study, experiment), Measured()
    held = part(dataset, "held_out")[:HEARD]
    real = {
        "heard": _heard(dataset, held),
        "vocoder_seconds": _seconds(lambda _: partial(vocoder, dataset.arrays, held[:1])),
    }
    found.runs.extend(_rows(real, {}, REAL, None))
    for run in study.runs_of(experiment):
        task = opened(study, run)
        left = trained(task)
        for way in _ways(study, experiment, run.arm):
            sign_of_life()
            numbers: dict[str, float | None] = dict.fromkeys(("heard", "network_seconds"))
            if left is not None:
                drawn = _draws(task, left, way)
                one = lambda turn, drawn=drawn: drawn(range(turn, turn + 1))  # noqa: E731
                numbers = {"heard": _heard(dataset, drawn(range(HEARD))()), "network_seconds": _seconds(one)}
            found.runs.extend(_rows(numbers, way.columns, run.arm, run.seed))
    return found


def _spoken(study: Study, experiment: str) -> Dataset:
    names = list(dict.fromkeys(study.arms[arm].data for arm in study.arms_of(experiment)))
    dataset = open_data(study, names[0])
    if len(names) > 1 or "held_out_spoken" not in dataset.arrays:
        problem = f"its arms have the data {', '.join(names)}: expected one data set of spoken words"
        remedy = "measure speaking of arms on one data set of the kind that is synthesised"
        raise BenchError(problem, file=study.file, key=f"experiments.{experiment}.measurement", remedy=remedy)
    return dataset


def _ways(study: Study, experiment: str, arm: str) -> list[Sampling]:
    """How the experiment shows that an arm's samples are drawn."""
    shown = study.experiments[experiment].samplers or study.samplers_of(arm)[:1]
    return [way for way in study.samplings(arm) if way.sampler in shown]


def _draws(task: Task, left: tuple[torch.nn.Module, Tensors], way: Sampling) -> Callable[[range], Callable[[], Tensor]]:
    """Rows -> what draws their samples on the CPU, from noise and labels that all samples of these rows have."""
    seed, device = task.study.evaluation.noise_seed(task.run.seed), task.device
    weights = on(device, left[1])

    def of(rows: range) -> Callable[[], Tensor]:
        noise = noise_of_rows(seed, rows, len(way.times) + 1, task.data).to(device)
        told = mapped(lambda one: one.to(device), condition_of_samples(rows, task.data))
        further = (z.to(device) for z in noise_of_steps(seed, rows, task.data))
        seed_globals(seed, "speaking", rows.start)  # of a network of one's own that draws

        @torch.no_grad()
        def drawn() -> Tensor:
            with products(device, tf32=False):
                return draw(task, left[0], weights, told, noise, further, way).cpu()

        return drawn

    return of


def _seconds(prepared: Callable[[int], Callable[[], object]]) -> float:
    """Of one clip over its own, what comes before apart: the median after one that is not timed."""
    prepared(0)()
    spent = []
    for turn in range(TIMED):
        make = prepared(turn)
        started = time.perf_counter()
        make()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent) / SECONDS


def _heard(dataset: Dataset, samples: Tensor) -> float | None:
    """The share of samples whose word is read; none of samples that are not numbers."""
    if not bool(samples.isfinite().all()):
        return None
    sound = vocoder(dataset.arrays, samples)
    return words_recognised(dataset.arrays, features(spectra_of(dataset.arrays, sound), dataset.arrays))


def _rows(
    numbers: Mapping[str, float | None], about: Mapping[str, object], arm: str, seed: int | None
) -> Iterator[Row]:
    told = {"objective": arm} if arm == REAL else {}
    for metric, number in numbers.items():
        yield Row(Value.model_validate({"metric": metric, "value": number, **about}), arm, seed, **told)
