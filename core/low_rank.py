"""Low-rank adapters of a network's weights (LoRA, arXiv 2106.09685), and their sums (LCM-LoRA, arXiv 2311.05556).

The network is left as it is: an adapter is tensors by name, `merged` makes weights of it, and core.fields.bind, or
torch.func.functional_call, evaluates the network with these. So what is trained is the adapter alone:
`bind(network, merged(frozen, (adapter, 1.0)))` is a student for any objective.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Tensors = Mapping[str, Tensor]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, *CONVOLUTIONS)
"""Those whose weights are adapted, with any that says so itself, as EDM2's: its `low_rank` is true. Convolutions in
groups are not."""
WITHOUT = (nn.Embedding, *CONVOLUTIONS)
"""Those that may have other weights, which stay as they are."""


def adapted_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network's linear and convolution layers, EDM2's too, by their names among its parameters.

    Raises ValueError for a network without such layers, and for one with weights of two or more dimensions elsewhere
    (but for embeddings and convolutions in groups): whether these are matrices is not known, and an adapter without
    them would train a part of the network in silence.
    """
    found, others = dict[str, Tensor](), list[str]()
    for place, layer in network.named_modules():
        for part, weight in layer.named_parameters(place, recurse=False):
            adapted = isinstance(layer, LAYERS) or getattr(layer, "low_rank", False)
            if adapted and part.endswith("weight") and getattr(layer, "groups", 1) == 1:
                found[part] = weight
            elif weight.ndim > 1 and not isinstance(layer, WITHOUT):
                others.append(f"{part} {tuple(weight.shape)}")
    if others or not found:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise ValueError(
            f"{type(network).__name__} has {len(found)} weights of linear and convolution layers, and {len(others)} "
            f"others of two or more dimensions{f': {shown}' if others else ''}; choose what to adapt by name, and give "
            "new_adapter {name: weight} of the network's named_parameters()"
        )
    return found


def new_adapter(weights: Tensors, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """An adapter of these weights that changes nothing yet: `<weight>.up` (out, rank) is 0.

    `<weight>.down` (rank, in), over channels and places of a kernel, is uniform within 1 / sqrt(in), as peft's. The
    generator is on the CPU, whatever the weights are on. Raises ValueError for no weights, no rank, and vectors.
    """
    if rank < 1 or not weights:
        raise ValueError(
            f"an adapter has a rank of 1 or more and weights to adapt, got {rank} and {len(weights)} weights"
        )
    adapter: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2:
            raise ValueError(f"{name} of {tuple(weight.shape)} is no matrix")
        size = weight[0].numel()
        drawn = torch.rand(rank, size, generator=generator, dtype=torch.float64)
        adapter[f"{name}.down"] = ((2 * drawn - 1) * size**-0.5).to(weight)
        adapter[f"{name}.up"] = weight.new_zeros(len(weight), rank)
    return adapter


def merged(weights: Tensors, *adapters: tuple[Tensors, float]) -> dict[str, Tensor]:
    """W + sum of scale * up @ down of each adapter with its scale; weights that none adapts are as they were.

    LCM-LoRA's combination is merged(W, (style, 0.8), (acceleration, 1.0)): products are summed, and not, factor by
    factor, what they are made of. A scale is alpha / rank in other projects' terms. Gradients reach the adapters, and
    weights too where these have one. Raises ValueError for an adapter of other weights.

    EDM2's layers divide each row of a weight by its length where they use it, so of W + scale up @ down as well: a
    scale changes the direction of rows and not their length, and nothing is added beside a layer's output. A new
    adapter changes nothing there either, and two add to first order.
    """
    found = dict(weights)
    for adapter, scale in adapters:
        for name in _adapted(adapter):
            if name not in weights:
                raise ValueError(f"the adapter is of {name!r}, which is none of the {len(weights)} weights")
            up, down, shape = adapter[f"{name}.up"], adapter[f"{name}.down"], weights[name].shape
            if (len(up), down[0].numel()) != (shape[0], weights[name][0].numel()):
                raise ValueError(f"{name} is of {tuple(shape)}, its adapter of {len(up)} by {down[0].numel()}")
            found[name] = found[name] + scale * (up @ down).reshape(shape)
    return found


def interaction(
    evaluate: Callable[[Tensors], Tensor], weights: Tensors, one: tuple[Tensors, float], other: tuple[Tensors, float]
) -> Tensor:
    """F(W + a + b) - F(W + a) - F(W + b) + F(W), of the outputs that `evaluate` makes of weights.

    0 where two adapters act as if alone: for a network that is linear in its weights, and to first order for any (a
    layer of EDM2 is not linear in its own).
    """
    both, alone, without = merged(weights, one, other), (merged(weights, one), merged(weights, other)), dict(weights)
    return evaluate(both) - sum(evaluate(changed) for changed in alone) + evaluate(without)


def _adapted(adapter: Tensors) -> list[str]:
    """The names of the weights; raises ValueError unless each has its two parts."""
    names = {name.rpartition(".")[0] for name in adapter}
    if adapter.keys() != {f"{name}.{part}" for name in names for part in ("up", "down")}:
        raise ValueError(f"an adapter has '<weight>.up' and '<weight>.down' for each weight, got {', '.join(adapter)}")
    return sorted(names)
