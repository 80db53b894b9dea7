"""The table of EDM's published networks: how each family names its tensors, and by which names it is told.

Plain data and no import of torch, so that a plan reads a file's header without one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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


def family_of(names: Iterable[str]) -> Family:
    """The family of tensors of these names. Raises ValueError where it is neither."""
    names = list(names)
    found = next((f for f in FAMILIES if any(name.startswith(f"{f.prefix}enc.") for name in names)), None)
    if found is None:
        raise ValueError("neither EDM's DDPM++ (model.enc...) nor EDM2 (unet.enc...)")
    return found
