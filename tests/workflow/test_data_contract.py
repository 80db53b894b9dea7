"""Every data set's draws are what it says of itself, and its samples get labels as often as it has them."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from examples import own_data
from trigbench.core.condition import Condition
from trigbench.workflow.data.dataset import Dataset, checked
from trigbench.workflow.data.kinds.digits.draws import open_dataset
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.noise import labels_of_samples
from trigbench.workflow.run.task import open_data, opened
from trigbench.workflow.study.protocol import protocol
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

Drawn = tuple[Any, Any]
Opened = Callable[..., Study]


def _fair(g: torch.Generator, batch: int) -> Drawn:
    return torch.randn(batch, 2, generator=g), torch.randint(3, (batch,), generator=g)


@pytest.fixture
def labelled(tiny: dict, write_study, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A study on a data set of one's own of three classes, whose draws are changed as asked."""
    monkeypatch.chdir(tmp_path)

    def make(draw: Callable[[torch.Generator, int], Drawn] = _fair, **more: Any) -> Study:
        module = ModuleType("labelled_data")
        module.__dict__.update({name: value for name, value in vars(own_data).items() if not name.startswith("__")})
        about: dict[str, Any] = {"shape": (2,), "classes": 3, "velocity": None, "shares": (1, 1, 1), **more}
        module.__dict__["open_dataset"] = lambda arrays, sigma_d: Dataset(draw=draw, arrays=arrays, **about)
        monkeypatch.setitem(sys.modules, "labelled_data", module)
        tiny["data"] = {"mixture": {"kind": "own", "module": "labelled_data"}}
        tiny["arms"] = {"x": {"objective": "diffusion"}}
        for experiment in tiny["experiments"].values():
            experiment.update(arms=["x"], metric="sliced_wasserstein")
        return load(write_study(tiny))

    return make


def _labels(change: Callable[[torch.Tensor], Any]) -> Callable[[torch.Generator, int], Drawn]:
    def draw(g: torch.Generator, batch: int) -> Drawn:
        x0, labels = _fair(g, batch)
        return x0, change(labels)

    return draw


def _points(change: Callable[[torch.Tensor], Any]) -> Callable[[torch.Generator, int], Drawn]:
    def draw(g: torch.Generator, batch: int) -> Drawn:
        x0, labels = _fair(g, batch)
        return change(x0), labels

    return draw


BAD: dict[str, tuple[Callable[[torch.Generator, int], Drawn], str]] = {
    "from 1 to K": (_labels(lambda y: y + 1), "draws labels from 1 to 3"),
    "below zero": (_labels(lambda y: y - 1), "draws labels from -1 to 1"),
    "fractions": (_labels(lambda y: y.float()), r"draws labels that are torch\.float32"),
    "truths": (_labels(lambda y: y > 0), r"draws labels that are torch\.bool"),
    "one-hot": (
        _labels(lambda y: torch.nn.functional.one_hot(y, 3)),
        r"draws labels that are torch\.int64 of \(\d+, 3\)",
    ),
    "too few": (_labels(lambda y: y[1:]), "draws labels that are"),
    "of numpy": (_labels(lambda y: y.numpy()), "draws labels that are int64"),
    "a scale beside": (_labels(lambda y: Condition(y, torch.ones(len(y)))), "draws 'scale' in its condition"),
    "what samples are not told": (
        _labels(lambda y: Condition(y, observation=y)),
        r"draws observations: torch\.int64 of \(\d+,\), where none was expected",
    ),
    "too many in a condition": (_labels(lambda y: Condition(y + 1)), "draws labels from 1 to 3"),
    "none": (_labels(lambda y: None), "has 3 classes and draws no labels"),
    "points of another shape": (_points(lambda x: x[:, :1]), r"draws torch\.float32 of \(\d+, 1\)"),
    "whole numbers": (_points(lambda x: x.long()), r"draws torch\.int64"),
    "no numbers": (_points(lambda x: x / (x[:, :1] > 0)), "draws samples that are not numbers"),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("what", BAD)
def test_data_that_draw_what_they_do_not_say_are_refused_when_prepared_and_in_every_batch(
    what: str, labelled: Opened
) -> None:
    draw, wanted = BAD[what]
    wanted = rf"{wanted}[\s\S]*file: +\S*tiny\.yaml\n +key: +data\.mixture\n +remedy: "
    study = labelled(draw)
    with pytest.raises(BenchError, match=wanted):
        prepare(study, "mixture")
    assert not study.data_file("mixture").exists()
    prepare(labelled(), "mixture")  # the module changes after that
    study, run = labelled(draw), Run(arm="x", seed=0)
    with pytest.raises(BenchError, match=wanted):
        draw_batch(opened(study, run), 1)


def test_draws_that_are_not_in_unit_variance_are_refused_when_prepared(labelled: Opened) -> None:
    study = labelled(_points(lambda x: 7 * x))
    with pytest.raises(
        BenchError, match=r"standard deviation of \S+, where 1[\s\S]*data\.mixture\n +remedy: divide by"
    ):
        prepare(study, "mixture")
    assert not study.data_file("mixture").exists()


def test_labels_of_data_without_classes_are_refused(labelled: Opened) -> None:
    with pytest.raises(BenchError, match="has 0 classes and draws labels"):
        prepare(labelled(classes=0, shares=None), "mixture")


@pytest.mark.parametrize(
    "shares", [None, (1, 2), (1, 2, -1), (0, 0, 0), (1, 2, float("nan")), (1, 2, math.inf), (1e308, 1e308, 1e307)]
)
def test_shares_that_are_none_of_the_classes_are_refused(shares: tuple | None, labelled: Opened) -> None:
    with pytest.raises(BenchError, match="has 3 classes and these shares of them"):
        prepare(labelled(shares=shares), "mixture")


def test_a_draw_is_not_changed_by_being_looked_at() -> None:
    plain = Dataset((2,), 3, _fair, None, {}, (1, 1, 1))
    (x0, labels), (same, alike) = (d.draw(torch.Generator().manual_seed(0), 9) for d in (plain, checked(plain, "data")))
    assert torch.equal(x0, same) and isinstance(alike, Condition) and bool((labels == alike.label).all())
    as_condition = replace(plain, draw=lambda g, batch: (x0, Condition(label=labels)))
    assert (checked(as_condition, "data").draw(torch.Generator(), 9)[1].label == labels).all()
    few = Dataset((2,), 3, _labels(lambda y: y.to(torch.uint8)), None, {}, (1, 1, 1))
    drawn = checked(few, "data").draw(torch.Generator().manual_seed(0), 9)[1]
    assert drawn.label.dtype == torch.int64 and torch.equal(drawn.label, labels)


def test_prepared_digits_of_other_labels_are_refused() -> None:
    arrays = {"train": np.zeros((4, 1, 8, 8), np.float32), "train_labels": np.arange(4)}
    assert open_dataset(arrays, 0.5).classes == 10
    for bad in (np.arange(7, 11), np.arange(4) / 2, np.arange(3), np.eye(4, 10, dtype=np.int64)):
        with pytest.raises(BenchError, match=r"10 classes, 4 samples, and labels[\s\S]*numbered|whole number"):
            open_dataset({**arrays, "train_labels": bad}, 0.5)


# --- the labels of samples -----------------------------------------------------------------------

UNEVEN = ((9, 1), (1, 1, 2), (183, 174, 177), (500, *[1] * 500), (0, 3, 1), (1e-320, 1e300, 1e300), tuple(range(1, 41)))


@pytest.mark.parametrize("shares", UNEVEN)
def test_among_the_first_samples_each_class_has_its_share_to_within_one(shares: tuple[float, ...]) -> None:
    labels = labels_in_shares(range(1200), shares)
    counted = np.cumsum(np.eye(len(shares))[labels], axis=0)
    wanted = np.arange(1, 1201)[:, None] * np.array(shares) / sum(shares)
    assert np.abs(counted - wanted).max() < 1
    parts = [labels_in_shares(range(first, first + 100), shares) for first in range(0, 1200, 100)]
    np.testing.assert_array_equal(np.concatenate(parts), labels, "a label depends on its row alone")
    np.testing.assert_array_equal(labels_in_shares(range(2500), shares)[:1200], labels)
    labels[:] = 0
    np.testing.assert_array_equal(labels_in_shares(range(1200), shares), np.concatenate(parts), "nobody's to change")


@pytest.mark.parametrize("shares", [(1, 1, 1, 1), (0.25,) * 4, (1300,) * 4])
def test_where_classes_are_equal_every_one_comes_in_turn(shares: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(labels_in_shares(range(5, 4000), shares), np.arange(5, 4000) % 4)


@pytest.mark.parametrize(
    "shares, said",
    [((5, 5, 5), "uniform: every class in turn"), ((2, 1, 1), "as the data have them: from 25% to 50% of a class")],
)
def test_samples_follow_the_shares_that_the_data_say_and_the_protocol_says_which(
    shares, said, labelled: Opened
) -> None:
    study = labelled(shares=shares)
    prepare(study, "mixture")
    dataset = open_data(study, study.arms["x"].data)
    labels = labels_of_samples(range(8), dataset)
    assert labels is not None and torch.bincount(labels).tolist() == ([4, 2, 2] if shares[0] == 2 else [3, 3, 2])
    assert protocol(study, Run(arm="x", seed=0))["labels"] == said
    path = study.made.facts("mixture")
    assert read_json(path, "")["facts"]["protocol"] == {"labels": said}
