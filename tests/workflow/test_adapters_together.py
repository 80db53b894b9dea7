"""What two adapters do together, against a computation by hand, and which arms it is measured of."""

import dataclasses
import math
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trigbench.core.low_rank import adapted_weights, merged, new_adapter
from trigbench.core.schedules import largest_angle
from trigbench.core.trigflow import interpolate
from trigbench.workflow.data.kinds.digits.kind import DigitsData
from trigbench.workflow.data.kinds.digits.making import bold
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.measurements import adapters
from trigbench.workflow.run.measurements.measured import Measured
from trigbench.workflow.run.noise import noise_of_rows
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.study import Run, Study


class TwoLayers(nn.Module):
    """Linear in each of two matrices: two adapters a and b leave (A2 B1 + B2 A1) z of their product, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        return self.out(self.hidden(torch.cat([x, t[:, None].to(x.dtype)], dim=1)))


ARMS = {
    "base": {"objective": "diffusion", "iterations": 2},
    "style": {"objective": "diffusion", "data": "other", "start": "base", "adapter": {"rank": 2}},
    "fast": {"objective": "lcm", "teacher": "base", "start": "teacher", "adapter": {"rank": 3}},
}


@pytest.fixture
def together(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """The study of both arms, with settings of its arms changed as asked."""

    def make(**changed: dict) -> Study:
        tiny["sizes"] = {"small": {"network": f"{__name__}:TwoLayers"}}
        tiny["data"]["other"] = tiny["data"]["mixture"]
        arms = {name: {**arm, **changed.get(name, {})} for name, arm in ARMS.items()}
        tiny["arms"] = {name: {k: v for k, v in arm.items() if v is not None} for name, arm in arms.items()}
        experiment = tiny["experiments"]["training"] | {"arms": ["style", "fast"], "measurement": "adapters"}
        tiny["experiments"] = {"training": experiment | {"metric": "sliced_wasserstein", "figure": "steps"}}
        return with_data(tiny)

    return make


def run(arm: str) -> Run:
    return Run(arm=arm, seed=0)


@pytest.fixture
def measured(together) -> tuple[Study, Measured, dict[str, dict[str, Tensor]]]:
    """Of adapters that are drawn, on weights that were trained for two steps; with all of these."""
    study = together()
    for suffix in (".npz", ".json"):
        shutil.copy(study.data_file("mixture").with_suffix(suffix), study.data_file("other").with_suffix(suffix))
    train(study, run("base"))
    made = {"base": read_tensors(study.files(run("base")).weights, "")}
    for arm, rank in (("style", 2), ("fast", 3)):
        g = generator(rank, "test")
        parts = new_adapter(adapted_weights(make_network(opened(study, run(arm)))), rank, g)
        made[arm] = {name: torch.randn(part.shape, generator=g) for name, part in parts.items()}
        study.files(run(arm)).folder.mkdir(parents=True)
        write_tensors(study.files(run(arm)).adapter, made[arm])
    return study, adapters.measure(study, "training"), made


def test_the_interaction_is_that_of_a_computation_by_hand(measured) -> None:
    study, found, made = measured
    assert {row.value.metric for row in (*found.runs, *found.curves)} == {
        *MEASUREMENTS["adapters"].measures,
        "sliced_wasserstein",
    }
    g = generator(study.evaluation.seed, "adapters")
    x0 = opened(study, run("fast")).data.draw(g, adapters.POINTS)[0].double()
    noise = torch.randn(x0.shape, generator=g).double()

    def product(arm: str, layer: str) -> Tensor:
        return (made[arm][f"{layer}.weight.up"] @ made[arm][f"{layer}.weight.down"]).double()

    (a1, a2), (b1, b2) = ([product(arm, layer) for layer in ("hidden", "out")] for arm in ("style", "fast"))
    w1, w2, bias = (made["base"][name].double() for name in ("hidden.weight", "out.weight", "hidden.bias"))

    def numbers(angles: tuple[float, ...], style: float, fast: float) -> list[float]:
        """Root mean squares over points at these angles: of what is left over, and of both changes."""
        gaps: list[list[Tensor]] = [[], [], []]
        for angle in angles:
            t = torch.full((adapters.POINTS,), angle, dtype=torch.float64)
            z = torch.cat([interpolate(x0, noise, t), t[:, None]], dim=1)
            gaps[0].append(style * fast * z @ (a2 @ b1 + b2 @ a1).T)
            for up, (one, two) in ((style, (a1, a2)), (fast, (b1, b2))):
                gaps[1 + (one is b1)].append(up * ((z @ w1.T + bias) @ two.T + z @ one.T @ (w2 + up * two).T))
        return [math.sqrt(float(torch.cat(gap).square().mean())) for gap in gaps]

    left, *changes = numbers(adapters.ANGLES, 0.8, 1.0)
    values = {row.value.metric: row.value.value for row in found.runs if row.value.steps is None}
    assert values["interaction"] == pytest.approx(left / min(changes), rel=1e-4)
    assert values["interaction_order"] == pytest.approx(2, abs=1e-3)
    curves = {(row.value.metric, row.value.x): row.value.value for row in found.curves}
    for angle in adapters.ANGLES:
        left, *changes = numbers((angle,), 0.8, 1.0)
        assert curves["interaction_at", angle] == pytest.approx(left / min(changes), rel=1e-4)
    for scale in adapters.SCALES:
        assert curves["interaction_size", scale] == pytest.approx(numbers(adapters.ANGLES, scale, scale)[0], rel=1e-4)


def test_samples_of_the_sum_are_those_of_its_weights_judged_against_the_style(measured) -> None:
    study, found, made = measured
    task = opened(study, run("style"))
    judged = {
        (row.value.sampler, row.value.steps): row for row in found.runs if row.value.metric == "sliced_wasserstein"
    }
    assert judged.keys() == {(name, steps) for name in MEASUREMENTS["adapters"].samples for steps in (1, 2)}
    assert all((row.arm, row.seed) == ("style", 0) for row in judged.values())
    noise = noise_of_rows(study.evaluation.seed, range(study.evaluation.samples), 2, task.data)[0]
    t = torch.full((len(noise),), largest_angle(study.sigma_d), dtype=torch.float64)
    network = make_network(task)
    for name, scale in (("sum", 0.8), ("acceleration", 0.0)):
        weights = merged(made["base"], (made["style"], scale), (made["fast"], 1.0))
        network.load_state_dict(weights)
        with torch.no_grad():
            x = torch.sin(t[:, None]).float() * noise
            samples = (t.cos()[:, None] * x - t.sin()[:, None] * network(x, t)).float()
        value = kind_module(study.data["other"]).judge_samples(task.data, samples)["sliced_wasserstein"]
        assert judged[name, 1].value.value == pytest.approx(value, rel=1e-4)


@pytest.mark.slow
def test_an_adapter_that_is_not_there_or_of_no_numbers_has_no_rows(measured) -> None:
    study, _, made = measured
    broken = {name: torch.full_like(part, math.nan) for name, part in made["fast"].items()}
    write_tensors(study.files(run("fast")).adapter, broken)
    assert adapters.measure(study, "training") == Measured()
    study.files(run("fast")).adapter.unlink()
    assert adapters.measure(study, "training") == Measured()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"style": {"adapter": None, "data": None}},
            "of its arms with an 'adapter' 0 are diffusion models and 1 are maps",
        ),
        (
            {"fast": {"objective": "diffusion", "teacher": None, "start": "base"}},
            "2 are diffusion models and 0 are maps",
        ),
        (
            {"fast": {"start": "style", "data": "other", "teacher": "style"}},
            "'style' starts from 'base', 'fast' from 'style'",
        ),
        ({"fast": {"objective": "ms_scd", "segments": 2}}, "a network is told its target_time"),
    ],
)
def test_other_arms_are_refused_in_reading(together, changed: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        together(**changed)
    assert caught.value.said["key"] == "experiments.training.measurement" and caught.value.said["remedy"]


def test_arms_are_refused_by_name_where_a_study_was_changed_after_it_was_read(together) -> None:
    study = together()
    arms = {name: arm.model_copy(update={"adapter": None}) for name, arm in study.arms.items()}
    with pytest.raises(BenchError, match="'adapters' adds a style's adapter and an acceleration's"):
        adapters.measure(study.model_copy(update={"arms": arms}), "training")
    assert dataclasses.is_dataclass(Measured)


def test_bold_digits_have_wider_strokes_and_digits_as_they_are_say_nothing_of_a_style() -> None:
    image = np.array([[0, 5, 0, 0], [9, 1, 0, 2]], np.float32).reshape(1, 1, 2, 4)
    assert bold(image).reshape(2, 4).tolist() == [[0, 5, 5, 0], [9, 9, 1, 2]]
    assert DigitsData(kind="digits").model_dump() == {"kind": "digits", "held_out": 0.2, "seed": 0}
    assert DigitsData(kind="digits", style="bold").model_dump()["style"] == "bold"
