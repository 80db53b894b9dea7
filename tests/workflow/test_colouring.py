"""Coloured digits: the law of their colours given their grey, and edits held against it."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from trigbench.core.operators import LUMINANCE, colour, observe
from trigbench.workflow.claims.tables import experiment_tables
from trigbench.workflow.data.kinds.coloured import making, viewer
from trigbench.workflow.data.kinds.coloured.dimensions import LAW
from trigbench.workflow.data.kinds.coloured.draws import open_dataset
from trigbench.workflow.data.kinds.coloured.kind import COLOURED, ColouredData
from trigbench.workflow.data.kinds.coloured.labelled import labelled
from trigbench.workflow.data.kinds.coloured.painting import (
    AWAY,
    drawn_colours,
    levels_of,
    nearest_colours,
    painted,
    palette,
    variation,
)
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.machine.files import write_arrays, write_json
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.report.beside import left_to_see
from trigbench.workflow.report.kinds import editing as figure
from trigbench.workflow.run import measuring
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.conformance import data_sets
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.edit_one import Asked, Editor, draw_edits
from trigbench.workflow.run.editing import edits_of
from trigbench.workflow.run.measurements import edited
from trigbench.workflow.run.measurements.edited_images import held_images, judge_images, seen_strip
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.edits import EACH
from trigbench.workflow.study.kinds import kind_module
from trigbench.workflow.study.quantities import QUANTITIES
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings
from trigbench.workflow.study.study import Run, Study

GIVEN: dict[str, Any] = {"kind": "coloured", "seed": 3}
QUICK = {"EPOCHS": 2, "RATE": 5e-3}
"""Of the network that reads digits."""
CERTAIN, HALVES = 0, 4
"""Digits that have one colour, and two."""


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """As prepared, with a network that has seen the digits a few times."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in QUICK.items():
            patched.setattr(viewer, name, value)
        made, facts = making.prepare(ColouredData.model_validate(GIVEN), EvaluationSettings(samples=100), 0.5)
    assert facts["train"] + facts["held_out"] == 1797 and facts["colours_read_held_out"] > 0.9
    return made


# --- what is painted ------------------------------------------------------------------------------


def test_every_colour_has_one_luminance_is_as_far_from_grey_and_can_be_shown() -> None:
    colours, weights = palette(), torch.tensor(LUMINANCE, dtype=torch.float64)
    assert (colours @ weights - 0.5).abs().max() < 1e-12
    assert ((colours >= 0) & (colours <= 1)).all()
    grey = 0.5 / weights.sum()
    assert ((colours - grey).norm(dim=1) - AWAY).abs().max() < 1e-12
    assert ((colours - grey)[0] + (colours - grey)[2]).abs().max() < 1e-12, "two that lie opposite are grey in the mean"
    assert torch.tensor(LAW).sum(1).tolist() == pytest.approx([1] * 10)


def test_grey_tells_the_digit_and_nothing_of_the_colour() -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - heavy, and for this alone

    sklearns: Any = load_digits()
    rows = np.unique(np.column_stack([sklearns["images"].reshape(-1, 64), sklearns["target"]]), axis=0)
    assert len(np.unique(rows[:, :64], axis=0)) == len(rows), "no two digits have one picture"
    levels = torch.from_numpy(sklearns["images"][:50]) / 16
    greys = [observe(colour((3, 8, 8)), painted(levels, torch.full((50,), k))) for k in range(4)]
    assert max(float((grey - greys[0]).abs().max()) for grey in greys) < 1e-14
    assert (levels_of(painted(levels, torch.arange(50) % 4)) - levels).abs().max() < 1e-14


def test_draws_have_the_law_of_colours_in_unit_variance_and_no_label(arrays) -> None:
    dataset = open_dataset(arrays, 0.5)
    x, told = dataset.draw(generator("draws"), 20_000)
    assert (dataset.shape, dataset.classes, told.label) == ((3, 8, 8), 0, None)
    assert (x.mean(), x.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    pictures = making.pictures_of(x.double(), arrays)
    levels = levels_of(pictures)
    colours, away = nearest_colours(pictures, levels)
    assert away.max() < 1e-5
    known = {row.tobytes(): digit for row, digit in zip(arrays["train"] * 16, arrays["train_labels"], strict=True)}
    digits = torch.tensor([known[row.tobytes()] for row in (levels * 16).round().float().numpy()])
    assert variation(colours, digits) < 0.02
    assert (colours[digits == CERTAIN] == LAW[CERTAIN].index(1)).all()


def test_a_new_seed_divides_and_colours_anew(arrays) -> None:
    names = ("train", "held_out", "held_out_colours")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(making, "train_viewer", lambda *_: {})
        patched.setattr(making, "read", lambda *_: (torch.zeros(359), torch.zeros(359)))
        again, other = (
            making.prepare(ColouredData.model_validate(GIVEN | {"seed": seed}), EvaluationSettings(samples=100), 0.5)[0]
            for seed in (3, 4)
        )
    assert all(np.array_equal(arrays[name], again[name]) for name in names)
    assert not any(np.array_equal(arrays[name], other[name]) for name in names)


@pytest.mark.slow
def test_coloured_digits_conform(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in ((data_sets, {"SAMPLES": 80, "DRAWN": 1024}), (viewer, QUICK)):
        for name, value in names.items():
            monkeypatch.setattr(module, name, value)
    data = ColouredData.model_validate(GIVEN)
    found = check_data(kind_module(data), data)
    assert not [check for check in found if check.state == "failed"]


# --- what is measured -----------------------------------------------------------------------------


def test_the_variation_of_shares_is_what_it_is_and_falls_with_the_number_of_exact_draws() -> None:
    law = torch.tensor(LAW, dtype=torch.float64)
    counts = (20 * law).round().long().flatten()
    digits, colours = (places.repeat_interleave(counts) for places in (torch.arange(40) // 4, torch.arange(40) % 4))
    assert variation(colours, digits) == pytest.approx(0, abs=1e-15)
    one = torch.zeros_like(digits)
    assert variation(one, digits) == pytest.approx(1 - float(law[:, 0].mean()))
    assert variation(one[digits == HALVES], digits[digits == HALVES]) == pytest.approx(0.5), "of what digits there are"
    many = torch.arange(10).repeat(10_000)
    found = [variation(drawn_colours(many[:n], generator(n)), many[:n]) for n in (1000, 100_000)]
    # a share p of n draws misses by sqrt(2 p (1 - p) / (pi n)) in the mean
    scatter = float((2 * law * (1 - law) / math.pi / 100).sqrt().sum(1).mean()) / 2
    assert found == [pytest.approx(scatter, rel=0.3), pytest.approx(scatter / 10, rel=0.3)]


def test_grey_means_of_colours_and_colours_beside_the_ink_are_far_from_any() -> None:
    levels = torch.rand(6, 8, 8, generator=generator("levels"), dtype=torch.float64)
    inks = [painted(levels, torch.full((6,), k)) for k in range(4)]
    for k, ink in enumerate(inks):
        found, away = nearest_colours(ink, levels)
        assert (found == k).all() and away.max() < 1e-7
    opposite, adjacent, grey = (inks[0] + inks[2]) / 2, (inks[0] + inks[1]) / 2, torch.stack(inks).mean(0)
    for mixed, expected in ((opposite, 1), (adjacent, 0.5**0.5), (grey, 1)):
        away = nearest_colours(mixed, levels)[1]
        assert (away - expected).abs().max() < 1e-12
    halved = torch.cat([inks[0][:, :, :4], inks[2][:, :, 4:]], 2)  # one above, the opposite one below
    less = (levels[:, :4].square().sum((1, 2)), levels[:, 4:].square().sum((1, 2)))
    share = torch.minimum(*less) / (less[0] + less[1])
    assert (nearest_colours(halved, levels)[1] - 2 * share.sqrt()).abs().max() < 1e-12
    lighter = inks[3] + 0.3 * torch.tensor(LUMINANCE, dtype=torch.float64)[:, None, None]
    assert nearest_colours(lighter, levels)[1].max() < 1e-7, "what luminance misses is not of this"


def test_edits_are_held_against_the_law_and_exact_draws_have_its_scatter_alone(arrays) -> None:
    dataset, known = open_dataset(arrays, 0.5), labelled(open_dataset(arrays, 0.5))
    kind = SimpleNamespace(judge_samples=lambda *_: {"fd_train": 1.0})
    edits = {edit.name: edit for edit in edits_of(dataset.shape)}
    held = held_images(known, edits["colourise"], 4000, seed=0)
    assert len(held.images) == EACH * 359
    judge = judge_images(kind, dataset, known, edits["colourise"], held)
    truth = judge(known.truths["colourise"].draw(held.images, held.labels, generator("truth")))
    levels = levels_of(making.pictures_of(held.images, arrays))
    blind = judge(making.points_of(painted(levels, torch.arange(len(levels)) % 4), arrays))
    grey = judge(making.points_of(levels[:, None].expand(-1, 3, -1, -1) / 2, arrays))
    assert truth["variation"] < 0.04 and truth["off_palette"] < 1e-6 and truth["missed"] < 1e-6
    assert blind["variation"] == pytest.approx(0.5, abs=0.03) and blind["off_palette"] < 1e-6
    assert blind["diversity"] > 1.4 * truth["diversity"], "one of each colour, where some have one alone"
    assert grey["off_palette"] == pytest.approx(1, abs=1e-3) and grey["diversity"] == 0
    lost = judge(held.images * math.nan)
    assert lost.keys() == truth.keys() and all(math.isnan(value) for value in lost.values())
    half = held_images(known, edits["inpaint"], 8, seed=0)
    assert "variation" not in judge_images(kind, dataset, known, edits["inpaint"], half)(half.images)


def test_digits_are_read_by_their_shape_in_whatever_colour(arrays) -> None:
    known, levels = labelled(open_dataset(arrays, 0.5)), torch.from_numpy(arrays["held_out"])
    every = (making.points_of(painted(levels, torch.full((359,), k)), arrays) for k in range(4))
    shares = [float((known.read(points) == known.labels).double().mean()) for points in every]
    assert min(shares) > 0.6, "by a network that has seen them a few times"


# --- what is shown --------------------------------------------------------------------------------


def test_grey_is_shown_as_grey_and_pictures_are_taken_in_as_they_are_shown(arrays) -> None:
    assert COLOURED.images is not None
    seen_by = COLOURED.images(arrays, 6)
    assert seen_by.real.shape == (6, 8, 8, 3) and seen_by.encoded is not None
    dataset = open_dataset(arrays, 0.5)
    grey = next(edit for edit in edits_of(dataset.shape) if edit.name == "colourise")
    held = held_images(labelled(dataset), grey, 40, seed=0)
    levels = levels_of(making.pictures_of(held.images[::EACH].double(), arrays)).numpy()
    shown = np.array(seen_strip(grey, seen_by, held).images)
    assert np.abs(shown - 255 * 0.5 / sum(LUMINANCE) * levels).max() < 0.51
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    back = (seen_by.decoded(seen_by.encoded(picture)) - seen_by.black) / (seen_by.white - seen_by.black)
    assert np.abs(255 * back - picture.transpose(0, 2, 3, 1)).max() < 1e-3


@pytest.fixture
def study(arrays, write_study: Callable[[dict], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of the same in the current folder, with weights as they are drawn."""
    monkeypatch.chdir(tmp_path)
    said = dict.fromkeys(("title", "paper", "question", "expectation"), "said")
    asked = {"figure": "editing", "metric": "colourise_variation", "measurement": "editing", "arms": ["*"]}
    content = {
        "study": "mine", "title": "t", "summary": "s", "sigma_d": 0.5, "seeds": [0], "data": {"digits": GIVEN},
        "sizes": {"small": {"width": 8, "blocks": 1}},
        "defaults": {"data": "digits", "size": "small", "iterations": 2, "batch": 4, "rate": 1e-3,
                     "ema_half_life": 100},
        "arms": {"teacher": {"objective": "diffusion"}, "sct": {"objective": "sct"}},
        "evaluation": {"samples": 280}, "experiments": {"colours": said | asked},
    }  # fmt: skip
    found = load(write_study(content))
    write_arrays(found.data_file("digits"), arrays)
    write_json(found.made.facts("digits"), {"floors": []})
    for arm in found.arms:
        run = Run(arm=arm, seed=0)
        found.files(run).folder.mkdir(parents=True)
        write_tensors(found.files(run).weights, kept_of(make_network(opened(found, run))))
    return found


def test_the_command_shows_of_a_picture_its_grey(study: Study, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    task = opened(study, Run(arm="sct", seed=0))
    assert COLOURED.images is not None
    seen_by = COLOURED.images(task.data.arrays, 1)
    assert seen_by.encoded is not None
    editor = Editor(task, lambda _: lambda x, t: torch.zeros_like(x), seen_by, seen_by.encoded)
    made = draw_edits(editor, Asked("colourise", image=tmp_path / "mine.png", count=2))
    levels = (seen_by.decoded(made.seen[1].numpy())[0] - seen_by.black) / (seen_by.white - seen_by.black)
    assert np.ptp(levels, axis=2).max() < 1e-5
    assert np.abs(255 * levels[..., 0] - picture @ np.array(LUMINANCE) / sum(LUMINANCE)).max() < 0.51
    assert made.missed is not None and made.missed < 1e-3


@pytest.mark.slow
def test_colouring_alone_is_measured_where_it_is_asked_and_drawn(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEPS", (1, 4)), ("PAINTED", 2), ("SOLVED", 3)):
        monkeypatch.setattr(edited, name, value)
    monkeypatch.setattr(measuring, "measured_from", lambda *_: "now")
    measuring.measure(study, "colours")
    runs, _ = experiment_tables(study, "colours", [])
    measures = ("fd", "missed", "diversity", "agreement", "variation", "off_palette")
    assert set(runs.metric) == {f"colourise_{name}" for name in measures} <= QUANTITIES.keys()
    missed = runs[runs.metric == "colourise_missed"].set_index(["arm", "sampler", "steps"]).value
    assert missed["sct", "edit", 1] < 1e-6 and missed["teacher", "repaint", 8] < 1e-6 < missed["teacher", "pigdm", 3]
    truth = runs[(runs.arm == "data") & (runs.metric == "colourise_off_palette")]
    assert set(truth.sampler) == {"posterior"} and truth.value.max() < 1e-6
    strips = left_to_see(study, "colours", "strips")
    assert [strip["evaluations"] for strip in strips] == [None, None, 8, 3, 1, 4]
    assert [np.array(strip["images"]).shape[1:] for strip in strips[:2]] == [(8, 8, 3), (8, 8)]
    drawn = figure.draw(study.experiments["colours"], runs, runs.head(0))
    labelled_axes = [ax.get_ylabel() for ax in drawn.axes]
    assert labelled_axes == [figure.MEASURES[n] for n in ("fd", "variation", "off_palette", "diversity", "agreement")]
    assert [bool(ax.get_xlabel()) for ax in drawn.axes] == [False, False, True, True, True]
    plt.close(drawn)
