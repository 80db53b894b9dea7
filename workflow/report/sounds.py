"""Samples that can be heard: a few of every method, from the same noise, with real ones before them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.report.pictures import AGAIN, samples_of
from trigbench.workflow.report.rows import steps_label
from trigbench.workflow.study.kinds import data_kind
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Heard:
    """What a page has players for: a row a method, a column for each sample."""

    names: list[str]
    """Of the columns, what was asked for."""
    rows: list[tuple[str, list[str]]]
    """(method, the address of each sound, which holds the sound itself)."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Heard":
        """Of what was written down."""
        return cls(list(content["names"]), [(label, sounds) for label, sounds in content["rows"]])


def sounds(study: Study, runs: list[Run]) -> Heard | None:
    """Of the given runs on the first one's data, in each number of steps, but for samples that are no numbers.

    None where the data make no sound.
    """
    data = study.arms[runs[0].arm].data if runs else None
    kind = None if data is None else data_kind(study.data[data]).sounds
    if data is None or kind is None:
        return None
    found = kind(read_arrays(study.data_file(data), AGAIN))
    rows = [*found.real]
    for run in (run for run in runs if study.arms[run.arm].data == data):
        for count, samples in samples_of(study, run):
            few = samples[[row for row in found.rows if row < len(samples)]]
            if len(few) == len(found.rows) and np.isfinite(few).all():
                label = f"{run.arm}, {steps_label(count, study.arms[run.arm].objective)}"
                rows.append((label, found.heard(few)))
    return Heard(list(found.names), [(label, [_address(sound) for sound in heard]) for label, heard in rows])


def _address(sound: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"
