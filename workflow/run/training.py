"""Train one run: an arm with a seed. Resumes from its newest checkpoint to the same bits."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trigbench.core import ema
from trigbench.core.networks.log_weight import LogWeight
from trigbench.core.objectives.regression import Regression
from trigbench.core.optimiser import AdamSettings, adam_step
from trigbench.core.schedules import cm_target_decay, largest_angle
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import busy_clock, device_of, products
from trigbench.workflow.machine.files import exclusive, read_json, write_json, write_text
from trigbench.workflow.machine.limits import StopNow, stopping
from trigbench.workflow.machine.live import live
from trigbench.workflow.machine.progress import Progress, sign_of_life
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.run.assembly import (
    Modules,
    Tensors,
    learning_rate,
    make_modules,
    open_data,
    open_teacher,
    points_at,
    snapshot_steps,
    started_modules,
    step_function,
)
from trigbench.workflow.run.batches import Batch, batches, draw_batch
from trigbench.workflow.run.distributed import Layout, World, is_first, lay_out, world_of
from trigbench.workflow.run.gradients import check_parts, evaluate_step, other_buffers
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.log import GrowingLog, log_text
from trigbench.workflow.run.state import State, initial, is_finite, resume, save
from trigbench.workflow.run.tuning import tuned
from trigbench.workflow.run.weights import buffers_of, copied, difference
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.freshness import made_from
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Study

LOOK_EVERY = 500
"""Steps between looks at whether all it carries is finite; no setting, since it can decide where a run diverged."""
LOG_ROWS = 50
WEIGHT_ANGLES = 32
"""Angles at which the learned log weights are written down."""


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    step: int
    reason: str | None = None
    """None when it finished; else why it diverged."""
    last_good_checkpoint: int | None = None
    last_direction_norm: float | None = None
    """Mean over the batch of the last step, before any control."""
    seconds: float = 0.0
    processes: int = 1
    images_per_second: float = 0.0
    """Of all processes together, over `seconds`."""
    waiting_for_data: float = 0.0
    """Share of `seconds` in which the step waited for its batch; the rest is computing, and writing checkpoints."""
    device_utilisation: float | None = None
    """Share of `seconds` in which the first process's device was at work; None where nobody can tell."""
    rate: float = 0.0
    """Of the optimiser; chosen by tuning where the arm says so."""
    tf32: bool = False
    """Whether the device rounded the inputs of products; a CPU does not, whatever the arm says."""
    log_weight: list[list[float]] = field(default_factory=list)
    """(t, w(t)) of the learned adaptive weight at the end."""


@dataclass(frozen=True)
class Trained:
    """What training leaves, whole on every process."""

    average: Tensors
    snapshots: Tensors
    journal: Journal
    outcome: Outcome


def train(study: Study, run: Run, time_limit: float | None = None) -> Outcome:
    """Train to the end, or to a number that is not finite; write log, averaged weights and training.json.

    Under torchrun all processes call it, and the first one writes. Checkpoints stay until the run is judged.
    Raises BenchError when another process trains the same run, and, with a checkpoint written, shortly before
    `time_limit` (minutes of this process), the end of its Slurm job, and at SIGTERM.
    """
    with working_on(study, run):
        return train_here(study, run, time_limit)


@contextmanager
def working_on(study: Study, run: Run) -> Iterator[None]:
    """The run for this process alone, or for the processes of one torchrun; else BenchError, as `exclusive` says."""
    if not is_first():
        yield
        return
    with exclusive(study.checkpoint_folder(run), f"{run.arm} seed {run.seed}"), live(study.live_file(run), "training"):
        yield


def train_here(study: Study, run: Run, time_limit: float | None) -> Outcome:
    """As `train`, for a caller that is working_on the run."""
    out = study.run_folder(run)
    with (
        stopping(time_limit) as stop_now,
        world_of(device_of(study.device, study.file), study.resources.patience) as world,
    ):
        noted = made_from(study, run)  # before data and teacher are read
        trained = _train(study, run, world, stop_now)
    if world.first:
        (out / "samples.npz").unlink(missing_ok=True)  # of other weights
        write_text(out / "log.csv", log_text(trained.journal.rows))
        write_tensors(out / "weights.safetensors", trained.average)
        if trained.snapshots:
            write_tensors(out / "snapshots.safetensors", trained.snapshots)
        write_json(out / "training.json", noted | dataclasses.asdict(trained.outcome))
        study.growing_log(run).unlink(missing_ok=True)
    return trained.outcome


def _train(study: Study, run: Run, world: World, stop_now: StopNow) -> Trained:
    arm = tuned(study, run)
    dataset = open_data(study, arm)
    lost = _lost_before(study, run)
    taught = None if lost else open_teacher(study, run, arm, dataset)
    modules = (
        make_modules(study, arm, dataset, run.seed, None) if lost else started_modules(study, run, arm, dataset, taught)
    )
    check_parts(study, run, arm, modules, world)
    layout = lay_out(world, modules.parameters(), arm.sharded)
    state = initial(modules, layout, arm)
    rounded = arm.tf32 and world.device.type == "cuda"
    journal, outcome = Journal(), Outcome(step=0, rate=arm.rate, processes=world.size, tf32=rounded)
    if lost:
        outcome = dataclasses.replace(outcome, reason=lost)
    else:
        objective = step_function(study, run, arm, modules, dataset, taught)
        with products(world.device, arm.tf32):
            state, journal, outcome = _steps(
                study, run, arm, dataset, modules, objective, layout, state, outcome, stop_now
            )
        with layout.gathered():
            outcome = _completed(outcome, journal, arm, modules, study.sigma_d)
    buffers = buffers_of(modules.student)
    return Trained(layout.whole(state.average) | copied(buffers), layout.whole(state.snapshots), journal, outcome)


def _steps(
    study: Study,
    run: Run,
    arm: Arm,
    dataset: Dataset,
    modules: Modules,
    objective: Callable[..., Regression],
    layout: Layout,
    state: State,
    outcome: Outcome,
    stop_now: StopNow,
) -> tuple[State, Journal, Outcome]:
    """From the newest checkpoint to the end, or to a number that is not finite."""
    world, folder, mark = layout.world, study.checkpoint_folder(run), checkpoint_mark(study, run, arm)
    journal, first = resume(folder, mark, state, layout)
    if first and world.first:
        print(f"resuming {run.arm} seed {run.seed} from step {first}", file=sys.stderr)
    outcome = dataclasses.replace(
        outcome,
        step=first,
        last_good_checkpoint=first or None,
        seconds=journal.seconds,
        last_direction_norm=journal.last_direction_norm,
    )
    log = GrowingLog(study.growing_log(run) if world.first else None, journal.rows)
    progress = Progress(f"{study.label} {run.arm} seed {run.seed}", arm.iterations, first)
    steps, kept_after = range(first + 1, arm.iterations + 1), snapshot_steps(arm)

    def draw(step: int) -> Batch:
        return draw_batch(run, arm, dataset, step, world.share(arm.batch)).to(world.device)

    clock, busy = time.monotonic() - journal.seconds, busy_clock(world.device)
    for step, batch in zip(steps, _timed(batches(draw, steps, world.device), journal), strict=True):
        with layout.gathered() as parameters:
            layout.replace(modules.normalised())
            target = _target(state, layout, modules)
            watched, gradients = evaluate_step(objective, step, batch, target, parameters, arm, modules, study)
        gradients = layout.summed(gradients)
        gradient_norm = layout.norm(gradients)
        loss, norm, *marks = world.total(torch.cat([watched, world.marks(modules.buffers().values())])).tolist()
        outcome = dataclasses.replace(outcome, step=step, last_direction_norm=norm, seconds=time.monotonic() - clock)
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            reason = f"the loss was {loss} and the gradient's norm {gradient_norm} at step {step}"
            journal.add_busy(busy())
            return state, journal, dataclasses.replace(outcome, reason=reason)
        state = _update(_with_buffers(state, study, arm, modules, marks), gradients, arm, step)
        journal.note(loss, norm, gradient_norm)
        if step % math.ceil(arm.iterations / LOG_ROWS) == 0 or step == arm.iterations:
            log.append(journal.close_window(step, learning_rate(arm, step)))
            journal.add_busy(busy())
        if step in kept_after:
            state.snapshots.update(_snapshot(step, state, modules))
        last = step == arm.iterations
        look, due = (last or step % every == 0 for every in (LOOK_EVERY, study.resources.checkpoint_every))
        stop = None if last else world.agreed(stop_now())
        finite = not (look or due or stop) or is_finite(state, world)
        if look and not finite:
            reason = f"a parameter was not finite after step {step}"
            journal.add_busy(busy())
            return state, journal, dataclasses.replace(outcome, reason=reason)
        if (due or stop) and finite:  # one that is not finite goes on to where it would be found undisturbed
            journal.seconds = time.monotonic() - clock
            journal.add_busy(busy())
            save(folder, mark, step, state, journal, layout)
            busy()  # while it was written, the device rested
            outcome = dataclasses.replace(outcome, last_good_checkpoint=step)
            if stop:
                world.agreed(stop)  # when all have written: after the first failure torchrun gives the others 30 s
                problem = f"{stop}: stopped at step {step} of {arm.iterations} with a checkpoint"
                raise BenchError(problem, file=folder, remedy="run again to go on", again=True)
        if world.first:
            _show(progress, step, step * arm.batch / outcome.seconds, loss, norm)
        else:
            sign_of_life()
    return state, journal, outcome


def _show(progress: Progress, step: int, rate: float, loss: float, norm: float) -> None:
    said = f"loss {loss:.4f}, {rate:.0f} images/s,"
    progress.update(step, said, loss=loss, direction_norm=norm, images_per_second=rate)


def _snapshot(step: int, state: State, modules: Modules) -> Tensors:
    kept = state.average | buffers_of(modules.student)
    return {f"{step}/{name}": value for name, value in copied(kept).items()}


def _target(state: State, layout: Layout, modules: Modules) -> Tensors:
    """The average that gives the targets, if there is one, with the student's buffers as the step finds them."""
    return layout.whole(state.target) | copied(buffers_of(modules.student)) if state.target else {}


def _with_buffers(state: State, study: Study, arm: Arm, modules: Modules, marks: list[float]) -> State:
    """The state with the buffers that the step has left.

    Raises BenchError where these are others than before, by name or shape, and where processes hold other values, as
    their `marks` (World.marks) say.
    """
    buffers = modules.buffers()
    if wrong := difference(state.buffers, buffers):
        problem = f"the network has other buffers after a step than before it: {wrong}"
        remedy = "register them in its constructor, of their final shape; or with persistent=False, if nothing is lost"
        raise BenchError(problem, file=study.file, key=f"sizes.{arm.size}.network", remedy=remedy)
    if len(set(marks)) > 1:
        raise other_buffers(study, arm, "the processes hold other values than each other in its buffers")
    return dataclasses.replace(state, buffers=buffers)


def _timed(drawn: Iterable[Batch], journal: Journal) -> Iterator[Batch]:
    """The batches; the journal gets the time that is spent waiting for them."""
    source = iter(drawn)
    while True:
        asked = time.monotonic()
        batch = next(source, None)
        journal.data_seconds += time.monotonic() - asked
        if batch is None:
            return
        yield batch


def checkpoint_mark(study: Study, run: Run, arm: Arm) -> str:
    """What a checkpoint has to be of to be gone on with: what the run is made from, and its rate."""
    return digest([made_from(study, run), arm.rate], [])


def _completed(outcome: Outcome, journal: Journal, arm: Arm, modules: Modules, sigma_d: float) -> Outcome:
    """With what is known at the end."""
    seconds = outcome.seconds or math.inf
    return dataclasses.replace(
        outcome,
        images_per_second=outcome.step * arm.batch / seconds,
        waiting_for_data=journal.data_seconds / seconds,
        device_utilisation=None if journal.busy_seconds is None else journal.busy_seconds / seconds,
        log_weight=[] if outcome.reason else _learned_weight(modules, sigma_d),
    )


def _learned_weight(modules: Modules, sigma_d: float) -> list[list[float]]:
    log_weight = modules.extras.get("log_weight")
    if not isinstance(log_weight, LogWeight):
        return []
    angles = torch.linspace(0.01, largest_angle(sigma_d), WEIGHT_ANGLES)
    with torch.no_grad():
        weights = log_weight(angles.to(log_weight.head.weight.device))
    return [[t, w] for t, w in zip(angles.tolist(), weights.tolist(), strict=True)]


def _lost_before(study: Study, run: Run) -> str | None:
    """Why the run cannot be made, if its teacher diverged, or the run that it starts from: then so did this one."""
    for words, other in (("its teacher", study.teacher_run(run)), ("it starts from", study.start_run(run))):
        if other is None:
            continue
        path = study.run_folder(other) / "training.json"
        reason = read_json(path, f"train it first: {other.arm} seed {other.seed}")["reason"]
        if reason:
            said = f"{words} {other.arm} seed {other.seed}"
            return f"{said} diverged: {reason}" if words == "its teacher" else f"{said}, which diverged: {reason}"
    return None


def _update(state: State, gradients: Sequence[Tensor], arm: Arm, step: int) -> State:
    """One optimiser step, and one of each average."""
    named = dict(zip(state.parameters, gradients, strict=True))
    student = [name for name in named if name in state.average]
    beside = [name for name in named if name not in state.average]
    settings = None if arm.optimiser is None else AdamSettings(**arm.optimiser.model_dump())
    for names, rate in ((student, arm.rate), (beside, arm.fake_rate)):
        adam_step(state.parameters, named, state.optimiser, learning_rate(arm, step, rate), names, settings)
    own = {name: state.parameters[name] for name in state.average}
    beta = average_decay(arm, step)
    average = ema.update(state.average, own, beta)
    target = ema.update(state.target, own, target_decay(arm, step)) if state.target else state.target
    return dataclasses.replace(state, average=average, target=target)


def average_decay(arm: Arm, step: int) -> float:
    """beta of the student's average at optimiser step >= 1: of a half-life in images, or of a power of the step."""
    if arm.ema_std is not None:
        return ema.power_function_beta(step, ema.gamma_from_relative_width(arm.ema_std))
    return ema.half_life_beta(arm.batch, float(arm.ema_half_life or 0), step * arm.batch, arm.ema_rampup)


def target_decay(arm: Arm, step: int) -> float:
    """mu of the targets' average: CT's schedule where there is a curriculum, else a constant."""
    points = points_at(arm, step)
    initial = arm.target_decay or 0.0
    return initial if points is None or arm.points is None else cm_target_decay(points, arm.points[0], initial)
