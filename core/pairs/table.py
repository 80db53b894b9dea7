"""Every operation that pairs know, and its rule; what is not here falls back to torch.func.jvp of it alone.

A name stands for what torch, torch.Tensor and torch.nn.functional have under it; with a dot, for one of theirs alone.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trigbench.core.pairs import pair
from trigbench.core.pairs.functions import (
    batch_norm,
    elementwise,
    group_norm,
    layer_norm,
    power,
    rms_norm,
    softmax,
    wide,
)
from trigbench.core.pairs.kernels import attention, distances, dropout, recurrent, sampled, written_out
from trigbench.core.pairs.linear import (
    affine,
    assigned,
    copied,
    detached,
    jointly_linear,
    like,
    linear,
    linear_in_list,
    masked_fill,
    pad,
    plain,
    scattered,
    unpacked,
    view,
    view_as,
)
from trigbench.core.pairs.pair import RULES, WHOLE, Pair, Rule, apply, has_kept, of_values
from trigbench.core.pairs.products import add, bilinear, divide, einsum, hypotenuse, multiply, subtract, two, where

aten = torch.ops.aten

LINEAR = """
    reshape flatten unflatten squeeze unsqueeze expand broadcast_to permute transpose swapaxes swapdims t
    movedim moveaxis chunk split split_with_sizes tensor_split unbind narrow select index_select gather
    __getitem__ diagonal
    repeat repeat_interleave tile flip roll tril triu unfold clone contiguous neg negative __neg__ positive __pos__
    sum mean cumsum trace to float double half bfloat16 cpu cuda view_as_complex view_as_real real imag
    pixel_shuffle pixel_unshuffle interpolate avg_pool1d avg_pool2d avg_pool3d
    Tensor.T Tensor.mT Tensor.H Tensor.mH Tensor.real Tensor.imag
    conj conj_physical resolve_conj resolve_neg adjoint stft istft _pack_padded_sequence
    fft.fft fft.ifft fft.rfft fft.irfft fft.hfft fft.ihfft fft.fft2 fft.ifft2 fft.rfft2 fft.irfft2 fft.hfft2 fft.ihfft2
    fft.fftn fft.ifftn fft.rfftn fft.irfftn fft.hfftn fft.ihfftn fft.fftshift fft.ifftshift
"""
PLAIN = """
    size stride dim ndimension numel nelement element_size storage_offset get_device __len__ __bool__
    __int__ __float__ __index__ __contains__ item tolist is_floating_point is_complex is_contiguous is_nonzero
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ equal allclose isclose isnan isinf isfinite
    logical_and logical_or logical_not argmax argmin argsort long int bool
    register_hook retain_grad _nested_tensor_from_mask_left_aligned
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
    pair.zero
"""
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "silu": lambda dx, x, y, **_: aten.silu_backward.default(dx, x),
    "gelu": lambda dx, x, y, **kwargs: aten.gelu_backward.default(dx, x, **kwargs),
    "relu": lambda dx, x, y, **_: dx * (y > 0),
    "tanh": lambda dx, x, y: aten.tanh_backward.default(dx, y),
    "sigmoid": lambda dx, x, y: aten.sigmoid_backward.default(dx, y),
    "exp": lambda dx, x, y: dx * y,
    "log": lambda dx, x, y: dx / x,
    "sin": lambda dx, x, y: dx * x.cos(),
    "cos": lambda dx, x, y: -dx * x.sin(),
    "tan": lambda dx, x, y: dx * (1 + y * y),
    "sqrt": lambda dx, x, y: 0.5 * dx / y,
    "rsqrt": lambda dx, x, y: -0.5 * dx * y / x,
    "square": lambda dx, x, y: dx * (x + x),
    "reciprocal": lambda dx, x, y: -dx * y * y,
    "pow __pow__": power,
    "clamp clip clamp_min clamp_max": lambda dx, x, y, *_, **__: dx.masked_fill(x != y, 0),
    "softmax": softmax,
    "functional.layer_norm": wide(layer_norm),
    "functional.group_norm": wide(group_norm),
    "functional.rms_norm": wide(rms_norm),
    "functional.batch_norm": wide(batch_norm),
}
"""y = f(x, ...) -> dy, of dx, x, y and the other arguments."""
TABLE: dict[str, Rule] = {
    # nothing moves
    PLAIN: plain,
    "detach Tensor.data": detached,
    # linear in the first argument
    LINEAR: linear,
    "view": view,
    "view_as": view_as,
    "type_as expand_as reshape_as": like,
    "linear conv1d conv2d conv3d": affine,
    "pad": pad,
    "_pad_packed_sequence": unpacked,
    "masked_fill": masked_fill,
    # linear in several together
    "cat concat concatenate stack": linear_in_list,
    "complex index_put index_add index_copy scatter_add slice_scatter select_scatter diagonal_scatter": jointly_linear,
    "scatter": scattered,
    "torch.where": where,  # the method has its arguments in another order
    "pair.assign": assigned,
    "pair.copy": copied,
    # of two arguments and more
    "add __add__ __radd__": two(add),
    "sub subtract __sub__": two(subtract),
    "rsub __rsub__": two(subtract, reflected=True),
    "mul multiply __mul__ __rmul__": two(multiply),
    "matmul __matmul__ __rmatmul__ mm bmm mv dot outer": two(bilinear),
    "div divide true_divide __truediv__": two(divide),
    "__rdiv__ __rtruediv__": two(divide, reflected=True),
    "hypot": two(hypotenuse),
    "einsum": einsum,
    "cdist": distances,
    "grid_sample": sampled,
    # of one tensor
    **{names: elementwise(push) for names, push in ELEMENTWISE.items()},
}
_DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)
MADE_TOGETHER: dict[str, Callable[..., Any]] = {
    "functional.scaled_dot_product_attention": attention,
    "functional.multi_head_attention_forward": written_out(functional.multi_head_attention_forward),
    **{f"functional.{f.__name__}": dropout(f) for f in _DROPOUTS},
    **{f"torch.{f.__name__}": recurrent(f) for f in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
}
"""No rule but a function that takes pairs, and makes value and tangent at once."""
_SPACES: dict[str, Any] = {"torch": torch, "Tensor": Tensor, "functional": functional, "fft": torch.fft, "pair": pair}


def operations(names: str) -> Iterator[tuple[str, Any]]:
    """(name, what is called) of everything that these names of the table stand for."""
    for name in names.split():
        space, _, own = name.rpartition(".")
        if space:
            found = getattr(_SPACES[space], own)
            yield name, found if callable(found) else found.__get__  # of a property
        else:
            every = [getattr(place, own, None) for place in (torch, Tensor, functional)]
            yield from ((name, found) for found in every if callable(found))


def _method(func: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    """A method of pairs, which skips the dispatch."""

    def method(*args: Any, **kwargs: Any) -> Any:
        return of_values(func, args, kwargs) if has_kept(args, kwargs) else apply(func, rule, args, kwargs)

    return method


def _fill() -> None:
    for names, rule in TABLE.items():
        for name, func in operations(names):
            RULES[func] = rule
            if func is getattr(Tensor, name, None) and not name.startswith("__r"):
                setattr(Pair, name, _method(func, rule))
    for names, whole in MADE_TOGETHER.items():
        WHOLE.update({func: whole for _, func in operations(names)})


_fill()
