"""Linear observations: projections, null spaces, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from trigbench.core.operators import (
    LUMINANCE,
    Operator,
    averages,
    bases,
    colour,
    fill,
    mask,
    observe,
    rearranged,
    replace,
)

SHAPES = [(1, 4, 4), (3, 4, 8), (2, 8, 4)]
SEEN = [torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) < 0.5 for shape in SHAPES]
OPERATORS = [
    *(mask(seen) for seen in SEEN),
    *(colour(shape, torch.arange(1.0, shape[0] + 1).tolist()) for shape in SHAPES),
    *(averages(shape, patch) for shape in SHAPES for patch in (2, 4)),
]
FOLDED = averages((1, 8, 4), 4)
OPERATORS.append(rearranged(FOLDED, (4, 4, 2), lambda x: pixel_shuffle(x, 2), lambda x: pixel_unshuffle(x, 2)))
operators = st.sampled_from(OPERATORS)


def points(operator: Operator, count: int = 3, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, *operator.shape, generator=g, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(operators, st.integers(0, 99))
def test_what_is_seen_and_what_is_not_are_orthogonal_and_all(operator: Operator, seed: int) -> None:
    x = points(operator, seed=seed)
    y = observe(operator, x)
    seen, null = bases(operator)
    every = torch.cat([seen, null])
    assert torch.allclose(every @ every.T, torch.eye(len(every), dtype=torch.float64), atol=1e-12)
    assert len(seen) == operator.observed == y.shape[1]
    assert torch.allclose(y, x.flatten(1) @ seen.T, atol=1e-12)
    assert torch.allclose(fill(operator, y).flatten(1), y @ seen, atol=1e-12)  # pseudo-inverse and adjoint
    assert torch.allclose(observe(operator, fill(operator, y)), y, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(operators, st.integers(0, 99))
def test_replacing_is_a_projection_onto_what_agrees(operator: Operator, seed: int) -> None:
    x, other = points(operator, seed=seed), points(operator, seed=seed + 100)
    y = observe(operator, other)
    found = replace(operator, x, y)
    _, null = bases(operator)
    assert torch.allclose(observe(operator, found), y, atol=1e-12)
    assert torch.allclose(found.flatten(1) @ null.T, x.flatten(1) @ null.T, atol=1e-12)  # the nearest such point
    assert torch.allclose(replace(operator, found, y), found, atol=1e-12)
    assert torch.allclose(replace(operator, x, observe(operator, x)), x, atol=1e-12)


def test_numbers_in_another_order_are_seen_as_in_their_own() -> None:
    x, folded = points(FOLDED), OPERATORS[-1]
    y = observe(FOLDED, x)
    assert torch.equal(observe(folded, pixel_unshuffle(x, 2)), y)
    assert torch.equal(pixel_shuffle(fill(folded, y), 2), fill(FOLDED, y))


def test_a_mask_is_exact_to_the_bit() -> None:
    operator = mask(torch.arange(6).reshape(1, 2, 3) % 2 == 0)
    x, y = points(operator).float(), torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    found = replace(operator, x, y)
    assert torch.equal(observe(operator, found), y)
    assert torch.equal(found[:, ~operator.seen], x[:, ~operator.seen])


def test_grey_and_averages_are_what_they_are_called() -> None:
    picture = points(colour((3, 4, 4)))
    weights = torch.tensor(LUMINANCE, dtype=torch.float64)
    grey = torch.einsum("c,bchw->bhw", weights, picture) / weights.norm()
    assert torch.allclose(observe(colour((3, 4, 4)), picture), grey.flatten(1))
    means = torch.nn.functional.avg_pool2d(picture, 2)
    assert torch.allclose(observe(averages((3, 4, 4), 2), picture), 2 * means.flatten(1))
    flat = torch.full((1, 3, 4, 4), 0.7)
    small = observe(averages((3, 4, 4), 4), flat)
    assert torch.allclose(fill(averages((3, 4, 4), 4), small), flat)


def test_nothing_and_everything_seen() -> None:
    x, other = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    nothing, everything = mask(torch.zeros(5, dtype=torch.bool)), mask(torch.ones(5, dtype=torch.bool))
    assert torch.equal(replace(nothing, x, observe(nothing, other)), x)
    assert torch.equal(replace(everything, x, observe(everything, other)), other)
    assert colour((1, 2, 2), [2.0]).observed == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: mask(torch.ones(3)), "bools"),
        (lambda: colour((4, 2, 2)), "one weight per channel"),
        (lambda: colour((3,), [0.0, 0.0, 0.0]), "not all 0"),
        (lambda: colour((3,), [1.0, math.nan, 0.0]), "finite"),
        (lambda: averages((1, 8, 8), 3), "tile"),
        (lambda: averages((8, 8), 2), "tile"),
        (lambda: averages((1, 8, 8), 1), "2 x 2 at least"),
        (lambda: observe(mask(torch.ones(3, dtype=torch.bool)), torch.ones(2, 4)), r"need points \(batch, 3\)"),
        (lambda: observe(mask(torch.ones(3, dtype=torch.bool)), torch.ones(2, 3).int()), "floating"),
        (lambda: fill(mask(torch.ones(3, dtype=torch.bool)), torch.ones(2, 4)), r"observation \(batch, 3\)"),
        (
            lambda: replace(mask(torch.ones(3, dtype=torch.bool)), torch.ones(2, 3), torch.ones(1, 3)),
            "one observation a point",
        ),
    ],
)
def test_what_makes_no_observation_is_refused(make, said: str, unchecked) -> None:
    with unchecked(), pytest.raises(ValueError, match=said):
        make()
