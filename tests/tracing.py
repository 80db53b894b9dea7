"""Graphs that are run operation by operation, made in half of the time."""

from typing import Any

import pytest


def trace_faster(patch: pytest.MonkeyPatch) -> None:
    """Do without what torch notes of each operation for who compiles a graph: a mode and a stack of calls each time."""

    def nothing(val: Any, include_real: bool = False) -> None:
        return None

    patch.setattr("torch.fx.experimental.proxy_tensor.extract_val", nothing)
