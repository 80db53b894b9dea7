"""Train one run: an arm with a seed. Resumes from its newest checkpoint to the same bits."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trigbench.core import ema
from trigbench.core.layouts import difference, shapes_of
from trigbench.core.optimiser import AdamSettings, adam_step
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import device_name, device_of, products
from trigbench.workflow.machine.files import exclusive, write_text
from trigbench.workflow.machine.live import live
from trigbench.workflow.machine.progress import Progress, sign_of_life
from trigbench.workflow.machine.provenance import peak_memory_mb, provenance, seconds_since_start
from trigbench.workflow.machine.stopping import StopNow, stopping
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.run.assembly import (
    Modules,
    StepFunction,
    Tensors,
    make_modules,
    started_modules,
    step_function,
)
from trigbench.workflow.run.batches import Batch, batches, draw_batch
from trigbench.workflow.run.compiled import differentiation, ran
from trigbench.workflow.run.distributed import Layout, World, is_first, lay_out, world_of
from trigbench.workflow.run.gradients import Differentiate, check_parts, evaluate_step, other_buffers
from trigbench.workflow.run.held import LOOKS, NO_LOOK, HeldBatch, hold, look
from trigbench.workflow.run.journal import Clock, Journal
from trigbench.workflow.run.log import GrowingLog, log_text
from trigbench.workflow.run.outcome import Outcome, completed
from trigbench.workflow.run.settings import average_decay, learning_rate, snapshot_steps, target_decay
from trigbench.workflow.run.state import State, initial, is_finite, resume, save, snapshot, target_weights
from trigbench.workflow.run.task import Task, opened, with_teachers
from trigbench.workflow.run.tuning import tuned
from trigbench.workflow.run.weights import buffers_of, copied
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.freshness import made_from
from trigbench.workflow.study.places import RunFiles
from trigbench.workflow.study.records import TrainingRecord, read_training, write_record
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Study

LOOK_EVERY = 500
"""Steps between looks at whether all it carries is finite; no setting, since it can decide where a run diverged."""
LOG_ROWS = 50


@dataclass(frozen=True)
class Trained:
    """What training leaves, whole on every process."""

    average: Tensors
    adapter: Tensors
    """Its average, which is in that of the weights; empty for an arm without one."""
    snapshots: Tensors
    journal: Journal
    outcome: Outcome


def train(study: Study, run: Run, time_limit: float | None = None) -> Outcome:
    """Train to the end, or to a number that is not finite; write log, averaged weights and training.json.

    Under torchrun all processes call it, and the first one writes. Checkpoints stay until the run is judged.
    Raises BenchError when another process trains the same run, and, with a checkpoint written, shortly before
    `time_limit` (minutes of this process), the end of its Slurm job, and at SIGTERM.
    """
    with working_on(study, run, "training"):
        return train_here(study, run, time_limit)


@contextmanager
def working_on(study: Study, run: Run, doing: str) -> Iterator[None]:
    """The run for this process alone, or for the processes of one torchrun; else BenchError, as `exclusive` says."""
    if not is_first():
        yield
        return
    files = study.files(run)
    with exclusive(files.checkpoints, f"{run.arm} seed {run.seed}"), live(files.live, doing):
        yield


def train_here(study: Study, run: Run, time_limit: float | None) -> Outcome:
    """As `train`, for a caller that is working_on the run."""
    files = study.files(run)
    with (
        stopping(time_limit) as stop_now,
        world_of(device_of(study.device, study.file), study.resources.patience) as world,
    ):
        start, noted = round(seconds_since_start(), 3), made_from(study, run)  # before data and teacher are read
        trained = _train(opened(study, run, tuned(study, run)), world, stop_now)
    if world.first:
        about = {**noted, "start": start, "peak_memory_mb": peak_memory_mb()}
        about |= {"provenance": provenance(device_name(world.device)) | {"tf32": trained.outcome.tf32}}
        files.growing_log.unlink(missing_ok=True)  # log.csv takes its place
        record = TrainingRecord(**about, **dataclasses.asdict(trained.outcome))
        _write(files, trained, record.model_copy(update={"provenance": record.provenance | {"steps": record.steps}}))
    return trained.outcome


def _write(files: RunFiles, trained: Trained, record: TrainingRecord) -> None:
    """The files of a run that is trained; what says that they stand goes first, and comes last.

    What is of other weights goes: with settings that come back, a record of theirs would be taken for one of these.
    """
    for stale in (files.training, *files.after_training):
        stale.unlink(missing_ok=True)
    write_text(files.log, log_text(trained.journal.rows))
    write_tensors(files.weights, trained.average)
    if trained.adapter:
        write_tensors(files.adapter, trained.adapter)
    if trained.snapshots:
        write_tensors(files.snapshots, trained.snapshots)
    write_record(files.training, record)


@dataclass(frozen=True)
class Loop:
    """What stays as it is from step to step."""

    task: Task
    modules: Modules
    objective: StepFunction
    layout: Layout
    mark: str
    """Of its checkpoints."""
    held: HeldBatch | None
    """On which what the student leaves of the noise is seen; None in a run that is too short for it."""


@dataclass(frozen=True)
class Found:
    """What a step finds, over all processes."""

    gradients: Sequence[Tensor]
    loss: float
    direction_norm: float
    gradient_norm: float
    beside: list[float]
    """The rest of what is watched (gradients.watched_of)."""
    marks: list[float]
    """Of each process's buffers."""

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def _train(task: Task, world: World, stop_now: StopNow) -> Trained:
    arm, lost = task.arm, _lost_before(task)
    task = task if lost else with_teachers(task)
    modules = make_modules(task, None) if lost else started_modules(task)
    check_parts(task, modules, world)
    layout = lay_out(world, modules.parameters(), arm.sharded)
    state, journal, rounded = initial(modules, layout, arm), Journal(), arm.tf32 and world.device.type == "cuda"
    outcome = Outcome(step=0, reason=lost, rate=arm.rate, processes=world.size, tf32=rounded)
    if not lost:
        loop = Loop(task, modules, step_function(task, modules), layout, checkpoint_mark(task), hold(task))
        with products(world.device, arm.tf32):
            state, journal, outcome = _steps(loop, state, outcome, stop_now)
        with layout.gathered():
            outcome = completed(outcome, journal, loop.held, task, modules)
    own, buffers = layout.whole(state.average), copied(buffers_of(modules.student))
    average, adapter = modules.weights(own) | buffers, own if modules.adapter else {}
    return Trained(average, adapter, layout.whole(state.snapshots), journal, outcome)


def _steps(loop: Loop, state: State, outcome: Outcome, stop_now: StopNow) -> tuple[State, Journal, Outcome]:
    """From the newest checkpoint to the end, or to a number that is not finite."""
    task, modules, world = loop.task, loop.modules, loop.layout.world
    journal, first = resume(task.files.checkpoints, loop.mark, state, loop.layout)
    clock, outcome = Clock.from_now(journal, world.device), _resumed(loop, outcome, journal, first)
    log = GrowingLog(task.files.growing_log if world.first else None, journal.rows)
    differentiate = differentiation(task, modules, loop.objective, journal)
    progress, kept_after = Progress(task.label, task.arm.iterations, first), snapshot_steps(task.arm)
    for step, batch in _batches(task, world, journal, first):
        found = _evaluated(loop, differentiate, state, step, batch)
        outcome = replace(outcome, step=step, last_direction_norm=found.direction_norm, seconds=clock.seconds())
        if not found.is_finite:
            outcome = replace(outcome, reason=_not_finite(found, step))
            break
        state = _update(_with_buffers(loop, state, found.marks), found.gradients, task.arm, step)
        _note(loop, journal, clock, log, found, step)
        if step in kept_after:
            state.snapshots.update(snapshot(step, state, modules, loop.layout))
        stop = None if step == task.arm.iterations else world.agreed(stop_now())
        outcome = _looked_at(loop, state, journal, clock, outcome, stop)
        if outcome.reason:
            break
        _tell(progress, loop, outcome, found)
    clock.note(journal)
    return state, journal, replace(outcome, **ran(task.arm, world, journal))


def _resumed(loop: Loop, outcome: Outcome, journal: Journal, first: int) -> Outcome:
    """The outcome so far of a run that goes on from a checkpoint."""
    if first and loop.layout.world.first:
        print(f"resuming {loop.task.run.arm} seed {loop.task.seed} from step {first}", file=sys.stderr)
    norm, seconds = journal.last_direction_norm, journal.seconds
    return replace(outcome, step=first, last_good_checkpoint=first or None, seconds=seconds, last_direction_norm=norm)


def _batches(task: Task, world: World, journal: Journal, first: int) -> Iterator[tuple[int, Batch]]:
    """(step, this process's rows of its batch) of the steps after the first ones."""
    steps = range(first + 1, task.arm.iterations + 1)

    def draw(step: int) -> Batch:
        return draw_batch(task, step, world.share(task.arm.batch)).to(world.device)

    yield from zip(steps, _timed(batches(draw, steps, world.device), journal), strict=True)


def _evaluated(loop: Loop, differentiate: Differentiate, state: State, step: int, batch: Batch) -> Found:
    """Loss and gradients of a step, from the parameters and buffers of all."""
    layout, modules = loop.layout, loop.modules
    with layout.gathered() as parameters:
        layout.replace(modules.normalised())
        target = target_weights(state, modules, layout)
        made_of = loop.objective, step, batch, target, parameters, loop.task, modules
        watched, gradients = evaluate_step(*made_of, differentiate)
    gradients = layout.summed(gradients)
    gradient_norm, marks = layout.norm(gradients), layout.world.marks(modules.buffers().values())
    loss, norm, *others = layout.world.total(torch.cat([watched, marks])).tolist()
    beside = len(watched) - 2
    return Found(gradients, loss, norm, gradient_norm, others[:beside], others[beside:])


def _not_finite(found: Found, step: int) -> str:
    return f"the loss was {found.loss} and the gradient's norm {found.gradient_norm} at step {step}"


def _note(loop: Loop, journal: Journal, clock: Clock, log: GrowingLog, found: Found, step: int) -> None:
    """Write down a step, and at the end of each of the log's rows a row."""
    arm = loop.task.arm
    journal.note(found.loss, found.direction_norm, found.gradient_norm, found.beside)
    steps = math.ceil(arm.iterations / LOG_ROWS)
    if step % steps == 0 or step == arm.iterations:
        is_look = step % (LOG_ROWS // LOOKS * steps) == 0 or step == arm.iterations
        left = look(loop.held, loop.modules, loop.layout, journal, step) if is_look else NO_LOOK
        log.append(journal.close_window(step, learning_rate(arm, step), left))
        clock.note(journal)


def _looked_at(loop: Loop, state: State, journal: Journal, clock: Clock, outcome: Outcome, stop: str | None) -> Outcome:
    """The outcome after a look at all that is carried, and after a checkpoint, where one or the other is due.

    Raises BenchError, with a checkpoint, where it is time to stop.
    """
    task, step, world = loop.task, outcome.step, loop.layout.world
    last, every = step == task.arm.iterations, (LOOK_EVERY, task.study.resources.checkpoint_every)
    look, due = (last or step % steps == 0 for steps in every)
    if not (look or due or stop):
        return outcome
    finite = is_finite(state, world)
    if look and not finite:
        return replace(outcome, reason=f"a parameter was not finite after step {step}")
    if not finite or not (due or stop):  # one that is not finite goes on to where it would be found undisturbed
        return outcome
    clock.note(journal)
    ran(task.arm, world, journal)  # of all processes: those that go on from it do as these
    save(task.files.checkpoints, loop.mark, step, state, journal, loop.layout)
    clock.busy()  # while it was written, the device rested
    if stop:
        world.agreed(stop)  # when all have written: after the first failure torchrun gives the others 30 s
        problem = f"{stop}: stopped at step {step} of {task.arm.iterations} with a checkpoint"
        raise BenchError(problem, file=task.files.checkpoints, remedy="run again to go on", again=True)
    return replace(outcome, last_good_checkpoint=step)


def _tell(progress: Progress, loop: Loop, outcome: Outcome, found: Found) -> None:
    if loop.layout.world.first:
        images = outcome.step * loop.task.arm.batch / outcome.seconds
        said, norm = f"loss {found.loss:.4f}, {images:.0f} images/s,", found.direction_norm
        progress.update(outcome.step, said, loss=found.loss, direction_norm=norm, images_per_second=images)
    else:
        sign_of_life()


def _with_buffers(loop: Loop, state: State, marks: list[float]) -> State:
    """The state with the buffers that the step has left.

    Raises BenchError where these are others than before, by name or shape, and where processes hold other values, as
    their `marks` (World.marks) say.
    """
    task, buffers = loop.task, loop.modules.buffers()
    if wrong := difference(shapes_of(state.buffers), buffers):
        problem = f"the network has other buffers after a step than before it: {wrong}"
        remedy = "register them in its constructor, of their final shape; or with persistent=False, if nothing is lost"
        raise BenchError(problem, file=task.study.file, key=task.network_key, remedy=remedy)
    if len(set(marks)) > 1:
        raise other_buffers(task, "the processes hold other values than each other in its buffers")
    return replace(state, buffers=buffers)


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


def checkpoint_mark(task: Task) -> str:
    """What a checkpoint has to be of to be gone on with: what the run is made from, and its rate."""
    return digest([made_from(task.study, task.run), task.arm.rate], [])


def _lost_before(task: Task) -> str | None:
    """Why the run cannot be made, if its teachers diverged, or the run that it starts from: then so did this one."""
    study, run = task.study, task.run
    taught = {"its teacher": study.teacher_run(run), "its weak teacher": study.weak_run(run)}
    for words, other in {**taught, "it starts from": study.start_run(run)}.items():
        if other is None:
            continue
        path = study.files(other).training
        reason = read_training(path, f"train it first: {other.arm} seed {other.seed}").reason
        if reason:
            said = f"{words} {other.arm} seed {other.seed}"
            return f"{said} diverged: {reason}" if words in taught else f"{said}, which diverged: {reason}"
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
    return replace(state, average=average, target=target)
