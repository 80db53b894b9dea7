"""What networks of images share: their shape, resampling, and attention over pixels."""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Image = Float[Tensor, "batch channels height width"]
Output = Float[Tensor, "batch outputs rows columns"]
"""Of a block that may change channels and resolution."""
Resampling = Literal["keep", "down", "up"]


def resample(x: Image, resampling: Resampling) -> Tensor:
    """Means of 2 x 2 pixels, or each pixel four times: the filter [1, 1] of both papers."""
    if resampling == "down":
        return nn.functional.avg_pool2d(x, 2)
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest") if resampling == "up" else x


def attend(qkv: Image, heads: int, norm: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Self-attention over pixels: (batch, 3 channels, height, width) -> (batch, channels, height, width).

    Channels run over heads, then the head's channels, then query, key, value, as in public
    checkpoints. `norm` acts on the last dimension of all three, a head's channels.
    """
    batch, channels, height, width = qkv.shape
    split = qkv.reshape(batch, heads, channels // (3 * heads), 3, height * width).transpose(2, 4)
    q, k, v = (split if norm is None else norm(split)).unbind(3)
    y = nn.functional.scaled_dot_product_attention(q, k, v)
    return y.transpose(2, 3).reshape(batch, channels // 3, height, width)


def square_side(shape: Sequence[int]) -> int:
    """The side of square images. Raises ValueError for points of another shape."""
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"the network is for square images, shape (channels, side, side); got {tuple(shape)}")
    return shape[1]


def check_shape(x: Tensor, shape: Sequence[int]) -> None:
    """Raise ValueError unless the points have the shape that the network was made for."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"the network was made for points of shape {tuple(shape)}, got {tuple(x.shape[1:])}")
