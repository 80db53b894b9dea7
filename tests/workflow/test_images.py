"""Images of every layout are read as what they are, and what is wrong with one is said with its name."""

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workflow.drawn import CLASSES, draw, write_images
from workflow.errors import BenchError
from workflow.runtime.cifar10 import cifar10_parts
from workflow.runtime.images import Part, centre_crop, check_classes, check_counts, folder_part


def _read(path: Path, size: int = 8, resize: str = "none", convert: bool = False, labelled: bool = True) -> Part:
    return folder_part(path, size, resize, convert, labelled)  # type: ignore[arg-type]


def _all(part: Part) -> np.ndarray:
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
    with pytest.raises(BenchError, match=r"cannot read the zip[\s\S]*no\.zip"):
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
