"""Attention with its tangent in code of one's own, as MeanFlow's or rCM's: each layer takes (x, dx) and gives (y, dy).

python examples/attention_alone.py
"""

import torch
from torch import nn
from torch.nn.functional import linear

from trigbench import attention_with_tangent


class Attention(nn.Module):
    """Four heads; the value is recorded, the tangent is not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, dx: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(y, dy) of (batch, length, width), in one pass where there is Triton and a GPU."""
        both = [linear(a, self.qkv.weight).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4) for a in (x, dx.detach())]
        y, dy = attention_with_tangent(*both[0], *both[1].detach())
        return self.out(y.transpose(1, 2).flatten(2)), self.out(dy.transpose(1, 2).flatten(2)).detach()


if __name__ == "__main__":
    torch.manual_seed(0)
    layer, x, v = Attention(32), torch.randn(2, 16, 32), torch.randn(2, 16, 32)
    u, du = layer(x, v)
    loss = (u - (v - 0.3 * du)).square().mean()  # MeanFlow: u = v - (t - r) du/dt, without the gradient of du/dt
    loss.backward()
    print(f"loss {loss.item():.4f}, gradient of norm {layer.qkv.weight.grad.norm().item():.4f}")
