"""Published networks of two times as networks of a study, which start from their public weights: x, t, condition -> F.

Each has the published network inside, as `network`, and the conversion of core.map_conversions around it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from trigbench.core.condition import Condition
from trigbench.core.networks import adm
from trigbench.core.networks.adm import ADM
from trigbench.core.networks.conditioning import check_choice
from trigbench.core.networks.ctm import CTMNetwork, ctm_jump
from trigbench.core.networks.ddpmpp import PLAIN, DDPMpp
from trigbench.core.networks.families import OPENAI_SETTINGS
from trigbench.core.networks.images import Image
from trigbench.core.networks.imf import IMFDiT, imf_jump
from trigbench.core.networks.meanflow import MeanFlowDiT, meanflow_jump, published_positions
from trigbench.core.networks.meanflow_unet import MeanFlowUNet, meanflow_unet_jump

TOLD = ("target_time",)
UNETS = {"ddpmpp": partial(DDPMpp, **PLAIN), "adm": partial(ADM, **adm.PLAIN, **OPENAI_SETTINGS)}
"""CTM's, as published."""


class MeanFlowMap(nn.Module):
    """MeanFlow's DiT (arXiv 2505.13447) as F(x, t; u), told labels or none. `settings` are the DiT's, such as width.

    Raises ValueError, as all here, where it is told anything but a target time.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, told: Sequence[str], sigma_d: float, **settings: Any
    ) -> None:
        super().__init__()
        _check_told(told)
        self.sigma_d = sigma_d
        self.network = MeanFlowDiT(shape=tuple(shape), classes=classes, **settings)
        dit = self.network.dit  # whose places are embedded in another order
        dit.positions = published_positions(dit.tokens, dit.positions.shape[1]).float()

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition) -> Image:
        return meanflow_jump(self.network, self.sigma_d, condition.label)(_end(condition))(x, t)


class MeanFlowUNetMap(nn.Module):
    """MeanFlow's U-Net of CIFAR-10 as F(x, t; u), told no labels. `settings` are of DDPM++, such as width."""

    def __init__(
        self, shape: Sequence[int], classes: int, told: Sequence[str], sigma_d: float, **settings: Any
    ) -> None:
        super().__init__()
        _check_told(told)
        if classes:
            raise ValueError(f"MeanFlow's U-Net is told no labels, and the data have {classes} classes")
        self.sigma_d = sigma_d
        self.network = MeanFlowUNet(DDPMpp(shape, **PLAIN, **settings))

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition) -> Image:
        return meanflow_unet_jump(self.network, self.sigma_d)(_end(condition))(x, t)


class IMFMap(nn.Module):
    """iMF's DiT (arXiv 2512.02012) as F(x, t; u), not guided. `settings` are the DiT's, such as width."""

    def __init__(
        self, shape: Sequence[int], classes: int, told: Sequence[str], sigma_d: float, **settings: Any
    ) -> None:
        super().__init__()
        _check_told(told)
        self.sigma_d = sigma_d
        self.network = IMFDiT(shape, classes, **settings)

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition) -> Image:
        return imf_jump(self.network, self.sigma_d, condition.label)(_end(condition))(x, t)


class CTMMap(nn.Module):
    """CTM's DDPM++ or ADM (arXiv 2310.02279) as F(x, t; u), told labels or none. `settings` are the `unet`'s, such as
    width."""

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        told: Sequence[str],
        sigma_d: float,
        unet: Literal["ddpmpp", "adm"] = "ddpmpp",
        **settings: Any,
    ) -> None:
        super().__init__()
        _check_told(told)
        check_choice("unet", unet, UNETS)
        self.sigma_d = sigma_d
        self.network = CTMNetwork(UNETS[unet](shape=shape, classes=classes, **settings))

    def forward(self, x: Image, t: Float[Tensor, " batch"], condition: Condition) -> Image:
        return ctm_jump(self.network, self.sigma_d, condition.label)(_end(condition))(x, t)


def _check_told(told: Sequence[str]) -> None:
    if tuple(told) != TOLD:
        said = " and ".join(told) or "nothing"
        raise ValueError(f"a published map is told a target time alone, and this arm's network {said}")


def _end(condition: Condition) -> Tensor:
    assert condition.target_time is not None, "as it is told"
    return condition.target_time
