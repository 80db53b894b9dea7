"""Convert a published checkpoint into .safetensors: a teacher that a study names, a map of two times, an adapter.

  trigbench convert edm.pt edm.safetensors
  trigbench convert checkpoint.pt net.safetensors --entry ema
  trigbench convert meanflow.pt map.safetensors --entry ema --family meanflow
  trigbench convert lcm-lora.safetensors adapter.safetensors --family lora --of unet.safetensors

Tensors alone are read, by torch's weights-only loading, and no code of the file is run; a file that needs code is
refused, and docs/teachers.md says what to do.
"""

import argparse

from trigbench._arguments import for_convert
from trigbench._extras import need


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench convert`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "make a checkpoint .safetensors"
    made = subparsers.add_parser("convert", help=said, description=__doc__, formatter_class=raw)
    for_convert(made)
    return made


def main(arguments: argparse.Namespace) -> None:
    """Convert, and say what was written. Raises BenchError for a file that is not there or is refused."""
    need("train", "trigbench convert")
    from trigbench.workflow.machine.converting import convert, written  # noqa: PLC0415 - of the extra

    of = (arguments.family, arguments.of, arguments.alpha)
    print(written(arguments.target, convert(arguments.source, arguments.target, arguments.entry, *of)))
