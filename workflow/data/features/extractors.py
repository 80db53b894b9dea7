"""Feature spaces of images: published networks from weights on disk, a classifier trained here, or random weights.

None is downloaded, and none stands in for another.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trigbench._places import to_step
from trigbench.core.optimiser import adam_step, initial_state
from trigbench.workflow.data.features.dimensions import CLASSIFIER
from trigbench.workflow.data.features.dinov2 import dinov2_of, normalised
from trigbench.workflow.data.features.metrics import fidelity
from trigbench.workflow.data.files.shards import check_file
from trigbench.workflow.data.randomness import generator, seed_for
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import best_device
from trigbench.workflow.machine.files import sha256 as sha256_of
from trigbench.workflow.machine.progress import Progress
from trigbench.workflow.machine.tensors import read_tensors

BATCH = 250
EPOCHS, FEWEST_STEPS = 3, 200
"""Passes over the training part; more of them where it is so small that they are fewer steps."""
TRAINED_ON = 128
RATE = 1e-3
WIDEST = 128
RESIZING = {
    "classifier": "none",
    "random": "none",
    "inception": "to 299 pixels, bilinear as TensorFlow 1 (torch-fidelity)",
    "dinov2": "to 224 pixels, antialiased bicubic",
}
PUBLISHED = {
    "inception": "torch-fidelity's weights-inception-2015-12-05-6726825d.pth",
    "dinov2": "the authors' dinov2_vitl14_pretrain.pth",
}


@dataclass(frozen=True)
class Extractor:
    """Pixels, uint8 of (n, 3, h, w), to features, float64 of (n, d) on the CPU."""

    name: str
    weights: Path
    sha256: str
    apply: Callable[[Tensor], Tensor]
    """One batch, on the device of the extractor."""

    def __call__(self, pixels: Tensor, what: str = "features") -> Tensor:
        return self.of_parts(pixels.split(BATCH), len(pixels), what)

    def dimensions(self, side: int) -> int:
        """How many features it has."""
        return self(torch.zeros(1, 3, side, side, dtype=torch.uint8)).shape[1]

    def of_parts(self, parts: Iterable[Tensor], count: int, what: str = "features") -> Tensor:
        """Of `count` images that come in parts, which need not be in memory together."""
        progress, found = Progress(what, count), []
        with torch.no_grad():
            for rows in parts:
                found.append(self.apply(rows.to(best_device())).double().cpu())
                progress.update(sum(map(len, found)))
        return torch.cat(found)


def check_weights(kind: str, path: str) -> Path:
    """The file of a published network. Raises BenchError saying where to get it, and how to convert it."""
    weights = Path(path)
    if weights.suffix != ".safetensors" or not weights.is_file():
        problem = f"the weights of the extractor {kind!r} are not there, as a .safetensors file"
        convert = to_step("convert", "FILE", weights.with_suffix(".safetensors"))
        how = f"fetch {PUBLISHED[kind]}, and: {convert}"
        raise BenchError(problem, file=weights, key="extractor.weights", remedy=f"{how} (docs/data.md)")
    return weights


def open_extractor(kind: str, weights: Path, sha256: str | None = None) -> Extractor:
    """The extractor from its file of weights, which must have this digest where one is given."""
    remedy = "put the weights back with which the data were prepared, or delete the prepared .npz to prepare them again"
    digest = sha256 or sha256_of(weights)
    check_file(weights, digest, remedy)
    return _opened(kind, weights, digest)


@cache
def _opened(kind: str, weights: Path, sha256: str) -> Extractor:
    tensors = read_tensors(weights, "fetch and convert the weights again (docs/data.md)")
    try:
        makers = {"classifier": _classifier, "random": _classifier, "inception": _inception, "dinov2": _dinov2}
        apply = makers[kind](tensors)
    except (RuntimeError, ValueError, LookupError) as error:
        first = str(error).splitlines()
        problem = f"these are not the weights of {kind!r}: {' '.join(line.strip() for line in first[:2])}"
        remedy = f"convert {PUBLISHED[kind]} (docs/data.md)" if kind in PUBLISHED else "delete the file"
        raise BenchError(problem, file=weights, remedy=remedy) from error
    return Extractor(kind, weights, sha256, apply)


def _inception(tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """torch-fidelity's network with these weights; its own reading of a file would unpickle it."""
    module = fidelity("feature_extractor_inceptionv3")
    with mock.patch.object(module, "load_state_dict_from_url", lambda *_, **__: dict(tensors)):
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).to(best_device())
    return lambda pixels: network(pixels)[0]


def _dinov2(tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    network = dinov2_of(tensors).to(best_device())
    return lambda pixels: network(normalised(pixels))


def _classifier(tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    inner = classifier_of(tensors)[:-1].to(best_device())
    return lambda pixels: inner(_centred(pixels))


# --- the classifier that the workflow trains ------------------------------------------------------


def classifier(classes: int, stages: int) -> nn.Sequential:
    """RGB images in [-1, 1] -> logits; all but the last layer give 64 features. Each stage halves the side."""
    widths = [min(32 * 2**stage, WIDEST) for stage in range(stages + 1)]
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.SiLU()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.SiLU()]
    ends = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * widths[-1], CLASSIFIER), nn.SiLU()]
    return nn.Sequential(*layers, *ends, nn.Linear(CLASSIFIER, classes))


def classifier_of(tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """The classifier that these weights are of, on the CPU."""
    last = max(int(name.split(".")[0]) for name in tensors)
    stages = sum(tensor.ndim == 4 for tensor in tensors.values()) - 1
    network = classifier(len(tensors[f"{last}.bias"]), stages)
    network.load_state_dict(dict(tensors))
    return network


def train_classifier(
    images: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, classes: int, side: int, seed: int
) -> dict[str, Tensor]:
    """The classifier's weights after a few passes over images (rows -> uint8), half of them mirrored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "classifier"))
        module = classifier(classes, _stages(side))
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    state = initial_state(parameters)
    epochs = max(EPOCHS, math.ceil(FEWEST_STEPS / math.ceil(len(labels) / TRAINED_ON)))
    progress, done = Progress("classifier: images", epochs * len(labels)), 0
    for epoch in range(epochs):
        g = generator(seed, "classifier", epoch)
        for rows in torch.randperm(len(labels), generator=g).split(TRAINED_ON):
            x = _centred(torch.from_numpy(images(rows.numpy())))
            x = torch.where(torch.rand(len(x), 1, 1, 1, generator=g) < 0.5, x, x.flip(-1))
            y = torch.from_numpy(labels[rows.numpy()])
            loss = nn.functional.cross_entropy(functional_call(module, parameters, (x,)), y)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            adam_step(parameters, dict(zip(parameters, gradients, strict=True)), state, rate=RATE)
            done += len(rows)
            progress.update(done)
    return {name: p.detach() for name, p in parameters.items()}


def random_weights(side: int) -> dict[str, Tensor]:
    """The classifier's network with fixed random weights, of variance 2 / inputs so that no layer fades (He et al.).

    Distances in random features tell distributions apart without labels or training (arXiv 2002.09797).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("random features"))
        module = classifier(1, _stages(side))
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    return {name: p.detach() for name, p in module.named_parameters()}


def accuracy(weights: Mapping[str, Tensor], pixels: Tensor, labels: np.ndarray) -> float:
    """The classifier's share of right answers."""
    network = classifier_of(weights)
    with torch.no_grad():
        guesses = torch.cat([network(_centred(rows)).argmax(1) for rows in pixels.split(BATCH)])
    return float((guesses.numpy() == labels).mean())


def _stages(side: int) -> int:
    return max(1, round(math.log2(side)) - 2)


def _centred(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1
