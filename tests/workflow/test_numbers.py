"""What decides whether a number of a run is the one that it says: precision, ranges, and the paper's noise."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trigbench.core.condition import UNTOLD
from trigbench.core.constants import SIGMA_MAX, SIGMA_MIN
from trigbench.core.fields import bind
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives.discrete import discrete_direction
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.trigflow import interpolate, velocity
from trigbench.workflow.data.kinds.mixture import making as mixture
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import devices
from trigbench.workflow.run import sampling, training
from trigbench.workflow.run.assembly import boundary_of, make_modules, make_network, student_field
from trigbench.workflow.run.measurements import costs
from trigbench.workflow.run.measuring import measure
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import Sampler
from trigbench.workflow.study.study import Run

X = Run(arm="x", seed=0)
CPU = torch.device("cpu")


# --- what float32 means -----------------------------------------------------------------------------


def flags() -> dict[str, Any]:
    """Every way in which torch says how float32's products are made."""
    backends: Any = torch.backends
    parts = {"matmul": backends.cuda.matmul, "conv": backends.cudnn.conv, "rnn": backends.cudnn.rnn}
    parts |= {f"cpu {name}": getattr(backends.mkldnn, name) for name in ("matmul", "conv", "rnn")}
    old = {"old matmul": backends.cuda.matmul.allow_tf32, "old conv": backends.cudnn.allow_tf32}
    return {name: part.fp32_precision for name, part in parts.items()} | old


EXACT = dict.fromkeys(("matmul", "conv", "rnn", "cpu matmul", "cpu conv", "cpu rnn"), "ieee") | {
    "old matmul": False, "old conv": False,
}  # fmt: skip
ROUNDED = EXACT | dict.fromkeys(("matmul", "conv", "rnn"), "tf32") | {"old matmul": True, "old conv": True}


def somebody_s_settings() -> None:
    """As many training scripts begin."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize("asked", ["device_of", "best_device", "exact_products"])
def test_float32_is_float32_on_every_device_whatever_the_user_had_set(asked: str, one_arm) -> None:
    study = one_arm("scd")
    somebody_s_settings()
    getattr(devices, asked)(*([study.device] if asked == "device_of" else []))
    assert flags() == EXACT


class Watching(nn.Module):
    """Somebody's own network that turns TF32 on, and writes down what it is computed with."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        somebody_s_settings()
        self.lift = nn.Linear(math.prod(shape), math.prod(shape))

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        Watching.seen.append(flags())
        return self.lift(x)


def test_data_are_prepared_and_experiments_measured_in_float32(one_arm, monkeypatch) -> None:
    study = one_arm("scd")
    measured = study.experiments["training"].model_copy(update={"measurement": "costs"})
    study, seen = study.model_copy(update={"experiments": {"training": measured}}), list[dict[str, Any]]()

    def look(*about: object) -> None:
        seen.append(flags())
        raise InterruptedError

    monkeypatch.setattr(mixture, "prepare", look)
    monkeypatch.setattr(costs, "measure", look)
    monkeypatch.setattr("trigbench.workflow.run.measuring.measured_from", lambda *about: "")
    for step, name in ((prepare, "mixture"), (measure, "training")):
        somebody_s_settings()
        with pytest.raises(InterruptedError):
            step(study, name)
    assert seen == [EXACT, EXACT]


@pytest.mark.parametrize("tf32", [False, True])
def test_a_training_step_is_computed_in_tf32_only_where_the_arm_says_so_and_all_else_never(
    tf32: bool, tiny, with_data, monkeypatch
) -> None:
    tiny["sizes"]["own"] = {"network": f"{__name__}:Watching"}
    tiny["arms"] = {"x": {"objective": "scd", "size": "own", "iterations": 2, "teacher": "exact", "tf32": tf32}}
    tiny["experiments"]["training"]["arms"] = ["x"]
    study = with_data(tiny)
    Watching.seen.clear()
    outcome = training.train(study, X)
    assert outcome.step == 2 and Watching.seen and all(seen == (ROUNDED if tf32 else EXACT) for seen in Watching.seen)
    assert flags() == EXACT
    Watching.seen.clear()
    task = opened(study, X)
    weights: dict[str, Tensor] = dict(make_network(task).named_parameters())
    draw_samples(task, weights, study.samplings("x"), 3)
    assert Watching.seen and all(seen == EXACT for seen in Watching.seen)


def test_tf32_is_part_of_what_a_run_is_only_where_it_is_set(one_arm) -> None:
    plain, said, rounded = (
        one_arm("scd", **settings).specification(X) for settings in ({}, {"tf32": False}, {"tf32": True})
    )
    assert plain == said and "tf32" not in plain["arm"]
    assert rounded["arm"]["tf32"] is True and fingerprint(rounded) != fingerprint(plain)


@pytest.mark.parametrize(("tf32", "override"), [(False, "1"), (True, "0")])
def test_an_environment_that_overrides_tf32_is_refused_on_a_gpu(tf32: bool, override: str, monkeypatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    with pytest.raises(BenchError, match=r"(?s)NVIDIA_TF32_OVERRIDE=.*remedy: unset"):
        devices.products(torch.device("cuda"), tf32).__enter__()
    with devices.products(CPU, tf32):
        assert flags() == (ROUNDED if tf32 else EXACT)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0" if override == "1" else "1")
    with devices.products(torch.device("cuda"), tf32):
        pass


class Rounding(torch.overrides.TorchFunctionMode):
    """Matrix products whose inputs have the 10 bits of TF32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.linear:
            args = [a if a is None else self.rounded(a) if i < 2 else a for i, a in enumerate(args)]
        return func(*args, **(kwargs or {}))

    @staticmethod
    def rounded(a: Tensor) -> Tensor:
        bits = a.view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def test_why_tf32_is_off_a_discrete_direction_at_1024_intervals_is_lost_in_it() -> None:
    """The difference of two outputs over an interval of 1e-3 keeps four digits in float32, one in TF32."""
    torch.manual_seed(0)
    net = ResidualMLP((32,), 64, 2)
    nn.init.normal_(net.project.weight, std=0.1)
    x0, z = torch.randn(2, 64, 32)
    t = torch.full((64,), 0.8, dtype=torch.float64)
    u = t - 1.5645 / 1024

    def direction(dtype: torch.dtype) -> Tensor:
        a, b = x0.to(dtype), z.to(dtype)
        with torch.no_grad():
            found = discrete_direction(bind(net.to(dtype)), interpolate(a, b, t), t, u, velocity(a, b, t)).g.double()
        net.float()
        return found

    exact, plain = direction(torch.float64), direction(torch.float32)
    with Rounding():
        rounded = direction(torch.float32)
    error = lambda g: float((g - exact).norm() / exact.norm())  # noqa: E731
    assert error(plain) < 1e-3
    assert error(rounded) > 0.05


# --- parameters, plans, noise -----------------------------------------------------------------------


class Narrow(nn.Module):
    """Somebody's own network in bfloat16."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.lift = nn.Linear(math.prod(shape), math.prod(shape), dtype=torch.bfloat16)

    def forward(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        return self.lift(x.bfloat16()).to(x.dtype)


def test_a_network_whose_parameters_are_narrower_than_float32_is_not_trained(tiny, with_data) -> None:
    """Its average stayed where it began, and so did most weights: a step of Adam is less than half their last bit."""
    tiny["sizes"]["own"] = {"network": f"{__name__}:Narrow"}
    tiny["arms"] = {"x": {"objective": "scd", "size": "own", "teacher": "exact"}}
    tiny["experiments"]["training"]["arms"] = ["x"]
    study = with_data(tiny)
    with pytest.raises(
        BenchError, match=r"(?s)lift\.weight is torch\.bfloat16.*key:    sizes\.own\.network.*precision: bf16"
    ):
        make_modules(opened(study, X), None)


def _refused(content: dict, write_study) -> str:
    with pytest.raises(BenchError) as caught:
        load(write_study(content))
    return str(caught.value)


def test_ict_with_fewer_iterations_than_levels_is_refused_in_the_plan_under_every_budget(tiny, write_study) -> None:
    tiny["arms"] = {"x": {"objective": "ict", "points": [10, 1280], "iterations": 8, "teacher": None}}
    tiny["experiments"]["training"]["arms"] = ["x"]
    tiny["budgets"] = {"short": {"override": {"iterations": 7}}}
    assert load(write_study(tiny)).arms["x"].iterations == 8
    with pytest.raises(BenchError, match=r"(?s)7 are fewer than the 8 levels from 10 to 1280.*arms\.x\.iterations"):
        load(write_study(tiny), "short")


@pytest.mark.parametrize(("objective", "points"), [("ict", [150, 2]), ("ct", [150, 2]), ("ct", [1, 150])])
def test_a_curriculum_that_shrinks_or_begins_without_an_interval_is_refused_in_the_plan(
    objective: str, points: list[int], tiny, write_study
) -> None:
    tiny["arms"] = {"x": {"objective": objective, "points": points, "teacher": None}}
    tiny["experiments"]["training"]["arms"] = ["x"]
    assert "arms.x.points" in _refused(tiny, write_study)


def _sampled(tiny: dict, objective: str, times: list[float], **more: Any) -> dict:
    tiny["samplers"] = {"own": {"solver": "few", "times": [times]}}
    tiny["arms"] = {"x": {"objective": objective, "samplers": ["own"], **more}}
    tiny["experiments"]["training"]["arms"] = ["x"]
    return tiny


@pytest.mark.parametrize("times", [[80.0, 0.8], [1.8], [math.nan], [-0.1], [1.569], [0.8, 0.8]])
def test_times_that_no_sampler_can_take_are_refused_in_the_plan(times: list[float], tiny, write_study) -> None:
    message = _refused(_sampled(tiny, "scd", times, teacher="exact"), write_study)
    assert "key:    samplers.own" in message
    assert times[0] != 80.0 or "arctan(sigma / sigma_d)" in message


def test_times_below_the_boundary_of_a_map_are_refused_in_the_plan(tiny, write_study) -> None:
    few = {"intervals": 4, "solver": "ddim", "teacher": "exact"}
    assert "0.001 is not between arms.x's last angle 0.004 and its first, 1.565" in _refused(
        _sampled(tiny, "cd", [0.001], **few), write_study
    )
    assert load(write_study(_sampled(tiny, "scd", [0.001], teacher="exact")))


@pytest.mark.parametrize("objective", ["cd", "ct", "ict", "ect", "scd"])
def test_samples_of_maps_with_cms_boundary_take_the_noise_of_cms_algorithm_and_no_others(
    objective: str, one_arm
) -> None:
    """The noise of the second step is sqrt(sigma^2 - sigma_min^2) z for these, and sigma z for maps down to 0."""
    study = one_arm(objective, **({"solver": "ddim"} if objective == "cd" else {}))
    arm = study.arms["x"].model_copy(update={"samplers": ("own",)})
    samplers = {"own": Sampler(solver="few", times=((0.005,),))}
    study = study.model_copy(update={"samplers": samplers, "arms": {"x": arm}})
    task = opened(study, X)
    network = make_network(task)
    weights: dict[str, Tensor] = dict(network.named_parameters())
    (way,) = study.samplings("x")
    noise = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = sampling.draw(task, network, weights, UNTOLD, noise, [], way)
        field = student_field(task, network, weights)
        times = [math.atan(SIGMA_MAX / study.sigma_d), 0.005]
        whole, lacking = (
            sample_consistency(field, noise, times, b) for b in (0.0, math.atan(SIGMA_MIN / study.sigma_d))
        )
    bounded = objective in ("cd", "ct", "ict")
    assert (boundary_of(arm, study.sigma_d) > 0) == bounded
    assert torch.equal(made, lacking if bounded else whole) and not torch.equal(lacking, whole)
