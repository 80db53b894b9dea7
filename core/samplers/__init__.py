"""Samplers: plain functions of a field, noise and times."""

from collections.abc import Callable

from torch import Tensor

from trigbench.core.trigflow import Field

Step = Callable[[Field, Tensor, Tensor, Tensor], Tensor]
"""One step of a solver: (field, x, t, u) -> the solution of the ODE at u <= t, started from x at t; t, u of (batch,).

It stands here, and not beside the solvers, since objectives name it: a new solver is none of their mathematics.
"""
Callback = Callable[[int, Tensor, Tensor, Tensor | None], object]
"""What a sampler calls once a step, if it is given: (step, t, x, output), as of previews, traces and bars.

`step` counts from 0, t is (batch,), x (batch, *shape) the point at t that the step starts from, and `output` what the
field maps it to: the data, or in segments and jumps the point where the map ends; None where a step of one's own does
not evaluate the field there. What it returns is not looked at, and it must not write to x or output. It costs no
evaluation of the field and changes no sample.
"""
