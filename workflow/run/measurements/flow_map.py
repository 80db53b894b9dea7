"""How far learned maps of two times are from the exact ones: down to data, and between two angles.

Of arms that are sampled by jumps: what judge_map says of their map from every angle down to 0, as of a consistency
model's. Of these and of segments: segment_rms between pairs of angles, those of segments within one of theirs. Of
shortcut models no pair lies on the grid that they are trained on (docs/methods/shortcut.md).
"""

import math
from functools import partial

import torch
from torch import Tensor

from trigbench.core import oracle
from trigbench.core.condition import UNTOLD
from trigbench.core.fields import Jump
from trigbench.core.map_samplers import by_edges
from trigbench.core.trigflow import lower_edge, rotate
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.mixture.draws import mixture_of
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import carried, on
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import check_weights, jump_of, make_network, student_field, to_data
from trigbench.workflow.run.judging import judge_field
from trigbench.workflow.run.measurements.measured import Measured, Row
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Study

STARTS = (5, 9, 12)
"""Which of the angles at which the data's exact map is known: 0.85, 1.3 and t_max."""
SHARES = (0.25, 0.5, 0.75)
"""Ends u, as shares of t."""
Pairs = list[tuple[float, float, Tensor, Tensor]]
"""t, u, points at t, and where the exact map from t to u takes them."""


def measure(study: Study, experiment: str) -> Measured:
    """Of every run of two times with weights. Raises BenchError for data whose exact map is not known."""
    found = Measured()
    exact: dict[tuple[str, tuple[float, ...]], Pairs] = {}
    for run in study.runs_of(experiment):
        arm = study.arms[run.arm]
        if not arm.method.two_times or not study.files(run).weights.is_file():
            continue
        task = _known(opened(study, run), experiment)
        edges = tuple(segment_edges(arm, study.sigma_d)[:-1].tolist()) if by_edges(arm.method.sampler) else ()
        if (arm.data, edges) not in exact:
            exact[arm.data, edges] = pairs(task.data, edges)
        _measure_run(found, task, exact[arm.data, edges])
    return found


def _known(task: Task, experiment: str) -> Task:
    if "exact" not in task.data.arrays or "stds" not in task.data.arrays:
        problem = f"{task.arm.data!r} has no exact map to hold a learned one against"
        remedy = "measure flow_map of arms on a mixture, or remove it"
        raise BenchError(problem, file=task.study.file, key=f"experiments.{experiment}.measurement", remedy=remedy)
    return task


def pairs(dataset: Dataset, edges: tuple[float, ...] = ()) -> Pairs:
    """Pairs of angles with their exact maps: to shares of each start, or to its segment's lower edge."""
    arrays = dataset.arrays
    mixture = mixture_of(arrays)
    starts = range(len(arrays["angles"])) if edges else STARTS
    points = [torch.from_numpy(arrays["points"][start]) for start in starts]
    t = torch.from_numpy(arrays["angles"])[list(starts)]
    ends = [lower_edge(torch.tensor(edges, dtype=t.dtype), t)] if edges else [share * t for share in SHARES]
    found: Pairs = []
    for u in ends:  # all starts in one solve
        now, then = (part.repeat_interleave(len(points[0])) for part in (t, u))
        exact = oracle.segment_map(mixture, torch.cat(points), now, then, 128).split(len(points[0]))
        found.extend(zip(t.tolist(), u.tolist(), points, exact, strict=True))
    return found


def _measure_run(found: Measured, task: Task, exact: Pairs) -> None:
    """Add a run's rows; a run whose weights are not numbers has none."""
    run, device = task.run, task.device
    weights = on(device, read_tensors(task.files.weights, "delete the run's folder"))
    network = make_network(task)
    check_weights(task, network, weights)
    if not all(bool(weights[name].isfinite().all()) for name, _ in network.named_parameters()):
        return
    jump = jump_of(partial(student_field, task, network, weights), UNTOLD)
    values, curves = [], []
    if not by_edges(task.arm.method.sampler):
        kind = kind_module(task.study.data[task.arm.data])
        values, curves, _ = judge_field(kind, task.data, carried(to_data(jump), device))
    errors = [_error(lambda u: carried(jump(u.to(device)), device), *pair) for pair in exact]
    overall = float(torch.stack(errors).square().mean().sqrt())
    values = [*values, Value(metric="segment_rms", value=overall if math.isfinite(overall) else None)]
    found.runs.extend(Row(value, run.arm, run.seed) for value in values)
    found.curves.extend(Row(value, run.arm, run.seed) for value in curves)


def _error(jump: Jump, t: float, u: float, points: Tensor, exact: Tensor) -> Tensor:
    """(points, dimension): learned less exact, from t to u."""
    now, then = (torch.full((len(points),), angle, dtype=torch.float64) for angle in (t, u))
    x = points.float()
    with torch.no_grad():
        return rotate(x, jump(then)(x, now), now, then).double() - exact
