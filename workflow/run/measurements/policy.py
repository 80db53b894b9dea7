"""A policy in a closed loop (arXiv 2303.04137): it sees, plans a chunk of actions, does the first of them,
and sees again.

The policy is a run that was trained on demonstrations of the simulated task, sampled in each way that the experiment
shows, and a map also from noise of low variance (arXiv 2405.07503). Of each: how many episodes arrive, how many ways
they take from one start, how far their first actions spread there, how jerky they are, and what an action costs.
Beside them stands the expert. All arms of a seed meet the same starts and noises.
"""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trigbench.core.condition import Condition
from trigbench.core.constants import SIGMA_MAX
from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.workflow.data.kinds.navigation.making import course_of, shown_by_expert, starts
from trigbench.workflow.data.kinds.navigation.simulation import (
    GOAL,
    NEAR,
    SPEED,
    UNDER_WAY,
    Course,
    Episodes,
    State,
    begin,
    effective_number,
    follow,
    jerk,
    observe,
    ways_taken,
)
from trigbench.workflow.data.randomness import generator, seed_globals
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import products
from trigbench.workflow.machine.progress import sign_of_life
from trigbench.workflow.run.measurements.measured import Measured, Paths, Row, Scene
from trigbench.workflow.run.measurements.trained import trained
from trigbench.workflow.run.sampling import draw
from trigbench.workflow.run.task import Task, open_data, opened
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.policies import EXPERT, LOW_VARIANCE
from trigbench.workflow.study.records import REAL, Value
from trigbench.workflow.study.study import Run, Sampling, Study

EPISODES = 200
"""From starts that differ, and as many from one."""
DONE = 8
"""Actions of a chunk that are done before the next is planned."""
SHOWN = 24
"""Paths in a panel of the picture."""
TIMED = 20
"""Plans whose time is taken."""
OF_THE_TASK = {"pillars", "ways", "actions_mean", "actions_std", "observed_mean", "observed_std"}
"""Arrays of its demonstrations."""


@dataclass(frozen=True)
class Policy:
    """A trained run, and one way to draw its chunks."""

    task: Task
    network: nn.Module
    weights: Tensors
    way: Sampling
    low: bool = False
    """Whether a plan starts from noise of the data's own units, N(0, 1), and not of the largest noise level."""

    @torch.no_grad()
    def plan(self, observed: np.ndarray, turn: int) -> np.ndarray:
        """Chunks of actions (episodes, actions, 2) for what is observed (episodes, numbers); noise is of the turn."""
        arrays, device, shape = self.task.data.arrays, self.task.device, (len(observed), *self.task.data.shape)
        g = generator(self.task.seed, "policy", "noise", turn)
        noise = torch.stack([torch.randn(shape, generator=g) for _ in range(len(self.way.times) + 1)]).to(device)
        if self.low:
            noise[0] /= SIGMA_MAX
        further = (torch.randn(shape, generator=g).to(device) for _ in itertools.count())
        seen = torch.from_numpy((observed - arrays["observed_mean"]) / arrays["observed_std"]).float().to(device)
        seed_globals(self.task.seed, "policy", turn)  # of a network of one's own that draws
        with products(device, tf32=False):
            told = Condition(observation=seen)
            made = draw(self.task, self.network, self.weights, told, noise, further, self.way)
        return made.cpu().double().numpy() * arrays["actions_std"] + arrays["actions_mean"]

    def latency(self, observed: np.ndarray) -> float:
        """Milliseconds for a plan of one episode over its actions that are done: the median."""
        spent = []
        for turn in range(TIMED):
            started = time.perf_counter()
            self.plan(observed, turn)
            spent.append(time.perf_counter() - started)
        return 1000 * statistics.median(spent) / DONE


def measure(study: Study, experiment: str) -> Measured:
    """Of every run, in every way that the experiment shows. Raises BenchError for data of another task."""
    course, found = _course(study, experiment), Measured()
    found.scenes.append(Scene(course.pillars.tolist(), [*GOAL, NEAR]))
    for seed in study.seeds_of(experiment):
        drawn = seed == study.seeds_of(experiment)[0]
        x = np.concatenate([starts(EPISODES, seed, "policy", "starts"), np.zeros(EPISODES)])
        shown = shown_by_expert(course, x, 0.0, seed, "policy", EXPERT)
        found.runs.extend(_rows(judged(course, shown), {"sampler": EXPERT}, REAL, seed))
        found.paths.extend([_paths(shown, REAL, EXPERT, None)] if drawn else [])
        for run in (run for run in study.runs_of(experiment) if run.seed == seed):
            ways = _ways(study, experiment, run.arm)
            for way, policy in _policies(opened(study, run), ways):
                sign_of_life()
                rows, paths = _one_way(course, run, way, policy, x)
                found.runs.extend(rows)
                low_of_few = policy is not None and policy.low and way.steps < ways[-1].steps
                found.paths.extend([paths] if drawn and paths is not None and not low_of_few else [])
    return found


def _one_way(
    course: Course, run: Run, way: Sampling, policy: Policy | None, x: np.ndarray
) -> tuple[list[Row], Paths | None]:
    """A run's numbers and paths in one way to plan; it never arrives where its weights are not numbers."""
    if policy is None:
        never = {"success": 0.0, "ways_taken": 0.0, "evaluations_per_action": way.steps / DONE}
        return list(_rows(never, way.columns, run.arm, run.seed)), None
    about = way.columns | ({"sampler": LOW_VARIANCE} if policy.low else {})
    followed = _follow(course, policy, x)
    costs = {"evaluations_per_action": way.steps / DONE, "latency": policy.latency(observe(begin(x[:1])))}
    rows = list(_rows(judged(course, followed) | costs, about, run.arm, run.seed))
    return rows, _paths(followed, run.arm, about["sampler"], way.steps)


def _course(study: Study, experiment: str) -> Course:
    names = list(dict.fromkeys(study.arms[arm].data for arm in study.arms_of(experiment)))
    arrays = open_data(study, names[0]).arrays
    if len(names) > 1 or not arrays.keys() >= OF_THE_TASK:
        problem = f"its arms have the data {', '.join(names)}: expected one data set of demonstrations"
        remedy = "measure policies of arms on one data set of the kind that simulates the task"
        raise BenchError(problem, file=study.file, key=f"experiments.{experiment}.measurement", remedy=remedy)
    return course_of(arrays)


def _ways(study: Study, experiment: str, arm: str) -> list[Sampling]:
    """How the experiment shows that an arm plans, the fewest steps first."""
    shown = study.experiments[experiment].samplers or study.samplers_of(arm)[:1]
    return sorted((way for way in study.samplings(arm) if way.sampler in shown), key=lambda way: way.steps)


def _policies(task: Task, ways: Sequence[Sampling]) -> Iterator[tuple[Sampling, Policy | None]]:
    """A run's ways with their policies; without where its weights are not numbers."""
    left = trained(task)
    for way in ways:
        policy = None if left is None else Policy(task, *left, way)
        yield way, policy
        if policy is not None and way.solver in MAP_SAMPLERS:
            yield way, dataclasses.replace(policy, low=True)


def _follow(course: Course, policy: Policy, x: np.ndarray) -> Episodes:
    """Its episodes from x, each plan followed for its first actions."""
    turns = itertools.count()

    def plan(state: State) -> np.ndarray:
        return policy.plan(observe(state), next(turns))[:, :DONE].swapaxes(0, 1)

    return follow(course, begin(x), plan)


def judged(course: Course, episodes: Episodes) -> dict[str, float]:
    """Of episodes, of which the second half begins at one place."""
    apart, alike = episodes.rows(slice(EPISODES)), episodes.rows(slice(EPISODES, None))
    return {
        "success": float(apart.arrived.mean()),
        "ways_taken": effective_number(ways_taken(course, alike.positions[:, alike.arrived])),
        "first_action_spread": float(np.sqrt(alike.actions[0].var(0).sum())) / SPEED,
        "jerk": jerk(apart),
    }


def _rows(numbers: Mapping[str, float], about: Mapping[str, object], arm: str, seed: int) -> Iterator[Row]:
    told = {"objective": arm} if arm == REAL else {}
    for metric, number in numbers.items():
        value = number if math.isfinite(number) else None
        yield Row(Value.model_validate({"metric": metric, "value": value, **about}), arm, seed, **told)


def _paths(episodes: Episodes, arm: str, sampler: str, evaluations: int | None) -> Paths:
    """The first from one start, each to its end."""
    alike = episodes.rows(slice(EPISODES, EPISODES + SHOWN))
    lengths = (alike.ended == UNDER_WAY).sum(0) + 1
    points = [alike.positions[:length, row].round(3).tolist() for row, length in enumerate(lengths)]
    return Paths(points, alike.arrived.tolist(), arm, sampler, evaluations)
