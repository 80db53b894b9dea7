"""What a trained run has left, for measurements that evaluate its network."""

from torch import nn

from trigbench.workflow.machine.devices import on
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import check_weights, make_network
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors


def trained(task: Task) -> tuple[nn.Module, Tensors] | None:
    """The run's network and its averaged weights, on its device; None where these are not there or are not numbers."""
    if not task.files.weights.is_file():
        return None
    weights, network = on(task.device, read_tensors(task.files.weights, "delete the run's folder")), make_network(task)
    check_weights(task, network, weights)
    finite = all(bool(weights[name].isfinite().all()) for name, _ in network.named_parameters())
    return (network, weights) if finite else None
