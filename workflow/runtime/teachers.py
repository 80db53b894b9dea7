"""Teachers from files: published networks, converted to .safetensors by `python -m workflow.steps.convert`."""

from pathlib import Path

from core.networks.ddpmpp import DDPMpp
from core.networks.edm2 import EDM2
from core.networks.teachers import edm_network
from workflow.errors import BenchError
from workflow.runtime.tensors import read_tensors


def open_edm_network(path: Path) -> DDPMpp | EDM2:
    """The network of EDM or EDM2 in a .safetensors file; `core.networks.teachers.edm_field` makes it a field."""
    remedy = "convert the published checkpoint again: docs/teachers.md"
    state = read_tensors(path, remedy)
    try:
        return edm_network(state)
    except ValueError as error:
        raise BenchError(str(error), file=path, remedy=remedy) from error
