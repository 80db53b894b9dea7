"""Checks of shapes and types that are made once check all the same."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from tests.checked import once
from trigbench.core.guidance import guided


def test_a_function_within_another_is_checked_whenever_that_is_called():
    for _ in range(3):
        field = guided(lambda x, t: x, lambda x, t: x, torch.ones(2))
        assert field(torch.ones(2, 1), torch.ones(2)).shape == (2, 1)
        with pytest.raises(TypeCheckError, match="parameter 't'"):
            field(torch.ones(2, 1), 1.0)  # pyright: ignore[reportArgumentType]


def test_each_has_the_check_of_its_own_annotations():
    def of(shape: str):
        def twice(x: Float[Tensor, shape]) -> Float[Tensor, shape]:
            return torch.cat([x, x])

        return jaxtyped(twice, typechecker=once)

    for _ in range(2):
        with pytest.raises(TypeCheckError, match="return value"):
            of("points")(torch.ones(2))
        with pytest.raises(TypeCheckError, match="parameter 'x'"):
            of("points axes")(torch.ones(2))
        assert len(of("_")(torch.ones(2))) == 4
