"""The network of videos: what it is of images, what its parts know of each other, and what of it is trained."""

import pytest
import torch
from torch import Tensor

from trigbench.core.fields import bind
from trigbench.core.forward_mode import value_and_tangent
from trigbench.core.networks.video import Trained, VideoDiT

SHAPE = (3, 8, 8)
ONE: set[Trained] = {"image", "motion"}


def made(trained: Trained = "all", awake: bool = True) -> VideoDiT:
    """In float64, with no weight at zero if `awake`, of the same weights whatever is trained."""
    torch.manual_seed(0)
    network = VideoDiT(SHAPE, 4, width=16, depth=2, heads=2, trained=trained).double()
    generator = torch.Generator().manual_seed(1)
    for name, weight in sorted(network.state_dict().items()):
        if awake or name.startswith("image."):
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return network


def points(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    x = torch.randn(batch, *SHAPE, generator=g, dtype=torch.float64)
    return x, 1.5 * torch.rand(batch, generator=g, dtype=torch.float64), torch.arange(batch)


def test_before_training_and_without_motion_each_frame_is_what_the_image_network_makes_of_it() -> None:
    x, t, labels = points()
    for network in (made(awake=False), made("image")):
        frames = torch.cat([network.image(x[:, k : k + 1], t, labels) for k in range(SHAPE[0])], 1)
        assert frames.abs().max() > 0.1
        assert (network(x, t, labels) - frames).abs().max() < 1e-12


def test_frames_know_of_each_other_by_motion_and_of_their_order() -> None:
    x, t, labels = points()
    whole = made()
    last = x.clone()
    last[:, -1] += 1
    for network, knows in ((whole, True), (made("image"), False)):
        others = (network(last, t, labels) - network(x, t, labels))[:, :-1]
        assert (others.abs().max() > 1e-3) == knows
    turned = whole(x.flip(1), t, labels).flip(1)
    assert (turned - whole(x, t, labels)).abs().max() > 1e-3


def test_what_is_not_trained_has_the_same_names_and_is_no_parameter() -> None:
    whole = made()
    for trained in ONE:
        network = made(trained)
        state = network.state_dict()
        assert state.keys() == whole.state_dict().keys()
        assert all(torch.equal(state[name], weight) for name, weight in whole.state_dict().items())
        assert {name.split(".")[0] for name, _ in network.named_parameters()} == {trained}
        assert {name.split(".")[0] for name, _ in network.named_buffers() if name in state} == ONE - {trained}
        x, t, labels = points()
        network(x, t, labels).square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for _, p in network.named_parameters())
    motion = made("motion")
    x, t, labels = points()
    assert torch.equal(motion(x, t, labels), whole(x, t, labels))


@pytest.mark.parametrize("trained", ["all", "motion"])
def test_the_exact_tangent_is_that_of_forward_mode(trained: Trained) -> None:
    x, t, labels = points()
    field = bind(made(trained), None, labels)
    along = (torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64), torch.ones_like(t))
    value, tangent = value_and_tangent(field, (x, t), along)
    wanted = value_and_tangent(field, (x, t), along, method="func")
    assert (value - wanted[0]).abs().max() < 1e-12 and (tangent - wanted[1]).abs().max() < 1e-10
    assert tangent.abs().max() > 0.1


def test_another_part_is_refused(unchecked) -> None:
    with unchecked(), pytest.raises(ValueError, match="unknown trained 'frames'; choose of: all, image, motion"):
        VideoDiT(SHAPE, trained="frames")  # pyright: ignore[reportArgumentType]
