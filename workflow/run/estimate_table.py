"""An estimate in words: what each arm takes, what was assumed, and how the finished runs compare."""

import argparse
import math

import torch

from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import one_thread
from trigbench.workflow.machine.progress import duration
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.counts import in_width, width_of, without_data
from trigbench.workflow.run.estimates import BESIDE, TIMED_WIDTH, Cost, costs_of, device_hours, machine_hours
from trigbench.workflow.run.evaluation import TANGENT_ANGLES, TANGENT_POINTS
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Study

PAYS = 600.0
"""Seconds of training from which compiling pays on a CPU: about 80 for each graph, against a fifth of the others."""
JUDGED = TANGENT_POINTS * TANGENT_ANGLES * 2 * 2
"""Two parts of the tangent at each point and angle, each of about two evaluations."""


def estimate_as_asked(study: Study, asked: argparse.Namespace) -> str:
    """`estimate` by the arguments of trigbench._arguments.for_estimate."""
    about = asked.device_name, asked.device_tflops, asked.utilisation
    one_thread()  # as runs have
    return estimate(study, *about, measure=not asked.no_measure, check_runs=asked.check)


def estimate(
    study: Study, device: str, tflops: float, utilisation: float, measure: bool = True, check_runs: bool = False
) -> str:
    """What the study takes on a device of that peak (10^12/s) and share of it; on this machine, if `measure`.

    Raises BenchError for a peak or share that no device has and, with `check_runs`, where nothing is there to check.
    """
    for key, what, value, most, remedy in (
        ("--device-tflops", "a peak", tflops, math.inf, "a number above 0"),
        ("--utilisation", "a share", utilisation, 1.0, "more than 0, at most 1"),
    ):
        if not 0 < value <= most or math.isinf(value):
            raise BenchError(f"no device reaches {what} of {value:g}", key=key, remedy=f"give {remedy}")
    if check_runs and not measure:
        raise BenchError("runs are held against steps that are timed", key="--check", remedy="ask without --no-measure")
    if check_runs and not any(is_fresh(study, run) for run in study.runs()):
        raise _nothing_to_check(study, "no run has finished")
    costs = costs_of(study, JUDGED, measure=measure)
    share = f"{utilisation:.0%} of {tflops:g} TFLOP/s"
    said = [
        table(costs, tflops, utilisation),
        f"\nDevice hours: {device} at {share}, an assumption: measure a run of yours.",
        *([_measured(costs)] if measure else []),
        *filter(None, [to_compile(study, costs)]),
        *filter(None, [prepared(study)]),
        *([check(study, costs)] if check_runs else []),
    ]
    return "\n".join(said)


def _measured(costs: list[Cost]) -> str:
    hours = sum(machine_hours(cost) or 0.0 for cost in costs)
    rates = sorted(cost.rates.training for cost in costs if cost.rates) or [0.0]
    return (
        f"Here: one process, alone on its core, that trains at {rates[0] / 1e9:.3g} to {rates[-1] / 1e9:.3g} GFLOP/s, "
        f"from timed steps (about: of a narrower network), and takes {BESIDE:g} s a run beside; "
        f"{duration(3600 * hours)} of it in all."
    )


def to_compile(study: Study, costs: list[Cost]) -> str:
    """The arms whose runs are so long that compiling would pay on this CPU, and that do not say; empty without one."""
    seconds = {cost.arm: cost.train_operations / cost.rates.training / cost.runs for cost in costs if cost.rates}
    silent = {name for name, arm in study.arms.items() if arm.compile is None}
    long = [name for name, training in seconds.items() if training > PAYS and name in silent]
    if torch.cuda.is_available() or not (gain := [name for name in long if not convolves(without_data(study, name))]):
        return ""
    return f"Runs of over {duration(PAYS)}, for which compile: true would pay on this CPU: {', '.join(gain)}."


def convolves(task: Task) -> bool:
    """Whether most of the network is convolutions, which on a CPU compiling leaves as they are (docs/compiled.md)."""
    small = in_width(task, TIMED_WIDTH) if (width_of(task) or 0) > TIMED_WIDTH else task
    sizes = [(p.numel(), p.ndim > 3) for p in make_network(small).parameters()]
    return sum(size for size, kernel in sizes if kernel) > 0.5 * sum(size for size, _ in sizes)


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
    timed = all(cost.rates for cost in costs)
    if not timed or not any(done.values()):
        raise _nothing_to_check(study, "no run has finished" if timed else "no step was timed")
    lines, estimated, took = [], 0.0, 0.0
    for cost in costs:
        if done[cost.arm]:
            seconds = sum(sum(read_record(study.files(r).metrics).seconds.values()) for r in done[cost.arm])
            ours = 3600 * (machine_hours(cost) or 0.0) * len(done[cost.arm]) / cost.runs
            estimated, took = estimated + ours, took + seconds
            lines.append(f"{cost.arm}: estimated {ours:.0f} s, took {seconds:.0f} s, ratio {ours / seconds:.2f}")
    return "\n".join([*lines, f"all: estimated {estimated:.0f} s, took {took:.0f} s, ratio {estimated / took:.2f}"])


def _nothing_to_check(study: Study, why: str) -> BenchError:
    problem = f"nothing to hold the estimate against: {why}"
    return BenchError(problem, file=study.folder, remedy=f"make the study first: {study.command()}")


def _here(cost: Cost) -> str:
    hours = machine_hours(cost)
    return "-" if hours is None else f"{'about ' if cost.narrowed else ''}{hours:.3g}"
