"""Images in folders and zips: which there are, what they are labelled, and their pixels at one size."""

import hashlib
import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from trigbench.workflow.errors import BenchError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
)  # fmt: skip
UNREAD = frozenset(
    {".gif", ".apng", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".tga", ".pbm", ".pnm", ".dds", ".exr", ".hdr"}
)
"""Images too, which nothing here reads: refused, as a class would lack them in silence."""
LABELS = "dataset.json"
"""Where EDM's data sets say their labels: {"labels": [[name, number], ...]}, or null for none."""
NO_DATA = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})
"""Folders in which systems keep what looks like images; what begins with a dot is left out as well."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Names of parts of a data set: folders all of such names are no classes."""
INSIDE = frozenset({"images", "image", "imgs", "img"})
"""Names of folders inside a class, which say nothing of it."""
Resize = Literal["none", "adm"]
Known = tuple[int, int]
"""A file's size, and when it was written (folder) or its CRC (zip)."""
Members = dict[str, Known]
"""Name -> what is known of it, in the order of names."""
MODES = {
    "L": "grey", "1": "black and white", "RGBA": "with transparency", "LA": "grey with transparency", "P": "a palette",
    "CMYK": "for print", "I;16": "grey, 16 bits", "I;16B": "grey, 16 bits", "I": "whole numbers of 32 bits",
    "F": "fractions", "RGB": "with a transparent colour",
}  # fmt: skip
EIGHT_BITS = "save it with 8 bits a channel, scaled as you mean it (ImageMagick: mogrify -depth 8 FILE)"


@dataclass(frozen=True)
class Pictures:
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

    def chosen(self, rows: Sequence[int]) -> "Pictures":
        """The part of these rows, in their order."""
        picked = np.asarray(rows, np.int64)
        mark = hashlib.sha256(self.digest.encode() + picked.tobytes()).hexdigest()
        labels = None if self.labels is None else self.labels[picked]
        return Pictures(self.name, lambda row: self.pixels(int(picked[row])), labels, self.classes, len(picked), mark)


def folder_part(path: Path, size: int, resize: Resize, convert: bool, labelled: bool) -> Pictures:
    """The images of a folder or zip, in the order of their names; each label is a subfolder, or as dataset.json says.

    Raises BenchError naming what is missing or in doubt: the folder, images in it, a link, an image's kind or label.
    """
    members = _zip_members(path) if path.is_file() else _folder_members(path)
    unread = [name for name in members if PurePosixPath(name).suffix.lower() in UNREAD]
    if unread:
        problem = f"{len(unread)} images of a kind that is not read, such as {unread[0]}"
        remedy = f"convert them ({', '.join(sorted(SUFFIXES))} are read), or take them out of the data set"
        raise BenchError(problem, file=path, remedy=remedy)
    read = _zip_reader(path) if path.is_file() else lambda name: (path / name).read_bytes()
    names = [name for name in members if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not names:
        raise BenchError(
            f"no image in it (looked for {', '.join(sorted(SUFFIXES))})", file=path, remedy="name another folder or zip"
        )
    listing = json.dumps([size, resize, convert, labelled, [(name, members[name]) for name in names]])
    labels, classes = None, ()
    if labelled:
        said = [name for name in members if PurePosixPath(name).name == LABELS]
        labels, classes = _told_labels(path, said, names, read) if said else _folder_labels(path, names)
        listing += hashlib.sha256(labels.tobytes()).hexdigest() if said else ""

    def pixels(row: int) -> np.ndarray:
        name = names[row]
        return to_pixels(path / name, lambda: read(name), size, resize, convert)

    return Pictures(str(path), pixels, labels, classes, len(names), hashlib.sha256(listing.encode()).hexdigest())


def to_pixels(path: Path, read: Callable[[], bytes], size: int, resize: Resize, convert: bool) -> np.ndarray:
    """One image file, turned as its EXIF says, as uint8 of (3, size, size).

    Raises BenchError naming the file and what was expected.
    """
    unreadable = (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, struct.error)
    packed = (zipfile.BadZipFile, zlib.error, RuntimeError)  # the last for members that want a password
    try:
        image = Image.open(io.BytesIO(read()))
        cut = _is_cut(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except (*unreadable, *packed) as error:
        problem = f"cannot read the image: {error}"
        raise BenchError(problem, file=path, remedy="replace the file, or take it out of the data set") from error
    except Image.DecompressionBombError as error:
        raise BenchError(f"refused: {error}", file=path, remedy="take it out of the data set") from error
    if cut:
        raise BenchError(
            "expected 8 bits a channel (or 16 of grey, 0 being black), found others", file=path, remedy=EIGHT_BITS
        )
    if image.format == "PPM" and image.mode == "I":  # of a PGM, 0 to 65535 whatever its own white
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode != "RGB" or image.has_transparency_data:
        if not convert:
            expected = f"expected an RGB image, found mode {image.mode} ({_described(image.mode)})"
            remedy = EIGHT_BITS if image.mode in ("I", "F") else "convert the file, or set 'convert: true'"
            raise BenchError(expected, file=path, key="convert", remedy=remedy)
        image = _to_rgb(image, path)
    if resize == "adm":
        image = centre_crop(image, size)
    elif image.size != (size, size):
        problem = f"expected {size} x {size} pixels, found {image.width} x {image.height}"
        raise BenchError(problem, file=path, key="resize", remedy="set 'resize: adm', or the size that the images have")
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))


def _is_cut(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would keep the upper byte of each channel, or of grey lose what else its bits say, in silence."""
    how = image.tile[0][3] if image.tile else None  # (mode, the number that is white) of PPM
    if image.format == "PPM" and image.mode == "RGB":
        return isinstance(how, tuple) and how[1] > 255
    if image.mode.startswith("I;16"):  # 12 bits; white at zero; a transparent grey
        inverted = getattr(image, "tag_v2", {}).get(262) == 0
        return "I;12" in str(image.tile) or inverted or image.has_transparency_data
    return image.mode != "I" and re.search(r";16[BLN]", str(image.tile)) is not None


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Of 16 bits of grey the nearest of 8: 65535 is white. What other numbers mean, the file does not say.

    What is transparent is laid on white, as a page shows it: the colour hidden there may be anything.
    """
    if image.mode in ("I", "F"):
        problem = f"cannot convert mode {image.mode} ({_described(image.mode)}): which of them is white is not known"
        raise BenchError(problem, file=path, remedy=EIGHT_BITS)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    try:
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
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


def check_counts(part: Pictures, count: int | None, classes: int | None, key: str) -> None:
    """Raise BenchError unless there are as many images and classes as the study expects."""
    if count is not None and part.rows != count:
        problem = f"expected {count} images, found {part.rows}"
        raise BenchError(problem, file=part.name, key=key, remedy=f"complete the data, or set {key!r} to what is there")
    if classes is not None and part.labels is not None and len(part.classes) != classes:
        problem = f"expected {classes} classes, found {len(part.classes)}: {', '.join(part.classes[:5])} ..."
        raise BenchError(problem, file=part.name, key="classes", remedy="put each class into a subfolder of its own")


def check_classes(train: Pictures, held_out: Pictures) -> None:
    """Raise BenchError unless both parts have the same classes: a label would mean two things."""
    if train.classes != held_out.classes:
        lacking = sorted(set(train.classes) ^ set(held_out.classes))
        problem = f"the classes of the parts differ: {', '.join(lacking[:5])} ... in one of them alone"
        raise BenchError(problem, file=held_out.name, key="held_out", remedy="give both the same subfolders")


def _described(mode: str) -> str:
    return MODES.get(mode, "another colour space")


def _folder_members(path: Path) -> Members:
    """Links are followed. Raises BenchError at one that leads nowhere or back, and where a folder cannot be read."""
    if not path.is_dir():
        remedy = "put the data there, link to it, or set 'path' (docs/data.md)"
        raise BenchError("there is no such folder or zip of images", file=path, key="path", remedy=remedy)
    return dict(sorted(_walk(path, PurePosixPath(), ())))


def _walk(path: Path, below: PurePosixPath, within: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, Known]]:
    """The files of path / below and of its folders; `within` is which folders lead there, by device and number."""
    folder = path / below
    try:
        own = folder.stat()
        if (own.st_dev, own.st_ino) in within:
            problem = "the link leads back to a folder that it lies in"
            raise BenchError(problem, file=folder, remedy="remove the link, which would be followed without end")
        for entry in list(os.scandir(folder)):
            name = below / entry.name
            if not _is_data(name):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from _walk(path, name, (*within, (own.st_dev, own.st_ino)))
            elif entry.is_symlink() and not Path(entry.path).exists():
                raise BenchError("the link leads nowhere", file=path / name, remedy="mend the link, or remove it")
            elif _is_read(name):
                known = entry.stat()
                yield str(name), (known.st_size, known.st_mtime_ns)
    except OSError as error:
        raise BenchError(f"cannot read it: {error.strerror}", file=folder, remedy="make it readable for you") from error


def _zip_members(path: Path) -> Members:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {i.filename: (i.file_size, i.CRC) for i in archive.infolist() if not i.is_dir()}
    except (zipfile.BadZipFile, OSError) as error:
        problem = f"expected a folder or a zip of images, and cannot read it as a zip: {error}"
        remedy = "name the folder or zip (unpack a tar); one that was cut short, make or fetch again"
        raise BenchError(problem, file=path, key="path", remedy=remedy) from error
    outside = [name for name in files if ".." in PurePosixPath(name).parts]
    if outside:
        raise BenchError(f"a member lies outside of the zip: {outside[0]}", file=path, remedy="make the zip again")
    return {n: files[n] for n in sorted(files) if _is_data(PurePosixPath(n)) and _is_read(PurePosixPath(n))}


def _is_data(name: PurePosixPath) -> bool:
    """Whether neither it nor a folder above it is hidden, or a system's own."""
    return not any(part.startswith(".") or part in NO_DATA for part in name.parts)


def _is_read(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES | UNREAD or name.name == LABELS


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    """name -> its bytes; one archive is open for all, whose reads are locked against each other."""

    @cache
    def archive() -> zipfile.ZipFile:
        return zipfile.ZipFile(path)

    return lambda name: archive().read(name)


def _folder_labels(path: Path, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first folder of each image as its label, below the folder that all lie in.

    Raises BenchError for an image in no folder, and where the first folders may not be the classes.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    while len({folder[:1] for folder in folders}) == 1 and all(len(folder) > 1 for folder in folders):
        folders = [folder[1:] for folder in folders]
    for name, folder in zip(names, folders, strict=True):
        if not folder:
            problem = "the image has no label: it is in no subfolder"
            raise BenchError(problem, file=path / name, key="labels", remedy="move it, or set 'labels: false'")
    _check_unambiguous(path, set(folders))
    return _numbered([folder[0] for folder in folders])


def _check_unambiguous(path: Path, folders: set[tuple[str, ...]]) -> None:
    """`a/cat` and `b/cat` may be two parts of one class, or two classes; `train` and `test` are none."""

    def refused(problem: str, below: str) -> BenchError:
        remedy = (
            f"name the folder whose subfolders are the classes, such as {path / below}, give these folders "
            f"names of their own, write a {LABELS} (docs/data.md), or set 'labels: false'"
        )
        return BenchError(problem, file=path, key="path", remedy=remedy)

    firsts = sorted({folder[0] for folder in folders})
    if {first.lower() for first in firsts} <= SPLITS:
        raise refused(f"images lie in {', '.join(firsts)}: parts of a data set, and no classes", firsts[0])
    seen: dict[str, tuple[str, ...]] = {}
    for folder in sorted(folders):
        for depth, name in enumerate(folder, 1):
            if name.lower() in INSIDE:
                continue
            other, own = seen.setdefault(name, folder[:depth]), folder[:depth]
            if other[0] != own[0]:
                problem = f"images lie in {'/'.join(other)} and in {'/'.join(own)}: which folder is the class?"
                raise refused(problem, max(other, own, key=len)[0])


def _told_labels(
    path: Path, said: Sequence[str], names: Sequence[str], read: Callable[[str], bytes]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels that EDM's dataset.json has of all images; classes are their numbers.

    Raises BenchError unless it labels each image with one whole number, and nothing else.
    """
    file, names = path / said[0], [str(PurePosixPath(name)) for name in names]  # some zips begin each with ./

    def refused(problem: str, remedy: str) -> BenchError:
        return BenchError(problem, file=file, key="labels", remedy=remedy)

    if len(said) > 1:
        raise refused(f"there is a second {LABELS}: {said[1]}", "name the folder of one of them")
    form = 'write {"labels": [["folder/image.png", 6], ...]} (docs/data.md), or remove it, so that folders are labels'
    try:
        content = json.loads(read(said[0]))
        told = content["labels"]
        pairs = [(name, label) for name, label in told or ()]
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise refused(f"cannot read the labels: {error!r}", form) from error
    if told is None:
        raise refused("it says that the images have no labels", "set 'labels: false', or write them there")
    base, labels = PurePosixPath(said[0]).parent, dict[str, int]()
    for name, label in pairs:
        if not isinstance(name, str) or isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise refused(f"expected a name and a whole number from 0, found {name!r} and {label!r}", form)
        if labels.setdefault(str(base / name), label) != label:
            raise refused(f"{name} has two labels, {labels[str(base / name)]} and {label}", "keep one of them")
    for problem, others in (
        ("images without a label", [name for name in names if name not in labels]),
        ("labels of images that are not there", sorted(labels.keys() - set(names))),
    ):
        if others:
            raise refused(f"{len(others)} {problem}, such as {others[0]}", "complete the images, or mend the file")
    return _numbered([str(labels[name]) for name in names])


def _numbered(folders: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each class as its place among all, by name; by number where all names are numbers."""
    numbers = all(folder.isascii() and folder.isdigit() for folder in folders)
    classes = tuple(sorted(set(folders), key=lambda name: (int(name) if numbers else 0, name)))
    index = {folder: i for i, folder in enumerate(classes)}
    return np.array([index[folder] for folder in folders], np.int64), classes
