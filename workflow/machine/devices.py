"""Which device a process works on. What is drawn is drawn on the CPU and moved there, so that devices see the same.

And what float32 means there: itself. torch's own default rounds the inputs of convolutions on a GPU to TF32.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.errors import BenchError

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""By which NVIDIA's libraries are told to disregard what a program sets."""
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "Killed signal terminated program")
"""What torch says of it, in RuntimeErrors; and a compiler that torch.compile started."""


def best_device() -> torch.device:
    """The process's GPU where there is one, else the CPU; from here on `exact_products`."""
    exact_products()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(asked: str, file: Path | None = None) -> torch.device:
    """The device that a study (`file`) asks for; `auto` is the process's own GPU where there is one, else the CPU.

    A process that torchrun started takes the GPU of its local rank. From here on `exact_products`. Raises BenchError
    where there is none.
    """
    exact_products()
    if asked == "cpu" or (asked == "auto" and best_device().type == "cpu"):
        return torch.device("cpu")
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        problem = f"there is no CUDA device for local process {local}: torch sees {there}"
        remedy = "start as many processes as there are devices, or give --device cpu"
        raise BenchError(problem, file=file, key="device", remedy=remedy, again=True)
    torch.cuda.set_device(local)  # what NCCL and FSDP2 take as this process's
    return torch.device("cuda", local)


def exact_products() -> None:
    """From here on float32 means float32, on every device, whatever the user's code or settings have made of it."""
    _set_products(tf32=False)


@contextmanager
def products(device: torch.device, tf32: bool) -> Iterator[None]:
    """Within, matrix products and convolutions of float32 on a GPU round their inputs to TF32 if so asked, else not.

    Raises BenchError where the environment would have the GPU do the other.
    """
    contrary = "0" if tf32 else "1"
    if device.type == "cuda" and os.environ.get(TF32_OVERRIDE) == contrary:
        problem = f"{TF32_OVERRIDE}={contrary} in the environment, where tf32 is {str(tf32).lower()}"
        raise BenchError(problem, key="arms.<arm>.tf32", remedy=f"unset {TF32_OVERRIDE}; an arm says tf32: true")
    _set_products(tf32)
    try:
        yield
    finally:
        exact_products()


def _set_products(tf32: bool) -> None:
    """For the whole process. torch has two sets of these flags, and fails where one is read that contradicts the other:
    both are set, and to the same. On a CPU, oneDNN has no TF32 but bfloat16 in its stead, and is never to use it."""
    backends: Any = torch.backends
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = tf32
    for cpu in (backends, backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn):
        cpu.fp32_precision = "ieee"
    for gpu in (backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn):
        gpu.fp32_precision = "tf32" if tf32 else "ieee"


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
