"""Students that are guided while they are trained: in the shell, and what of them is refused in reading."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trigbench.core.condition import Condition
from trigbench.core.fields import Draws, Fields, OwnGuidance, bind
from trigbench.core.guidance import guided
from trigbench.core.objectives.meanflow import imf, meanflow
from trigbench.core.objectives.progressive import pd
from trigbench.core.objectives.regression import settings_for
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.assembly import make_modules, make_network, step_function, teacher_of
from trigbench.workflow.run.batches import Batch
from trigbench.workflow.run.counts import key_of, sampling_evaluations
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run

ROWS, CLASSES = 12, 10


@pytest.fixture
def labelled(tiny: dict) -> dict:
    """A study of labelled data, which are not there."""
    tiny["data"] = {"digits": {"kind": "digits"}}
    tiny["defaults"]["data"] = "digits"
    tiny["evaluation"] = {"samples": 80}
    tiny["samplers"] = {"told": {"solver": "jumps", "times": [[]], "guidance": [1.0, 2.0]}}
    tiny["arms"] = {
        "meanflow": {"objective": "meanflow", "omega": 0.5, "kappa": 0.75, "label_dropout": 0.1},
        "imf": {"objective": "imf", "guidance_max": 4.0, "label_dropout": 0.1, "samplers": ["told"]},
    }
    metric = {"metric": "training_direction_norm", "figure": "training"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]} | metric}
    return tiny


def task_of(content: dict, write_study: Callable[[dict], Path], arm: str) -> Task:
    study = load(write_study(content))
    data: Any = SimpleNamespace(
        shape=(1, 8, 8),
        classes=CLASSES,
        velocity=None,
        shares=np.full(CLASSES, 1 / CLASSES),
        observed=None,
        observed_shape=None,
    )
    return Task(study, Run(arm=arm, seed=0), study.arms[arm], data)


def moved(network: torch.nn.Module) -> None:
    """No output is 0 any more, and labels, scales and target times count."""
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=g), alpha=0.3)


def batch_of(scaled: bool) -> Batch:
    """Some rows of a batch, of which every third has lost its label."""
    g = torch.Generator().manual_seed(1)
    x0, noise = torch.randn(2, ROWS, 1, 8, 8, generator=g)
    uniform, lower, middle = torch.rand(3, ROWS, generator=g, dtype=torch.float64)
    label = torch.where(torch.arange(ROWS) % 3 == 0, CLASSES, torch.arange(ROWS) % CLASSES)
    scale = 1 + 3 * torch.rand(ROWS, generator=g) if scaled else None
    keys = torch.zeros(ROWS, dtype=torch.int32)
    return Batch(0, x0, Condition(label, scale), keys, Draws(uniform, noise, lower=lower, middle=middle))


@pytest.mark.parametrize(("name", "objective"), [("meanflow", meanflow), ("imf", imf)])
def test_a_student_is_guided_by_what_it_is_without_a_label(
    name: str, objective: Callable, labelled: dict, write_study: Callable[[dict], Path]
) -> None:
    task = task_of(labelled, write_study, name)
    modules, batch = make_modules(task, None), batch_of(scaled=name == "imf")
    moved(modules.student)
    label, scale = batch.condition.label, batch.condition.scale
    assert label is not None

    def told(label: Tensor, scale: Tensor | None) -> Callable:
        return lambda u: lambda x, t: modules.student(x, t.float(), Condition(label, scale, u))

    none = told(torch.full_like(label, CLASSES), None if scale is None else torch.ones(ROWS))
    own = OwnGuidance(none, torch.arange(ROWS) % 3 != 0, scale)
    fields = Fields(told(label, scale)(0 * batch.draws.uniform), student_to=told(label, scale), own_guidance=own)
    settings = settings_for(objective, sigma_d=task.study.sigma_d, **task.arm.settings)
    by_hand = objective(fields, batch.x0, batch.draws, settings)
    ours = step_function(task, modules)(1, {}, batch)
    torch.testing.assert_close(ours.loss, by_hand.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.direction_norm, by_hand.direction_norm, rtol=1e-5, atol=0)
    off = {"own_guidance": dataclasses.replace(own, labelled=torch.zeros(ROWS, dtype=torch.bool))}
    alone = objective(dataclasses.replace(fields, **off), batch.x0, batch.draws, settings)
    assert torch.equal(alone.direction_norm != by_hand.direction_norm, own.labelled)


@pytest.mark.parametrize(("name", "scales"), [("meanflow", [None, None]), ("imf", [1.0, 2.0]), ("pd-2", [1.0, 2.0])])
def test_its_samples_are_guided_in_one_evaluation_a_step(
    name: str, scales: list[float | None], request: pytest.FixtureRequest, write_study: Callable, monkeypatch
) -> None:
    content = request.getfixturevalue("staged" if name == "pd-2" else "labelled")
    task = task_of(content, write_study, name)
    modules, ways = make_modules(task, None), task.study.samplings(name)
    moved(modules.student)
    assert [way.guidance for way in ways] == scales
    told: list[Condition] = []
    real = type(modules.student).forward

    def forward(self: Any, x: Tensor, t: Tensor, c: Condition) -> Tensor:
        told.append(c)
        return real(self, x, t, c)

    monkeypatch.setattr(type(modules.student), "forward", forward)
    drawn = draw_samples(task, dict(modules.student.named_parameters()), ways, 6)
    assert len(told) == sum(way.steps for way in ways)
    assert [sampling_evaluations(way, task.arm.told) for way in ways] == [way.steps for way in ways]
    assert all(c.label is not None and bool((c.label < CLASSES).all()) for c in told)
    assert [None if c.scale is None else float(c.scale[0]) for c in told] == [
        way.guidance for way in ways for _ in range(way.steps)
    ]
    one, other = (drawn[way.key] for way in ways)
    assert not torch.equal(one, other)


# --- progressive distillation (arXiv 2210.03142) -----------------------------------------------------


@pytest.fixture
def staged(labelled: dict) -> dict:
    """Its first stage, which is what its teacher is at every scale, and one that halves its steps."""
    labelled["samplers"] = {"told": {"solver": "ddim_even", "guidance": [1.0, 2.0]}}
    guided = {"objective": "pd", "guidance_max": 4.0, "start": "teacher", "samplers": ["told"]}
    labelled["arms"] = {
        "teacher": {"objective": "diffusion", "label_dropout": 0.1},
        "pd-4": {**guided, "segments": 4, "teacher": "teacher", "teacher_steps": 1},
        "pd-2": {**guided, "segments": 2, "teacher": "pd-4"},
    }
    return labelled


def weights_of(task: Task) -> Tensors:
    network = make_network(task)
    moved(network)
    return {name: p.detach() for name, p in network.named_parameters()}


def test_a_stage_is_taught_by_the_one_before_at_its_own_scale_and_the_first_by_what_guides_itself(
    staged: dict, write_study: Callable[[dict], Path]
) -> None:
    told = batch_of(scaled=True)
    x, t, condition = told.x0, told.draws.uniform, told.condition
    assert condition.label is not None and condition.scale is not None
    last, first = (task_of(staged, write_study, arm) for arm in ("pd-2", "pd-4"))
    before, teacher = first, first.of_arm("teacher")
    taught = teacher_of(dataclasses.replace(last, teacher=weights_of(before)))(condition)
    assert taught is not None
    network = bind(make_network(before), weights_of(before), condition)
    assert torch.equal(taught(x, t), network(x, t))

    diffusion = weights_of(teacher)
    taught = teacher_of(dataclasses.replace(first, teacher=diffusion))(condition)
    assert taught is not None
    cond, none = (bind(make_network(teacher), diffusion, Condition(label)) for label in (condition.label, None))
    scale = condition.scale[:, None, None, None]
    torch.testing.assert_close(taught(x, t), none(x, t) + scale * (cond(x, t) - none(x, t)))
    modules, target = make_modules(first, start=diffusion), guided(cond, none, condition.scale)
    by_hand = pd(
        Fields(bind(modules.student, condition=condition), target), x, told.draws,
        settings_for(pd, segments=segment_edges(first.arm, 0.5)[:-1], sigma_d=0.5, teacher_steps=1),
    )  # fmt: skip
    ours = step_function(dataclasses.replace(first, teacher=diffusion), modules)(1, {}, told)
    torch.testing.assert_close(ours.loss, by_hand.loss, rtol=1e-5, atol=0)


def _without(arm: str, *keys: str) -> Callable[[dict], object]:
    return lambda arms: [arms[arm].pop(key) for key in keys]


REFUSED: dict[str, tuple[Callable[[dict], object], str]] = {
    "guided twice": (
        lambda arms: arms["meanflow"].update(samplers=["told"]),
        r"it would be guided twice(.|\n)*arms.meanflow.samplers(.|\n)*without 'guidance'",
    ),
    "a scale that is not told": (
        lambda arms: arms["imf"].update(samplers=["jumps"]), r"told its guidance scale(.|\n)*its 'guidance'"
    ),
    "beyond what is learned": (
        lambda arms: arms["imf"].update(guidance_max=1.5), r"guides beyond the arm's 'guidance_max'"
    ),
    "no labels withheld": (
        _without("meanflow", "label_dropout"), r"does not learn(.|\n)*arms.meanflow.omega(.|\n)*label_dropout: 0.1"
    ),
    "no labels withheld from imf": (_without("imf", "label_dropout"), r"does not learn(.|\n)*arms.imf.guidance_max"),
    "labels withheld for nothing": (
        _without("meanflow", "omega", "kappa"),
        r"the arm has none(.|\n)*arms.meanflow.label_dropout(.|\n)*omega or kappa",
    ),
    "an interval of nothing": (
        lambda arms: arms.update(imf={"objective": "imf", "guided_to": 0.5}),
        r"the arm has none(.|\n)*arms.imf.guided_to(.|\n)*add guidance_max",
    ),
    "an interval that ends before it begins": (
        lambda arms: arms["imf"].update(guided_from=0.8, guided_to=0.2),
        r"0.8 is not below 0.2(.|\n)*arms.imf.guided_from",
    ),
    "a scale of 1": (
        lambda arms: arms["meanflow"].update(omega=1.0, kappa=0.0),
        r"omega 1 and kappa 0 are the scale (.*) = 1, which does not guide(.|\n)*arms.meanflow.omega",
    ),
    "a scale of 1 in two numbers": (lambda arms: arms["meanflow"].update(omega=0.1, kappa=0.9), r"= 1, which does not"),
    "a scale below 1": (
        lambda arms: [arms["meanflow"].pop("kappa"), arms["meanflow"].update(omega=0.5)],
        r"omega 0.5 and kappa 0 are the scale (.*) = 0.5, which(.|\n)*arms.meanflow.omega(.|\n)*a scale above 1",
    ),
    "kappa of 1": (lambda arms: arms["meanflow"].update(kappa=1.0), r"kappa: 1.0 is no value of it(.|\n)*0.99 at most"),
    "one scale of imf": (lambda arms: arms["imf"].update(omega=2.0), r"takes no 'omega'|no such key"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_wrong_in_silence_is_refused(
    what: str, labelled: dict, write_study: Callable[[dict], Path]
) -> None:
    assert load(write_study(copy.deepcopy(labelled)))
    change, expected = REFUSED[what]
    change(labelled["arms"])
    with pytest.raises(BenchError, match=expected):
        load(write_study(labelled))


def test_what_was_counted_for_an_arm_is_no_other_s_by_any_of_its_own_settings(
    labelled: dict, write_study: Callable[[dict], Path]
) -> None:
    keys = set[str]()
    for more in ({}, {"kappa": 0.8}, {"omega": 0.7}, {"guided_to": 0.9}, {"direction_power": 0.5}):
        content = copy.deepcopy(labelled)
        content["arms"]["meanflow"].update(more)
        keys.add(key_of(task_of(content, write_study, "meanflow")))
    assert len(keys) == 5


def test_arms_without_guidance_are_what_they_were(labelled: dict, write_study: Callable[[dict], Path]) -> None:
    labelled["arms"] = {"meanflow": {"objective": "meanflow"}, "imf": {"objective": "imf"}}
    study = load(write_study(labelled))
    new = {"label_dropout", "guidance_max", "omega", "kappa", "guided_from", "guided_to", "settings", "weak_teacher"}
    for name in study.arms:
        assert not new & study.training_specification(Run(arm=name, seed=0))["arm"].keys()


REFUSED_STAGES: dict[str, tuple[Callable[[dict], object], str]] = {
    "a scale that the teacher is not told": (
        lambda arms: [arms["pd-4"].pop(key) for key in ("guidance_max", "samplers")],
        r"'pd-4' is told no scale, and this arm is to 4(.|\n)*arms.pd-2.guidance_max(.|\n)*give 'pd-4' its",
    ),
    "a teacher's scale that is not told": (
        lambda arms: [arms["pd-2"].pop(key) for key in ("guidance_max", "samplers")],
        r"has none to tell it(.|\n)*guidance_max: 4",
    ),
    "beyond what the teacher learned": (
        lambda arms: arms["pd-2"].update(guidance_max=5.0),
        r"told scales to 4, and this arm is to 5(.|\n)*write 4 or less",
    ),
    "a teacher that cannot guide itself": (
        _without("teacher", "label_dropout"), r"'teacher' cannot guide itself(.|\n)*label_dropout"
    ),
    "what a stage before is": (
        lambda arms: arms["pd-2"].update(teacher_steps=1), r"'pd-4' must be a diffusion arm on data"
    ),
    "three steps in one": (lambda arms: arms["pd-4"].update(teacher_steps=3), r"teacher_steps: 3 is no value of it"),
    "a sampler that does not tell": (
        lambda arms: arms["pd-2"].update(samplers=["ddim_even"]), r"told its guidance scale"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED_STAGES)
def test_a_stage_that_would_be_taught_another_scale_is_refused(
    what: str, staged: dict, write_study: Callable[[dict], Path]
) -> None:
    assert load(write_study(copy.deepcopy(staged)))
    change, expected = REFUSED_STAGES[what]
    change(staged["arms"])
    with pytest.raises(BenchError, match=expected):
        load(write_study(staged))
