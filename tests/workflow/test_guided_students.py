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
from trigbench.core.fields import Draws, Fields, OwnGuidance
from trigbench.core.objectives.meanflow import imf, meanflow
from trigbench.core.objectives.regression import settings_for
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.assembly import make_modules, step_function
from trigbench.workflow.run.batches import Batch
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import Task
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
    data: Any = SimpleNamespace(shape=(1, 8, 8), classes=CLASSES, velocity=None, shares=np.full(CLASSES, 1 / CLASSES))
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


@pytest.mark.parametrize(("name", "scales"), [("meanflow", [None, None]), ("imf", [1.0, 2.0])])
def test_its_samples_are_guided_in_one_evaluation_a_step(
    name: str, scales: list[float | None], labelled: dict, write_study: Callable[[dict], Path], monkeypatch
) -> None:
    task = task_of(labelled, write_study, name)
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
    assert all(c.label is not None and bool((c.label < CLASSES).all()) for c in told)
    assert [None if c.scale is None else float(c.scale[0]) for c in told] == [
        way.guidance for way in ways for _ in range(way.steps)
    ]
    one, other = (drawn[way.key] for way in ways)
    assert not torch.equal(one, other)


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
        lambda arms: arms["meanflow"].update(omega=1.0, kappa=0.0), r"omega 1 and kappa 0 guide nothing"
    ),
    "kappa of 1": (lambda arms: arms["meanflow"].update(kappa=1.0), r"kappa: 1.0 is no value of it(.|\n)*0.99 at most"),
    "one scale of imf": (lambda arms: arms["imf"].update(omega=2.0), r"takes no 'omega'|unknown key|Extra inputs"),
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


def test_arms_without_guidance_are_what_they_were(labelled: dict, write_study: Callable[[dict], Path]) -> None:
    labelled["arms"] = {"meanflow": {"objective": "meanflow"}, "imf": {"objective": "imf"}}
    study = load(write_study(labelled))
    new = {"label_dropout", "guidance_max", "omega", "kappa", "guided_from", "guided_to", "settings", "weak_teacher"}
    for name in study.arms:
        assert not new & study.training_specification(Run(arm=name, seed=0))["arm"].keys()
