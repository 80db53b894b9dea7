"""The tables of published networks: how those of EDM name their tensors, and all that is known of each family.

Plain data and no import of torch, so that a plan reads a file's header without one. A further family is a line of
PUBLISHED, and what that names.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from trigbench.core.constants import SIGMA_D, SIGMA_MIN

DDPMPP, ADM = "trigbench.core.networks.ddpmpp:DDPMpp", "trigbench.core.networks.adm:ADM"
OPENAI = "openai."
"""Before the names of ADM's U-Net as CM's authors train it, once `trigbench convert` wrote them in EDM's way."""
SIGMA_MIN_OF = f"{OPENAI}sigma_min"
"""The noise level at which such a network ends, where it is a consistency model; a diffusion model has none."""


@dataclass(frozen=True)
class Naming:
    """How a published network names its tensors; names in the network are the same without prefix."""

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
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Our names that differ, to the published, {side} being the resolution twice."""
    mark: str = ""
    """A tensor by which it is known from the next of the same prefix."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Of the network, beside its module's PLAIN."""

    @property
    def labels(self) -> str:
        """The published name of the layer that embeds them."""
        return f"{self.prefix}{self.label}.weight"


OPENAI_SETTINGS: Mapping[str, float] = {"time_scale": 1000.0}
"""Of ADM by CM's authors, and CTM's, beside PLAIN."""
FILTERS = r"model\.map_augment\.weight|.*\.resample_filter"
NAMINGS = (
    Naming(
        network=ADM,
        prefix="model.",
        stem_bias=0,
        block="conv0",
        attention="qkv",
        label="map_label",
        unused=FILTERS,
        mark="model.out_norm.weight",
    ),
    Naming(
        network=ADM,
        prefix=OPENAI,
        stem_bias=0,
        block="conv0",
        attention="qkv",
        label="map_label",
        unused="",
        settings=OPENAI_SETTINGS,
    ),
    Naming(
        network=DDPMPP,
        prefix="model.",
        stem_bias=0,
        block="conv0",
        attention="qkv",
        label="map_label",
        unused=FILTERS,
        renamed={"out_norm": "dec.{side}_aux_norm", "out_conv": "dec.{side}_aux_conv"},
    ),
    Naming(
        network="trigbench.core.networks.edm2:EDM2",
        prefix="unet.",
        stem_bias=1,
        block="conv_res0",
        attention="attn_qkv",
        label="emb_label",
        unused=r"logvar_.*",
    ),
)
"""EDM's ADM, the one of CM's authors, EDM's DDPM++, and EDM2."""
GAP = "r_embedder.mlp.0.weight"
"""By which MeanFlow's DiT, which is told the gap, is known from other DiTs of its layout."""
SIDE = 32
"""Of the latents of MeanFlow's and iMF's DiTs, where their tensors do not say it: ImageNet 256."""
SECOND = re.compile(r"(model|openai)\.(map_layer[01]|(?:enc|dec)\.[^.]+\.affine)_s\.(weight|bias)")
"""CTM's layers of the second time."""


class NoVelocity(ValueError):
    """A network that is known, and is no diffusion model."""


def refuse_consistency(names: Collection[str]) -> None:
    """Raise NoVelocity where tensors of these names are a consistency model."""
    if SIGMA_MIN_OF in names:
        raise NoVelocity("a consistency model, which has no velocity to teach or to be integrated by")


def naming_of(names: Iterable[str]) -> Naming:
    """That of tensors of these names. Raises ValueError where it is none."""
    names = set(names)
    prefixes = {f.prefix for f in NAMINGS if any(name.startswith(f"{f.prefix}enc.") for name in names)}
    found = next((f for f in NAMINGS if f.prefix in prefixes and (not f.mark or f.mark in names)), None)
    if found is None:
        raise ValueError("neither EDM's DDPM++ or ADM (model.enc...) nor EDM2 (unet.enc...)" + _hint(names))
    return found


def _hint(names: Collection[str]) -> str:
    if not any(name.startswith("input_blocks.") for name in names):
        return ""
    return " but ADM as CM's authors have it: convert it by --family cm, or cm_edm where it is their diffusion model"


def is_unet(names: Iterable[str]) -> bool:
    """Whether these, of a network of MeanFlow's, are of its U-Net, which resamples by a filter, and not of its DiT."""
    return any(name.endswith(".resample_filter") for name in names)


@dataclass(frozen=True)
class Header:
    """What a plan has to know of a converted network."""

    network: str
    """As a study's size names it."""
    shape: tuple[int, int, int]
    classes: int
    """That it is told; 0 for none."""
    kind: str = "edm"
    """As a study says it: a name of PUBLISHED."""


Shapes = Mapping[str, list[int]]
"""Of every tensor, by its name."""


def of_edm(shapes: Shapes) -> Header:
    """A network of EDM or EDM2, or of CM's authors. Raises ValueError, as all here, where tensors of these shapes are
    none, and NoVelocity for a consistency model."""
    refuse_consistency(shapes)
    naming = naming_of(shapes)
    first = re.compile(rf"{re.escape(naming.prefix)}enc\.(\d+)x\1_conv\.weight")
    stems = {int(found[1]): shapes[name] for name in shapes if (found := first.fullmatch(name))}
    if not stems:
        raise ValueError("no encoder in these tensors")
    stem, label = stems[side := max(stems)], shapes.get(naming.labels)
    if len(stem) != 4 or (label is not None and len(label) != 2):
        raise ValueError("its first layer, or that of its labels, is of another shape")
    return Header(naming.network, (stem[1] - naming.stem_bias, side, side), label[1] if label else 0)


def _of_meanflow(shapes: Shapes) -> Header:
    """Its U-Net, or its DiT as `trigbench convert` writes it."""
    if is_unet(shapes):
        found = of_edm({f"model.{name}": shape for name, shape in shapes.items()})
        return Header(f"{MAPS}:MeanFlowUNetMap", found.shape, 0, "meanflow")
    stem, places = shapes.get("x_embedder.proj.weight", []), shapes.get("pos_embed", [])
    if len(stem) != 4 or len(places) != 3:
        raise ValueError("its first layer, or that of its places, is of another shape")
    side = stem[2] * math.isqrt(places[1])
    classes = shapes.get("y_embedder.embedding_table.weight", [1])[0] - 1
    return Header(f"{MAPS}:MeanFlowMap", (stem[1], side, side), classes, "meanflow")


def _of_imf(shapes: Shapes) -> Header:
    stem, labels = shapes.get("x_embedder.proj.weight", []), shapes.get("y_embedder.embedding_table.weight", [])
    if len(stem) != 4 or len(labels) != 2:
        raise ValueError("its first layer, or that of its labels, is of another shape")
    return Header(f"{MAPS}:IMFMap", (stem[1], SIDE, SIDE), labels[0] - 1, "imf")


def _of_ctm(shapes: Shapes) -> Header:
    found = of_edm(shapes)
    return Header(f"{MAPS}:CTMMap", found.shape, found.classes, "ctm")


def _is_meanflow(names: Collection[str]) -> bool:
    edm = any(name.startswith("model.") for name in names)  # whose networks have filters, too
    return GAP in names or (is_unet(names) and not edm)


def _is_ctm(names: Collection[str]) -> bool:
    return any(SECOND.fullmatch(name) for name in names)


def _unused_by_meanflow(names: Collection[str]) -> Mapping[str, str]:
    heads = {"heads": "MeanFlow's U-Net has no heads to say"} if is_unet(names) else {}
    return {"smallest": "MeanFlow's time ends at 0, and no least level is told", **heads, **_unguided("MeanFlow")}


def _unguided(said: str) -> Mapping[str, str]:
    return dict.fromkeys(("scale", "interval"), f"{said}'s networks are told no guidance")


@dataclass(frozen=True)
class PublishedFamily:
    """All that is known of a family of published networks."""

    said: str
    """As messages call it."""
    written: str = ""
    """`module:function`: a checkpoint's tensors -> those that are written, all checked; empty where none is read."""
    refused: str = ""
    """Why none is read."""
    header: Callable[[Shapes], Header] | None = None
    """What a plan sees of one; None for what no study names."""
    is_map: Callable[[Collection[str]], bool] | None = None
    """Whether written tensors of these names are a map of two times of the family; None where it has no maps."""
    map: str = ""
    """`module:function`: (its tensors, sigma_d, what of heads, smallest, scale and interval is said and used) -> its
    PublishedMap, in unit variance."""
    unused: Callable[[Collection[str]], Mapping[str, str]] = lambda names: {}
    """What such a map is not told of these four, and why."""
    sigma_d: float | None = None
    """Standard deviation of the data, where its networks know it; None for any."""
    needs_labels: bool = False
    """Whether a network of classes has no branch without a label."""
    remark: str = ""
    """What its tensors do not say and is taken for granted; `{sigma_d}` is the study's."""
    guided: str = ""
    """What may hold of those that are told labels."""


ADAPTER = "lora"
"""Of `--family`: an adapter of a network, and no network (core.published_adapters)."""
CONSISTENCY, ITS_TEACHER = "cm", "cm_edm"
"""Of `--family`: CM's consistency models, and the diffusion models beside them, of the same tensors."""
MAPS, OPENED = "trigbench.core.networks.maps", "trigbench.core.networks.public_maps"
CM, IMF = "trigbench.core.networks.openai", "trigbench.core.networks.imf"
PUBLISHED: dict[str, PublishedFamily] = {
    "edm": PublishedFamily("EDM", header=of_edm, sigma_d=SIGMA_D),
    "meanflow": PublishedFamily(
        "MeanFlow", f"{OPENED}:meanflow_written", header=_of_meanflow, is_map=_is_meanflow,
        map=f"{OPENED}:meanflow_map", unused=_unused_by_meanflow,
        remark="taken to be trained on data of a standard deviation of {sigma_d:g}, as the study's are",
        guided="MeanFlow's public networks that are told labels were trained with guidance inside: the velocity is the "
        "guided one, if this is one of them (docs/teachers.md)",
    ),
    "ctm": PublishedFamily(
        "CTM", f"{OPENED}:ctm_written", header=_of_ctm, is_map=_is_ctm, map=f"{OPENED}:ctm_map",
        unused=lambda names: {"heads": "CTM's tensors say how many heads it has", **_unguided("CTM")},
        sigma_d=SIGMA_D, needs_labels=True,
        remark=f"taken to be trained down to the noise level {SIGMA_MIN:g}, as CTM's paper has it (docs/teachers.md)",
    ),
    "scm": PublishedFamily("sCM", "trigbench.core.networks.fastgen:scm_tensors"),
    ITS_TEACHER: PublishedFamily(
        "ADM", f"{CM}:adm_tensors",
        remark="taken for a diffusion model, as whoever converted it says; a consistency model has the same tensors",
    ),
    CONSISTENCY: PublishedFamily(
        "CM", f"{CM}:cm_tensors", sigma_d=SIGMA_D,
        remark=f"taken for a consistency model that ends at the noise level {SIGMA_MIN:g} and has CM's heads; the "
        "release's own sampler cuts samples to [-1, 1] after every step, which is not done here",
    ),
    "imf": PublishedFamily(
        "iMF", f"{IMF}:imf_tensors", header=_of_imf, is_map=lambda names: "omega_tokens" in names,
        map=f"{OPENED}:imf_map",
        unused=lambda names: {
            "heads": "iMF's tensors say how many heads it has",
            "smallest": "iMF's time ends at 0, and no least level is told",
        },
        remark="taken to be trained on data of a standard deviation of {sigma_d:g}, as the study's are; not guided, "
        "while its authors' samples are, at scales of 4 to 10.5 (docs/teachers.md)",
    ),
    "ayf": PublishedFamily(
        "AYF",
        refused="its authors have published no code and no weights, so that no names of tensors are known",
    ),
}  # fmt: skip
"""By the name that `trigbench convert --family`, and a study's teacher, say."""


def map_family_of(names: Collection[str]) -> str | None:
    """Whose map of two times tensors of these names are, as `trigbench convert` wrote them; None for none."""
    families = PUBLISHED.items()
    return next((family for family, known in families if known.is_map is not None and known.is_map(names)), None)


def converted() -> list[str]:
    """The families that `trigbench convert --family` knows, those among them that it refuses with a reason."""
    return [*(family for family, known in PUBLISHED.items() if known.written or known.refused), ADAPTER]
