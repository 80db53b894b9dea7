"""Images in folders and zips: which there are, what they are labelled, and their pixels at one size."""

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from workflow.errors import BenchError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
Resize = Literal["none", "adm"]
Members = dict[str, tuple[int, int]]
"""Name -> its size, and when it was written (folder) or its CRC (zip), in the order of names."""
MODES = {
    "L": "grey", "1": "black and white", "RGBA": "with transparency", "LA": "grey with transparency", "P": "a palette",
    "CMYK": "for print", "I;16": "grey, 16 bits",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Rows of a data set that can be read one by one, in a fixed order."""

    name: str
    """Of the file or folder, for messages."""
    pixels: Callable[[int], np.ndarray]
    """row -> uint8 of (3, size, size)."""
    labels: np.ndarray | None
    """int64 of (rows,)."""
    classes: tuple[str, ...]
    """Names of the labels, in their order."""
    rows: int
    digest: str
    """Of what the rows are made from: names, sizes and times of files, or the arrays themselves."""

    def chosen(self, rows: Sequence[int]) -> "Part":
        """The part of these rows, in their order."""
        picked = np.asarray(rows, np.int64)
        mark = hashlib.sha256(self.digest.encode() + picked.tobytes()).hexdigest()
        labels = None if self.labels is None else self.labels[picked]
        return Part(self.name, lambda row: self.pixels(int(picked[row])), labels, self.classes, len(picked), mark)


def folder_part(path: Path, size: int, resize: Resize, convert: bool, labelled: bool) -> Part:
    """The images of a folder or zip, in the order of their names; each label is a subfolder.

    Raises BenchError naming what is missing: the folder, images in it, or an image's subfolder.
    """
    members = _zip_members(path) if path.is_file() else _folder_members(path)
    if not members:
        raise BenchError(
            f"no image in it (looked for {', '.join(sorted(SUFFIXES))})", file=path, remedy="name another folder or zip"
        )
    names = list(members)
    labels, classes = _labels(path, names) if labelled else (None, ())
    listing = json.dumps([size, resize, convert, labelled, list(members.items())]).encode()
    read = _zip_reader(path) if path.is_file() else lambda name: (path / name).read_bytes()

    def pixels(row: int) -> np.ndarray:
        name = names[row]
        return to_pixels(path / name, lambda: read(name), size, resize, convert)

    return Part(str(path), pixels, labels, classes, len(names), hashlib.sha256(listing).hexdigest())


def to_pixels(path: Path, read: Callable[[], bytes], size: int, resize: Resize, convert: bool) -> np.ndarray:
    """One image file as uint8 of (3, size, size). Raises BenchError naming the file and what was expected."""
    unreadable = (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, struct.error)
    packed = (zipfile.BadZipFile, zlib.error, RuntimeError)  # the last for members that want a password
    try:
        image = Image.open(io.BytesIO(read()))
        image.load()
    except (*unreadable, *packed) as error:
        problem = f"cannot read the image: {error}"
        raise BenchError(problem, file=path, remedy="replace the file, or take it out of the data set") from error
    except Image.DecompressionBombError as error:
        raise BenchError(f"refused: {error}", file=path, remedy="take it out of the data set") from error
    if image.mode != "RGB":
        if not convert:
            expected = f"expected an RGB image, found mode {image.mode} ({_described(image.mode)})"
            raise BenchError(expected, file=path, key="convert", remedy="convert the file, or set 'convert: true'")
        image = _to_rgb(image, path)
    if resize == "adm":
        image = centre_crop(image, size)
    elif image.size != (size, size):
        problem = f"expected {size} x {size} pixels, found {image.width} x {image.height}"
        raise BenchError(problem, file=path, key="resize", remedy="set 'resize: adm', or the size that the images have")
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise BenchError(f"cannot convert mode {image.mode}: {error}", file=path, remedy="convert the file") from error


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """ADM's way to a square: halve by boxes while the short side is at least twice `size`, bicubic, crop the centre."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def check_counts(part: Part, count: int | None, classes: int | None, key: str) -> None:
    """Raise BenchError unless there are as many images and classes as the study expects."""
    if count is not None and part.rows != count:
        problem = f"expected {count} images, found {part.rows}"
        raise BenchError(problem, file=part.name, key=key, remedy=f"complete the data, or set {key!r} to what is there")
    if classes is not None and part.labels is not None and len(part.classes) != classes:
        problem = f"expected {classes} classes, found {len(part.classes)}: {', '.join(part.classes[:5])} ..."
        raise BenchError(problem, file=part.name, key="classes", remedy="put each class into a subfolder of its own")


def check_classes(train: Part, held_out: Part) -> None:
    """Raise BenchError unless both parts have the same classes: a label would mean two things."""
    if train.classes != held_out.classes:
        lacking = sorted(set(train.classes) ^ set(held_out.classes))
        problem = f"the classes of the parts differ: {', '.join(lacking[:5])} ... in one of them alone"
        raise BenchError(problem, file=held_out.name, key="held_out", remedy="give both the same subfolders")


def _described(mode: str) -> str:
    return MODES.get(mode, "another colour space")


def _folder_members(path: Path) -> Members:
    """Links to folders are followed."""
    if not path.is_dir():
        remedy = "put the data there, link to it, or set 'path' (docs/data.md)"
        raise BenchError("there is no such folder or zip of images", file=path, key="path", remedy=remedy)
    found: Members = {}
    for folder, _, names in os.walk(path, followlinks=True):
        for file in (Path(folder, name) for name in names if Path(name).suffix.lower() in SUFFIXES):
            known = file.stat()
            found[file.relative_to(path).as_posix()] = (known.st_size, known.st_mtime_ns)
    return dict(sorted(found.items()))


def _zip_members(path: Path) -> Members:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {i.filename: (i.file_size, i.CRC) for i in archive.infolist() if not i.is_dir()}
    except (zipfile.BadZipFile, OSError) as error:
        raise BenchError(f"cannot read the zip: {error}", file=path, remedy="make or fetch it again") from error
    return dict(sorted((n, known) for n, known in files.items() if PurePosixPath(n).suffix.lower() in SUFFIXES))


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    """name -> its bytes; one archive is open for all, whose reads are locked against each other."""

    @cache
    def archive() -> zipfile.ZipFile:
        return zipfile.ZipFile(path)

    return lambda name: archive().read(name)


def _labels(path: Path, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The innermost folder of each image as its label."""
    folders = [PurePosixPath(name).parent.name for name in names]
    for name, folder in zip(names, folders, strict=True):
        if not folder:
            problem = "the image has no label: it is in no subfolder"
            raise BenchError(problem, file=path / name, key="labels", remedy="move it, or set 'labels: false'")
    classes = tuple(sorted(set(folders)))
    index = {folder: i for i, folder in enumerate(classes)}
    return np.array([index[folder] for folder in folders], np.int64), classes
