"""What a study will take: GPU-hours on a given device, hours on this machine, and storage, arm by arm.

Operations are counted on steps of each arm; hours here come from steps that are timed here, hours there from the
device's peak and a utilisation that you state. With --check a finished study's own seconds stand beside it.
"""

import argparse

from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.progress import duration
from trigbench.workflow.run.estimates import Cost, costs_of, device_hours, machine_hours
from trigbench.workflow.run.evaluation import TANGENT_ANGLES, TANGENT_POINTS
from trigbench.workflow.steps.command import main, parser, study_of
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Study

DEVICE, TFLOPS, UTILISATION = "NVIDIA H200, bfloat16 dense", 989.0, 0.2
JUDGED = TANGENT_POINTS * TANGENT_ANGLES * 2 * 2
"""Two parts of the tangent at each point and angle, each of about two evaluations."""


def table(costs: list[Cost], tflops: float, utilisation: float) -> str:
    """One line an arm, and their sum."""
    head = ("arm", "runs", "M parameters", "training PFLOP", "other PFLOP", "device hours", "hours here", "GB kept",
            "GB at work")  # fmt: skip
    rows = [
        (
            cost.arm, str(cost.runs), f"{cost.parameters / 1e6:.2f}", f"{cost.train_operations / 1e15:.4g}",
            f"{cost.other_operations / 1e15:.4g}", f"{device_hours(cost, tflops, utilisation):.3g}", _here(cost),
            f"{cost.kept_bytes / 1e9:.3g}", f"{cost.working_bytes / 1e9:.3g}",
        )
        for cost in costs
    ]  # fmt: skip
    hours = sum(device_hours(cost, tflops, utilisation) for cost in costs)
    ours = [machine_hours(cost) for cost in costs]
    here = "-" if None in ours else f"{sum(filter(None, ours)):.3g}"
    total = (
        "all", str(sum(c.runs for c in costs)), "", f"{sum(c.train_operations for c in costs) / 1e15:.4g}",
        f"{sum(c.other_operations for c in costs) / 1e15:.4g}", f"{hours:.3g}", here,
        f"{sum(c.kept_bytes for c in costs) / 1e9:.3g}", f"{max(c.working_bytes for c in costs) / 1e9:.3g} a run",
    )  # fmt: skip
    widths = [max(len(row[i]) for row in (head, *rows, total)) for i in range(len(head))]
    lines = [[cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
             for row in (head, *rows, total)]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in lines)


def prepared(study: Study) -> str:
    """What is written once of the data sets whose images are counted; empty where there are none."""
    stored = {name: known_of(data).stored for name, data in study.data.items()}
    said = ", ".join(f"{name} {size / 1e9:.3g} GB" for name, size in stored.items() if size)
    return f"Prepared data, once for all studies on the same images: {said}." if said else ""


def check(study: Study, costs: list[Cost]) -> str:
    """The estimate for this machine against the seconds of the finished runs; 1 is a perfect estimate.

    Raises BenchError where nothing was measured or no run has finished.
    """
    done = {cost.arm: [run for run in study.runs() if run.arm == cost.arm and is_fresh(study, run)] for cost in costs}
    timed = all(cost.measured_rate for cost in costs)
    if not timed or not any(done.values()):
        problem = "nothing to hold the estimate against: " + ("no run has finished" if timed else "no step was timed")
        raise BenchError(problem, file=study.folder, remedy=f"make the study first: {study.command()}")
    lines, estimated, took = [], 0.0, 0.0
    for cost in costs:
        if done[cost.arm]:
            seconds = sum(
                sum(read_record(study.run_folder(r) / "metrics.json").seconds.values()) for r in done[cost.arm]
            )
            ours = 3600 * (machine_hours(cost) or 0.0) * len(done[cost.arm]) / cost.runs
            estimated, took = estimated + ours, took + seconds
            lines.append(f"{cost.arm}: estimated {ours:.0f} s, took {seconds:.0f} s, ratio {ours / seconds:.2f}")
    return "\n".join([*lines, f"all: estimated {estimated:.0f} s, took {took:.0f} s, ratio {estimated / took:.2f}"])


def _here(cost: Cost) -> str:
    hours = machine_hours(cost)
    return "-" if hours is None else f"{'about ' if cost.narrowed else ''}{hours:.3g}"


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("more than 0, at most 1")
    return value


def command() -> None:
    """Parse the arguments and estimate."""
    arguments = parser(__doc__)
    arguments.add_argument("--device-name", default=DEVICE, help="its name, for the print (default: %(default)s)")
    arguments.add_argument("--device-tflops", type=float, default=TFLOPS, help="peak, 10^12/s (default: %(default)s)")
    arguments.add_argument(
        "--utilisation",
        type=_fraction,
        default=UTILISATION,
        help="share of the peak that is reached (default: %(default)s)",
    )
    arguments.add_argument("--no-measure", action="store_true", help="count only; time nothing on this machine")
    arguments.add_argument("--check", action="store_true", help="hold the estimate against the finished runs")
    parsed = arguments.parse_args()
    study = study_of(parsed)
    costs = costs_of(study, JUDGED, measure=not parsed.no_measure)
    print(table(costs, parsed.device_tflops, parsed.utilisation))
    share = f"{parsed.utilisation:.0%} of {parsed.device_tflops:g} TFLOP/s"
    print(f"\nDevice hours: {parsed.device_name} at {share}, an assumption: measure a run of yours.")
    if not parsed.no_measure:
        hours = sum(machine_hours(cost) or 0.0 for cost in costs)
        rates = sorted(cost.measured_rate or 0.0 for cost in costs)
        print(
            f"Here: one process at {rates[0] / 1e9:.3g} to {rates[-1] / 1e9:.3g} GFLOP/s, from timed steps "
            f"(about: of a narrower network); {duration(3600 * hours)} of it in all."
        )
    if said := prepared(study):
        print(said)
    if parsed.check:
        print(check(study, costs))


if __name__ == "__main__":
    main(command)
