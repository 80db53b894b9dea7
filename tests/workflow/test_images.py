"""Images of every layout are read as what they are, and what is wrong with one is said with its name."""

import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workflow.drawn import CLASSES, draw, write_images
from trigbench.workflow.data.files.pictures import Pictures, centre_crop, check_classes, check_counts, folder_part
from trigbench.workflow.data.kinds.images.cifar10 import cifar10_parts
from trigbench.workflow.errors import BenchError


def _read(path: Path, size: int = 8, resize: str = "none", convert: bool = False, labelled: bool = True) -> Pictures:
    return folder_part(path, size, resize, convert, labelled)  # type: ignore[arg-type]


def _all(part: Pictures) -> np.ndarray:
    return np.stack([part.pixels(row) for row in range(part.rows)])


def _zipped(folder: Path, packing: int = zipfile.ZIP_STORED) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", packing) as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    return path


# --- folders and zips ----------------------------------------------------------------------------


def test_a_folder_and_its_zip_are_the_same_data(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "my images é", 3, 8)
    (folder / "notes.txt").write_text("no image")
    part, zipped = _read(folder), _read(_zipped(folder))
    assert part.classes == tuple(sorted(CLASSES)) and part.rows == 9
    assert part.labels is not None and zipped.labels is not None
    np.testing.assert_array_equal(part.labels, np.repeat([0, 1, 2], 3))
    np.testing.assert_array_equal(zipped.labels, part.labels)
    np.testing.assert_array_equal(_all(zipped), _all(part))
    order = [CLASSES.index(name) for name in part.classes]
    expected = np.stack([draw(8, label, i) for label in order for i in range(3)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(_all(part), expected)


def test_data_without_labels_need_no_subfolders(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2, 8, classes=["."])
    part = _read(folder, labelled=False)
    assert part.labels is None and part.classes == () and part.rows == 2


def test_another_file_gives_another_digest(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2, 8)
    before = _read(folder).digest
    Image.fromarray(draw(8, 0, 99)).save(folder / CLASSES[0] / "more.png")
    assert _read(folder).digest != before


def test_a_split_keeps_every_image_once_with_its_label(tmp_path: Path) -> None:
    part = _read(write_images(tmp_path, 4, 8))
    one, two = part.chosen([5, 1]), part.chosen([0, 2, 3, 4, *range(6, 12)])
    assert part.labels is not None and one.labels is not None
    np.testing.assert_array_equal(one.pixels(0), part.pixels(5))
    np.testing.assert_array_equal(one.labels, part.labels[[5, 1]])
    assert one.rows + two.rows == part.rows and one.digest != two.digest != part.digest


def _place(folder: Path, *names: str) -> Path:
    """The same image under each of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(8, 0, 0)).save(folder / name, "png")
    return folder


def _labelled(part: Pictures) -> list[str]:
    assert part.labels is not None
    return [part.classes[label] for label in part.labels]


def test_what_systems_hide_is_no_image_in_a_folder_or_a_zip(tmp_path: Path) -> None:
    hidden = (".ipynb_checkpoints/a.png", "__MACOSX/cat/._1.png", "cat/._1.png", "cat/@eaDir/1.png", "cat/.cache/2.png")
    folder = _place(tmp_path / ".hidden" / "data", "cat/1.png", "dog/1.png", *hidden)
    for name in (".DS_Store", "cat/Thumbs.db"):
        (folder / name).write_bytes(b"no image")
    for part in (_read(folder), _read(_zipped(folder))):
        assert part.rows == 2 and part.classes == ("cat", "dog")


def test_a_class_is_the_first_folder_below_the_one_that_all_images_lie_in(tmp_path: Path) -> None:
    """What lies deeper belongs to the class."""
    deep = _place(tmp_path / "deep", "all/n1/images/1.png", "all/n2/images/1.png", "all/n2/images/2.png")
    assert _labelled(_read(deep)) == ["n1", "n2", "n2"]
    films = _place(tmp_path / "films", "bow/1.png", "bow/film 1/1.png", "bow/film 2/1.png", "run/film 3/1.png")
    assert _labelled(_read(films)) == ["bow", "bow", "bow", "run"]
    assert _labelled(_read(_place(tmp_path / "one", "cat/1.png"))) == ["cat"]
    assert _labelled(_read(_place(tmp_path / "all", "cat/a/1.png", "cat/b/1.png"))) == ["a", "b"]


DOUBTFUL: dict[str, tuple[list[str], str]] = {
    "two of two": (["train/cat/1.png", "train/dog/1.png", "other/cat/1.png"], "other/cat and in train/cat: which"),
    "one of one": (["train/cat/1.png", "other/cat/1.png"], "other/cat and in train/cat: which folder"),
    "deeper": (["train/x/cat/1.png", "other/y/cat/1.png"], "other/y/cat and in train/x/cat: which folder"),
    "a class of that name": (["cat/1.png", "train/cat/1.png"], "images lie in cat and in train/cat: which folder"),
    "days": (["other/day 1/1.png", "train/day 1/1.png"], "other/day 1 and in train/day 1: which folder"),
    "parts of other classes": (["train/cat/1.png", "Test/dog/1.png"], "in Test, train: parts of a data set, and no"),
    "a part alone": (["train/1.png"], "in train: parts of a data set, and no classes"),
}


@pytest.mark.parametrize("what", DOUBTFUL)
def test_folders_of_one_name_under_two_others_are_refused_and_not_merged(what: str, tmp_path: Path) -> None:
    names, wanted = DOUBTFUL[what]
    folder = _place(tmp_path / "data", *names)
    for path in (folder, _zipped(folder)):
        with pytest.raises(BenchError, match=rf"{wanted}[\s\S]*remedy: +name[\s\S]*data(.zip)?/(other|train|Test)"):
            _read(path)
        assert _read(path, labelled=False).rows == len(names)
    if what == "two of two":
        assert _read(folder / "train").classes == ("cat", "dog")


def test_names_of_classes_that_are_numbers_sort_as_numbers(tmp_path: Path) -> None:
    names = [f"{i}" for i in (0, 2, 10, 1, 9)]
    assert _read(_place(tmp_path / "a", *(f"{name}/1.png" for name in names))).classes == ("0", "1", "2", "9", "10")
    words = _read(_place(tmp_path / "b", *(f"n{name}/1.png" for name in names)))
    assert words.classes == ("n0", "n1", "n10", "n2", "n9"), "names that are no numbers stay in their order"


def test_links_are_followed_and_one_that_leads_back_or_nowhere_is_named(tmp_path: Path) -> None:
    folder = _place(tmp_path / "data", "cat/1.png")
    (folder / "dog").symlink_to(_place(tmp_path / "elsewhere", "1.png"))
    (folder / ".hidden").symlink_to(tmp_path / "nothing")
    assert _labelled(_read(folder)) == ["cat", "dog"]
    for link, target, wanted in (
        ("cat/up", folder, "leads back"),
        ("cat/2.png", tmp_path / "nothing", "leads nowhere"),
        ("bird", tmp_path / "not mounted", "leads nowhere"),
        ("round", folder / "round", "leads nowhere"),
    ):
        (folder / link).symlink_to(target)
        with pytest.raises(BenchError, match=rf"{wanted}[\s\S]*{link}"):
            _read(folder)
        (folder / link).unlink()


def test_a_folder_that_cannot_be_read_is_named_and_not_left_out(tmp_path: Path, monkeypatch) -> None:
    folder, scandir = _place(tmp_path / "data", "cat/1.png", "dog/1.png"), os.scandir

    def refuse(path: Path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BenchError, match=r"Permission denied[\s\S]*data/dog"):
        _read(folder)


@pytest.mark.parametrize("suffix", ["gif", "AVIF", "heic"])
def test_images_of_kinds_that_are_not_read_are_refused_and_not_left_out(suffix: str, tmp_path: Path) -> None:
    folder = _place(tmp_path / "data", "a/1.png", "b/1.jfif", "c/1.jpe")
    assert _read(folder).classes == ("a", "b", "c")
    for name in (f"a/2.{suffix}", f"d/3.{suffix}", f".hidden/3.{suffix}"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for path in (folder, _zipped(folder)):
        with pytest.raises(
            BenchError, match=rf"2 images of a kind that is not read, such as a/2\.{suffix}[\s\S]*\.png"
        ):
            _read(path)


def test_a_member_outside_of_its_zip_is_refused_and_not_left_out(tmp_path: Path) -> None:
    path = _zipped(_place(tmp_path / "data", "b/1.png"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "data/b/1.png", "../a/1.png")
    with pytest.raises(BenchError, match=r"outside of the zip: \.\./a/1\.png"):
        _read(path)


# --- labels as EDM's data sets say them ----------------------------------------------------------

EDM = {"00000/img00000000.png": 6, "00000/img00000001.png": 11, "00001/img00001000.png": 6}


def _edm(folder: Path, content: object) -> Path:
    _place(folder, *EDM)
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("above", ["", "cifar10/"])
@pytest.mark.parametrize("zipped", [False, True])
def test_dataset_json_says_the_labels_and_not_the_folders(above: str, zipped: bool, tmp_path: Path) -> None:
    _edm(tmp_path / "data" / above, {"labels": [[name, label] for name, label in EDM.items()]})
    path = _zipped(tmp_path / "data") if zipped else tmp_path / "data"
    part = _read(path)
    assert part.classes == ("6", "11") and _labelled(part) == ["6", "11", "6"] and _all(part).shape == (3, 3, 8, 8)
    _edm(tmp_path / "data" / above, {"labels": [[name, 1] for name in EDM]})
    changed = _read(_zipped(tmp_path / "data") if zipped else tmp_path / "data")
    assert changed.classes == ("1",) and changed.digest != part.digest, "other labels are other data"


PAIRS = [[name, label] for name, label in EDM.items()]
BAD_LABELS: dict[str, tuple[object, str]] = {
    "an image lacks": ({"labels": PAIRS[1:]}, "1 images without a label, such as 00000/img00000000.png"),
    "an image too many": ({"labels": [*PAIRS, ["no.png", 0]]}, "1 labels of images that are not there, such as no.png"),
    "two labels": ({"labels": [*PAIRS, [PAIRS[0][0], 5]]}, "has two labels, 6 and 5"),
    "one-hot": ({"labels": [[name, [0, 1]] for name in EDM]}, r"a whole number from 0, found .* \[0, 1\]"),
    "fractions": ({"labels": [[name, 0.5] for name in EDM]}, "a whole number from 0, found"),
    "truths": ({"labels": [[name, True] for name in EDM]}, "a whole number from 0, found"),
    "below zero": ({"labels": [[name, -1] for name in EDM]}, "a whole number from 0, found"),
    "no labels": ({"labels": None}, "says that the images have no labels"),
    "another content": ([1, 2], "cannot read the labels"),
    "a mapping": ({"labels": {"a": 1}}, "cannot read the labels"),
    "no key": ({}, "cannot read the labels"),
}


@pytest.mark.parametrize("what", BAD_LABELS)
def test_a_dataset_json_that_does_not_label_each_image_once_is_refused(what: str, tmp_path: Path) -> None:
    content, wanted = BAD_LABELS[what]
    with pytest.raises(BenchError, match=rf"{wanted}[\s\S]*dataset\.json[\s\S]*key: +labels[\s\S]*remedy: "):
        _read(_edm(tmp_path / "data", content))
    assert _read(tmp_path / "data", labelled=False).rows == 3


# --- colours, bits and turns ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix, order", [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2"), ("pgm", "<u2")])
def test_sixteen_bits_of_grey_become_the_nearest_of_eight(suffix: str, order: str, tmp_path: Path) -> None:
    grey = np.array([0, 1, 128, 129, 257, 385, 386, 32767, 32768, 65406, 65407, 65535, *range(0, 52 * 900, 900)])
    path = tmp_path / "a" / f"1.{suffix}"
    path.parent.mkdir()
    Image.fromarray(grey.reshape(8, 8).astype(order)).save(path)
    with pytest.raises(BenchError, match=r"grey, 16 bits[\s\S]*convert: true"):
        _all(_read(tmp_path))
    found = _all(_read(tmp_path, convert=True))[0]
    expected = np.floor(grey * 255 / 65535 + 0.5).reshape(8, 8)
    assert found.shape == (3, 8, 8) and expected.max() == 255
    for channel in found:
        np.testing.assert_array_equal(channel, expected)


@pytest.mark.parametrize("dtype, words", [(np.int32, "whole numbers of 32 bits"), (np.float32, "fractions")])
@pytest.mark.parametrize("convert", [False, True])
def test_numbers_without_a_white_are_refused_with_a_remedy_that_works(dtype, words, convert, tmp_path: Path) -> None:
    path = tmp_path / "a" / "1.tif"
    path.parent.mkdir()
    Image.fromarray(np.linspace(0, 300, 64).reshape(8, 8).astype(dtype)).save(path)
    with pytest.raises(BenchError, match=rf"{words}[\s\S]*remedy: +save it with 8 bits a channel") as caught:
        _all(_read(tmp_path, convert=convert))
    assert "convert: true" not in str(caught.value)


@pytest.mark.parametrize("colour, channels", [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_of_colour_are_refused_and_not_cut(colour: int, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    rows = b"".join(b"\0" + np.full((8, channels), 0x80FF, ">u2").tobytes() for _ in range(8))
    parts = (b"IHDR" + struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)), b"IDAT" + zlib.compress(rows), b"IEND"
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    for convert in (False, True):
        with pytest.raises(BenchError, match=r"expected 8 bits a channel[\s\S]*1\.png"):
            _all(_read(tmp_path, convert=convert))


def _tiff(bits: int, white: int, rows: bytes) -> bytes:
    """8 x 8 of grey; `white` 0 says that zero is white."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: white, 273: 122, 277: 1, 278: 8, 279: len(rows)}
    fields = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, number) for tag, number in tags.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + fields + bytes(4) + rows


BITS = {
    "raw.ppm": b"P6\n8 8\n65535\n" + bytes([128, 255]) * 192,
    "plain.ppm": b"P3\n8 8\n1023\n" + b"600 " * 192,
    "twelve.tif": _tiff(12, 1, bytes([255]) * 96),
    "reversed.tif": _tiff(16, 0, bytes(128)),
}


@pytest.mark.parametrize("name", [*BITS, "transparent.png"])
def test_sixteen_bits_that_would_be_cut_or_misread_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / name
    path.parent.mkdir()
    if name in BITS:
        path.write_bytes(BITS[name])
    else:
        Image.new("I;16", (8, 8), 9).save(path, transparency=9)
    for convert in (False, True):
        with pytest.raises(BenchError, match=rf"expected 8 bits a channel[\s\S]*{name}[\s\S]*8 bits"):
            _all(_read(tmp_path, convert=convert))


@pytest.mark.parametrize("mode, hidden", [("RGB", (9, 8, 7)), ("L", 9), ("P", 9), ("RGBA", (9, 8, 7, 0))])
def test_what_is_transparent_is_refused_or_laid_on_white(mode: str, hidden, tmp_path: Path) -> None:
    image = Image.new(mode, (8, 8), hidden)
    image.paste({"RGB": (1, 2, 3), "RGBA": (1, 2, 3, 255)}.get(mode, 1), (0, 0, 8, 4))
    if mode == "P":
        image.putpalette([1, 2, 3] * 256)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a/1.png", **({} if mode == "RGBA" else {"transparency": hidden}))
    with pytest.raises(BenchError, match=r"expected an RGB image[\s\S]*convert: true"):
        _all(_read(tmp_path))
    found = _all(_read(tmp_path, convert=True))[0]
    assert (found[:, 4:] == 255).all() and found[:, :4].max() <= 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_image_is_turned_as_its_exif_says(suffix: str, tmp_path: Path) -> None:
    lying = Image.fromarray(np.full((8, 16, 3), 10, np.uint8))
    lying.paste((240, 240, 240), (0, 0, 8, 8))  # the left half is bright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left is up
    (tmp_path / "a").mkdir()
    lying.save(tmp_path / "a" / f"1.{suffix}", exif=exif)
    found = _all(_read(tmp_path, resize="adm"))[0]
    assert found[:, 0].min() > 200 and found[:, 7].max() < 60, "the upper half is bright, and the lower dark"


# --- what is wrong with one ----------------------------------------------------------------------


def _one(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(sorted((folder / CLASSES[0]).iterdir())[0])


def _as(mode: str) -> Callable[[Path], object]:
    return _one(lambda path: Image.open(path).convert(mode).save(path))


FAULTS: dict[str, tuple[Callable[[Path], object], dict, list[str]]] = {
    "a corrupt image": (_one(lambda p: p.write_bytes(b"no image")), {}, ["0000 é.png", "cannot read the image"]),
    "a truncated image": (
        _one(lambda p: p.write_bytes(p.read_bytes()[:-40])), {}, ["0000 é.png", "cannot read the image"],
    ),
    "a grey image": (_as("L"), {}, ["0000 é.png", "expected an RGB image", "grey", "convert: true"]),
    "an image with transparency": (_as("RGBA"), {}, ["0000 é.png", "expected an RGB image", "transparency"]),
    "a palette": (_as("P"), {}, ["expected an RGB image", "palette"]),
    "the wrong size": (
        _one(lambda p: Image.fromarray(draw(9, 0, 0)).save(p)), {}, ["expected 8 x 8 pixels, found 9 x 9", "adm"],
    ),
    "an image in no subfolder": (
        lambda folder: Image.fromarray(draw(8, 0, 0)).save(folder / "stray.png"), {},
        ["stray.png", "has no label", "labels: false"],
    ),
    "an empty folder": (lambda folder: [shutil.rmtree(folder / c) for c in CLASSES], {}, ["no image in it"]),
    "no folder": (shutil.rmtree, {}, ["no such folder or zip", "docs/data.md"]),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_what_is_wrong_with_an_image_is_said_with_its_name(what: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 2, 8)
    harm, settings, wanted = FAULTS[what]
    harm(folder)
    with pytest.raises(BenchError) as caught:
        _all(_read(folder, **settings))
    for part in (*wanted, "remedy:"):
        assert part in str(caught.value)


def test_a_zip_that_is_none_and_a_corrupt_member_are_named(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"PK no")
    with pytest.raises(BenchError, match=r"expected a folder or a zip of images[\s\S]*no\.zip[\s\S]*unpack a tar"):
        _read(tmp_path / "no.zip")
    folder = write_images(tmp_path / "data", 1, 8)
    _one(lambda p: p.write_bytes(b"x"))(folder)
    with pytest.raises(BenchError, match=r"data\.zip/blue bird/0000"):
        _all(_read(_zipped(folder)))


@pytest.mark.parametrize("at", [2, 10, 30])
def test_a_packed_image_with_a_flipped_bit_in_a_zip_is_named(at: int, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 1, 8, suffix="bmp")
    path = _zipped(folder, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        member = next(member for member in archive.infolist() if not member.is_dir())
    content = bytearray(path.read_bytes())
    content[member.header_offset + 30 + len(member.filename.encode()) + at] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"cannot read the image[\s\S]*data\.zip/"):
        _all(_read(path))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colours_are_converted_where_that_is_asked_for(mode: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path, 1, 8, classes=["a"], suffix="tif")
    path = next((folder / "a").iterdir())
    Image.open(path).convert(mode).save(path)
    pixels = _all(_read(folder, convert=True))
    assert pixels.shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(pixels[0], np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1))


def test_parts_of_other_classes_are_refused(tmp_path: Path) -> None:
    train, held = (write_images(tmp_path / part, 1, 8, classes=["a", part]) for part in ("b", "c"))
    check_classes(_read(train), _read(train))
    with pytest.raises(BenchError, match="classes of the parts differ: b, c"):
        check_classes(_read(train), _read(held))


def test_counts_and_classes_are_held_against_what_the_study_expects(tmp_path: Path) -> None:
    part = _read(write_images(tmp_path, 2, 8))
    check_counts(part, 6, 3, "count")
    with pytest.raises(BenchError, match="expected 7 images, found 6"):
        check_counts(part, 7, 3, "count")
    with pytest.raises(BenchError, match="expected 10 classes, found 3"):
        check_counts(part, 6, 10, "count")


# --- resizing ------------------------------------------------------------------------------------


def _adm(image: Image.Image, size: int) -> np.ndarray:
    """As in ADM's own code: boxes of two while that can be, then bicubic, then the centre of the array."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.Resampling.BOX)  # type: ignore[arg-type]
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.Resampling.BICUBIC)  # type: ignore[arg-type]
    array = np.array(image)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[top : top + size, left : left + size]


@pytest.mark.parametrize("width, height", [(64, 64), (64, 100), (333, 140), (65, 64), (500, 375), (20, 31)])
def test_adm_s_crop_is_of_the_size_and_pixel_by_pixel_adm_s(width: int, height: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = np.asarray(centre_crop(Image.fromarray(noise), 64))
    assert found.shape == (64, 64, 3)
    np.testing.assert_array_equal(found, _adm(Image.fromarray(noise), 64))


# --- CIFAR-10 ------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
BATCH = 6
FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
ROWS = {name: RNG.integers(0, 256, (BATCH, 3072), np.uint8) for name in FILES}
LABELS = {name: RNG.integers(0, 10, BATCH).tolist() for name in FILES}


def _python(folder: Path, protocol: int = 2, fortran: bool = False, text: bool = False) -> Path:
    """As torchvision unpacks it; the published files are of protocol 2."""
    where = folder / "cifar-10-batches-py"
    where.mkdir(parents=True)
    for name in FILES:
        rows = np.asfortranarray(ROWS[name]) if fortran else ROWS[name]
        content = {"batch_label": name, "labels": LABELS[name], "data": rows, "filenames": ["labels", "b.png"]}
        named = content if text else {key.encode(): value for key, value in content.items()}
        (where / name).write_bytes(pickle.dumps(named, protocol))
    return folder


def _binary(folder: Path) -> Path:
    where = folder / "cifar-10-batches-bin"
    where.mkdir(parents=True)
    for name in FILES:
        rows = np.concatenate([np.array(LABELS[name], np.uint8)[:, None], ROWS[name]], axis=1)
        (where / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "python": _python,
    "python, text keys": lambda folder: _python(folder, text=True),
    "python, protocol 4": lambda folder: _python(folder, protocol=4),
    "python, by columns": lambda folder: _python(folder, fortran=True),
    "binary": _binary,
    "the folder itself": lambda folder: _binary(folder) / "cifar-10-batches-bin",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_files_are_read_alike_in_every_layout(layout: str, tmp_path: Path) -> None:
    train, test = cifar10_parts(LAYOUTS[layout](tmp_path / "a é"), convert=False)
    expected = np.concatenate([ROWS[name] for name in FILES[:5]]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(_all(train), expected)
    np.testing.assert_array_equal(_all(test), ROWS["test_batch"].reshape(-1, 3, 32, 32))
    assert train.labels is not None
    assert train.labels.tolist() == [label for name in FILES[:5] for label in LABELS[name]]
    assert train.classes == test.classes and len(train.classes) == 10


def test_folders_of_images_are_cifar_too(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 2)):
        write_images(tmp_path / part, count, 32, suffix="jpg")
    train, test = cifar10_parts(tmp_path, convert=False)
    assert (train.rows, test.rows) == (12, 6) and train.classes == test.classes
    assert _all(train).shape == (12, 3, 32, 32)


class _Intruder:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_malicious_pickle_is_refused_and_its_code_is_not_run(tmp_path: Path) -> None:
    folder, trace = _python(tmp_path / "data"), tmp_path / "trace"
    (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(_Intruder(trace)))
    with pytest.raises(BenchError, match=r"expected 3072 bytes of pixels for each label[\s\S]*data_batch_1"):
        cifar10_parts(folder, convert=False)
    assert not trace.exists()
    content = {b"labels": LABELS["test_batch"], b"data": ROWS["test_batch"], b"more": _Intruder(trace)}
    (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(content, 2))
    cifar10_parts(folder, convert=False)  # its pixels are read, its code is not run
    assert not trace.exists()


HARM: dict[str, tuple[Callable[[Path], Path], str, Callable[[bytes], bytes], str]] = {
    "no pickle": (_python, "cifar-10-batches-py/data_batch_2", lambda _: b"text", "data_batch_2"),
    "cut python file": (_python, "cifar-10-batches-py/test_batch", lambda b: b[: len(b) // 2], "test_batch"),
    "cut binary file": (_binary, "cifar-10-batches-bin/data_batch_3.bin", lambda b: b[:-1], "multiple of 3073"),
    "empty binary file": (_binary, "cifar-10-batches-bin/test_batch.bin", lambda _: b"", "multiple of 3073"),
    "label of no class": (_binary, "cifar-10-batches-bin/test_batch.bin", lambda b: b"\x0b" + b[1:], "labels 0 to 9"),
}


@pytest.mark.parametrize("what", HARM)
def test_damaged_files_of_cifar_are_named(what: str, tmp_path: Path) -> None:
    make, name, harm, wanted = HARM[what]
    path = make(tmp_path) / name
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(BenchError, match=wanted):
        cifar10_parts(tmp_path, convert=False)


def test_a_missing_file_and_an_empty_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no CIFAR-10 there[\s\S]*docs/data\.md"):
        cifar10_parts(tmp_path, convert=False)
    _python(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(BenchError, match="data_batch_4"):
        cifar10_parts(tmp_path, convert=False)
