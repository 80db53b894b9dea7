"""Zero-shot editing with a consistency map (arXiv 2303.01469, Sec. 4.2 and Alg. 4, in TrigFlow).

Inpainting, colourisation and super-resolution are `edit` with a mask, grey and averages of core.operators. None of it
samples the posterior in few steps, even by the exact map (core.posterior.gaussian_edits has the law in closed form).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trigbench.core.operators import Observation, Operator, fill, replace
from trigbench.core.samplers import Callback
from trigbench.core.samplers.consistency import _lacking
from trigbench.core.trigflow import Batch, Field, check_angles, check_floating, consistency_map, interpolate


def edit(
    field: Field,
    operator: Operator,
    observation: Observation,
    noise: Float[Tensor, "steps batch *shape"],
    times: Sequence[float],
    boundary: float = 0.0,
    callback: Callback | None = None,
) -> Batch:
    """Points that agree with an observation, one map a step (CM's Alg. 4).

    What is seen, with 0 for all else, is noised to times[0] and mapped; after each map what is seen is put back, and
    all of it is noised to the next time. So every edit has the observation, as far as `replace` is exact.

    `noise` is standard normal, one slice a step, in unit variance as all here; `boundary` as of `sample_consistency`.
    `callback` gets each step with its noised point and what that is mapped to, before it is put back
    (core.samplers.Callback). Raises ValueError unless times are angles that descend in [boundary, pi/2], with one
    slice of the operator's shape for each, and one observation a sample.
    """
    return _followed(
        field, fill(operator, observation), noise, times, boundary, callback, _putting(operator, observation)
    )


def from_guide(
    field: Field,
    guide: Batch,
    noise: Float[Tensor, "steps batch *shape"],
    times: Sequence[float],
    boundary: float = 0.0,
    callback: Callback | None = None,
) -> Batch:
    """Points that resemble a guide, as a picture of strokes: it is noised to times[0], and multistep sampling goes on
    from there (SDEdit, arXiv 2108.01073, by a consistency map).

    The smaller times[0], the more is kept of the guide; at pi/2 nothing is. Arguments and errors as of `edit`.
    """
    return _followed(field, guide, noise, times, boundary, callback, lambda x: x)


def denoise(field: Field, noisy: Batch, std: float) -> Batch:
    """The map of points to which noise of that standard deviation was added: x0 + std z, x0 of unit variance.

    It is a draw that looks like data, and no posterior mean: its squared error is larger than a denoiser's. Raises
    ValueError unless std is 0 or more, and finite.
    """
    if not 0 <= std < torch.inf:
        raise ValueError(f"the standard deviation of noise is 0 or more, got {std}")
    check_floating(noisy)
    t = torch.full((len(noisy),), std, dtype=torch.float64, device=noisy.device).atan()
    return consistency_map(field, torch.cos(t).to(noisy.dtype).reshape(-1, *[1] * (noisy.ndim - 1)) * noisy, t)


def slerp(first: Batch, second: Batch, share: float | Float[Tensor, " batch"]) -> Batch:
    """The noise at `share` of the way from one to another along the arc between them, sample by sample.

    Of noises of one length it keeps the length. Its map is an interpolation of two samples. Parallel and opposite ones,
    between which there is no arc or no single one, are interpolated along the line. Raises ValueError for other shapes,
    and for shares outside [0, 1].
    """
    check_floating(first)
    if first.shape != second.shape:
        raise ValueError(f"need two noises of one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    shares = torch.as_tensor(share, dtype=first.dtype, device=first.device).expand(len(first))
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise ValueError(f"shares are from 0 (the first) to 1 (the second), got {shares.tolist()}")
    flat, other = first.flatten(1), second.flatten(1)
    angle = torch.acos(torch.cosine_similarity(flat, other).clamp(-1, 1))
    arc = torch.sin(angle)
    bent = arc > torch.finfo(first.dtype).eps ** 0.5
    arc = torch.where(bent, arc, torch.ones_like(arc))
    from_first, from_second = torch.sin((1 - shares) * angle) / arc, torch.sin(shares * angle) / arc
    from_first, from_second = torch.where(bent, from_first, 1 - shares), torch.where(bent, from_second, shares)
    return (from_first[:, None] * flat + from_second[:, None] * other).reshape(first.shape)


def _putting(operator: Operator, observation: Observation) -> Callable[[Tensor], Tensor]:
    return lambda x: replace(operator, x, observation)


def _followed(
    field: Field,
    start: Batch,
    noise: Float[Tensor, "steps batch *shape"],
    times: Sequence[float],
    boundary: float,
    callback: Callback | None,
    after: Callable[[Tensor], Tensor],
) -> Batch:
    """From `start`, noised and mapped at each time, with what is done after each map."""
    check_floating(noise)
    if len(times) != len(noise) or noise.shape[1:] != start.shape:
        needed = f"({len(times)}, {', '.join(map(str, start.shape))})"
        raise ValueError(f"need one noise slice per time, {needed} for {list(times)}, got {tuple(noise.shape)}")
    check_angles(times, "descending")
    if not 0 <= boundary <= times[-1]:
        raise ValueError(f"times must not go below the map's boundary {boundary:.6g}, got {list(times)}")
    x = start.to(noise)
    for step, (z, time) in enumerate(zip(noise, times, strict=True)):
        t = torch.full((len(z),), time, dtype=torch.float64, device=z.device)
        share = _lacking(time, boundary) if step and boundary else 1.0
        noised = interpolate(x, share * z, t)
        mapped = consistency_map(field, noised, t)
        if callback is not None:
            callback(step, t, noised, mapped)
        x = after(mapped)
    return x
