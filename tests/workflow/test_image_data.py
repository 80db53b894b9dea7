"""Image data sets from files to distances: prepared once, drawn by generator, judged as people would."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tests.workflow.conftest import snakemake, step
from tests.workflow.drawn import CLASSES, draw, write_images
from trigbench.workflow.data.features import extractors, judging
from trigbench.workflow.data.kinds.images import making as images
from trigbench.workflow.data.kinds.images.draws import open_dataset
from trigbench.workflow.data.kinds.images.kind import ImagesData
from trigbench.workflow.data.kinds.images.labelled import labelled
from trigbench.workflow.data.kinds.latents.kind import LatentsData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_arrays
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.noise import labels_of_samples
from trigbench.workflow.study.kinds import draws_module
from trigbench.workflow.study.mistakes import remedy_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.samplers import EvaluationSettings
from trigbench.workflow.study.study import Run, Study

SIDE, PER_CLASS = 16, 60
STUDIED = 8
"""The side to which a study resizes them, for time's sake."""
EVALUATION = EvaluationSettings(samples=100)


def settings(path: Path, **more: Any) -> ImagesData:
    """Of a folder of images, half of them held out."""
    return ImagesData.model_validate(
        {"kind": "images_folder", "path": str(path), "size": SIDE, "held_out": 0.5, **more}
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, ImagesData, dict, dict]:
    """(folder to work in, settings, arrays, facts)."""
    home = tmp_path_factory.mktemp("a home é")
    data = settings(write_images(home / "my images", PER_CLASS, SIDE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return home, data, *images.prepare(data, EVALUATION, 0.5)


@pytest.fixture
def there(prepared, monkeypatch: pytest.MonkeyPatch) -> tuple[ImagesData, dict, dict]:
    """The same, in the folder where it was prepared."""
    monkeypatch.chdir(prepared[0])
    return prepared[1:]


@pytest.mark.slow
def test_facts_say_what_is_there_and_by_which_protocol_it_is_judged(there) -> None:
    _, _, facts = there
    assert facts["train"] == facts["held_out"] == 3 * PER_CLASS / 2 and facts["classes"] == 3
    assert facts["fewest_of_a_class"] >= 20
    assert facts["classifier_accuracy_held_out"] > 0.9, "discs of three colours are easy"
    assert facts["protocol"]["samples"] == 100 and "90 images" in facts["protocol"]["reference"]
    assert facts["protocol"]["extractor"].startswith("classifier, weights sha256 ")


@pytest.mark.slow
def test_held_out_images_are_read_as_the_class_that_they_are_of(there) -> None:
    _, arrays, facts = there
    held = labelled(open_dataset(arrays, 0.5))
    rows = torch.arange(len(held.labels))
    right = float((held.read(held.images(rows)) == held.labels).double().mean())
    assert right == pytest.approx(facts["classifier_accuracy_held_out"], abs=1e-4)


@pytest.mark.slow
def test_draws_are_of_the_generator_alone_in_unit_range_and_keep_their_labels(there) -> None:
    _, arrays, _ = there
    dataset = open_dataset(arrays, 0.5)
    assert dataset.shape == (3, SIDE, SIDE) and dataset.classes == 3 and dataset.velocity is None
    one, two, other = (dataset.draw(torch.Generator().manual_seed(s), 40) for s in (1, 1, 2))
    assert torch.equal(one[0], two[0]) and not torch.equal(one[0], other[0])
    assert torch.equal(one[1].label, two[1].label)
    assert one[0].dtype == torch.float32 and float(one[0].abs().max()) <= 2
    redness = one[0].amax((2, 3)).argmax(1)  # the disc's colour is the class
    colour = torch.tensor([2 - CLASSES.index(name) for name in sorted(CLASSES)])
    assert torch.equal(redness, colour[one[1].label])


@pytest.mark.slow
def test_a_folder_conforms_but_for_the_low_contrast_of_these_discs(there) -> None:
    found = check_data(images, there[0])
    assert {one.check for one in found if one.state == "failed"} == {"is in unit variance"}
    assert {one.check for one in found if one.state == "does not apply"} == {"velocity", "keeps parts apart"}


@pytest.mark.slow
def test_half_of_the_draws_are_mirrored_where_that_is_asked_for(there) -> None:
    _, arrays, _ = there
    about = {**images.about_of(arrays), "flips": True, "conditional": False}
    mirrored = open_dataset({**arrays, "about": np.array(json.dumps(about))}, 0.5)
    plain = open_dataset(arrays, 0.5)
    assert mirrored.classes == 0
    (a, condition), (b, _) = (d.draw(torch.Generator().manual_seed(0), 200) for d in (mirrored, plain))
    same, flipped = (a == b).flatten(1).all(1), (a == b.flip(-1)).flatten(1).all(1)
    assert condition.label is None and bool((same | flipped).all()) and 60 < int(same.sum()) < 140


@pytest.mark.slow
def test_pixels_make_the_round_trip(there) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(images.to_pixels(images.to_unit_variance(levels, 0.5), 0.5), levels)
    assert images.to_pixels(torch.tensor([[-9.0, 9.0]]), 0.5).tolist() == [[0, 255]]


@pytest.mark.slow
def test_distances_grow_with_corruption_and_real_images_are_near_the_floor(there) -> None:
    _, arrays, _ = there
    dataset = open_dataset(arrays, 0.5)
    real, _ = dataset.draw(torch.Generator().manual_seed(3), 90)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    found = [images.judge_samples(dataset, real + level * noise) for level in (0.0, 0.3, 0.8, 2.0)]
    assert set(found[0]) == set(images.METRICS["samples"])
    assert all(np.diff([f["fd_train"] for f in found]) > 0), found
    assert found[0]["precision"] > found[-1]["precision"]
    assert found[0]["nearest_train"] < found[0]["nearest_held_out"], "drawn from the training part"
    floors = {value.metric: value.value for value in images.floors(dataset)}
    assert set(floors) == {name for name in images.METRICS["samples"] if not name.endswith("_held_out")}
    assert (floors["fd_train"] or 0.0) < found[-1]["fd_train"]
    assert set(images.judge_samples(dataset, real, ["recall"])) == {"recall"}


@pytest.mark.slow
def test_a_perfect_generator_of_uneven_classes_is_near_the_floor(tmp_path: Path, monkeypatch) -> None:
    """Nine of ten images are of one class: real images by the labels of samples are as near as real ones are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extractors, "FEWEST_STEPS", 50)
    write_images(tmp_path / "images", 270, STUDIED, CLASSES[:1])
    for i in range(30):
        (tmp_path / "images" / "red").mkdir(exist_ok=True)
        Image.fromarray(draw(STUDIED, 2, i)).save(tmp_path / "images" / "red" / f"{i}.png")
    data = settings(tmp_path / "images", size=STUDIED)
    arrays, _ = images.prepare(data, EVALUATION, 0.5)
    dataset = open_dataset(arrays, 0.5)
    assert dataset.shares is not None and sum(dataset.shares) == 150 and 8 < dataset.shares[1] < 22
    drawn, found = dataset.draw(torch.Generator().manual_seed(0), 2000), []
    for shares in (dataset.shares, (1, 1)):
        labels = labels_of_samples(range(150), dataclasses.replace(dataset, shares=shares))
        assert labels is not None and drawn[1].label is not None
        rows = [torch.nonzero(drawn[1].label == k).flatten().tolist() for k in range(2)]
        samples = drawn[0][[rows[label].pop() for label in labels.tolist()]]
        found.append(images.judge_samples(dataset, samples, ["fd_train"])["fd_train"])
    floor = images.judge_samples(dataset, drawn[0][-150:], ["fd_train"])["fd_train"]
    assert found[0] < 2 * floor and found[1] > 10 * found[0], (found, floor)


@pytest.mark.slow
def test_images_without_labels_are_judged_by_random_features_with_nothing_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(400):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(draw(SIDE, i % 3, i)).save(tmp_path / "images" / f"{i}.png")
    data = settings(tmp_path / "images", labels=False, extractor={"kind": "random"})
    torch.manual_seed(1)
    arrays, facts = images.prepare(data, EVALUATION, 0.5)
    torch.manual_seed(2)
    assert images.prepare(data, EVALUATION, 0.5)[1] == facts, "a function of the images alone"
    assert facts["protocol"]["extractor"].startswith("random, weights sha256 ") and "classes" not in facts
    dataset = open_dataset(arrays, 0.5)
    assert dataset.classes == 0 and dataset.shares is None
    pixels = torch.from_numpy(np.stack([draw(SIDE, i % 3, i) for i in range(1000, 1200)])).permute(0, 3, 1, 2)
    same = images.to_unit_variance(pixels, 0.5)
    noise = torch.randn(same.shape, generator=torch.Generator().manual_seed(0))
    changed = {
        "noise": same + 0.5 * noise,
        "darker": same - 0.3,
        "blurred": torch.nn.functional.avg_pool2d(same, 3, 1, 1),
        "one class": same[::3].repeat(3, 1, 1, 1)[: len(same)],
    }
    floor = {value.metric: value.value for value in images.floors(dataset)}["fd_train"] or 0.0
    assert 0.5 * floor < images.judge_samples(dataset, same, ["fd_train"])["fd_train"] < 1.5 * floor
    for what, samples in changed.items():
        assert images.judge_samples(dataset, samples, ["fd_train"])["fd_train"] > 2 * floor, what


@pytest.mark.slow
def test_preparing_again_makes_nothing_again(there, monkeypatch: pytest.MonkeyPatch) -> None:
    data, arrays, facts = there
    monkeypatch.setattr(judging, "train_classifier", lambda *_: pytest.fail("train_classifier is called again"))
    again, facts_again = images.prepare(data, EVALUATION, 0.5)
    assert facts_again == facts and again.keys() == arrays.keys()
    assert all(np.array_equal(again[key], arrays[key]) for key in arrays)


@pytest.mark.slow
def test_a_damaged_reference_or_classifier_is_refused_by_name(prepared, there, tmp_path: Path) -> None:
    _, arrays, _ = there
    about = images.about_of(arrays)
    dataset = open_dataset(arrays, 0.5)
    real, _ = dataset.draw(torch.Generator().manual_seed(3), 90)
    for path in (Path(about["references"]["train"]["file"]), Path(about["extractor"]["weights"])):
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        try:
            with pytest.raises(BenchError, match=r"checksum differs[\s\S]*" + path.name):
                images.judge_samples(dataset, real, ["fd_train"])
        finally:
            path.write_bytes(kept)


BAD: dict[str, tuple[dict, str]] = {
    "no held-out part": ({"held_out": None}, "needs 'held_out'"),
    "a classifier without labels": (
        {"labels": False},
        "classifier learns from labels, and there are none.*set {kind: random}",
    ),
    "random features with weights": ({"extractor": {"kind": "random", "weights": "x"}}, "'random' takes no 'weights'"),
    "inception without weights": ({"extractor": {"kind": "inception"}}, "'inception' needs 'weights'"),
    "a classifier with weights": ({"extractor": {"weights": "x.safetensors"}}, "'classifier' takes no 'weights'"),
    "an unknown rule of resizing": ({"resize": "lanczos"}, "'none' or 'adm'"),
    "cifar10 with a held-out part": ({"kind": "cifar10"}, "takes no 'held_out'"),
}


def _said(error: ValidationError) -> str:
    """The message with its remedy, as workflow.study.reading puts them together."""
    return f"{error} {remedy_of(error.errors()[0])}"


@pytest.mark.parametrize("what", BAD)
def test_settings_that_cannot_be_are_refused(what: str, tmp_path: Path) -> None:
    more, wanted = BAD[what]
    with pytest.raises(ValidationError) as caught:
        settings(tmp_path, **more)
    assert re.search(wanted, _said(caught.value), re.DOTALL)


def test_kinds_bring_their_own_counts() -> None:
    cifar = ImagesData.model_validate({"kind": "cifar10", "path": "data/cifar10"})
    assert (cifar.size, cifar.count, cifar.held_out_count, cifar.classes) == (32, 50_000, 10_000, 10)
    small = ImagesData.model_validate({"kind": "imagenet64", "path": "a", "held_out": "b", "count": 7})
    assert (small.size, small.resize, small.convert, small.count, small.classes) == (64, "adm", True, 7, 1000)
    with pytest.raises(ValidationError) as caught:
        LatentsData.model_validate({"kind": "imagenet512", "path": "a", "held_out": "b", "vae": "c", "extractor": {}})
    assert "name inception or dinov2" in _said(caught.value)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    "more, key, wanted",
    [
        ({"held_out": 0.3}, "held_out", "54 images are held out, of 180 in all: expected more than 64 images"),
        ({"held_out": 0.002}, "held_out", "0 images are held out"),
        ({"held_out": 0.9}, "held_out", "18 images are left to train on"),
        ({"held_out": 0.999}, "held_out", "0 images are left to train on"),
        ({"reference": 60}, "reference", "60 images are the reference"),
    ],
)
def test_parts_too_small_to_judge_by_are_refused_by_their_key(
    more: dict, key: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = settings(write_images(tmp_path / "images", PER_CLASS, SIDE), **more)
    with pytest.raises(BenchError, match=rf"{wanted}[\s\S]*key: +{key}\n +remedy: set '{key}'"):
        images.prepare(data, EVALUATION, 0.5)
    assert not (tmp_path / "results").exists(), "refused before an image is read"


def test_missing_weights_are_asked_for_before_an_image_is_read(tmp_path: Path) -> None:
    data = settings(tmp_path / "nothing", extractor={"kind": "inception", "weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(BenchError, match=r"weights of the extractor 'inception'[\s\S]*workflow\.steps\.convert"):
        images.prepare(data, EVALUATION, 0.5)


# --- in the workflow -----------------------------------------------------------------------------


def small_study(home: Path, tiny: dict) -> dict:
    """A study of a teacher and a student on a folder of images."""
    return tiny | {
        "study": "folder",
        "data": {"images": {"kind": "images_folder", "path": str(home / "my images"), "size": STUDIED,
                            "held_out": 0.5}},
        "sizes": {"net": {"network": "trigbench.core.networks.ddpmpp:DDPMpp",
                          "settings": {"width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4]}}},
        "defaults": {"data": "images", "size": "net", "iterations": 3, "batch": 4, "rate": 1e-3, "ema_half_life": 1000,
                     "adaptive_weight": True},
        "arms": {"teacher": {"objective": "diffusion"},
                 "scd": {"objective": "scd", "teacher": "teacher", "start": "teacher"}},
        "evaluation": {"samples": 70},
        "experiments": {"methods": {"title": "N", "paper": "Fig. 5c", "question": "N?", "expectation": "more is better",
                                    "figure": "methods", "metric": "fd_train", "arms": ["*"]}},
    }  # fmt: skip


@pytest.mark.slow
def test_a_study_of_a_folder_runs_from_images_to_report(tiny: dict, write_study, tmp_path: Path) -> None:
    write_images(tmp_path / "my images", PER_CLASS, STUDIED)
    file = write_study(small_study(tmp_path, tiny))
    snakemake("--cores", "2", "--config", f"study={file}", cwd=tmp_path)
    folder = tmp_path / "results" / "folder"
    record = read_record(folder / "runs" / "scd" / "seed-0" / "metrics.json")
    assert {value.metric for value in record.metrics if value.steps == 2} == set(images.METRICS["samples"])
    assert record.protocol["samples"] == 70 and record.protocol["training_seed"] == 0
    assert record.protocol["extractor"].startswith("classifier")
    assert record.protocol["labels"].startswith("as the data have them: from ")
    page = (tmp_path / "reports" / "folder.html").read_text()
    assert record.protocol["extractor"] in page and "protocol: reference" in page
    beside = (tmp_path / "reports" / "folder" / "methods.html").read_text()
    assert "against 90 images of the training part" in beside
    assert "images resized: none; for the features: none; training seeds 0, sampling seed" in beside
    assert read_json(folder / "provenance.json", "")["protocols"]["images"]["resize"] == "none"
    assert (folder / "experiments" / "methods" / "pictures.svg").is_file()
    done = snakemake("-n", "--config", f"study={file}", cwd=tmp_path)
    assert "Nothing to be done" in done.stdout


@pytest.mark.slow
def test_the_steps_run_by_hand_and_say_what_is_wrong(tiny: dict, write_study, tmp_path: Path) -> None:
    file = write_study(small_study(tmp_path, tiny))
    failed = step("prepare", "--study", file, "--data", "images", cwd=tmp_path, check=False)
    assert failed.returncode == 2 and "no such folder or zip of images" in failed.stderr
    refused = step("encode", "--study", file, "--data", "images", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "has no latents" in refused.stderr


@pytest.mark.slow
def test_a_run_s_data_open_from_the_prepared_file(prepared, tiny: dict, write_study, monkeypatch) -> None:
    home, _, arrays, _ = prepared
    monkeypatch.chdir(home)
    study: Study = load(write_study(small_study(home, tiny)))
    write_arrays(study.data_file("images"), arrays)
    opened = draws_module(study.data["images"]).open_dataset(arrays, study.sigma_d)
    assert opened.shape == (3, SIDE, SIDE)
    assert study.specification(Run(arm="scd", seed=0))["data"]["size"] == STUDIED
    assert read_json(Path(images.about_of(arrays)["folder"]) / "train" / "manifest.json", "")["rows"] == 90
