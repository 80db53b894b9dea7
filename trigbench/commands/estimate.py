"""Say what a study will take before it is made: GPU-hours, hours on this machine, and storage, arm by arm.

  trigbench estimate cifar10                        on an H200, and on this machine
  trigbench estimate cifar10 --budget full
  trigbench estimate cifar10 --device-name "NVIDIA A100" --device-tflops 312 --utilisation 0.25
  trigbench estimate oracle --check                 beside what the finished runs took
  trigbench estimate imagenet512 --no-measure       nothing is timed here

Operations are counted on steps of each arm. Hours on a device follow from its peak and from the share of it that you
say; those here from steps that are timed here.
"""

import argparse

from trigbench._arguments import for_estimate
from trigbench._extras import need


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench estimate`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "say what a study will take"
    made = subparsers.add_parser("estimate", help=said, description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", help="a study's name, such as cifar10, or a YAML file")
    made.add_argument("--budget", help="a budget of that study (default: laptop)")
    for_estimate(made)
    return made


def main(arguments: argparse.Namespace) -> None:
    """Print the table. Raises BenchError for a study that is not there, or no such device."""
    need("workflow", "trigbench estimate")
    from trigbench.workflow.run.estimate_table import estimate_as_asked  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    print(estimate_as_asked(load(arguments.study, arguments.budget or DEFAULT_BUDGET), arguments))
