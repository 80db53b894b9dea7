"""Samples that are seen to move: a few of every method, from the same noise, with real ones before them."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from trigbench.workflow.report.chosen import few_samples, shown_of
from trigbench.workflow.study.study import Run, Study

SCALE = 2
"""Pixels of a picture for one of a frame, so that browsers that smooth it leave it legible."""


@dataclass(frozen=True)
class Shown:
    """What a page has films of: a row a method, a column for each sample."""

    names: list[str]
    """Of the columns, what was asked for."""
    frames: int
    rows: list[tuple[str, list[str]]]
    """(method, the address of each film: a picture of its frames side by side, which holds the picture itself)."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Shown":
        """Of what was written down."""
        return cls(list(content["names"]), content["frames"], [(label, films) for label, films in content["rows"]])


def films(study: Study, runs: list[Run]) -> Shown | None:
    """Of the given runs on the first one's data, in each number of steps, but for samples that are no numbers.

    None where the data do not move.
    """
    found = shown_of(study, runs, lambda kind: kind.films)
    if found is None:
        return None
    rows = [("held-out videos", found.real)]
    rows += [(label, found.levels(few)) for label, few in few_samples(study, runs, found.rows)]
    return Shown(list(found.names), found.real.shape[1], [(label, [*map(_address, shown)]) for label, shown in rows])


def _address(film: np.ndarray) -> str:
    """Frames (frames, h, w) of levels from 0 to 1, side by side as a PNG."""
    grey = (np.concatenate(list(film), axis=1).clip(0, 1) * 255).round().astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(grey.repeat(SCALE, 0).repeat(SCALE, 1)).save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
