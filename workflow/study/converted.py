"""Teachers that a study names by their file, as its plan sees them: from the file's header alone, without torch."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Literal

from trigbench.core.networks.families import family_of, is_unet, map_family_of
from trigbench.workflow.study.models import Model

MAPS = "trigbench.core.networks.maps"
OPENED_BY = {
    "edm": "trigbench.workflow.run.teachers:EdmTeacher",
    "meanflow": "trigbench.workflow.run.maps:MapTeacher",
    "ctm": "trigbench.workflow.run.maps:MapTeacher",
}
"""kind of a converted teacher -> what opens one; part of no other run's mathematics."""
LONGEST_HEADER = 100_000_000
"""Of the format, in bytes."""


class ConvertedTeacher(Model):
    """A published network in a file that `trigbench convert` made (docs/teachers.md)."""

    file: str
    """A .safetensors file; relative to where the workflow is started."""
    kind: Literal["edm", "meanflow", "ctm"]
    """A network of EDM (DDPM++) or EDM2, or a map of two times of this family, which teaches by its velocity."""

    def __str__(self) -> str:
        """As tables name it."""
        return f"{self.kind}:{PurePath(self.file).name}"


@dataclass(frozen=True)
class Header:
    """What a plan has to know of a converted network."""

    network: str
    """As a study's size names it."""
    shape: tuple[int, int, int]
    classes: int
    """That it is told; 0 for none."""
    kind: str = "edm"
    """As a study says it."""


def header_of(path: Path) -> Header:
    """Of a network of EDM or EDM2, or a map of MeanFlow's or CTM's.

    Raises ValueError, in words, where the file is none, and OSError.
    """
    stat = path.stat()
    return _header(path, stat.st_size, stat.st_mtime_ns)


@cache
def _header(path: Path, size: int, changed: int) -> Header:
    shapes = _shapes(path, size)
    kind = map_family_of(shapes)
    if kind == "meanflow" and not is_unet(shapes):
        return _of_dit(shapes)
    if kind == "meanflow":
        found = _of_edm({f"model.{name}": shape for name, shape in shapes.items()})
        return Header(f"{MAPS}:MeanFlowUNetMap", found.shape, 0, kind)
    found = _of_edm(shapes)
    return found if kind is None else Header(f"{MAPS}:CTMMap", found.shape, found.classes, kind)


def _of_dit(shapes: Mapping[str, list[int]]) -> Header:
    """MeanFlow's, as `trigbench convert` writes it."""
    stem, places = shapes.get("x_embedder.proj.weight", []), shapes.get("pos_embed", [])
    if len(stem) != 4 or len(places) != 3:
        raise ValueError("its first layer, or that of its places, is of another shape")
    side = stem[2] * math.isqrt(places[1])
    classes = shapes.get("y_embedder.embedding_table.weight", [1])[0] - 1
    return Header(f"{MAPS}:MeanFlowMap", (stem[1], side, side), classes, "meanflow")


def _of_edm(shapes: Mapping[str, list[int]]) -> Header:
    family = family_of(shapes)
    first = re.compile(rf"{re.escape(family.prefix)}enc\.(\d+)x\1_conv\.weight")
    stems = {int(found[1]): shapes[name] for name in shapes if (found := first.fullmatch(name))}
    if not stems:
        raise ValueError("no encoder in these tensors")
    stem, label = stems[side := max(stems)], shapes.get(family.labels)
    if len(stem) != 4 or (label is not None and len(label) != 2):
        raise ValueError("its first layer, or that of its labels, is of another shape")
    return Header(family.network, (stem[1] - family.stem_bias, side, side), label[1] if label else 0)


def _shapes(path: Path, size: int) -> dict[str, list[int]]:
    """Of every tensor, from the header of a .safetensors file: its length in 8 bytes, and JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise ValueError("not a whole .safetensors file")
        text = file.read(length)
    try:
        found = json.loads(text)
        entries = {name: entry for name, entry in found.items() if name != "__metadata__"}
        shapes = {name: [int(n) for n in entry["shape"]] for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError("not a whole .safetensors file") from error
    if end != size - 8 - length:
        raise ValueError("not a whole .safetensors file")
    return shapes
