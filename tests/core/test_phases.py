"""What sampling in segments asks for is trained, whatever the segments and the grid."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.test_trajectory import EXACT
from trigbench.core.fields import Draws, Field, Jump
from trigbench.core.objectives.multistep import MSCMSettings, mscm
from trigbench.core.objectives.phased import PCMSettings, pcm
from trigbench.core.samplers.consistency import sample_segments
from trigbench.core.schedules import karras_angles, largest_angle, uniform_angles
from trigbench.core.trigflow import even_grid

T_MAX = largest_angle(0.5)
Pairs = list[tuple[float, float]]


@pytest.fixture(autouse=True)
def _shapes_unchecked(unchecked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    with unchecked():
        yield


def recording(pairs: Pairs) -> Jump:
    """The exact map, which notes what it is asked for where gradients pass."""

    def to(u: Tensor) -> Field:
        def field(x: Tensor, t: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                pairs.extend(zip(t.tolist(), u.tolist(), strict=True))
            return EXACT.student_to(u)(x, t)  # type: ignore[misc]

        return field

    return to


def lacking(objective: Callable[..., Any], settings: Any, intervals: int) -> Pairs:
    """Pairs that sample_segments asks for and that no draw trains, of one in every interval."""
    trained, asked = Pairs(), Pairs()
    uniform = (torch.arange(intervals, dtype=torch.float64) + 0.5) / intervals
    noise = torch.randn(intervals, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objective(replace(EXACT, student_to=recording(trained)), 0.5 * noise, Draws(uniform, noise), settings)
    edges = torch.cat([settings.segments, torch.tensor([T_MAX], dtype=torch.float64)])
    sample_segments(recording(asked), noise[:1], edges)
    assert len(trained) == intervals and len(asked) == len(settings.segments)
    known = torch.tensor(trained, dtype=torch.float64)
    return [pair for pair in asked if float((known - known.new_tensor(pair)).abs().amax(1).min()) > 1e-9]


def edges(segments: int) -> Tensor:
    return uniform_angles(segments, T_MAX)[:-1]


@pytest.mark.parametrize(
    ("segments", "intervals"), [(1, 50), (2, 50), (3, 51), (4, 52), (7, 56), (16, 64), (50, 50), (64, 64)]
)
def test_pcm_trains_every_map_that_is_sampled(segments: int, intervals: int) -> None:
    assert lacking(pcm, PCMSettings(edges(segments)), intervals) == []


@pytest.mark.parametrize(
    ("segments", "stage", "intervals"),
    [(1, 0, 64), (3, 0, 66), (6, 0, 66), (48, 0, 96), (128, 0, 128), (3, 1, 129), (6, 2, 258), (8, 1, 128)],
)
def test_mscm_trains_every_map_that_is_sampled(segments: int, stage: int, intervals: int) -> None:
    assert lacking(mscm, MSCMSettings(edges(segments), stage=stage), intervals) == []


@pytest.mark.parametrize(("objective", "settings"), [(pcm, PCMSettings), (mscm, MSCMSettings)])
def test_a_told_grid_has_the_edges_or_is_refused(objective: Callable[..., Any], settings: Callable[..., Any]) -> None:
    for segments, intervals in ((3, 12), (12, 12), (1, 7)):
        grid = even_grid(uniform_angles(intervals, T_MAX))
        assert lacking(objective, settings(edges(segments), grid=grid), intervals) == []
    for segments, intervals, wanted in ((4, 50, "2 of 4 segments"), (16, 50, "14 of 16"), (8, 4, "4 of 8")):
        with pytest.raises(ValueError, match=f"{wanted}.* of {intervals} intervals.*never trained"):
            settings(edges(segments), grid=even_grid(uniform_angles(intervals, T_MAX)))
    with pytest.raises(ValueError, match="1 of 2 segments start at no point"):
        settings(edges(2), grid=even_grid(karras_angles(64, 0.5)))
    uneven = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="2 of 3 segments start at no point of the grid of"):
        settings(uneven)
    through = torch.cat([uneven, torch.tensor([0.7, T_MAX], dtype=torch.float64)]).sort().values
    assert lacking(objective, settings(uneven, grid=even_grid(through)), 4) == []
