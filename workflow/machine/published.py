"""Checkpoints of published networks of two times and adapters, as `trigbench convert --family` reads them."""

import math
from pathlib import Path

from trigbench.core.layouts import State
from trigbench.core.networks.families import ADAPTER, PUBLISHED
from trigbench.core.published_adapters import adapter_from, said_alpha
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.machine.tensors import read_metadata, read_tensors

REMEDY = "docs/teachers.md says which layouts are read, and what is made of them"


def made_of(family: str, state: State, source: Path, of: Path | None = None, alpha: float | None = None) -> State:
    """The tensors to write for a checkpoint of this family.

    Raises BenchError where the family is not read, where the tensors are not its own, and where `of` or `alpha` is
    told for what is no adapter.
    """
    known = PUBLISHED.get(family)
    if known is not None and known.refused:
        raise BenchError(known.refused, file=source, key=f"--family {family}", remedy=REMEDY)
    if family != ADAPTER and (of is not None or alpha is not None):
        key = "--of" if of is not None else "--alpha"
        raise BenchError(
            "it is said of adapters alone", file=source, key=key, remedy=f"leave it out, or --family {ADAPTER}"
        )
    if alpha is not None and not 0 < alpha < math.inf:
        raise BenchError(
            f"alpha is a number above 0, got {alpha:g}", file=source, key="--alpha", remedy=_remedy(family)
        )
    if of is not None and not of.is_file():
        raise BenchError("there is no such file", file=of, key="--of", remedy=_remedy(family))
    try:
        if family == ADAPTER:
            weights = None if of is None else read_tensors(of, _remedy(family))
            return adapter_from(state, weights, _alpha_of(source, alpha))
        return named(PUBLISHED[family].written)(state)
    except ValueError as error:
        raise BenchError(str(error), file=source, key=f"--family {family}", remedy=_remedy(family)) from error


def _alpha_of(source: Path, given: float | None) -> float | None:
    said = said_alpha(read_metadata(source)) if source.suffix == ".safetensors" else None
    if said is not None and given is not None:
        remedy = "leave it out, or save the tensors without metadata"
        raise BenchError(f"the file's metadata say lora_alpha {said:g}", file=source, key="--alpha", remedy=remedy)
    return given if said is None else said


def _remedy(family: str) -> str:
    if family == ADAPTER:
        return f"--of NETWORK.safetensors names the network that it is of, --alpha NUMBER its scale; {REMEDY}"
    return f"choose its averaged weights with --entry, such as ema, where it has several; {REMEDY}"
