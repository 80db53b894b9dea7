"""Samples that can be heard: a few of every method, from the same noise, with real ones before them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trigbench.workflow.report.chosen import few_samples, shown_of
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
    found = shown_of(study, runs, lambda kind: kind.sounds)
    if found is None:
        return None
    rows = [*found.real, *((label, found.heard(few)) for label, few in few_samples(study, runs, found.rows))]
    return Heard(list(found.names), [(label, [_address(sound) for sound in heard]) for label, heard in rows])


def _address(sound: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(sound).decode()}"
