"""Images of the MNIST family: read as their files say or refused by name, scaled, folded, and judged as images are."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trigbench.workflow.data.features import extractors, judging
from trigbench.workflow.data.kinds.idx import making as idx
from trigbench.workflow.data.kinds.idx.draws import open_dataset, to_levels, to_unit_variance
from trigbench.workflow.data.kinds.idx.files import read_idx
from trigbench.workflow.data.kinds.idx.kind import IDX, IdxData
from trigbench.workflow.data.kinds.idx.labelled import labelled
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.study.kinds import kind_module, known_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings

SIDE, CLASSES = 8, 4
COUNTS = {"train": 160, "t10k": 96}
EVALUATION = EvaluationSettings(samples=100)


def idx_file(array: np.ndarray) -> bytes:
    """As the format's description has it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def bars(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels): a bright bar, whose place is the label, on a dim ground with noise."""
    g = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = g.integers(0, 60, (count, side, side))
    for row, label in enumerate(labels):
        images[row, :, 2 * label : 2 * label + 2] += g.integers(100, 190)
    return images, labels


def write_idx(folder: Path, packed: bool = True, side: int = SIDE) -> Path:
    """The four files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate(COUNTS.items()):
        images, labels = bars(count, seed, side)
        for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            content = idx_file(array)
            (folder / f"{part}-{name}{'.gz' if packed else ''}").write_bytes(
                gzip.compress(content) if packed else content
            )
    return folder


def settings(folder: Path, **more: Any) -> IdxData:
    """Of made-up files, judged by random features."""
    given = {"kind": "idx", "path": str(folder), "size": SIDE, "classes": CLASSES, "extractor": {"kind": "random"}}
    return IdxData.model_validate({**given, **more})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, IdxData, dict, dict]:
    """(folder to work in, settings, arrays, facts)."""
    home = tmp_path_factory.mktemp("home")
    data = settings(write_idx(home / "files"), fold=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return home, data, *idx.prepare(data, EVALUATION, 0.5)


@pytest.fixture
def there(prepared, monkeypatch: pytest.MonkeyPatch) -> tuple[IdxData, dict, dict]:
    """The same, in the folder where it was prepared."""
    monkeypatch.chdir(prepared[0])
    return prepared[1:]


def test_draws_have_mean_0_and_deviation_1_over_all_pixels_whatever_sigma_d_is_and_their_labels(there) -> None:
    data, arrays, facts = there
    dataset = open_dataset(arrays, 0.5)
    known = known_of(data)
    assert (dataset.shape, dataset.classes, dataset.velocity) == (known.shape, known.classes, None)
    assert dataset.shape == (4, SIDE // 2, SIDE // 2) and dataset.shares == (40, 40, 40, 40)
    images, labels = bars(COUNTS["train"], 0)
    whole = (images - images.mean()) / images.std()
    x0, condition = dataset.draw(torch.Generator().manual_seed(0), 400)
    assert x0.std() == pytest.approx(1, abs=0.05) and x0.mean() == pytest.approx(0, abs=0.05)
    flat = torch.nn.functional.pixel_shuffle(x0, 2)[:, 0].flatten(1).numpy()
    distance = ((flat[:, None] - whole.reshape(1, -1, SIDE**2).astype(np.float32)) ** 2).sum(-1)
    assert float(distance.min(1).max()) < 1e-6, "each is a training image, its pixels in their places"
    assert condition.label is not None and (labels[distance.argmin(1)] == condition.label.numpy()).all()
    assert f"over {images.std():.6g}, times sigma_d (0.5)" in facts["scaled"]
    assert torch.equal(open_dataset(arrays, 2.0).draw(torch.Generator().manual_seed(0), 400)[0], x0)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_levels_make_the_round_trip_and_a_channel_holds_every_other_pixel(fold: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    folded = to_unit_variance(levels, 70.0, 90.0, fold)
    assert folded.shape == (1, fold**2, 16 // fold, 16 // fold)
    assert torch.equal(to_levels(folded, 70.0, 90.0, fold), levels)
    assert torch.equal(folded[0, 0], (levels[0, 0, ::fold, ::fold].float() - 70) / 90)
    assert to_levels(torch.full((1, fold**2, 2, 2), 9.0), 70.0, 90.0, fold).min() == 255


def test_data_conform(there) -> None:
    found = check_data(kind_module(there[0]), there[0])
    assert {one.check for one in found if one.state == "failed"} == set(), found
    assert {one.check for one in found if one.state == "does not apply"} == {"velocity", "keeps parts apart"}


def test_judges_know_good_samples_from_noisy_ones_and_say_how_far_real_is_from_real(there) -> None:
    _, arrays, _ = there
    dataset = open_dataset(arrays, 0.5)
    real, _ = dataset.draw(torch.Generator().manual_seed(3), 90)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    found = [idx.judge_samples(dataset, real + level * noise) for level in (0.0, 0.4, 1.5)]
    assert set(found[0]) == set(idx.METRICS["samples"])
    for name in ("fd_train", "nearest_train"):
        assert all(np.diff([one[name] for one in found]) > 0), (name, found)
    assert found[0]["nearest_train"] < found[0]["nearest_held_out"], "drawn from the training part"
    assert {value.metric for value in idx.floors(dataset)} == set(found[0]) - {"fd_held_out", "nearest_held_out"}
    assert set(idx.judge_samples(dataset, real, ["recall"])) == {"recall"}


def test_pictures_are_unfolded_and_the_real_ones_above_are_of_the_labels_of_samples(there) -> None:
    _, arrays, _ = there
    assert IDX.images is not None
    seen = IDX.images(arrays, 6)
    images, _ = bars(COUNTS["train"], 0)
    mean, std = images.mean(), images.std()
    first = to_unit_variance(torch.from_numpy(images[:5].astype(np.uint8))[:, None], mean, std, 2).numpy()
    assert np.allclose(seen.decoded(first), images[:5] / 255, atol=1e-6)
    assert seen.encoded is not None
    assert np.allclose(seen.encoded(np.repeat(images[:5, None].astype(np.uint8), 3, 1)), first, atol=1e-5)
    brightest = seen.real.reshape(6, SIDE, CLASSES, 2).mean((1, 3)).argmax(1)
    assert brightest.tolist() == [0, 1, 2, 3, 0, 1], "every class comes in turn"
    assert not np.array_equal(seen.real[0], seen.real[4])


def test_a_class_without_a_picture_left_is_blank_in_its_column(there) -> None:
    _, arrays, _ = there
    assert IDX.images is not None
    few = {**arrays, "train_shown": arrays["train_shown"][:1], "train_shown_labels": arrays["train_shown_labels"][:1]}
    assert (IDX.images(few, 8).real.reshape(8, -1).max(1) > 0).sum() == 1


def test_the_same_content_comes_from_gzipped_and_plain_files_and_from_torchvision_s_folder(
    there, tmp_path: Path
) -> None:
    data, _, facts = there
    write_idx(tmp_path / "raw", packed=False)
    other = data.model_copy(update={"path": str(tmp_path), "content": facts["content"]})
    assert idx.parts_of(other)[1] == facts["content"]
    with pytest.raises(BenchError, match=r"(?s)other images or labels.*found " + facts["content"]):
        idx.parts_of(other.model_copy(update={"content": "0" * 64}))


def test_random_features_read_no_class(there) -> None:
    with pytest.raises(LookupError, match="features of random, which reads no class"):
        labelled(open_dataset(there[1], 0.5))


def test_a_classifier_of_the_training_part_judges_unless_another_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extractors, "FEWEST_STEPS", 8)
    monkeypatch.setattr(judging, "reference_file", lambda *_: {})
    names = ["one", "two", "three", "four"]
    data = settings(write_idx(tmp_path / "files"), extractor={}, names=names, conditional=False)
    arrays, facts = idx.prepare(data, EVALUATION, 0.5)
    assert facts["classifier_accuracy_held_out"] > 1 / CLASSES and facts["names"] == "one, two, three, four"
    assert facts["protocol"]["extractor"].startswith("classifier, ") and facts["train"] == COUNTS["train"]
    held, shown = labelled(open_dataset(arrays, 0.5)), arrays["held_out_shown"]
    rows = torch.arange(COUNTS["t10k"])
    assert float((held.read(held.images(rows)) == held.labels).double().mean()) == pytest.approx(
        facts["classifier_accuracy_held_out"], abs=1e-4
    )
    order = judging.fixed_order(COUNTS["t10k"], data.seed, "held_out")
    about = judging.about_of(arrays)
    back = to_levels(held.images(torch.from_numpy(order)), about["mean"], about["std"], about["fold"])
    assert torch.equal(back, torch.from_numpy(shown))
    dataset = open_dataset(arrays, 0.5)
    assert dataset.classes == 0 and dataset.draw(torch.Generator().manual_seed(0), 3)[1].label is None
    json.dumps(facts)


# --- what is refused -------------------------------------------------------------------------------


def test_missing_files_are_refused_with_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        idx.prepare(settings(tmp_path / "none"), EVALUATION, 0.5)
    said = str(caught.value)
    for part in ("apt install dataset-fashion-mnist", "torchvision", "zalandoresearch", "t10k-labels-idx1-ubyte.gz",
                 "key:    path", str(tmp_path / "none")):  # fmt: skip
        assert part in said, said


def _gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


LABELLED = idx_file(np.arange(160) % CLASSES)
DAMAGE = {
    "wrong magic": ("train-images", b"\x01" + idx_file(np.zeros((2, 8, 8)))[1:], "not an IDX file"),
    "no header": ("train-images", b"\0\0\x08", "not an IDX file"),
    "another type": ("train-images", struct.pack(">HBB3I", 0, 13, 3, 1, 8, 8) + bytes(256), "found type 0x0d"),
    "labels for images": ("train-images", LABELLED, "3 dimensions, found type 0x08 and 1 dimensions"),
    "truncated": ("train-images", idx_file(np.zeros((2, 8, 8)))[:-1], "truncated: expected 128 bytes .* found 127"),
    "too long": ("train-images", idx_file(np.zeros((2, 8, 8))) + b"!", "longer than its header says"),
    "truncated gzip": ("train-labels", _gz(LABELLED)[:-12], "damaged"),
    "checksum of gzip": ("train-labels", _gz(LABELLED)[:-8] + b"\1\2\3\4" + _gz(LABELLED)[-4:], "CRC"),
    "label out of range": ("train-labels", idx_file(np.arange(160) % 5), "expected labels 0 to 3, found 0 to 4"),
    "a class is not there": ("train-labels", idx_file(np.arange(160) % 3), "no image has the label 3"),
    "other counts": ("train-labels", idx_file(np.zeros(159)), "159 labels for the 160 images"),
    "another size": ("t10k-images", idx_file(np.zeros((96, 8, 7))), "expected images of 8x8 pixels, found 8x7"),
    "one grey level": (
        "train-images",
        idx_file(np.full((160, 8, 8), 7)),
        "of one grey level",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_or_something_else_is_refused_by_its_file(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, (part, content, wanted) = write_idx(tmp_path / "files"), DAMAGE[name]
    (file,) = folder.glob(f"{part}*")
    file.write_bytes(content)
    with pytest.raises(BenchError, match=wanted) as caught:
        idx.prepare(settings(folder), EVALUATION, 0.5)
    assert str(folder if name == "one grey level" else file) in str(caught.value)


@pytest.mark.parametrize(("more", "wanted"), [({"count": 161}, "expected 161 images, found 160"),
                                              ({"held_out_count": 95}, "expected 95 images, found 96")])  # fmt: skip
def test_another_number_of_images_than_the_study_names_is_refused(there, more: dict, wanted: str) -> None:
    with pytest.raises(BenchError, match=wanted):
        idx.parts_of(there[0].model_copy(update=more))


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"size": 7, "fold": 2}, "7 pixels are no multiple of 2"),
        ({"fold": 3}, "1, 2 or 4"),
        ({"names": ["a", "b", "c"]}, "expected 4 different ones, got 3"),
        ({"names": ["a", "b", "c", "c"]}, "expected 4 different ones, got 3"),
        ({"classes": 300}, "less than or equal to 256"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, more: dict, wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        settings(tmp_path, **more)


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(tmp_path: Path, packed: bool) -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(_gz(idx_file(numbers)) if packed else idx_file(numbers))
    assert np.array_equal(read_idx(tmp_path / "a", 3), numbers)


# --- the study -------------------------------------------------------------------------------------


def test_its_pilot_has_a_teacher_and_a_student_of_each_network_on_the_same_images() -> None:
    study, carried = load("fashion-pilot"), load("fashion")
    taught = [arm.teacher for arm in study.arms.values() if arm.objective == "scd"]
    teachers = [name for name in study.arms if name.startswith("pilot-teacher-")]
    assert len(study.arms) == 8 and taught == teachers
    for data in (*study.data.values(), *carried.data.values()):
        assert isinstance(data, IdxData)
        assert data.model_copy(update={"fold": 1}) == study.data["clothes-whole"]
    assert study.evaluation == carried.evaluation.model_copy(update={"edits": None})


@pytest.mark.parametrize("budget", ["laptop", "longer", "smoke"])
def test_the_study_of_clothes_is_what_it_promises(budget: str) -> None:
    study = load("fashion", budget)
    seeds = {arm: sum(run.arm == arm for run in study.runs()) for arm in study.arms}
    if budget == "smoke":
        assert seeds == {"teacher": 1, "scd": 1, "ect": 1} and study.quick
        return
    three = {"teacher", "scd", "sct", "dscd-64", "ect"}
    assert {arm for arm, count in seeds.items() if count == 3} == three
    assert {arm for arm, count in seeds.items() if count == 1} == set(study.arms) - three
    assert {"dscd-8", "dscd-1024", "cd", "ms-scd-2", "scd-guided"} < set(study.arms)
    for name in ("scd", "sct", "dscd-64", "ect"):
        arm = study.arms[name]
        assert arm.rate <= 1e-4 and arm.start == "teacher"
        assert {way.steps for way in study.samplings(name)} == {1, 2, 4}
    data = study.data["clothes"]
    assert isinstance(data, IdxData) and data.path == "/usr/share/datasets/fashion-mnist"
    assert known_of(data).shape == (16, 7, 7) and len(data.labels) == 10
