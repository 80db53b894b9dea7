"""Solvers of the ODE against the schedulers of the real diffusers, in float64 on their own timesteps."""

import importlib
import itertools
import math
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from trigbench.core.samplers.multistep import solve_dpm_solver_pp_3m, solve_unipc
from trigbench.core.samplers.ode import solve
from trigbench.core.samplers.singlestep import FIRST, SECOND, dpm_solver_3s_step
from trigbench.core.samplers.stochastic import solve_ddim_eta, solve_heun_churn

Field = Callable[[Tensor, Tensor], Tensor]
UPDATES = ("dpm_solver_first_order_update", "multistep_dpm_solver_second_order_update",
           "multistep_dpm_solver_third_order_update")  # fmt: skip


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """The package; where it is missing the tests are skipped, and fail in CI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module("diffusers")
            _ = (module.UniPCMultistepScheduler, module.DPMSolverMultistepScheduler, module.DDIMScheduler)
            _ = module.DPMSolverSinglestepScheduler  # imported when first named
            importlib.import_module("diffusers.schedulers.deprecated.scheduling_karras_ve")
        except ImportError:
            if os.environ.get("CI"):
                raise
            pytest.skip("diffusers is not installed")
    return module


def points(seed: int) -> Tensor:
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def started(kind: Any, steps: int, **settings: Any) -> tuple[Any, Tensor]:
    """A scheduler at its first timestep, in float64, and the angles of its timesteps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it, and NumPy, will drop
        scheduler = kind(prediction_type="v_prediction", **settings)
        scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    scheduler.sigmas = scheduler.sigmas.double()
    return scheduler, torch.atan(scheduler.sigmas)


def walked(scheduler: Any, field: Field, x: Tensor, angles: Tensor) -> Tensor:
    """F is v of a variance-preserving process, whose alpha and sigma are cos t and sin t."""
    for number, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(field(x, angles[number].expand(len(x))), timestep, x).prev_sample
    return x


@pytest.mark.one_in(3)
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("variant", "karras", "final"),
    [("bh1", False, "sigma_min"), ("bh2", False, "zero"), ("bh2", True, "zero")],  # its bh1 to zero is NaN
)
def test_unipc_is_that_of_diffusers(diffusers, tanh_net, steps, variant, karras, final):
    field, x = tanh_net(8), points(0)
    for order, corrector in itertools.product((1, 2, 3), (True, False)):
        scheduler, angles = started(
            diffusers.UniPCMultistepScheduler, steps, solver_order=order, solver_type=variant,
            disable_corrector=[] if corrector else [*range(steps)], use_karras_sigmas=karras, final_sigmas_type=final,
        )  # fmt: skip
        ours = solve_unipc(field, x, angles, order=order, variant=variant, corrector=corrector)
        torch.testing.assert_close(ours, walked(scheduler, field, x, angles), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [2, 8])
def test_unipc_of_full_order_to_the_end_is_that_of_diffusers(diffusers, tanh_net, steps):
    settings = {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"}
    scheduler, angles = started(diffusers.UniPCMultistepScheduler, steps, **settings)
    ours = solve_unipc(tanh_net(8), points(0), angles, order=3, lower_order_final=False)
    torch.testing.assert_close(ours, walked(scheduler, tanh_net(8), points(0), angles), rtol=1e-10, atol=1e-10)


def in_float64(scheduler: Any, at: dict[str, Tensor]) -> None:
    """Its updates begin from at["x"] and leave their result there: its step rounds both to float32."""

    def exactly(update: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def updated(outputs: Any, sample: Tensor, noise: Any = None) -> Tensor:
            torch.testing.assert_close(sample.double(), at["x"], rtol=1e-6, atol=1e-6)
            at["x"] = update(outputs, sample=at["x"], noise=noise)
            return at["x"]

        return updated

    for name in UPDATES:
        setattr(scheduler, name, exactly(getattr(scheduler, name)))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 14, 15, 20])
@pytest.mark.parametrize("final", [True, False])
def test_dpm_solver_pp_3m_is_that_of_diffusers(diffusers, tanh_net, steps, final):
    field, x = tanh_net(8), points(1)
    settings = {"solver_order": 3, "lower_order_final": final, "final_sigmas_type": "zero"}
    scheduler, angles = started(diffusers.DPMSolverMultistepScheduler, steps, **settings)
    at = {"x": x}
    in_float64(scheduler, at)
    for number, timestep in enumerate(scheduler.timesteps):
        scheduler.step(field(at["x"], angles[number].expand(len(x))), timestep, at["x"])
    ours = solve_dpm_solver_pp_3m(field, x, angles, lower_order_final=final)
    torch.testing.assert_close(ours, at["x"], rtol=1e-10, atol=1e-10)


def test_dpm_solver_3_is_that_of_diffusers(diffusers, tanh_net):
    """Its `heun` goes to the second point between and its `midpoint` from there: the paper's Alg. 2 has one of each."""
    field, x = tanh_net(8), points(2)
    edges = -torch.tensor([1.5, 0.8, 0.1], dtype=torch.float64).tan().log()
    inner = [edges[:-1] + ratio * edges.diff() for ratio in (0.0, FIRST, SECOND)]
    angles = torch.atan(torch.exp(-torch.cat([torch.stack(inner, 1).flatten(), edges[-1:]])))
    settings = {"solver_order": 3, "final_sigmas_type": "sigma_min", "lower_order_final": False}
    scheduler, _ = started(diffusers.DPMSolverSinglestepScheduler, 6, algorithm_type="dpmsolver", **settings)
    scheduler.sigmas = angles.tan()
    theirs = x
    for number, timestep in enumerate(scheduler.timesteps):
        scheduler.register_to_config(solver_type="heun" if number % 3 == 1 else "midpoint")
        theirs = scheduler.step(field(theirs, angles[number].expand(len(x))), timestep, theirs).prev_sample
    ours = solve(dpm_solver_3s_step, field, x, angles[::3])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_ddim_with_eta_is_that_of_diffusers(diffusers, tanh_net, eta, steps):
    field, x, noise = tanh_net(8), points(3), torch.stack([points(10 + step) for step in range(steps)])
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    squares = [*scheduler.alphas_cumprod[scheduler.timesteps], torch.tensor(1.0, dtype=torch.float64)]
    angles, theirs = torch.stack(squares).sqrt().acos(), x
    for number, timestep in enumerate(scheduler.timesteps):
        F = field(theirs, angles[number].expand(len(x)))
        theirs = scheduler.step(F, timestep, theirs, eta=eta, variance_noise=noise[number]).prev_sample
    torch.testing.assert_close(solve_ddim_eta(field, x, angles, noise, eta), theirs, rtol=1e-10, atol=1e-10)


def test_heun_with_churn_is_that_of_diffusers(diffusers, tanh_net, monkeypatch):
    sigma_d, net = 0.5, tanh_net(8)
    module: Any = importlib.import_module("diffusers.schedulers.deprecated.scheduling_karras_ve")
    monkeypatch.setattr(module, "randn_tensor", lambda shape, generator: generator)  # its own are float32
    scheduler = module.KarrasVeScheduler(s_churn=3, s_min=0.1, s_max=20, s_noise=1.007)
    scheduler.set_timesteps(6)
    sigmas = [40.0, 11.0, 3.0, 0.7, 0.12, 0.05, 0.0]

    def slope(x: Tensor, sigma: float) -> Tensor:
        """(D - x) / sigma, what its networks give, by F of data with the standard deviation sigma_d."""
        t = math.atan(sigma / sigma_d)
        x = math.cos(t) / sigma_d * x
        F = net(x, torch.full((3,), t, dtype=torch.float64))
        return -(math.sin(t) * x + math.cos(t) * F)

    noise = torch.stack([points(seed) for seed in range(5, 11)])
    x = sigmas[0] * points(4)
    for step in range(6):
        lifted, sigma = scheduler.add_noise_to_input(x, sigmas[step], noise[step])
        first = scheduler.step(slope(lifted, sigma), sigma, sigmas[step + 1], lifted)
        x = first.prev_sample
        if sigmas[step + 1]:
            again = slope(x, sigmas[step + 1])
            x = scheduler.step_correct(again, sigma, sigmas[step + 1], lifted, x, first.derivative).prev_sample
    angles = torch.atan(torch.tensor(sigmas, dtype=torch.float64) / sigma_d)
    solver = partial(solve_heun_churn, sigma_d=sigma_d, churn=3.0, churn_min=0.1, churn_max=20.0, churn_noise=1.007)
    ours = solver(net, torch.sin(angles[0]) * points(4), angles, noise)
    torch.testing.assert_close(sigma_d * ours, x, rtol=1e-10, atol=1e-10)
