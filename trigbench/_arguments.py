"""Arguments that a step and the command of its name share; nothing is imported for them."""

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
    """From where to where."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a checkpoint saved by torch.save")
    parser.add_argument("target", metavar="TARGET", type=Path, help="the .safetensors file to write")
    parser.add_argument("--entry", help="where in the checkpoint the state dict is, such as ema or net.model")
