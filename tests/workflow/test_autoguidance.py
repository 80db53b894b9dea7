"""A teacher that is guided by a weak one: the arm that names it waits for it, is stale with it, and learns from it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.flow_coordinates import average, col, flow_time, jvp, velocity_of_flow
from trigbench.core.condition import Condition
from trigbench.core.objectives import OBJECTIVES, hashed
from trigbench.core.two_angles import TwoAngles, two_angles
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import make_modules, make_network, step_function, student_field
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.task import opened, with_teachers
from trigbench.workflow.run.training import train
from trigbench.workflow.study import fingerprint
from trigbench.workflow.study.freshness import inputs_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

AYF = Run(arm="ayf", seed=0)
ARMS: dict[str, Any] = {
    "teacher": {"objective": "diffusion"},
    "weak": {"objective": "diffusion", "size": "smaller", "iterations": 3},
    "ayf": {
        "objective": "ayf", "teacher": "teacher", "weak_teacher": "weak", "guidance_max": 3.0, "samplers": ["told"],
        "direction_control": "none",
    },
}  # fmt: skip


@pytest.fixture
def weakly(tiny: dict) -> dict:
    """A study whose ayf arm has an autoguided teacher."""
    tiny["arms"] = {name: dict(arm) for name, arm in ARMS.items()}
    tiny["sizes"]["smaller"] = {"width": 8, "blocks": 1}
    tiny["samplers"] = {"told": {"solver": "jumps", "times": [[], [1.1]], "guidance": [1.0, 2.0]}}
    tiny["defaults"]["iterations"] = 5
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["ayf"]}}
    return tiny


def _gradient_of_published(study: Study, student: torch.nn.Module, guidance: bool) -> list[Tensor]:
    """Of AYF-EMD's loss in the flow's coordinates, at r = 0.99; v is the teacher's, with guidance
    lambda v_teacher + (1 - lambda) v_weak."""
    batch = draw_batch(opened(study, AYF), step=2)
    scale = batch.condition.scale
    assert scale is not None and bool(((scale > 1) & (scale < 3)).all())
    t, u = two_angles(batch.draws, TwoAngles(study.sigma_d), law="gap")
    tau, rho = (flow_time(time).float() for time in (t, u))
    flowing = (1 - col(tau)) * batch.x0 + col(tau) * batch.draws.noise

    def velocity(arm: str) -> Tensor:
        task = opened(study, Run(arm=arm, seed=0))
        field = student_field(task, make_network(task), read_tensors(task.files.weights, ""))
        return velocity_of_flow(field)(flowing, tau).detach()

    v = velocity("teacher")
    if guidance:
        v = col(scale) * v + col(1 - scale) * velocity("weak")
    of = average(lambda u: lambda x, t: student(x, t, Condition(scale=scale, target_time=u)))
    now, rate = jvp(of, (flowing, tau, rho), (v, torch.ones_like(tau), torch.zeros_like(tau)))
    g = (now - v + 0.99 * col(tau - rho) * rate).detach()
    loss = (now - now.detach() + g).square().mean()
    return list(torch.autograd.grad(loss, list(student.parameters()), materialize_grads=True, allow_unused=True))


@pytest.mark.slow
def test_a_weak_teacher_enters_the_loss_as_the_published_mixture(
    weakly: dict, with_data: Callable[[dict], Study]
) -> None:
    study = with_data(weakly)
    for arm in study.arms:
        train(study, Run(arm=arm, seed=0))
    task, network = opened(study, AYF), make_network(opened(study, AYF))
    learned = read_tensors(study.files(AYF).weights, "")
    assert any(not torch.equal(learned[name], p) for name, p in network.named_parameters())

    def gradient(weak: bool) -> list[Tensor]:
        arm = task.arm if weak else task.arm.model_copy(update={"weak_teacher": None})
        modules = make_modules(task, start=learned)
        loss = step_function(with_teachers(replace(task, arm=arm)), modules)(2, {}).loss
        found = torch.autograd.grad(loss, list(modules.student.parameters()), materialize_grads=True, allow_unused=True)
        published = _gradient_of_published(study, modules.student, weak)
        for ours, theirs in zip(found, published, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()) + 1e-7)
        return list(found)

    guided, alone = gradient(weak=True), gradient(weak=False)
    assert max(float((one - other).abs().max()) for one, other in zip(guided, alone, strict=True)) > 1e-3


def test_a_run_waits_for_the_weak_teacher_and_is_stale_with_that(
    weakly: dict, write_study: Callable[[dict], Path]
) -> None:
    study, weak = load(write_study(weakly)), Run(arm="weak", seed=0)
    assert weak in study.runs_before(AYF) and weak in study.runs() and study.generation(AYF) == 1
    assert inputs_of(study, AYF)["weak_teacher"] == [study.files(weak).weights]
    said = study.training_specification(AYF)
    assert said["weak_teacher"] == study.training_specification(weak)
    assert "weak_teacher" not in said["arm"], "whatever it is called"
    weakly["arms"]["weak"]["rate"] = 2e-3
    assert load(write_study(weakly)).training_specification(AYF) != said
    assert said["weak_teacher"] in fingerprint._with_those_before(said), "whose modules are hashed, too"
    del weakly["arms"]["ayf"]["weak_teacher"], weakly["arms"]["ayf"]["guidance_max"], weakly["arms"]["ayf"]["samplers"]
    assert "weak_teacher" not in load(write_study(weakly)).training_specification(AYF), "as before there was such a key"


def test_what_is_hashed_of_a_method_is_the_same_without_a_key_that_it_takes_now() -> None:
    method = OBJECTIVES["ayf"]
    before = replace(method, accepts=tuple(key for key in method.accepts if key != "weak_teacher"))
    assert before != method and hashed(before) == hashed(method)


def _other_data(study: dict) -> None:
    study["data"]["other"] = study["data"]["mixture"] | {"components": 3}
    study["arms"]["weak"]["data"] = "other"


REFUSED: dict[str, tuple[Callable[[dict], object], str]] = {
    "an arm that is not there": (
        lambda study: study["arms"]["ayf"].update(weak_teacher="none"),
        r"no arm 'none'(.|\n)*arms.ayf.weak_teacher(.|\n)*one of: teacher, weak, ayf",
    ),
    "other data": (_other_data, r"must be a diffusion arm on data 'mixture'(.|\n)*arms.ayf.weak_teacher"),
    "no velocity": (
        lambda study: study["arms"]["weak"].update(objective="sct"), r"must be a diffusion arm(.|\n)*such an arm"
    ),
    "the teacher itself": (
        lambda study: study["arms"]["ayf"].update(weak_teacher="teacher"), r"the teacher itself(.|\n)*smaller"
    ),
    "no scale to guide at": (
        lambda study: study["arms"]["ayf"].update(guidance_max=None, samplers=[]),
        r"at the scales of 'guidance_max'(.|\n)*guidance_max: 3",
    ),
    "a sampler without a scale": (
        lambda study: study["arms"]["ayf"].update(samplers=["jumps"]), r"told its guidance scale(.|\n)*its 'guidance'"
    ),
    "a method that takes none": (
        lambda study: study["arms"].update(lsd={"objective": "lsd", "weak_teacher": "weak"}),
        r"'lsd' takes no 'weak_teacher'(.|\n)*remove 'weak_teacher'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_guide_is_refused(what: str, weakly: dict, write_study: Callable[[dict], Path]) -> None:
    change, expected = REFUSED[what]
    change(weakly)
    with pytest.raises(BenchError, match=expected):
        load(write_study(weakly))


def test_an_exact_velocity_may_be_guided_by_a_weak_model_and_by_nothing_else(
    weakly: dict, write_study: Callable[[dict], Path]
) -> None:
    weakly["arms"]["ayf"]["teacher"] = "exact"
    assert load(write_study(weakly)).arms["ayf"].weak_teacher == "weak"
    del weakly["arms"]["ayf"]["weak_teacher"]
    with pytest.raises(BenchError, match="no labels to be guided by"):
        load(write_study(weakly))
