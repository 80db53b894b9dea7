"""The adaptive weight's logarithm w(t), a small network of the time alone (App. D)."""

from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.networks.embeddings import PositionalEmbedding
from trigbench.core.trigflow import time_dtype


class LogWeight(nn.Module):
    """Positional embedding, then one linear map that starts at zero: e^w = 1 everywhere."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.embed = PositionalEmbedding(channels)
        self.head = nn.Linear(channels, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        weight = self.head.weight
        return self.head(self.embed(t.to(time_dtype(weight))).to(weight.dtype))[:, 0]
