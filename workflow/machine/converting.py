"""Published checkpoints into .safetensors. Nothing else in this project reads a pickle.

It reads tensors alone, by torch's weights-only loading, and runs no code from the file; a file that
needs code is refused, and docs/teachers.md says what to do.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.published import made_of
from trigbench.workflow.machine.tensors import read_tensors, write_tensors

REFUSED = (
    "save the state dict alone in the environment that the checkpoint comes from, "
    "torch.save(network.state_dict(), path), and convert that: docs/teachers.md"
)


def convert(
    source: Path,
    target: Path,
    entry: str | None = None,
    family: str | None = None,
    of: Path | None = None,
    alpha: float | None = None,
) -> dict[str, Tensor]:
    """Write the tensors of `source`, or those under `entry` (keys joined by dots), to `target`, and return them.

    Of a `family` (workflow.machine.published) they are checked, and are what its readers take.
    """
    if target.suffix != ".safetensors":
        remedy = f"write to {target.with_suffix('.safetensors')}: by that ending it is known"
        raise BenchError("the file to write is no .safetensors", file=target, key="TARGET", remedy=remedy)
    if source.is_dir():
        raise BenchError("it is a folder", file=source, remedy="give the path of a checkpoint in it")
    state = _of_safetensors(source, entry, family) if source.suffix == ".safetensors" else _of_pickle(source, entry)
    if family is not None:
        state = made_of(family, state, source, of, alpha)
    elif of is not None or alpha is not None:
        raise BenchError("--of and --alpha are of adapters", file=source, key="--family", remedy="say --family lora")
    write_tensors(target, state)
    return dict(state)


def _of_safetensors(source: Path, entry: str | None, family: str | None) -> Mapping[str, Tensor]:
    if family is None or entry is not None:
        key, problem = ("--entry", "it has no entries") if entry else ("--family", "it is .safetensors already")
        raise BenchError(problem, file=source, key=key, remedy="say whose it is, with --family, or use it as it is")
    if not source.is_file():
        raise BenchError("there is no such file", file=source, remedy="give the path of a checkpoint")
    return read_tensors(source, "get it again")


def _of_pickle(source: Path, entry: str | None) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # read or refused, the answer says it
            content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BenchError("there is no such file", file=source, remedy="give the path of a checkpoint") from error
    except Exception as error:  # torch, pickle and zip each have their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BenchError(f"torch's weights-only loading refuses it: {reason}", file=source, remedy=REFUSED) from error
    whole = content
    for key in entry.split(".") if entry else []:
        content = content.get(key) if isinstance(content, Mapping) else None
    if not _is_state(content):
        raise BenchError("no state dict there", file=source, key=entry, remedy=_entries(whole))
    return content


def written(target: Path, tensors: Mapping[str, Tensor]) -> str:
    """What `convert` wrote, in words."""
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return f"{target}: {len(tensors)} tensors, {numbers / 1e6:.2f} M numbers"


def _is_state(content: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def _states(content: Any, above: str = "") -> Iterator[str]:
    """Where state dicts are, as --entry says it."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if _is_state(value):
            yield f"{above}{key}"
        else:
            yield from _states(value, f"{above}{key}.")


def _entries(content: Any) -> str:
    found = list(_states(content))
    return f"choose one with --entry: {', '.join(found)}" if found else REFUSED
