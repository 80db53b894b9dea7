"""What tests of published losses share: that two losses pull a network alike."""

import torch
from torch import Tensor, nn


def assert_same_gradients(ours: Tensor, published: Tensor, network: nn.Module) -> None:
    """Of every parameter to 1e-10 of the largest of its numbers, none of them too small to tell."""
    parameters = list(network.parameters())
    both = zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(published, parameters), strict=True)
    for mine, theirs in both:
        largest = float(theirs.abs().max())
        assert largest > 1e-4
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10 * largest)
