"""Compiles the kernels of attention for GPUs that are not here: python -m tests.core.ahead_of_time [all].

Of each architecture the forward kernel and one of the backward; all tiles of all kernels by `all`, which takes minutes.
"""

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trigbench.core import attention_triton as forward
from trigbench.core import attention_triton_backward as backward

SHARED = 99 * 1024  # bytes of the smallest device from compute capability 8.0 on
SETTINGS = {"MOVES_Q": True, "MOVES_K": True, "MOVES_V": True}
NARROW = forward.Tile(16, 16, 1, 1)
CASES: list[tuple[int, Any, int, int, Any, bool, int]] = [
    # architecture, kernel, bytes of an element, width, tile, causal, mask: 0 none, 1 boolean, 2 added
    (80, forward._kernel, 2, 16, NARROW, False, 1),
    (90, forward._kernel, 2, 16, NARROW, True, 0),
    (100, forward._kernel, 4, 16, NARROW, False, 2),
    (80, backward._of_keys, 2, 64, backward.TILES[2, 64], False, 1),
    (90, backward._of_queries, 4, 64, backward.TILES[4, 64], True, 0),
    (100, backward._of_keys, 2, 16, NARROW, True, 0),
]


def compiled(architecture: int, kernel: Any, size: int, width: int, tile: Any, causal: bool, mask: int) -> Any:
    """As `launch` asks for it, with strides and lengths of 32 bits."""
    number = {2: "*fp16", 4: "*fp32"}[size]
    fixed = SETTINGS | {
        "DIM": width, "WIDTH": width, "ROWS": tile.rows, "KEYS": tile.keys, "CAUSAL": causal, "MASK": mask,
    }  # fmt: skip
    kinds = {"mask": "*u8" if mask == 1 else number, "logsumexp": "*fp32", "along": "*fp32", "scale": "fp32"}
    tensors = ("q", "k", "v", "tq", "tk", "tv", "value", "tangent", "gradient", "out", "out_k", "out_v")
    kinds |= dict.fromkeys(tensors, number) | dict.fromkeys(fixed, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    constants = {name: value for name, value in fixed.items() if name in signature}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def every() -> list[tuple[int, Any, int, int, Any, bool, int]]:
    kernels = [
        (forward._kernel, forward._TILES),
        (backward._of_keys, backward.TILES),
        (backward._of_queries, backward.TILES),
    ]
    return [
        (architecture, kernel, size, width, tile, not mask, mask)
        for architecture in (80, 90, 100)
        for kernel, tiles in kernels
        for (size, width), tile in tiles.items()
        for mask in (0, 1)
    ]


if __name__ == "__main__":
    for case in every() if "all" in sys.argv else CASES:
        architecture, kernel, size, width, tile, causal, mask = case
        made = compiled(*case)
        assert made.metadata.shared <= SHARED, case
        assert f".target sm_{architecture}" in made.asm["ptx"] and made.asm["cubin"]
        print(f"sm_{architecture}", kernel.__name__, f"{8 * size} bits", width, *tile, f"{causal=} {mask=}",
              f"shared {made.metadata.shared}", flush=True)  # fmt: skip
