"""Samples that are seen to move: a few of every method, from the same noise, with real ones before them."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.report.pictures import AGAIN, samples_of
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.study.kinds import data_kind
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
    data = study.arms[runs[0].arm].data if runs else None
    kind = None if data is None else data_kind(study.data[data]).films
    if data is None or kind is None:
        return None
    found = kind(read_arrays(study.data_file(data), AGAIN))
    rows = [("held-out videos", found.real)]
    for run in (run for run in runs if study.arms[run.arm].data == data):
        for count, samples in samples_of(study, run):
            few = samples[[row for row in found.rows if row < len(samples)]]
            if len(few) == len(found.rows) and np.isfinite(few).all():
                rows.append((f"{run.arm}, {steps_label(count, study.arms[run.arm].objective)}", found.levels(few)))
    return Shown(list(found.names), found.real.shape[1], [(label, [*map(_address, shown)]) for label, shown in rows])


def _address(film: np.ndarray) -> str:
    """Frames (frames, h, w) of levels from 0 to 1, side by side as a PNG."""
    grey = (np.concatenate(list(film), axis=1).clip(0, 1) * 255).round().astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(grey.repeat(SCALE, 0).repeat(SCALE, 1)).save(file, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
