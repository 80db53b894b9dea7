"""Spoken words: synthesised, made spectrograms, and judged by a recogniser of the training part."""

import hashlib
from collections.abc import Callable, Collection
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.metrics import (
    frechet_distance,
    nearest_distance,
    precision_recall,
)
from trigbench.workflow.data.kinds.speech.hearing import WHOLE
from trigbench.workflow.data.kinds.speech.kind import METRICS
from trigbench.workflow.data.kinds.speech.recogniser import PREFIX, features, read, train_recogniser
from trigbench.workflow.data.kinds.speech.sound import FLOOR, log_mel
from trigbench.workflow.data.kinds.speech.synthesis import PROGRAM, Take, check_voices, spoken_by_all, version
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import Arrays
from trigbench.workflow.study.records import Value

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.speech.kind import SpeechData
    from trigbench.workflow.study.samplers import EvaluationSettings


def prepare(data: "SpeechData", evaluation: "EvaluationSettings", sigma_d: float) -> tuple[Arrays, dict[str, Any]]:
    """Spectrograms in data units (standard deviation sigma_d) in two parts, classes in turn, and a recogniser.

    Raises BenchError where the synthesiser or a voice is not there, and for other clips than the study names.
    """
    classes = len(data.labels)
    held, train = classes * data.held_out, classes * (data.takes - data.held_out)
    if min(train, held) <= CLASSIFIER:
        problem = f"{held} clips are held out, and {train} left: expected more than {CLASSIFIER} of both"
        raise BenchError(problem, key="held_out", remedy="set more 'takes', and more of these 'held_out'")
    found = version()
    check_voices(data.voices)
    clips = spoken_by_all(takes_of(data))
    whole = np.rint(clips * WHOLE).clip(-WHOLE, WHOLE - 1).astype("<i2")
    content = hashlib.sha256(whole.tobytes()).hexdigest()
    if data.content not in (None, content):
        problem = f"other clips than the study names: expected content {data.content}, found {content}"
        raise BenchError(problem, file=PROGRAM, key="content", remedy="take the version that spoke them, or remove it")
    spectra = log_mel(torch.from_numpy(whole / WHOLE)).numpy().astype(np.float32)[:, None]
    labels = np.arange(len(clips)) % classes
    mean, std = float(spectra[held:].mean()), float(spectra[held:].std())
    x = torch.from_numpy((spectra - mean) / std)
    weights = train_recogniser(x[held:], torch.from_numpy(labels[held:]), classes, data.seed)
    arrays = {
        "train": (x[held:] * sigma_d).numpy(),
        "train_labels": labels[held:],
        "held_out": (x[:held] * sigma_d).numpy(),
        "mean": np.float64(mean),
        "std": np.float64(std),
        "floor": np.float64(np.log(FLOOR)),
        "words": np.array(data.words),
        "voices": np.array(data.voices),
        "held_out_spoken": whole[:classes],
        "sigma_d": np.float64(sigma_d),
        **{f"{PREFIX}{name}": value.numpy() for name, value in weights.items()},
    }
    right = (recognised(arrays, features(x[:held], arrays)) for recognised in (words_recognised, voices_recognised))
    accuracies = dict(zip(("words_recognised_held_out", "voices_recognised_held_out"), right, strict=True))
    facts = {"train": train, "held_out": held, "classes": classes, "synthesiser": f"{PROGRAM} {found}"}
    return arrays, {**facts, "content": content, **{name: round(share, 4) for name, share in accuracies.items()}}


def takes_of(data: "SpeechData") -> list[Take]:
    """All of them, the classes in turn, the held-out part first; pairs of pitch and speed are a function of the data's
    seed, and no class has one twice."""
    g = generator(data.seed, "takes")
    (pitch, highest), (speed, fastest) = data.pitch, data.speed
    speeds = fastest - speed + 1
    pairs = (highest - pitch + 1) * speeds
    drawn = [torch.randperm(pairs, generator=g)[: data.takes].tolist() for _ in data.labels]
    classes = [(word, voice) for voice in data.voices for word in data.words]
    return [
        Take(word, voice, pitch + chosen[turn] // speeds, speed + chosen[turn] % speeds)
        for turn in range(data.takes)
        for (word, voice), chosen in zip(classes, drawn, strict=True)
    ]


def judge_map(dataset: Dataset, field: Field) -> tuple[list[Value], list[Value]]:
    """Nothing: the exact map of real data is not known."""
    return [], []


def judge_samples(dataset: Dataset, samples: Tensor, wanted: Collection[str] = METRICS["samples"]) -> dict[str, float]:
    """Distances to both parts of the data in the recogniser's features, and how often it reads what was asked for.

    Samples are labelled as `labels_in_shares` has it of their rows. Nearest neighbours are sought among equally many
    clips of both parts, since more are nearer.
    """
    arrays = dataset.arrays
    own, real, held = features(samples, arrays), part(dataset, "train"), part(dataset, "held_out")
    of_train = cache(lambda: features(real, arrays))
    both = cache(lambda: precision_recall(own, of_train()))
    judges: dict[str, Callable[[], float]] = {
        "fd_train": lambda: frechet_distance(own, of_train()),
        "fd_held_out": lambda: frechet_distance(own, features(held, arrays)),
        "precision": lambda: both()[0],
        "recall": lambda: both()[1],
        "nearest_train": lambda: nearest_distance(samples, real[: len(held)]),
        "nearest_held_out": lambda: nearest_distance(samples, held),
        "recognised": lambda: words_recognised(arrays, own),
        "voice_recognised": lambda: voices_recognised(arrays, own),
    }
    return {name: judge() for name, judge in judges.items() if name in wanted}


def words_recognised(arrays: Arrays, own: Tensor) -> float:
    """The share of features, classes in turn, that are read as the word asked for, in whatever voice."""
    asked, found = _asked_and_read(arrays, own)
    words = len(arrays["words"])
    return float((asked % words == found % words).mean())


def voices_recognised(arrays: Arrays, own: Tensor) -> float:
    """The same of the voice asked for, whatever the word."""
    asked, found = _asked_and_read(arrays, own)
    words = len(arrays["words"])
    return float((asked // words == found // words).mean())


def floors(dataset: Dataset) -> list[Value]:
    """The held-out part judged as if it were samples: real against real.

    Its distance to itself is left out, being zero by definition.
    """
    found = judge_samples(dataset, part(dataset, "held_out"))
    return [Value(metric=name, value=value) for name, value in found.items() if not name.endswith("_held_out")]


def part(dataset: Dataset, name: str) -> Tensor:
    """The clips of a part, in unit variance."""
    return torch.from_numpy(dataset.arrays[name]).float() / float(dataset.arrays["sigma_d"])


def _asked_and_read(arrays: Arrays, own: Tensor) -> tuple[np.ndarray, np.ndarray]:
    classes = len(arrays["words"]) * len(arrays["voices"])
    return labels_in_shares(range(len(own)), [1] * classes), read(own, arrays).numpy()
