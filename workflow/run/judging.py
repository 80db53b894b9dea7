"""What is measured of samples and of a map, whoever made them: a run of the study, or a model from outside."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset, not_numbers
from trigbench.workflow.study.records import Value


def judge_drawn(
    kind: Any, dataset: Dataset, drawn: Tensor, wanted: Collection[str]
) -> tuple[Mapping[str, float | None], str | None]:
    """What is wanted of samples, and None; where they, or what is measured of them, are not numbers, None, and why."""
    if count := not_numbers(drawn):
        return dict.fromkeys(wanted), f"{count} of {len(drawn)} samples are not numbers"
    found = {name: _finite(value) for name, value in kind.judge_samples(dataset, drawn, wanted).items()}
    unknown = [name for name, value in found.items() if value is None]
    return found, f"{', '.join(unknown)}: no number" if unknown else None


def judge_field(kind: Any, dataset: Dataset, field: Field) -> tuple[list[Value], list[Value], str | None]:
    """(metrics, curves, what is no number, or None) of a map from every angle down to 0; its points are on the CPU."""
    found, curves = kind.judge_map(dataset, field)
    metrics = [value.model_copy(update={"value": _finite(value.value)}) for value in found]
    unknown = [value.metric for value in metrics if value.value is None]
    return metrics, curves, f"{', '.join(unknown)}: no number" if unknown else None


def wanted_of(kind: Any, metrics: Collection[str] | None) -> list[str]:
    """Of a kind of data's metrics of samples those that are asked for; all, where none is."""
    return [name for name in kind.METRICS["samples"] if metrics is None or name in metrics]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
