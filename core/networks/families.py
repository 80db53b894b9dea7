"""How published networks name their tensors: the table of EDM's families, and how a map of two times is known.

Plain data and no import of torch, so that a plan reads a file's header without one.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

DDPMPP = "trigbench.core.networks.ddpmpp:DDPMpp"


@dataclass(frozen=True)
class Family:
    """How a family of published networks names its tensors; names in the network are the same without prefix."""

    network: str
    """As a study's size names it; its module's PLAIN are the settings as published."""
    prefix: str
    stem_bias: int
    """Channels of the stem that are not the image's."""
    block: str
    """A block's first convolution."""
    attention: str
    label: str
    unused: str
    """What a field has no use for: EDM's labels of augmentation, zero outside training, and its fixed filters,
    and EDM2's estimate of its own uncertainty."""
    renamed: Mapping[str, str]
    """Our names that differ, to the published, {side} being the resolution twice."""

    @property
    def labels(self) -> str:
        """The published name of the layer that embeds them."""
        return f"{self.prefix}{self.label}.weight"


FAMILIES = (
    Family(
        network=DDPMPP,
        prefix="model.",
        stem_bias=0,
        block="conv0",
        attention="qkv",
        label="map_label",
        unused=r"model\.map_augment\.weight|.*\.resample_filter",
        renamed={"out_norm": "dec.{side}_aux_norm", "out_conv": "dec.{side}_aux_conv"},
    ),
    Family(
        network="trigbench.core.networks.edm2:EDM2",
        prefix="unet.",
        stem_bias=1,
        block="conv_res0",
        attention="attn_qkv",
        label="emb_label",
        unused=r"logvar_.*",
        renamed={},
    ),
)
"""EDM's DDPM++, and EDM2."""
GAP = "r_embedder.mlp.0.weight"
"""By which MeanFlow's DiT, which is told the gap, is known from other DiTs of its layout."""
SECOND = re.compile(r"model\.(map_layer[01]|(?:enc|dec)\.[^.]+\.affine)_s\.(weight|bias)")
"""CTM's layers of the second time."""


def family_of(names: Iterable[str]) -> Family:
    """The family of tensors of these names. Raises ValueError where it is neither."""
    names = list(names)
    found = next((f for f in FAMILIES if any(name.startswith(f"{f.prefix}enc.") for name in names)), None)
    if found is None:
        raise ValueError("neither EDM's DDPM++ (model.enc...) nor EDM2 (unet.enc...)")
    return found


def map_family_of(names: Collection[str]) -> Literal["meanflow", "ctm"] | None:
    """Whose map of two times tensors of these names are, as `trigbench convert` wrote them; None for none."""
    if any(SECOND.fullmatch(name) for name in names):
        return "ctm"
    edm = any(name.startswith("model.") for name in names)  # whose networks have filters, too
    return "meanflow" if GAP in names or (is_unet(names) and not edm) else None


def is_unet(names: Iterable[str]) -> bool:
    """Whether these, of a network of MeanFlow's, are of its U-Net, which resamples by a filter, and not of its DiT."""
    return any(name.endswith(".resample_filter") for name in names)
