"""Classifier-free guidance of a teacher, the student being told its scale (arXiv 2410.11081, App. G.2)."""

from jaxtyping import Float
from torch import Tensor

from trigbench.core.trigflow import Field


def guided(conditional: Field, unconditional: Field, scale: Float[Tensor, " batch"]) -> Field:
    """F_uncond + s (F_cond - F_uncond), one scale s per sample; s = 1 is the conditional field itself.

    Guiding F is guiding the denoiser, which is affine in F with the same coefficients in both.
    """

    def field(x: Tensor, t: Tensor) -> Tensor:
        base = unconditional(x, t)
        return base + scale.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) * (conditional(x, t) - base)

    return field
