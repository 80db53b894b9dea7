"""Arguments that a step and the command of its name share; nothing dear is imported for them."""

import argparse
from pathlib import Path

DEVICE, TFLOPS, UTILISATION = "NVIDIA H200, bfloat16 dense", 989.0, 0.2


def for_estimate(parser: argparse.ArgumentParser) -> None:
    """On which device, and whether steps are timed here."""
    add = parser.add_argument
    add("--device-name", default=DEVICE, help="its name, for the print (default: %(default)s)")
    add("--device-tflops", type=float, default=TFLOPS, help="peak, 10^12/s (default: %(default)s)")
    add(
        "--utilisation",
        type=float,
        default=UTILISATION,
        help="share of the peak that is reached (default: %(default)s)",
    )
    add("--no-measure", action="store_true", help="count only; time nothing on this machine")
    add("--check", action="store_true", help="hold the estimate against the finished runs")


def for_convert(parser: argparse.ArgumentParser) -> None:
    """From where to where, and whose it is."""
    from trigbench.core.networks.families import converted  # noqa: PLC0415 - takes no torch

    add = parser.add_argument
    add("source", metavar="SOURCE", type=Path, help="a checkpoint saved by torch.save; of a family, .safetensors too")
    add("target", metavar="TARGET", type=Path, help="the .safetensors file to write")
    add("--entry", help="where in the checkpoint the state dict is, such as ema or net.model")
    add(
        "--family",
        choices=converted(),
        help="check that its tensors are of this family, and write them as they are read",
    )
    add("--of", metavar="FILE", type=Path, help="of an adapter (lora): the .safetensors of the network that it is of")
    add("--alpha", type=float, help="of an adapter from peft: lora_alpha of its adapter_config.json")
