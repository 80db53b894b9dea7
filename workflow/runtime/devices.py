"""Which device a process works on. What is drawn is drawn on the CPU and moved there, so that devices see the same."""

import os
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from core.trigflow import Field
from workflow.errors import BenchError
from workflow.study import Study


def best_device() -> torch.device:
    """The process's GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(study: Study) -> torch.device:
    """The study's device; `auto` is the process's own GPU where there is one, else the CPU.

    A process that torchrun started takes the GPU of its local rank. Raises BenchError where there is none.
    """
    if study.device == "cpu" or (study.device == "auto" and best_device().type == "cpu"):
        return torch.device("cpu")
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        problem = f"there is no CUDA device for local process {local}: torch sees {there}"
        remedy = "start as many processes as there are devices, or give --device cpu"
        raise BenchError(problem, file=study.file, key="device", remedy=remedy, again=True)
    torch.cuda.set_device(local)  # what NCCL and FSDP2 take as this process's
    return torch.device("cuda", local)


def device_name(device: torch.device) -> str:
    """For people: `cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors there; those that are there already are the same ones."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def carried(field: Field, device: torch.device) -> Field:
    """A field on a device for judges, whose points are on the CPU."""
    return lambda x, t: field(x.to(device), t.to(device)).to(x.device)


def busy_clock(device: torch.device) -> Callable[[], float | None]:
    """A clock that tells for how many seconds the device has been at work since it was last asked.

    Of a CPU: processor time of this process, a thread's. Of a GPU: the share of the last second, as NVML says, of the
    time that went by; None where it does not (no nvidia-ml-py, or a part of a GPU).
    """
    last_wall, last_spent = time.monotonic(), time.process_time()

    def since() -> float | None:
        nonlocal last_wall, last_spent
        (wall, spent), before = (time.monotonic(), time.process_time()), (last_wall, last_spent)
        last_wall, last_spent = wall, spent
        if device.type == "cpu":
            return (spent - before[1]) / torch.get_num_threads()
        try:
            return torch.cuda.utilization(device) / 100 * (wall - before[0])
        except Exception:  # NVML's errors have no family that is there without it
            return None

    return since
