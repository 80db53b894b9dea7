"""Published losses of maps of two times are written in the flow's coordinates: x' = (1 - tau) x0 + tau z.

What these tests share: a network of two times with parameters, its average velocity there, and steps of both sides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.core.test_flow_maps import STD as SPREAD
from tests.core.test_flow_maps import exact_to as exact_above
from tests.core.test_flow_maps import spread
from tests.core.test_flow_maps import velocity as exact_velocity
from trigbench.core.fields import Draws, Fields, Jump
from trigbench.core.objectives.regression import settings_for
from trigbench.core.two_angles import TwoAngles, two_angles

BATCH, SIZE = 16, 3
SIGMA_D, MEAN, STD = 0.5, -1.0, 1.4


def jvp(function: Callable[..., Tensor], primals: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> Any:
    """(value, derivative along), both with their gradients."""
    return torch.func.jvp(function, primals, along)[:2]


def col(t: Tensor) -> Tensor:
    return t[:, None]


def sides(t: Tensor) -> tuple[Tensor, Tensor]:
    """c + S and c - S of angles."""
    return col(t.cos() + t.sin()), col(t.cos() - t.sin())


def flow_time(t: Tensor) -> Tensor:
    return t.sin() / (t.cos() + t.sin())


def angle(tau: Tensor) -> Tensor:
    return torch.atan2(tau, 1 - tau)


class TwoTimes(nn.Module):
    """F(x, t; u), smooth and of no exact map."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        shapes = ((SIZE, 12), (12,), (12,), (12,), (12, SIZE))
        self.weights = nn.ParameterList(torch.randn(s, generator=g, dtype=torch.float64) * 0.6 for s in shapes)

    def forward(self, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        into, of_t, of_u, bias, out = self.weights
        return torch.tanh(x @ into + col(t) * of_t + col(u) * of_u + bias) @ out

    def to(self, u: Tensor) -> Callable[[Tensor, Tensor], Tensor]:  # type: ignore[override]
        return lambda x, t: self(x, t, u)


def average(jump: Jump) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """u(x', tau, rho) of a map's field."""

    def u(flowing: Tensor, tau: Tensor, rho: Tensor) -> Tensor:
        t, end = angle(tau), angle(rho)
        plus, minus = sides(t)
        return plus * jump(end)(plus * flowing, t) - minus * plus * flowing

    return u


def velocity_of_flow(field: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """v(x', tau) of a velocity at angles."""
    return lambda flowing, tau: average(lambda _: field)(flowing, tau, tau)


@dataclass
class Step:
    """One training step: our fields and draws, and the same in the flow's coordinates once times are known."""

    seed: int = 0

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(self.seed)
        self.x0, self.z = torch.randn(2, BATCH, SIZE, generator=g, dtype=torch.float64)
        self.uniform, self.lower, self.middle = torch.rand(3, BATCH, generator=g, dtype=torch.float64)
        self.net, self.taught, self.averaged = TwoTimes(self.seed), TwoTimes(self.seed + 50), TwoTimes(self.seed + 90)

    @property
    def draws(self) -> Draws:
        return Draws(self.uniform, self.z, lower=self.lower, middle=self.middle)

    @property
    def fields(self) -> Fields:
        zero = torch.zeros(BATCH, dtype=torch.float64)
        return Fields(self.net.to(zero), teacher=self.teacher, student_to=self.net.to)

    def teacher(self, x: Tensor, t: Tensor) -> Tensor:
        return self.taught(x, t, t)

    def flowing(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """x' and the pair's velocity."""
        return (1 - col(tau)) * self.x0 + col(tau) * self.z, self.z - self.x0

    def ours(self, objective: Callable, fields: Fields | None = None, **told: Any) -> tuple[Tensor, list[Tensor]]:
        settings = settings_for(objective, sigma_d=SIGMA_D, proposal_mean=MEAN, proposal_std=STD, **told)
        found = objective(fields or self.fields, self.x0, self.draws, settings)
        assert found.direction_norm.shape == (BATCH,) and found.t is not None
        return found.loss, self.gradients(found.loss)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        parameters = list(self.net.parameters())
        return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    def agrees(self, published: Tensor, objective: Callable, fields: Fields | None = None, **told: Any) -> None:
        """Gradients of both are equal, and are not all small."""
        ours, theirs = self.ours(objective, fields, **told)[1], self.gradients(published)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        assert max(float(one.abs().max()) for one in ours) > 1e-3


TOLD = TwoAngles(SIGMA_D, MEAN, STD)


def exact_to(u: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """F of a Gaussian's exact map, which is the velocity at u = t."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        still = t == u
        return torch.where(col(still), exact_velocity(x, t), exact_above(torch.where(still, t - 0.1, u))(x, t))

    return field


def pull_at_rest(objective: Callable, times: dict[str, Any], jump: Jump = exact_to, **told: Any) -> float:
    """The largest gradient of a shift of the exact map, whose data are two pairs (x0, z) on either side of each x_t.

    Their velocities have the exact one as their mean, so that at rest nothing pulls, however an odd control is chosen.
    `times` are the method's law, for two_angles.
    """
    step, rows = Step(7), BATCH // 2
    for name in ("uniform", "lower", "middle"):
        setattr(step, name, getattr(step, name)[:rows].repeat(2))
    t, _ = two_angles(step.draws, TOLD, **times)
    c, s = col(t.cos()), col(t.sin())
    x = step.z[:rows].repeat(2, 1)
    aside = step.x0[:rows].sign() * torch.ones(2, 1, 1, dtype=torch.float64) * torch.tensor([1.0, -1.0])[:, None, None]
    evidence = col(spread(t)).square()
    step.x0 = c * SPREAD**2 / evidence * x + SPREAD * s / evidence.sqrt() * aside.flatten(0, 1)
    step.z = (x - c * step.x0) / s
    shift = torch.zeros(rows, SIZE, dtype=torch.float64, requires_grad=True)
    student_to = lambda u: lambda x, t: jump(u)(x, t) + shift.repeat(len(x) // rows, 1)  # noqa: E731
    fields = Fields(student_to(0 * t), teacher=exact_velocity, student_to=student_to)
    settings = settings_for(objective, sigma_d=SIGMA_D, proposal_mean=MEAN, proposal_std=STD, **told)
    found = objective(fields, step.x0, step.draws, settings)
    return float(torch.autograd.grad(found.loss, shift)[0].abs().max())
