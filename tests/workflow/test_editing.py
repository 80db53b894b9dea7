"""What is measured of edits, how it is drawn, and `trigbench edit`, against what is known of each."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch.nn.functional import pixel_unshuffle

from trigbench.cli import main
from trigbench.core.operators import observe
from trigbench.core.oracle import Mixture, standardised
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS, experiment_tables
from trigbench.workflow.data.kinds.digits.classifier import classifier
from trigbench.workflow.data.kinds.digits.draws import open_dataset
from trigbench.workflow.data.kinds.digits.labelled import labelled
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_arrays, write_json
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.report import edited as drawn
from trigbench.workflow.report.beside import left_to_see
from trigbench.workflow.report.kinds import editing as figure
from trigbench.workflow.run import measuring
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.edit_one import Asked, draw_edits, editor_of
from trigbench.workflow.run.editing import edits_of, even_times, seen_of
from trigbench.workflow.run.measurements import edited, editing
from trigbench.workflow.run.measurements.edited_images import held_images, judge_images, strip_of
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import train
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study import freshness
from trigbench.workflow.study.edits import EACH, EDITED
from trigbench.workflow.study.kinds import data_kind
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

# --- what is edited -------------------------------------------------------------------------------


def test_halves_averages_strokes_and_colours_are_asked_of_data_that_have_them() -> None:
    def names(*shape: int) -> list[str]:
        return [edit.name for edit in edits_of(shape)]

    assert names(2) == ["inpaint"]
    assert names(3) == ["inpaint", "colourise"]
    assert names(1) == []
    assert names(1, 8, 8) == ["inpaint", "enlarge", "strokes"]
    assert names(3, 32, 32) == ["inpaint", "enlarge", "strokes", "colourise"]
    assert names(1, 6, 6) == ["inpaint", "strokes"]
    assert [edit.name for edit in edits_of((16, 7, 7), fold=4)] == ["inpaint", "enlarge", "strokes"]
    half = edits_of((1, 4, 4))[0].operator.seen
    assert half[:, :2].all()
    assert not half[:, 2:].any()
    image = torch.randn(2, 1, 8, 8)
    for own, plain in zip(edits_of((4, 4, 4), fold=2), edits_of((1, 8, 8)), strict=True):  # as the image that it is
        assert torch.equal(observe(own.operator, pixel_unshuffle(image, 2)), observe(plain.operator, image))
    assert edits_of((3,))[0].operator.seen.tolist() == [True, False, False]


def test_strokes_have_three_levels_and_other_observations_are_as_they_are() -> None:
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    half, enlarge, strokes = edits_of((1, 8, 8))
    assert torch.equal(seen_of(half, images), observe(half.operator, images))
    assert len(seen_of(strokes, images).unique()) == 3
    assert seen_of(enlarge, images).shape == (6, 4)
    assert even_times(1, 1.5) == [1.5]


# --- on a mixture ---------------------------------------------------------------------------------


@pytest.fixture
def measured(tiny: dict, with_data: Callable[[dict], Study], monkeypatch: pytest.MonkeyPatch) -> Study:
    """The tiny study on two modes that the first coordinate tells apart, with weights of its arm as they are drawn."""
    for module, name, value in (
        (edited, "STEPS", (1, 12)), (edited, "PAINTED", 8), (editing, "FOLLOWED_IN", 8), (editing, "OBSERVATIONS", 4),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    edits = {"measurement": "editing", "metric": "inpaint_wasserstein", "figure": "editing"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | edits}
    study = with_data(tiny | {"evaluation": {"samples": 800}})
    means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    stds, weights = (torch.full((2,), value, dtype=torch.float64) for value in (0.3, 0.5))
    mixture = standardised(Mixture(weights, means, stds))
    parts = {name: getattr(mixture, name).numpy() for name in ("weights", "means", "stds")}
    write_arrays(study.data_file("mixture"), parts)
    give_weights(study, 1.0)
    return study


def give_weights(study: Study, factor: float) -> None:
    run = Run(arm="scd", seed=0)
    kept = kept_of(make_network(opened(study, run)))
    study.files(run).folder.mkdir(parents=True, exist_ok=True)
    write_tensors(study.files(run).weights, {name: factor * part for name, part in kept.items()})


@pytest.mark.slow
def test_edits_of_a_mixture_are_held_against_its_posterior(measured: Study) -> None:
    found = editing.measure(measured, "training")
    values = {(r.arm, r.value.sampler, r.value.steps, r.value.metric): float(r.value.value or 0) for r in found.runs}
    assert {metric for *_, metric in values} == {"inpaint_wasserstein", "inpaint_missed", "inpaint_diversity"}
    assert {metric for *_, metric in values} | {"edit_gap"} <= set(MEASUREMENTS["editing"].measures)
    ways = {key[:3] for key in values}
    assert {("exact", "edit", 1), ("exact", "edit", 12), ("exact", "repaint", 32), ("exact", "pigdm", 35)} <= ways
    assert {("scd", "edit", 1), ("scd", "edit", 12), ("data", "posterior", 1)} <= ways
    assert {value for (*_, metric), value in values.items() if metric == "inpaint_missed"} == {0.0} | {
        values["exact", "pigdm", 35, "inpaint_missed"]
    }, "what a mask sees is put back to the bit; guidance does not put it back"
    truth, one, many = (
        values[(*way, "inpaint_wasserstein")]
        for way in (("data", "posterior", 1), ("exact", "edit", 1), ("exact", "edit", 12))
    )
    assert truth < 0.1
    assert one > 5 * truth
    assert many < 0.5 * one
    assert values["exact", "repaint", 32, "inpaint_wasserstein"] < one
    spread = values["data", "posterior", 1, "inpaint_diversity"]
    assert values["exact", "edit", 1, "inpaint_diversity"] > 2 * spread, "one step spreads as if nothing were seen"


def test_the_gap_of_a_gaussian_is_that_of_its_mean_and_spread(measured: Study) -> None:
    gaps = {row.value.x: float(row.value.value or 0) for row in editing._closed_form(measured.sigma_d)}
    own = (0.533, math.sqrt(0.646))  # of four steps, even in the angle
    assert gaps[4] == pytest.approx(math.hypot(own[0] - 1.2, own[1] - 0.6), abs=2e-3)
    assert gaps[1] == pytest.approx(math.hypot(1.2 - 0.004, 0.4), abs=2e-3)
    assert list(gaps.values()) == sorted(gaps.values(), reverse=True)


def test_what_stands_in_place_of_an_arm_stands_in_the_table_and_a_diverged_run_does_not(
    measured: Study, monkeypatch
) -> None:
    monkeypatch.setattr(edited, "STEPS", (1,))
    give_weights(measured, math.nan)
    monkeypatch.setattr(measuring, "measured_from", lambda *_: "now")
    measuring.measure(measured, "training")
    write_json(measured.made.facts("mixture"), {"floors": []})
    runs, curves = experiment_tables(measured, "training", [])
    assert set(runs.arm) == {"exact", "data"} == set(runs.objective)
    assert set(runs.data.isna()) == {True}
    assert set(curves.metric) == {"edit_gap"}
    assert "strips" not in json.loads(measured.made.measured("training").read_text())


@pytest.mark.parametrize(
    ("arms", "said", "metric"),
    [
        (
            {"scd": {"objective": "ms_scd", "teacher": "exact", "segments": 2}},
            r"scd: neither a diffusion model nor a map",
            "inpaint_wasserstein",
        ),
        (
            {"scd": {"objective": "scd", "teacher": "exact"}, "other": {"objective": "sct", "data": "second"}},
            "its arms have the data mixture, second",
            "inpaint_wasserstein",
        ),
        (
            {"scd": {"objective": "scd", "teacher": "exact"}},
            "of edits of 'mixture' there is no colourise_variation",
            "colourise_variation",
        ),
    ],
)
def test_what_cannot_be_measured_or_held_together_is_refused(
    tiny: dict, with_data, arms: dict, said: str, metric: str
) -> None:
    tiny["data"]["second"] = tiny["data"]["mixture"] | {"seed": 1}
    tiny["arms"] = arms
    experiment = {"arms": ["*"], "measurement": "editing", "metric": metric, "figure": "editing"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | experiment}
    study = with_data(tiny)
    with pytest.raises(BenchError, match=rf"{said}[\s\S]*key: +experiments.training.measurement"):
        editing.measure(study, "training")


# --- on digits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    """Arrays of a data set of digits, with a classifier that was not trained."""
    g = np.random.default_rng(0)
    levels = g.integers(0, 17, size=(80, 1, 8, 8)).astype(np.float32)
    torch.manual_seed(0)
    extractor = {f"extractor/{name}": value.numpy() for name, value in classifier().state_dict().items()}
    parts = {"train": (levels - 8) / 5 * 0.5, "held_out": (levels[::-1].copy() - 8) / 5 * 0.5}
    labels = {f"{part}_labels": g.integers(0, 10, size=80) for part in parts}
    labels["train_labels"][:10] = range(10)
    return {**parts, **labels, "mean": np.float64(8), "std": np.float64(5), "sigma_d": np.float64(0.5), **extractor}


def test_images_as_they_are_miss_nothing_do_not_spread_and_are_read_as_ever(digits: dict) -> None:
    dataset = open_dataset(digits, 0.5)
    kind = SimpleNamespace(judge_samples=lambda _, x, wanted: {"fd_train": float(x.mean())})
    known = labelled(dataset)
    for edit in edits_of(dataset.shape):
        held = held_images(known, edit, 60, seed=0)
        assert len(held.images) == 60 == EACH * len(held.images[::EACH].unique(dim=0))
        found = judge_images(kind, dataset, known, edit, held)(held.images)
        assert found["diversity"] == 0
        assert (found["missed"] == 0) == (not edit.guided)
        assert found["fd"] == pytest.approx(float(held.images.mean()), rel=1e-5)
        module = classifier()
        module.load_state_dict(
            {n.removeprefix("extractor/"): torch.from_numpy(v) for n, v in digits.items() if "extr" in n}
        )
        guess = module((held.images * 5 + 8).round() / 16).argmax(1)
        assert found["agreement"] == pytest.approx(float((guess == held.labels).double().mean()))
        moved = judge_images(kind, dataset, known, edit, held)(held.images + 0.5 * torch.randn(held.images.shape))
        assert moved["diversity"] > 0.3
        lost = judge_images(kind, dataset, known, edit, held)(held.images * math.nan)
        assert all(math.isnan(value) for value in lost.values())


def of_digits(**evaluation: int) -> dict[str, Any]:
    """What a study of edits of digits says, whose runs take two steps."""
    experiment = dict.fromkeys(("title", "paper", "question", "expectation"), "said")
    experiment |= {"figure": "editing", "metric": "inpaint_fd", "measurement": "editing"}
    return {
        "study": "mine", "title": "t", "summary": "s", "sigma_d": 0.5, "seeds": [0],
        "data": {"digits": {"kind": "digits"}}, "sizes": {"small": {"width": 8, "blocks": 1}},
        "defaults": {"data": "digits", "size": "small", "iterations": 2, "batch": 4, "rate": 1e-3,
                     "ema_half_life": 100},
        "arms": {"teacher": {"objective": "diffusion"}, "sct": {"objective": "sct"}},
        "evaluation": {"samples": 280, **evaluation},
        "experiments": {"edits": {**experiment, "arms": ["teacher", "sct"]}},
    }  # fmt: skip


@pytest.mark.parametrize(("evaluation", "key"), [({"samples": 100}, "samples"), ({"edits": 259}, "edits")])
def test_edits_that_fix_no_covariance_are_refused_before_anything_is_trained(write_study, evaluation, key) -> None:
    said = rf"(?s){evaluation[key]} edits, 4 of an image.*evaluation.{key}.*at least 260"
    with pytest.raises(BenchError, match=said):
        load(write_study(of_digits(**evaluation)))


@pytest.fixture
def pictured(digits: dict, write_study: Callable[[dict], Path], tmp_path: Path, monkeypatch) -> Study:
    """The same in the current folder, trained."""
    monkeypatch.chdir(tmp_path)
    study = load(write_study(of_digits()))
    study.data_file("digits").parent.mkdir(parents=True)
    write_arrays(study.data_file("digits"), digits)
    write_json(study.made.facts("digits"), {"floors": []})
    for arm in study.arms:
        train(study, Run(arm=arm, seed=0))
    return study


@pytest.mark.slow
def test_edits_of_digits_are_measured_and_drawn(pictured: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (edited, "STEPS", (1, 4)), (edited, "PAINTED", 2), (edited, "SOLVED", 3), (edited, "FOLLOWED", 2),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(measuring, "measured_from", lambda *_: "now")
    measuring.measure(pictured, "edits")
    runs, _ = experiment_tables(pictured, "edits", [])
    assert set(runs.metric) <= {*EDITED}
    shown = runs[runs.metric == "enlarge_missed"].set_index(["arm", "sampler", "steps"]).value
    assert shown["sct", "edit", 4] < 1e-6
    assert shown["teacher", "repaint", 8] < 1e-6
    assert set(runs[runs.metric == "strokes_fd"].sampler) == {"images", "sdedit", "edit"}
    strips = left_to_see(pictured, "edits", "strips")
    assert [s["evaluations"] for s in strips if s["part"] == "inpaint"] == [None, None, 8, 3, 1, 4]
    image = np.array(strips[0]["images"])
    assert image.shape == (10, 8, 8)
    assert np.array_equal(np.array(strips[1]["images"])[:, :4], image[:, :4])
    assert (np.array(strips[1]["images"])[:, 4:] == -1).all()
    made = drawn.edited_strips(pictured, "edits")
    assert made is not None
    assert [ax.get_title() for ax in made.axes if ax.get_title()] == [
        "inpainting a half", "enlarging four times", "strokes as a guide",
    ]  # fmt: skip
    plt.close(made)


def test_a_strip_has_its_first_edit_of_each_image_in_levels_of_grey(digits: dict) -> None:
    settings = load("digits").data["digits"]
    kind = data_kind(settings)
    assert kind.images is not None
    images = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 1, 8, 8)
    strip = strip_of(edits_of((1, 8, 8))[0], kind.images(digits, 2), images)
    black, white = -8 / 5, 8 / 5
    assert [row[0][0] for row in strip.images] == [round(255 * (0 - black) / (white - black)), 255]


def test_a_measurement_of_edits_is_of_what_reads_its_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[list[str]]()
    monkeypatch.setattr(freshness, "digest", lambda _, modules: asked.append(list(modules)) or "")
    for experiment in ("digits", "mixture"):
        freshness.measurement_mark(load("editing"), experiment)
    measurement = "trigbench.workflow.run.measurements.editing"
    assert asked == [[measurement, "trigbench.workflow.data.kinds.digits.labelled"], [measurement]]


# --- the figure -----------------------------------------------------------------------------------


def rows(**values: dict[tuple[str, str, str, int], float]) -> pd.DataFrame:
    made = [
        {"arm": arm, "objective": objective, "sampler": sampler, "steps": steps, "seed": seed, "metric": metric,
         "value": value + 0.1 * seed, "status": "finished"}
        for metric, cells in values.items() for (arm, objective, sampler, steps), value in cells.items()
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(made, columns=COLUMNS)


def test_the_figure_and_its_sentence_say_what_the_rows_say() -> None:
    runs = rows(
        inpaint_wasserstein={
            ("data", "data", "posterior", 1): 0.15, ("exact", "exact", "edit", 1): 0.85,
            ("exact", "exact", "edit", 40): 0.35, ("exact", "exact", "repaint", 80): 0.25,
            ("2d", "scd", "edit", 4): 0.45,
        },
        inpaint_diversity={("exact", "exact", "edit", 1): 0.8},
    )  # fmt: skip
    experiment = load("editing").experiments["mixture"]
    shown = figure.KIND.shown(experiment, runs, pd.DataFrame(columns=CURVE_COLUMNS))
    assert figure.say(experiment, *shown) == (
        "Inpainting a half: draws from the posterior 0.2 [-0.435, 0.835], exact map 0.9 [0.265, 1.54] in 1 and "
        "0.4 [-0.235, 1.04] in 40, exact RePaint 0.3 [-0.335, 0.935] in 80, 2d 0.5 [-0.135, 1.14] in 4."
    )
    made = figure.draw(experiment, *shown)
    assert [ax.get_ylabel() for ax in made.axes] == ["distance to the posterior", "spread of edits of the same"]
    assert {text.get_text() for text in made.legends[0].get_texts()} == {
        "exact map", "RePaint, exact velocity", "sCD (continuous)", "draws from the posterior",
    }  # fmt: skip
    plt.close(made)
    empty = figure.KIND.shown(experiment, runs.head(0), pd.DataFrame(columns=CURVE_COLUMNS))
    assert figure.say(experiment, *empty) == "There is no result to speak of yet."
    plt.close(figure.draw(experiment, *empty))


# --- the command ----------------------------------------------------------------------------------


def refused(*words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["edit", *words])
    return str(stopped.value)


@pytest.mark.slow
def test_a_picture_is_edited_from_the_command_line(pictured: Study, capsys: pytest.CaptureFixture[str]) -> None:
    run = pictured.files(Run(arm="sct", seed=0)).folder
    Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)).save("my.png")
    hidden = np.zeros((8, 8), np.uint8)
    hidden[4:] = 255
    Image.fromarray(hidden).save("mask.png")
    given = (
        "--run",
        str(run),
        "--study",
        "mine.yaml",
        "--label",
        "3",
        "--image",
        "my.png",
        "--count",
        "2",
    )
    main(["edit", *given, "--task", "inpaint", "--mask", "mask.png", "--steps", "2"])
    assert "edits miss what is seen by 0 of 255 levels" in capsys.readouterr().out
    first = Image.open("edits.png")
    main(["edit", *given, "--task", "inpaint", "--mask", "mask.png", "--steps", "2", "--out", "again.png"])
    assert first.tobytes() == Image.open("again.png").tobytes(), "the noise is a function of the seed"
    picture = np.asarray(first)
    side = (picture.shape[1] - 3 * 6) // 4
    image, seen, one, other = (picture[:, k * (side + 6) : k * (side + 6) + side] for k in range(4))
    half = len(image) // 2
    assert np.array_equal(image[:half], seen[:half])
    assert np.array_equal(one[:half], image[:half])
    assert not np.array_equal(one[half:], other[half:])
    for task, more in (
        ("enlarge", ["--factor", "2", "--steps", "1"]),
        ("strokes", ["--strength", "0.5", "--steps", "3"]),
        ("denoise", ["--noise", "9"]),
    ):
        main(["edit", *given, "--task", task, *more])
    main(["edit", "--run", str(run), "--study", "mine.yaml", "--label", "3", "--task", "interpolate"])
    assert "edits, by mine sct seed 0" in capsys.readouterr().out
    everything = np.full((8, 8), 255, np.uint8)
    Image.fromarray(everything).save("all.png")
    for words, said in (
        (["--task", "inpaint"], "inpaint needs --mask"),
        (["--task", "inpaint", "--mask", "all.png"], "the mask hides everything"),
        (["--task", "inpaint", "--mask", "none.png"], "no such file"),
        (["--task", "enlarge", "--mask", "mask.png"], "enlarge does not look at --mask"),
        (["--task", "denoise", "--noise", "20", "--steps", "4"], "denoise does not look at --steps"),
        (["--task", "enlarge", "--factor", "3"], "squares of 3 pixels do not tile"),
        (["--task", "enlarge", "--factor", "1"], "--factor is 1"),
        (["--task", "colourise"], "no colours"),
        (["--task", "strokes", "--strength", "1.6"], "no angle"),
        (["--task", "denoise", "--noise", "-1"], "no noise"),
        (["--task", "enlarge", "--label", "10"], "the label 10, of data with 10 classes"),
        (["--task", "enlarge", "--steps", "0"], "--steps is 0"),
        (["--task", "enlarge", "--out", "no/edits.png"], "into a folder that is there"),
    ):
        text = refused(*given, *words)
        assert said in text
        assert "key:" in text
        assert "remedy:" in text


@pytest.mark.slow
def test_a_run_that_edits_nothing_is_refused_and_the_map_is_that_of_its_weights(pictured: Study) -> None:
    teacher, sct = (str(pictured.files(Run(arm=arm, seed=0)).folder) for arm in ("teacher", "sct"))
    task = ("--task", "interpolate", "--label", "0")
    assert "name a run of a map to data: sct" in refused("--run", teacher, "--study", "mine.yaml", *task)
    assert "no study that is known here" in refused("--run", sct, *task)
    assert "no folder of a run" in refused("--run", "results", *task)
    assert "no folder of a run" in refused("--run", f"{sct}0", "--study", "mine.yaml", *task)
    assert "no label, of data with 10 classes" in refused("--run", sct, "--study", "mine.yaml", "--task", "interpolate")
    run = Run(arm="sct", seed=0)
    made = draw_edits(editor_of(pictured, run, 3), Asked("interpolate", count=2))
    kept = read_tensors(pictured.files(run).weights, "")
    write_tensors(pictured.files(run).weights, {name: 2 * part for name, part in kept.items()})
    other = draw_edits(editor_of(pictured, run, 3), replace(Asked("interpolate"), count=2))
    assert not torch.allclose(made.edits, other.edits)
