"""Multistep solvers of the probability-flow ODE: one evaluation a step, and the data predicted at earlier steps.

With l = -ln tan t, half the logarithm of the signal-to-noise ratio, the ODE from t to u is

    x_u = sin(u) / sin(t) x_t + cos(u) int exp(l - l_u) D(l) dl,  l from l_t to l_u,

where D is the data predicted along it (arXiv 2211.01095, Prop. 4.1, in TrigFlow). Solvers differ in how they continue D
from where it is known. A step to u = 0, where l diverges, is a plain DDIM step: D stays what it is.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.samplers import Callback
from trigbench.core.trigflow import Batch, Field, check_angles, rotate

Known = tuple[float, Tensor]
"""An angle, and the data predicted there."""
VARIANTS = ("bh1", "bh2")
FEW = 15
"""Steps below which a third-order solver ends in a second-order and a first-order step (the authors' code)."""


def solve_unipc(
    field: Field,
    x: Batch,
    times: Float[Tensor, " edges"],
    order: int = 2,
    variant: str = "bh2",
    corrector: bool = True,
    lower_order_final: bool = True,
    callback: Callback | None = None,
) -> Batch:
    """UniPC of order 1, 2 or 3 with data prediction (arXiv 2302.04867, Alg. 5-8; B(h) is h, bh1, or e^h - 1, bh2).

    UniP goes on from the latest `order` predictions; UniC then mends the point by the prediction that is made there
    anyway, which raises the order by one and costs nothing; the prediction is kept, the point is not evaluated again.
    Steps are of order 1, 2, ... at first, and with `lower_order_final` ..., 2, 1 at last. Both show in the error at
    the end where orders are above 2, unless a grid begins and ends in smaller steps. As in the authors' code, which
    diffusers has, weights of one difference are 1/2, so UniP-2 with bh2 is DPM-Solver++ 2M.

    `times` are two or more angles that descend in [0, pi/2). `callback` gets each point where the field is evaluated,
    before UniC mends it, and the data predicted there (core.samplers.Callback). Raises ValueError for other times,
    orders and variants.
    """
    angles = _checked(times)
    if order not in (1, 2, 3) or variant not in VARIANTS:
        raise ValueError(f"UniPC is of order 1, 2 or 3 and variant {' or '.join(VARIANTS)}, got {order}, {variant!r}")
    known: list[Known] = []
    start = x
    for number, (t, u) in enumerate(itertools.pairwise(angles)):
        data = _predicted(field, x, times[number], number, callback)
        if corrector and known:
            x = _unified(start, known, t, variant, data)
        left = len(angles) - 1 - number
        most = 1 if u == 0 else min(order, left) if lower_order_final else order
        known = [*known, (t, data)][-most:]
        start, x = x, _unified(x, known, u, variant)
    return x


def solve_dpm_solver_pp_3m(
    field: Field,
    x: Batch,
    times: Float[Tensor, " edges"],
    lower_order_final: bool = True,
    callback: Callback | None = None,
) -> Batch:
    """Multistep DPM-Solver++-3 as its authors' code and diffusers have it (github.com/LuChengTHU/dpm-solver).

    **It converges at order 2, not 3**: the code multiplies the second difference quotient by half of its integral
    (their single-step solver has the missing 2). UniPC of order 3 without corrector is of order 3. The paper
    (arXiv 2211.01095) stops at 2M. The first two steps are of order 1 and 2; with `lower_order_final` and fewer than
    15 steps, the last two of order 2 and 1.

    `times` are two or more angles that descend in [0, pi/2), else ValueError is raised; `callback` as of
    core.samplers.ode.solve.
    """
    angles = _checked(times)
    steps, known = len(angles) - 1, list[Known]()
    few = lower_order_final and steps < FEW
    for number, (t, u) in enumerate(itertools.pairwise(angles)):
        data = _predicted(field, x, times[number], number, callback)
        known = [*known, (t, data)][-3:]
        most = 1 if u == 0 else min(3, steps - number) if few else 3
        x = _extrapolated(x, known[-most:], u)
    return x


def _unified(x: Batch, known: Sequence[Known], u: float, variant: str, after: Tensor | None = None) -> Batch:
    """UniP from x at the last known angle to u, or UniC where the data predicted `after` it, at u, are known too."""
    (t, data), base = known[-1], _first_order(x, known[-1], u)
    if len(known) == 1 and after is None:
        return base
    h = _log_snr(u) - _log_snr(t)
    ratios = [(_log_snr(s) - _log_snr(t)) / h for s, _ in reversed(known[:-1])]
    changes = [then - data for _, then in reversed(known[:-1])]
    if after is not None:
        ratios, changes = [*ratios, 1.0], [*changes, after - data]
    scale = -h if variant == "bh1" else math.expm1(-h)
    weights = _weights(ratios, -h, scale)
    return base - sum(
        math.cos(u) * scale * weight / ratio * change
        for weight, ratio, change in zip(weights, ratios, changes, strict=True)
    )


def _weights(ratios: Sequence[float], h: float, scale: float) -> list[float]:
    """The solution of sum_k w_k r_k^(n-1) = n! h phi_(n+1)(h) / B(h), n = 1, 2, ... (Eq. 7); 1/2 where it is one."""
    if len(ratios) == 1:
        return [0.5]
    term, wanted = math.expm1(h) / h, list[float]()
    for n in range(1, len(ratios) + 1):
        term = (term - 1) if n == 1 else term / h - 1 / math.factorial(n)
        wanted.append(math.factorial(n) * term / scale)
    powers = torch.tensor([[ratio**n for ratio in ratios] for n in range(len(ratios))], dtype=torch.float64)
    return torch.linalg.solve(powers, torch.tensor(wanted, dtype=torch.float64)).tolist()


def _extrapolated(x: Batch, known: Sequence[Known], u: float) -> Batch:
    """DPM-Solver++ of as many steps as are known."""
    (t, data), base = known[-1], _first_order(x, known[-1], u)
    if len(known) == 1:
        return base
    h, times = _log_snr(u) - _log_snr(t), [_log_snr(s) for s, _ in known]
    before = known[-2][1]
    r0 = (times[-1] - times[-2]) / h
    slope = (data - before) / r0
    if len(known) == 2:
        return base - math.cos(u) * math.expm1(-h) / 2 * slope
    r1 = (times[-2] - times[-3]) / h
    bend = (slope - (before - known[-3][1]) / r1) / (r0 + r1)
    second = math.expm1(-h) / h + 1
    third = second / h - 0.5
    return base + math.cos(u) * (second * (slope + r0 * bend) - third * bend)


def _first_order(x: Batch, known: Known, u: float) -> Batch:
    """DDIM from x at the known angle, by the data predicted there (perhaps at another x)."""
    t, data = known
    return (math.sin(u) * x + math.sin(t - u) * data) / math.sin(t)


def _predicted(field: Field, x: Batch, time: Tensor, number: int, callback: Callback | None) -> Batch:
    t = time.expand(len(x))
    data = rotate(x, field(x, t), t, torch.zeros_like(t))
    if callback is not None:
        callback(number, t, x, data)
    return data


def _log_snr(t: float) -> float:
    return -math.log(math.tan(t))


def _checked(times: Float[Tensor, " edges"]) -> list[float]:
    check_angles(times, "descending", at_least=2)
    angles = times.tolist()
    if angles[0] >= math.pi / 2:
        raise ValueError(
            f"a multistep solver has no value at pi/2, got times from {angles[0]:.6g}; start at largest_angle"
        )
    return angles
