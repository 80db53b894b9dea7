"""Teachers that a study names by their file, as its plan sees them: from the file's header alone, without torch."""

import json
from functools import cache
from pathlib import Path, PurePath

from pydantic import field_validator

from trigbench.core.networks.families import PUBLISHED, Header, map_family_of
from trigbench.workflow.study.models import Model, check_known

EDM = "edm"
OPENED_BY = {
    family: f"trigbench.workflow.run.{'maps:MapTeacher' if known.map else 'teachers:EdmTeacher'}"
    for family, known in PUBLISHED.items()
    if known.header
}
"""kind of a converted teacher -> what opens one; part of no other run's mathematics."""
LONGEST_HEADER = 100_000_000
"""Of the format, in bytes."""


class ConvertedTeacher(Model):
    """A published network in a file that `trigbench convert` made (docs/teachers.md)."""

    file: str
    """A .safetensors file; relative to where the workflow is started."""
    kind: str
    """A network of EDM (DDPM++) or EDM2, or a map of two times of this family, which teaches by its velocity."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        check_known("kind", kind, OPENED_BY)
        return kind

    def __str__(self) -> str:
        """As tables name it."""
        return f"{self.kind}:{PurePath(self.file).name}"


def header_of(path: Path) -> Header:
    """Of a network of EDM or EDM2, or a map of MeanFlow's, iMF's or CTM's.

    Raises ValueError, in words, where the file is none, and OSError.
    """
    stat = path.stat()
    return _header(path, stat.st_size, stat.st_mtime_ns)


@cache
def _header(path: Path, size: int, changed: int) -> Header:
    shapes = _shapes(path, size)
    header = PUBLISHED[map_family_of(shapes) or EDM].header
    assert header is not None, "of what has maps"
    return header(shapes)


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
