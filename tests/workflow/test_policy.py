"""The simulated task, what is observed in it, and policies in a closed loop, against what is known of each."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from trigbench.core.condition import Condition
from trigbench.workflow.claims.tables import experiment_tables
from trigbench.workflow.data.kinds.navigation.courses import COURSES
from trigbench.workflow.data.kinds.navigation.making import (
    GUST,
    course_of,
    floors,
    judge_samples,
    shown_by_expert,
    starts,
)
from trigbench.workflow.data.kinds.navigation.simulation import (
    ARRIVED,
    CRASHED,
    GOAL,
    INERTIA,
    LIMIT,
    NEAR,
    SPEED,
    UNDER_WAY,
    Course,
    State,
    begin,
    effective_number,
    expert,
    follow,
    jerk,
    observe,
    step,
    ways_taken,
)
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.report.kinds import policy as figure
from trigbench.workflow.report.paths import drawn_paths
from trigbench.workflow.run import measuring
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.exporting import carded
from trigbench.workflow.run.measurements import policy
from trigbench.workflow.run.noise import condition_of_samples
from trigbench.workflow.run.outside.judging import Asked, judge
from trigbench.workflow.run.own import check_study
from trigbench.workflow.run.task import Task, open_data, opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.kinds import kind_module, known_of
from trigbench.workflow.study.policies import EXPERT, LOW_VARIANCE, OF_POLICIES
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study


def course_named(name: str) -> Course:
    return course_of({key: np.array(getattr(COURSES[name], key)) for key in ("pillars", "ways")})


def middle(course: Course, ways: np.ndarray) -> np.ndarray:
    return np.zeros((len(ways), course.ways.shape[1]))


# --- the simulation -------------------------------------------------------------------------------


def test_a_step_is_no_longer_than_its_limit_and_what_has_ended_stays() -> None:
    course = course_named("easy")
    position = np.array([[0.0, -0.9], [0.5, 0.5], [0.9, 0.9]])
    state = State(position, np.zeros((3, 2)), np.array([UNDER_WAY, UNDER_WAY, CRASHED]))
    after = step(course, state, np.array([[3.0, 4.0], [0.01, 0.0], [1.0, 0.0]]))
    assert after.position == pytest.approx(np.array([[0.6 * SPEED, -0.9 + 0.8 * SPEED], [0.51, 0.5], [0.9, 0.9]]))
    assert after.ended.tolist() == [UNDER_WAY, UNDER_WAY, CRASHED]
    assert observe(after)[:, 2:] == pytest.approx(after.position - position)


def test_an_episode_ends_at_the_goal_at_the_edge_and_where_its_way_only_grazes_a_pillar() -> None:
    course = Course(np.array([[0.0, 0.0, 0.01]]), np.zeros((1, 1, 2)))  # thinner than a step is long
    position = np.array([[-0.03, 0.005], [-0.03, 0.011], [0.0, GOAL[1] - NEAR - 0.01], [0.98, 0.0]])
    after = step(
        course, State(position, 0 * position, np.zeros(4, int)), SPEED * np.array([[1, 0], [1, 0], [0, 1], [1, 0]])
    )
    assert after.ended.tolist() == [CRASHED, UNDER_WAY, ARRIVED, CRASHED]


@pytest.mark.parametrize("name", COURSES)
def test_the_expert_arrives_by_every_way_and_the_mean_of_its_ways_by_none(name: str) -> None:
    course = course_named(name)
    ways = np.arange(len(course.ways)).repeat(5)
    x = np.tile(np.linspace(-0.15, 0.15, 5), len(course.ways))
    shown = follow(course, begin(x), lambda state: expert(course, state, ways, middle(course, ways))[None])
    assert shown.arrived.all()
    assert np.array_equal(ways_taken(course, shown.positions), ways)

    def mean(state: State) -> np.ndarray:
        each = [expert(course, state, np.full(len(x), way), middle(course, x)) for way in range(len(course.ways))]
        return np.mean(each, 0)[None]

    assert not follow(course, begin(x), mean).arrived.any()


def test_episodes_do_not_depend_on_each_other_and_end_where_they_ended() -> None:
    course = course_named("hard")
    many = shown_by_expert(course, starts(12, 1, "x"), 3 * GUST, 1, "shown")
    assert {CRASHED, ARRIVED} <= {*many.ended[-1].tolist()}
    for row in range(12):
        moved = many.rows(slice(row, row + 1)).observed[1:, :, 2:]
        alone = follow(course, begin(many.positions[0, [row], 0]), lambda _, moved=moved: moved)
        assert np.allclose(alone.positions[:, 0], many.positions[:, row])
    ended = many.ended != UNDER_WAY
    assert np.array_equal(np.maximum.accumulate(ended, 0), ended)
    assert (np.diff(many.positions, axis=0)[ended[:-1]] == 0).all()


def test_jerk_is_that_of_a_cubic_and_is_not_counted_after_the_end() -> None:
    times = np.arange(LIMIT + 1.0)
    positions = np.stack([times**3, 0 * times], 1)[:, None] * SPEED
    found = follow(Course(np.zeros((0, 3)), np.zeros((1, 1, 2))), begin(np.zeros(1)), lambda s: np.zeros((8, 1, 2)))
    cubic = type(found)(np.concatenate([positions, positions], 2), found.actions, found.ended)
    assert jerk(cubic) == pytest.approx(6.0)
    assert np.isnan(jerk(type(found)(cubic.observed, cubic.actions, np.full_like(found.ended, ARRIVED))))


def test_a_way_that_was_not_shown_or_does_not_reach_every_row_is_no_way() -> None:
    course = course_named("hard")
    along = [[-0.3, 0.6, 0.3], [-0.3, -0.6, -0.4], [0.3, 0.05, -0.3]]  # from the left, far right, and back: never shown
    positions = np.array([[*zip(x, course.ways[0, :, 1] + 0.01, strict=True)] for x in along]).swapaxes(0, 1)
    assert ways_taken(course, positions).tolist() == [-1, 0, 3]
    assert ways_taken(course, positions[:2]).tolist() == [-1, -1, -1]


def test_the_number_of_ways_does_not_fall_with_how_many_are_seen() -> None:
    assert effective_number(np.array([-1, -1])) == effective_number(np.array([], int)) == 0
    assert effective_number(np.array([0, 0, -1, 0, 1])) == pytest.approx(4 / 27**0.25 * np.exp(1 / 8))
    ways = torch.randint(6, (400, 200), generator=generator("ways")).numpy()
    seen = {count: np.mean([effective_number(row[:count]) for row in ways]) for count in (20, 40, 200)}
    assert seen == pytest.approx(dict.fromkeys(seen, 6), abs=0.2)


# --- its demonstrations ---------------------------------------------------------------------------


@pytest.fixture
def study(tiny: dict, write_study: Callable[[dict], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A teacher and a map of demonstrations."""
    monkeypatch.chdir(tmp_path)
    tiny["data"] = {"shown": {"kind": "navigation", "course": "easy", "episodes": 40, "judged": 300}}
    tiny["defaults"] |= {"data": "shown", "iterations": 3, "batch": 16}
    tiny["samplers"] = {"ddim-3": {"solver": "ddim", "evaluations": [3]}}
    tiny["arms"] = {
        "teacher": {"objective": "diffusion", "samplers": ["ddim-3"]},
        "ctm": {"objective": "ctm", "teacher": "teacher", "start": "teacher"},
    }
    experiment = next(iter(tiny["experiments"].values()))
    asked = {"figure": "policy", "metric": "success", "measurement": "policy", "arms": ["teacher", "ctm"]}
    tiny["experiments"] = {"loop": experiment | asked}
    found = load(write_study(tiny))
    prepare(found, "shown")
    return found


def test_chunks_are_what_the_expert_wanted_after_what_is_observed(study: Study) -> None:
    dataset = open_data(study, "shown")
    arrays = dataset.arrays
    known = known_of(study.data["shown"])
    assert (dataset.shape, dataset.observed_shape) == (known.shape, known.observed)
    x0, told = dataset.draw(generator("test"), 512)
    assert told.observation is not None
    assert told.label is None
    assert x0.std() == pytest.approx(1, abs=0.1)
    actions = x0.double().numpy() * arrays["actions_std"] + arrays["actions_mean"]
    observed = told.observation.double().numpy() * arrays["observed_std"] + arrays["observed_mean"]
    state = State(observed[:, :2], observed[:, 2:], np.zeros(512, int))
    course, ways = course_of(arrays), np.zeros(512, int)
    either = [expert(course, state, ways + way, middle(course, ways)) for way in (0, 1)]
    missed = np.min([np.linalg.norm(actions[:, 0] - one, axis=1) for one in either], 0)
    below, above = observed[:, 1] < -0.3, observed[:, 1] > 0.01
    assert (missed[below] < 0.006).all(), "but for where in the gap it will pass"
    assert (missed[above] < 1e-6).all()
    assert min(below.sum(), above.sum()) > 100
    assert not any(
        finding.state == "failed" for finding in check_data(kind_module(study.data["shown"]), study.data["shown"])
    )


def test_samples_are_held_against_what_the_expert_did_after_the_same_observation(study: Study) -> None:
    dataset = open_data(study, "shown")
    held = torch.from_numpy(dataset.arrays["held_out"]) / study.sigma_d
    assert judge_samples(dataset, held)["sliced_wasserstein"] == pytest.approx(0, abs=1e-7)
    assert judge_samples(dataset, held.flip(0))["sliced_wasserstein"] > 0.05, "the same chunks, of other observations"
    assert judge_samples(dataset, held, []) == {}
    assert floors(dataset) == []


# --- in a closed loop -----------------------------------------------------------------------------


def rows_of(found) -> dict:
    return {(row.arm, row.value.sampler, row.value.steps, row.value.metric): row.value.value for row in found.runs}


@pytest.mark.slow
def test_policies_are_measured_in_every_way_and_drawn(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "EPISODES", 6)
    monkeypatch.setattr(policy, "TIMED", 1)
    seed = study.seeds[0]
    for arm in study.arms:
        train(study, Run(arm=arm, seed=seed))
    monkeypatch.setattr(measuring, "measured_from", lambda *_: "now")
    measuring.measure(study, "loop")
    values = rows_of(found := policy.measure(study, "loop"))
    ways = {key[:3] for key in values if key[3] == "success"}
    assert ways == {
        ("data", EXPERT, None), ("teacher", "ddim-3", 3),
        *itertools.product(["ctm"], ["jumps", LOW_VARIANCE], [1, 2]),
    }  # fmt: skip
    assert values["data", EXPERT, None, "success"] == 1
    assert values["teacher", "ddim-3", 3, "evaluations_per_action"] == 3 / policy.DONE
    assert {metric for *_, metric in values} == {*OF_POLICIES, "latency"}
    spread = {way: values["ctm", way, 1, "first_action_spread"] for way in ("jumps", LOW_VARIANCE)}
    assert spread[LOW_VARIANCE] < 0.1 * spread["jumps"]
    assert [(paths.arm, paths.sampler, paths.evaluations) for paths in found.paths] == [
        ("data", EXPERT, None), ("teacher", "ddim-3", 3), ("ctm", "jumps", 1), ("ctm", "jumps", 2),
        ("ctm", LOW_VARIANCE, 2),
    ]  # fmt: skip
    runs, curves = experiment_tables(study, "loop", [])
    again = {*runs[(runs.arm == "ctm") & (runs.metric == "jerk")].value}
    assert again == {values[(*way, "jerk")] for way in ways if way[0] == "ctm"}, "no number depends on chance"
    settings = study.experiments["loop"]
    shown = figure.KIND.shown(settings, runs, curves)
    assert figure.say(settings, *shown).startswith("The expert arrives in 100% of episodes, by ")
    assert len(figure.draw(settings, *shown).axes) == 3
    drawn = drawn_paths(study, "loop")
    assert drawn is not None
    assert drawn.axes[0].get_title() == "expert\n\n6 of 6 arrive"
    assert drawn.axes[4].get_title().startswith("CTM\n2 steps from low variance\n")
    plt.close("all")


def test_chunks_of_demonstrations_for_what_is_observed_arrive(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers with the nearest demonstration's chunk, of which only what is done may be."""

    def nearest(task: Task, network, weights, told: Condition, *drawn) -> torch.Tensor:
        assert told.observation is not None
        arrays = {name: torch.from_numpy(task.data.arrays[name]) for name in ("train", "train_observed")}
        chunks = arrays["train"][torch.cdist(told.observation, arrays["train_observed"]).argmin(1)] / study.sigma_d
        return torch.cat([chunks[:, : policy.DONE], -chunks[:, policy.DONE :]], 1)

    monkeypatch.setattr(policy, "draw", nearest)
    task, nothing = opened(study, Run(arm="ctm", seed=0)), cast(Any, None)
    course, way = course_of(task.data.arrays), study.samplings("ctm")[0]
    followed = policy._follow(course, policy.Policy(task, nothing, nothing, way), starts(100, 1, "oracle"))
    assert followed.arrived.mean() > 0.9


def test_a_plan_that_is_the_experts_arrives_and_one_that_is_not_finite_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "EPISODES", 4)
    course, x = course_named("easy"), np.array([-0.1, 0.1, 0.05, -0.05, 0, 0, 0, 0.0])
    ways = np.array([0, 1, 0, 1, 0, 0, 1, 1])
    shown = follow(course, begin(x), lambda state: expert(course, state, ways, middle(course, ways))[None])
    found = policy.judged(course, shown)
    assert (found["success"], found["ways_taken"]) == (1.0, pytest.approx(2 * np.exp(1 / 8)))
    assert found["first_action_spread"] == pytest.approx((1 - INERTIA) * 0.55 / np.hypot(0.55, 0.9))
    lost = policy.judged(course, follow(course, begin(x), lambda _: np.full((8, 8, 2), np.nan)))
    assert (lost["success"], lost["ways_taken"]) == (0.0, 0.0)
    assert np.isnan(lost["jerk"])


def test_data_of_another_task_are_refused(tiny: dict, with_data: Callable[[dict], Study]) -> None:
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"measurement": "policy", "metric": "success"}}
    with pytest.raises(BenchError, match="expected one data set of demonstrations"):
        policy.measure(with_data(tiny), "training")


def test_a_network_that_would_not_hear_and_models_from_outside_are_refused(
    study: Study, tiny: dict, write_study
) -> None:
    tiny["sizes"] = {"small": {"network": "trigbench.core.networks.dit:DiT", "settings": {"width": 24, "depth": 1}}}
    with pytest.raises(BenchError, match="takes no 'observed', the shape of the observations that 'shown' tells it"):
        check_study(load(write_study(tiny)))
    nothing: Any = None
    with pytest.raises(BenchError, match="is told observations, and what leaves is told labels alone"):
        carded(opened(study, Run(arm="ctm", seed=0)), {}, nothing, nothing, nothing)
    with pytest.raises(BenchError, match="told observations, and what is from outside is told labels alone"):
        judge(study, Asked("samples.npz", "x", "shown", "judge"))


def test_conditions_of_samples_are_observations_by_their_row(study: Study) -> None:
    dataset = open_data(study, "shown")
    assert dataset.observed is not None
    count = len(dataset.observed)
    told = condition_of_samples(range(count - 1, count + 2), dataset)
    assert isinstance(told, Condition)
    assert told.observation is not None
    assert torch.equal(told.observation, dataset.observed[[count - 1, 0, 1]])
