"""Train one run: an arm with a seed. Resumes from its newest checkpoint to the same bits."""

import dataclasses
import importlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from core import ema
from core.fields import Draws, Fields, bind
from core.networks.log_weight import LogWeight
from core.networks.mlp import ResidualMLP
from core.objectives import OBJECTIVES
from core.objectives.regression import Regression, Settings
from core.schedules import (
    constant_rate,
    inverse_sqrt_rate,
    karras_angles,
    largest_angle,
    tangent_warmup,
    uniform_angles,
)
from core.tangents import Control, clip, finite_difference_derivative, jvp_derivative, normalise, raw
from core.trigflow import Field, ProposalGrid, proposal_grid
from workflow.errors import BenchError
from workflow.runtime import checkpoints
from workflow.runtime.datasets import kind_module
from workflow.runtime.datasets.dataset import Dataset
from workflow.runtime.files import exclusive, read_arrays, read_json, write_json, write_text
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.optimiser import AdamState, adam_step, initial_state
from workflow.runtime.progress import Progress
from workflow.runtime.randomness import generator, seed_for
from workflow.runtime.tensors import read_tensors, write_tensors
from workflow.schema import Arm
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.study import Run, Study

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LOG_ROWS = 50
CHECKPOINT_EVERY = 500
"""Optimiser steps; a run that is killed loses at most as many."""
LOG_COLUMNS = ("step", "loss", "direction_norm", "direction_norm_max", "gradient_norm", "rate")
LOG_WEIGHT = "log_weight."
"""Prefix of the adaptive weight's parameters among a run's."""
Tensors = dict[str, Tensor]


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


@dataclass
class Journal:
    """What a run writes down as it goes; plain data, so that a resumed run goes on with it."""

    rows: list[list[float]] = field(default_factory=list)
    """Of log.csv."""
    window: list[list[float]] = field(default_factory=list)
    """Loss, direction norm and gradient norm of every step since the last row."""
    seconds: float = 0.0

    def close_window(self, step: int, rate: float) -> None:
        """One row of means, and the largest direction norm, over the steps since the last row."""
        loss, norm, gradient_norm = (sum(column) / len(column) for column in zip(*self.window, strict=True))
        self.rows.append([step, loss, norm, max(row[1] for row in self.window), gradient_norm, rate])
        self.window = []


@dataclass(frozen=True)
class State:
    """All that a run carries from step to step."""

    parameters: Tensors
    """The network's own, and the adaptive weight's under `log_weight.`; updated in place."""
    average: Tensors
    """Of the network's alone."""
    optimiser: AdamState


def open_data(study: Study, arm: Arm) -> Dataset:
    """The prepared data set of an arm."""
    path = study.data_file(arm.data)
    made_by = f"python -m workflow.steps.prepare --study {study.file} --budget {study.budget} --data {arm.data}"
    arrays = read_arrays(path, f"delete the file if it is there, and make it with: {made_by}")
    return kind_module(study.data[arm.data].kind).open_dataset(arrays, study.sigma_d)


def make_network(study: Study, arm: Arm, dataset: Dataset, seed: int = 0) -> nn.Module:
    """The arm's network, its initial parameters a function of the seed."""
    size = study.sizes[arm.size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "initial parameters"))
        return ResidualMLP(
            dataset.shape,
            size.width,
            size.blocks,
            embedding=size.embedding,
            coordinate=size.coordinate,
            conditioning=size.conditioning,
            classes=dataset.classes,
            sigma_d=study.sigma_d,
        )


def teacher_weights(study: Study, run: Run) -> Tensors | None:
    """The averaged weights of the run's teacher, if it has a trained one."""
    teacher = study.teacher_run(run)
    if teacher is None:
        return None
    remedy = f"delete the file; the workflow trains {teacher.arm} seed {teacher.seed} again"
    return read_tensors(study.run_folder(teacher) / "weights.safetensors", remedy)


def train(study: Study, run: Run, checkpoint_every: int = CHECKPOINT_EVERY) -> Outcome:
    """Train to the end, or to a number that is not finite; write log, averaged weights and training.json.

    Checkpoints stay until the run is judged. Raises BenchError when another process trains the same run.
    """
    folder, out = study.checkpoint_folder(run), study.run_folder(run)
    with exclusive(folder, f"{run.arm} seed {run.seed}"):
        average, journal, outcome = _train(study, run, checkpoint_every)
    lines = [",".join(LOG_COLUMNS), *(",".join(map(repr, row)) for row in journal.rows)]
    write_text(out / "log.csv", "\n".join(lines) + "\n")
    write_tensors(out / "weights.safetensors", average)
    write_json(out / "training.json", dataclasses.asdict(outcome))
    return outcome


def _train(study: Study, run: Run, checkpoint_every: int) -> tuple[Tensors, Journal, Outcome]:
    arm, folder = study.arms[run.arm], study.checkpoint_folder(run)
    dataset = open_data(study, arm)
    network = make_network(study, arm, dataset, run.seed)
    log_weight = LogWeight() if arm.adaptive_weight else None
    lost = _lost_teacher(study, run)
    taught = None if lost else teacher_weights(study, run)
    state = _initial(network, log_weight, taught if arm.start == "teacher" else None)
    if lost:
        return state.average, Journal(), Outcome(step=0, reason=lost)
    mark = fingerprint(study.specification(run))
    saved = checkpoints.newest(folder, mark)
    journal, first = Journal(), 0
    if saved:
        _restore(state, saved.tensors)
        journal, first = Journal(**saved.journal), saved.step
        print(f"resuming {run.arm} seed {run.seed} from step {first}", file=sys.stderr)
    objective = _step_function(study, run, network, log_weight, dataset, taught)
    progress = Progress(f"{study.label} {run.arm} seed {run.seed}", arm.iterations, first)
    outcome = Outcome(step=first, last_good_checkpoint=first if saved else None)
    clock = time.monotonic() - journal.seconds
    for step in range(first + 1, arm.iterations + 1):
        regression = objective(step)
        loss, norm = regression.loss.item(), regression.direction_norm.mean().item()
        gradients = torch.autograd.grad(regression.loss, list(state.parameters.values()))
        gradient_norm = torch.nn.utils.get_total_norm(gradients).item()
        outcome = dataclasses.replace(outcome, step=step, last_direction_norm=norm, seconds=time.monotonic() - clock)
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            reason = f"the loss was {loss} and the gradient's norm {gradient_norm} at step {step}"
            return state.average, journal, dataclasses.replace(outcome, reason=reason)
        state = _update(state, gradients, arm, step)
        journal.window.append([loss, norm, gradient_norm])
        if step % math.ceil(arm.iterations / LOG_ROWS) == 0 or step == arm.iterations:
            journal.close_window(step, learning_rate(arm, step))
        if step % checkpoint_every == 0 or step == arm.iterations:
            if not _is_finite(state):
                reason = f"a parameter was not finite after step {step}"
                return state.average, journal, dataclasses.replace(outcome, reason=reason)
            journal.seconds = time.monotonic() - clock
            checkpoints.save(folder, mark, step, _to_tensors(state), dataclasses.asdict(journal))
            outcome = dataclasses.replace(outcome, last_good_checkpoint=step)
        progress.update(step, f"loss {loss:.4f},")
    return state.average, journal, outcome


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
    """One optimiser step and one of the average."""
    named = dict(zip(state.parameters, gradients, strict=True))
    adam_step(state.parameters, named, state.optimiser, learning_rate(arm, step))
    beta = ema.half_life_beta(arm.batch, float(arm.ema_half_life), step * arm.batch, arm.ema_rampup)
    average = ema.update(state.average, {name: state.parameters[name] for name in state.average}, beta)
    return dataclasses.replace(state, average=average)


def _step_function(
    study: Study, run: Run, network: nn.Module, log_weight: LogWeight | None, dataset: Dataset, taught: Tensors | None
) -> Callable[[int], Regression]:
    """step -> one evaluation of the objective, with draws that are a function of (seed, step, purpose)."""
    arm = study.arms[run.arm]
    settings = make_settings(arm, study.sigma_d)
    module_name, function_name = OBJECTIVES[arm.objective].path.split(":")
    objective = getattr(importlib.import_module(module_name), function_name)
    teacher_of = _teacher(study, arm, dataset, taught)

    def evaluate(step: int) -> Regression:
        x0, labels = dataset.draw(generator(run.seed, step, "data"), arm.batch)
        draws = Draws(
            torch.rand(arm.batch, generator=generator(run.seed, step, "time"), dtype=torch.float64),
            torch.randn(x0.shape, generator=generator(run.seed, step, "noise")),
        )
        student = bind(network, condition=labels, precision=PRECISIONS[arm.precision])
        warmed = dataclasses.replace(settings, warmup=tangent_warmup(step - 1, arm.warmup))
        return objective(Fields(student, teacher_of(labels), log_weight), x0, draws, warmed)

    return evaluate


def _teacher(
    study: Study, arm: Arm, dataset: Dataset, taught: Tensors | None
) -> Callable[[Tensor | None], Field | None]:
    """labels -> the teacher as a field: exact, trained, or none."""
    if arm.teacher is None or arm.teacher == "exact":
        return lambda labels: dataset.velocity if arm.teacher else None
    if taught is None:
        raise BenchError("the teacher has no weights", file=study.file, key="teacher", remedy="train the teacher first")
    network = make_network(study, study.arms[arm.teacher], dataset)
    return lambda labels: bind(network, taught, labels)


def make_settings(arm: Arm, sigma_d: float) -> Settings:
    """The arm's settings, in the paper's units, as the core's, in unit variance."""
    return Settings(
        sigma_d=sigma_d,
        proposal_mean=arm.proposal_mean,
        proposal_std=arm.proposal_std,
        control=_control(arm, sigma_d),
        derivative=jvp_derivative if arm.derivative == "jvp" else finite_difference_derivative,
        grid=_grid(arm, sigma_d),
        log_weight_max=math.log(arm.weight_max) if arm.weight_max else None,
    )


def learning_rate(arm: Arm, step: int) -> float:
    """The arm's rate at optimiser step >= 1."""
    if arm.rate_reference is None:
        return constant_rate(step, arm.rate, arm.rampup)
    return inverse_sqrt_rate(step, arm.rate, arm.rate_reference, arm.rampup)


def _control(arm: Arm, sigma_d: float) -> Control:
    constant = arm.control_constant / sigma_d
    return {
        "normalise": partial(normalise, constant=constant),
        "normalise_rms": partial(normalise, constant=constant, norm="rms"),
        "clip": partial(clip, sigma_d=sigma_d),
        "raw": partial(raw, sigma_d=sigma_d),
    }[arm.control]


def _grid(arm: Arm, sigma_d: float) -> ProposalGrid | None:
    if arm.intervals is None:
        return None
    if arm.grid == "karras":
        angles = karras_angles(arm.intervals, sigma_d)
    else:
        angles = uniform_angles(arm.intervals, largest_angle(sigma_d))
    return proposal_grid(angles, arm.proposal_mean, arm.proposal_std, sigma_d)


def _initial(network: nn.Module, log_weight: LogWeight | None, start: Tensors | None) -> State:
    """The state whose parameters are the modules' own; they start from `start` where given."""
    if start is not None:
        network.load_state_dict(start, strict=False)
    parameters: Tensors = dict(network.named_parameters())
    average = {name: p.detach().clone() for name, p in parameters.items()}
    if log_weight is not None:
        parameters = parameters | {f"{LOG_WEIGHT}{n}": p for n, p in log_weight.named_parameters()}
    return State(parameters, average, initial_state(parameters))


def _to_tensors(state: State) -> Tensors:
    """The state's own tensors, named by group."""
    groups = {
        "parameters": state.parameters,
        "average": state.average,
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
