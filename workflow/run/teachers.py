"""Teachers from files: published networks, made .safetensors by `python -m trigbench.workflow.steps.convert`."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.fields import bind
from trigbench.core.networks.families import NoVelocity
from trigbench.core.networks.openai import cm_network
from trigbench.core.networks.teachers import Published, edm_field, edm_network
from trigbench.core.trigflow import Field
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.weights import Tensors, kept_of

POINTS = 8
"""At which a student that starts from a teacher is held against it."""
TOLERANCE = 1e-3
"""Of their distance, relative; of the same function it is rounding."""


def open_edm_network(path: Path) -> Published:
    """The network of EDM or EDM2 in a .safetensors file; `core.networks.teachers.edm_field` makes it a field."""
    remedy = "convert the published checkpoint again: docs/teachers.md"
    state = read_tensors(path, remedy)
    try:
        return edm_network(state)
    except NoVelocity as error:
        remedy = "convert its diffusion model by --family cm_edm, or open this by open_consistency: docs/teachers.md"
        raise BenchError(str(error), file=path, remedy=remedy) from error
    except ValueError as error:
        raise BenchError(str(error), file=path, remedy=remedy) from error


def open_consistency(path: Path) -> tuple[Published, float]:
    """(the network, the noise level at which its map ends) of a consistency model of CM's in a .safetensors file;
    `core.networks.openai.consistency_field` makes it a field."""
    remedy = "convert the published checkpoint again, by --family cm: docs/teachers.md"
    state = read_tensors(path, remedy)
    try:
        return cm_network(state)
    except ValueError as error:
        raise BenchError(str(error), file=path, remedy=remedy) from error


class EdmTeacher:
    """A network of EDM or EDM2 on a device, frozen, for data of a standard deviation of `sigma_d`."""

    def __init__(self, path: Path, sigma_d: float, device: torch.device) -> None:
        self.network = open_edm_network(path).requires_grad_(False).to(device).eval()
        self.sigma_d = sigma_d

    def field(self, labels: Tensor | None) -> Field:
        """Its velocity, in unit variance."""
        return edm_field(self.network, self.sigma_d, labels)

    def weights(self) -> Tensors:
        """As weights of a student: EDM's output has the opposite sign, so that of the last layer is turned."""
        kept = kept_of(self.network)
        return {name: -value if name.startswith("out_conv.") else value for name, value in kept.items()}

    def is_start_of(self, student: torch.nn.Module, told: Collection[str]) -> bool:
        """Whether the student, with `weights`, computes what the teacher does; its numbers add nothing yet."""
        weights = kept_of(student)
        device, training, g = next(iter(weights.values())).device, student.training, generator("start")
        x = torch.randn(POINTS, *self.network.shape, generator=g).to(device)
        t = torch.linspace(0.1, 1.5, POINTS, dtype=torch.float64, device=device)
        labels = torch.arange(POINTS, device=device) % self.network.classes if self.network.classes else None
        condition = Condition(labels, **{name: torch.ones(POINTS, device=device) for name in told})
        with torch.no_grad():
            ours = bind(student.eval(), weights, condition)(x, t)
            theirs = self.field(labels)(x, t)
        student.train(training)
        return bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())
