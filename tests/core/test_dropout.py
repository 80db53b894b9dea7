"""Dropout by sample: one mask for a sample, wherever and whenever it is evaluated."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.networks.dropout import Dropout, mask, masks, number_layers

KEYS = torch.randint(2**31, (64,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_mask_drops_its_share_and_keeps_the_mean(p):
    found = mask(KEYS, torch.zeros(64, 16, 16), p)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1.0).div(1 - p).item()}
    for axis in ((1, 2), (0,)):  # of each sample, and of each place over the samples
        kept = (found > 0).double().mean(axis)
        deviation = (p * (1 - p) * kept.numel() / found.numel()) ** 0.5
        assert (kept - (1 - p)).abs().max() < 5 * deviation
    rows = (found > 0).double().flatten(1) - (1 - p)
    correlation = (rows @ rows.T / rows.shape[1] / (p * (1 - p))).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / rows.shape[1] ** 0.5, "samples have masks of their own"


def test_a_sample_s_mask_does_not_depend_on_its_batch():
    whole = mask(KEYS, torch.zeros(64, 3, 5), 0.3)
    assert torch.equal(mask(KEYS[7:20], torch.zeros(13, 3, 5), 0.3), whole[7:20])
    assert not torch.equal(mask(KEYS, torch.zeros(64, 3, 5), 0.3, number=1), whole)


def test_layers_of_a_network_have_masks_of_their_own_and_evaluations_have_the_same():
    network = nn.Sequential(Dropout(0.5), nn.Identity(), Dropout(0.5))
    number_layers(network)
    x = torch.ones(64, 100)
    with masks(KEYS):
        once, again = network(x), network(x)
    assert torch.equal(once, again)
    assert (once > 0).double().mean().item() == pytest.approx(0.25, abs=0.02), "one mask twice would keep a half"
    assert not torch.equal(network(x), network(x)), "without keys it is torch's"
    with masks(KEYS):
        assert torch.equal(network.eval()(x), x)


def test_value_and_tangent_have_one_mask():
    x, dx = torch.randn(64, 10), torch.randn(64, 10)
    with masks(KEYS):
        for method in ("pairs", "func", "two_pass"):
            value, tangent = value_and_tangent(Dropout(0.5), (x,), (dx,), method)
            assert torch.equal(value, x * mask(KEYS, x, 0.5))
            assert torch.equal(tangent, dx * mask(KEYS, x, 0.5))


def test_what_a_checkpoint_computes_again_has_the_mask_that_it_had():
    network = nn.Sequential(nn.Linear(10, 10), Dropout(0.5), nn.SiLU(), nn.Linear(10, 1))
    x, parameters = torch.randn(64, 10), list(network.parameters())
    with masks(KEYS):
        value, _ = value_and_tangent(lambda x: checkpoint(network, x, use_reentrant=False), (x,), (x,))
        found = torch.autograd.grad(value.sum(), parameters)
        expected = torch.autograd.grad(network(x).sum(), parameters)
    torch.testing.assert_close(found, expected)


def test_another_number_of_samples_than_keys_is_refused(unchecked):
    with unchecked(), masks(KEYS), pytest.raises(ValueError, match="one key per sample"):
        Dropout(0.5)(torch.ones(3, 4))
