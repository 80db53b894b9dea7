"""Train one run: an arm with a seed. Resumes from its newest checkpoint to the same bits."""

import dataclasses
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from core import ema
from core.networks.log_weight import LogWeight
from core.schedules import cm_target_decay, largest_angle
from workflow.runtime import checkpoints
from workflow.runtime.assembly import (
    Modules,
    Tensors,
    learning_rate,
    make_modules,
    open_data,
    points_at,
    snapshot_steps,
    step_function,
    teacher_weights,
)
from workflow.runtime.files import exclusive, read_json, write_json, write_text
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.optimiser import AdamState, adam_step, initial_state
from workflow.runtime.progress import Progress
from workflow.runtime.tensors import write_tensors
from workflow.runtime.tuning import tuned
from workflow.schema import Arm
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.study import Run, Study

LOG_ROWS = 50
CHECKPOINT_EVERY = 500
"""Optimiser steps; a run that is killed loses at most as many."""
LOG_COLUMNS = ("step", "loss", "direction_norm", "direction_norm_max", "gradient_norm", "gradient_norm_max", "rate")
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
    rate: float = 0.0
    """Of the optimiser; chosen by tuning where the arm says so."""
    log_weight: list[list[float]] = field(default_factory=list)
    """(t, w(t)) of the learned adaptive weight at the end."""


@dataclass
class Journal:
    """What a run writes down as it goes; plain data, so that a resumed run goes on with it."""

    rows: list[list[float]] = field(default_factory=list)
    """Of log.csv."""
    window: list[list[float]] = field(default_factory=list)
    """Loss, direction norm and gradient norm of every step since the last row."""
    seconds: float = 0.0
    last_direction_norm: float | None = None

    def close_window(self, step: int, rate: float) -> None:
        """One row of means, and the largest norms, over the steps since the last row."""
        columns = list(zip(*self.window, strict=True))
        loss, norm, gradient = (sum(column) / len(column) for column in columns)
        self.rows.append([step, loss, norm, max(columns[1]), gradient, max(columns[2]), rate])
        self.window = []


@dataclass(frozen=True)
class State:
    """All that a run carries from step to step; tensors are updated in place."""

    parameters: Tensors
    """The student's own, and those of what is trained beside it (Modules.parameters)."""
    average: Tensors
    """Of the student's alone."""
    target: Tensors
    """The average that gives the targets, for methods that keep one; else empty."""
    snapshots: Tensors
    """Averages along training, as `<step>/<name>`."""
    optimiser: AdamState


def train(study: Study, run: Run, checkpoint_every: int = CHECKPOINT_EVERY) -> Outcome:
    """Train to the end, or to a number that is not finite; write log, averaged weights and training.json.

    Checkpoints stay until the run is judged. Raises BenchError when another process trains the same run.
    """
    folder, out = study.checkpoint_folder(run), study.run_folder(run)
    with exclusive(folder, f"{run.arm} seed {run.seed}"):
        state, journal, outcome = _train(study, run, checkpoint_every)
    lines = [",".join(LOG_COLUMNS), *(",".join(map(repr, row)) for row in journal.rows)]
    write_text(out / "log.csv", "\n".join(lines) + "\n")
    write_tensors(out / "weights.safetensors", state.average)
    if state.snapshots:
        write_tensors(out / "snapshots.safetensors", state.snapshots)
    write_json(out / "training.json", dataclasses.asdict(outcome))
    return outcome


def _train(study: Study, run: Run, checkpoint_every: int) -> tuple[State, Journal, Outcome]:
    arm, folder = tuned(study, run), study.checkpoint_folder(run)
    dataset = open_data(study, arm)
    lost = _lost_teacher(study, run)
    taught = None if lost else teacher_weights(study, run)
    modules = make_modules(study, arm, dataset, run.seed, taught if arm.start == "teacher" else None)
    state = _initial(modules, arm)
    outcome = Outcome(step=0, rate=arm.rate)
    if lost:
        return state, Journal(), dataclasses.replace(outcome, reason=lost)
    mark = fingerprint(study.specification(run))
    saved = checkpoints.newest(folder, mark)
    journal, first = Journal(), 0
    if saved:
        _restore(state, saved.tensors)
        journal, first = Journal(**saved.journal), saved.step
        print(f"resuming {run.arm} seed {run.seed} from step {first}", file=sys.stderr)
    objective = step_function(study, run, arm, modules, dataset, taught)
    progress = Progress(f"{study.label} {run.arm} seed {run.seed}", arm.iterations, first)
    outcome = dataclasses.replace(
        outcome,
        step=first,
        last_good_checkpoint=first if saved else None,
        seconds=journal.seconds,
        last_direction_norm=journal.last_direction_norm,
    )
    kept_after = snapshot_steps(arm)
    clock = time.monotonic() - journal.seconds
    for step in range(first + 1, arm.iterations + 1):
        regression = objective(step, state.target)
        loss, norm = regression.loss.item(), regression.direction_norm.mean().item()
        gradients = torch.autograd.grad(regression.loss, list(state.parameters.values()), materialize_grads=True)
        gradient_norm = torch.nn.utils.get_total_norm(gradients).item()
        outcome = dataclasses.replace(outcome, step=step, last_direction_norm=norm, seconds=time.monotonic() - clock)
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            reason = f"the loss was {loss} and the gradient's norm {gradient_norm} at step {step}"
            return state, journal, dataclasses.replace(outcome, reason=reason)
        state = _update(state, gradients, arm, step)
        journal.window.append([loss, norm, gradient_norm])
        journal.last_direction_norm = norm
        if step % math.ceil(arm.iterations / LOG_ROWS) == 0 or step == arm.iterations:
            journal.close_window(step, learning_rate(arm, step))
        if step in kept_after:
            state.snapshots.update({f"{step}/{name}": value.clone() for name, value in state.average.items()})
        if step % checkpoint_every == 0 or step == arm.iterations:
            if not _is_finite(state):
                reason = f"a parameter was not finite after step {step}"
                return state, journal, dataclasses.replace(outcome, reason=reason)
            journal.seconds = time.monotonic() - clock
            checkpoints.save(folder, mark, step, _to_tensors(state), dataclasses.asdict(journal))
            outcome = dataclasses.replace(outcome, last_good_checkpoint=step)
        progress.update(step, f"loss {loss:.4f},")
    return state, journal, dataclasses.replace(outcome, log_weight=_learned_weight(modules, study.sigma_d))


def _learned_weight(modules: Modules, sigma_d: float) -> list[list[float]]:
    log_weight = modules.extras.get("log_weight")
    if not isinstance(log_weight, LogWeight):
        return []
    angles = torch.linspace(0.01, largest_angle(sigma_d), WEIGHT_ANGLES)
    with torch.no_grad():
        return [[t, w] for t, w in zip(angles.tolist(), log_weight(angles).tolist(), strict=True)]


def _lost_teacher(study: Study, run: Run) -> str | None:
    """Why the run cannot be taught, if its teacher diverged: then so did all that it would teach."""
    teacher = study.teacher_run(run)
    if teacher is None:
        return None
    path = study.run_folder(teacher) / "training.json"
    remedy = f"train the teacher first: {teacher.arm} seed {teacher.seed}"
    reason = read_json(path, remedy)["reason"]
    return f"its teacher {teacher.arm} seed {teacher.seed} diverged: {reason}" if reason else None


def _is_finite(state: State) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _to_tensors(state).values())


def _update(state: State, gradients: Sequence[Tensor], arm: Arm, step: int) -> State:
    """One optimiser step, and one of each average."""
    named = dict(zip(state.parameters, gradients, strict=True))
    student = [name for name in named if name in state.average]
    beside = [name for name in named if name not in state.average]
    for names, rate in ((student, arm.rate), (beside, arm.fake_rate)):
        adam_step(state.parameters, named, state.optimiser, learning_rate(arm, step, rate), names, arm.optimiser)
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


def _initial(modules: Modules, arm: Arm) -> State:
    """The state whose parameters are the modules' own."""
    parameters = modules.parameters()
    student = {name: p.detach().clone() for name, p in modules.student.named_parameters()}
    target = {name: p.clone() for name, p in student.items()} if arm.target_decay else {}
    return State(parameters, student, target, {}, initial_state(parameters))


def _to_tensors(state: State) -> Tensors:
    """The state's own tensors, named by group."""
    groups: Mapping[str, Mapping[str, Tensor]] = {
        "parameters": state.parameters,
        "average": state.average,
        "target": state.target,
        "snapshots": state.snapshots,
        "first": state.optimiser.first,
        "second": state.optimiser.second,
        "steps": state.optimiser.steps,
    }
    return {f"{group}/{name}": tensor for group, values in groups.items() for name, tensor in values.items()}


def _restore(state: State, saved: Tensors) -> None:
    """Fill the state's tensors with saved ones."""
    with torch.no_grad():
        for name, tensor in _to_tensors(state).items():
            tensor.copy_(saved[name])
    kept = {name.removeprefix("snapshots/"): value for name, value in saved.items() if name.startswith("snapshots/")}
    state.snapshots.update(kept)


def command() -> None:
    """Parse the arguments and train."""
    arguments = run_parser(__doc__)
    arguments.add_argument(
        "--checkpoint-every", type=int, default=CHECKPOINT_EVERY, help="optimiser steps (default: %(default)s)"
    )
    parsed = arguments.parse_args()
    study = study_of(parsed)
    outcome = train(study, run_of(study, parsed), parsed.checkpoint_every)
    print(f"diverged: {outcome.reason}" if outcome.reason else f"finished after {outcome.step} steps")


if __name__ == "__main__":
    main(command)
