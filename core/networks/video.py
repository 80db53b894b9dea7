"""A small network of videos: DiT on each frame, and blocks between its own that attend over frames."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from trigbench.core.networks.conditioning import Conditioning, Told, check_choice, full_precision
from trigbench.core.networks.dit import Block, DiT, scale_and_shift
from trigbench.core.networks.embeddings import PositionalEmbedding
from trigbench.core.networks.images import check_shape
from trigbench.core.trigflow import time_dtype

Video = Float[Tensor, "batch frames height width"]
Trained = Literal["all", "image", "motion"]
TRAINED = get_args(Trained)


class VideoDiT(nn.Module):
    """F(x, t, condition) for grey square videos (frames, side, side) in unit variance, t the angle.

    `image` is a DiT of one frame; after each of its blocks a block of `motion` attends over the frames at each place
    (AnimateDiff, arXiv 2307.04725). Those change nothing before they are trained, so that the network starts as that
    of images, frame by frame.

    What is not `trained` has buffers for parameters, under the same names: it is saved and read as they are, and stays
    as it is. "image" leaves out `motion` altogether, so that frames do not know of each other and a video is as many
    images; "motion" keeps `image` (AnimateLCM, arXiv 2402.00769: first the one, then the other). Raises ValueError for
    another word, and what DiT does.
    """

    when: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        classes: int = 0,
        told: Sequence[str] = (),
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
        conditioning: Conditioning = "double",
        trained: Trained = "all",
    ) -> None:
        super().__init__()
        check_choice("trained", trained, TRAINED)
        self.shape, self.trained = tuple(shape), trained
        self.image = DiT((1, *shape[1:]), classes, told, width, depth, heads, patch, conditioning)
        self.motion = nn.ModuleList(Block(width, heads, conditioning) for _ in range(depth))
        for block in self.motion:
            nn.init.zeros_(block.gate.weight)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
            nn.init.zeros_(block.gate.bias)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        self.register_buffer("when", PositionalEmbedding(width)(torch.arange(float(shape[0]))), persistent=False)
        if trained != "all":
            _keep(self.motion if trained == "image" else self.image)

    def forward(self, x: Video, t: Float[Tensor, " batch"], condition: Told = None) -> Video:
        check_shape(x, self.shape)
        frames, image, places = len(self.when), self.image, self.image.tokens**2
        with full_precision(x):
            e = image.embed(t.to(time_dtype(x)), condition)
            scale, shift = image.modulate(e).chunk(2, dim=1)
            scale, shift = scale_and_shift(scale, shift, image.conditioning)
        of_frames, of_places = e.repeat_interleave(frames, 0), e.repeat_interleave(places, 0)
        when = self.when.to(x.dtype)
        h = image.lift(x.reshape(-1, 1, *self.shape[1:])).flatten(2).transpose(1, 2) + image.positions.to(x.dtype)
        for block, motion in zip(image.blocks, self.motion, strict=True):
            h = block(h, of_frames)
            if self.trained != "image":
                along = h.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1) + when
                h = (motion(along, of_places) - when).unflatten(0, (-1, places)).transpose(1, 2).flatten(0, 1)
        scale, shift = scale.repeat_interleave(frames, 0), shift.repeat_interleave(frames, 0)
        h = image.project(image.norm(h) * scale + shift)
        whole = pixel_shuffle(h.transpose(1, 2).unflatten(2, (image.tokens, image.tokens)), image.patch)
        return whole.reshape(x.shape)


def _keep(part: nn.Module) -> None:
    """Make the part's parameters persistent buffers, which are no more trained."""
    for layer in part.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            delattr(layer, name)
            layer.register_buffer(name, parameter.detach())
