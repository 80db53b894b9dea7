"""Samples that were drawn elsewhere, in the study's units: unit variance, as many as it draws, labelled in its shares.

Everything that would make their numbers incomparable is refused before anything is measured.
"""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.dataset import Dataset, fault_of_labels, not_numbers
from trigbench.workflow.data.files.pictures import SUFFIXES, folder_part
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_arrays, sha256
from trigbench.workflow.machine.progress import Progress
from trigbench.workflow.machine.tensors import read_tensors

ARRAYS = (".npy", ".npz", ".safetensors")
SAMPLES, LABELS = ("samples", "arr_0"), ("labels", "arr_1")
"""Names in an archive; the second ones are NumPy's own, under which others keep theirs."""
NARROW, WIDE = 0.6, 1.6
"""Of the root mean square of samples over that of data: what is below is said, what is above is refused."""
CHANCE = 5.0
"""Standard deviations by which a class may differ from its share, as in labels that were drawn."""
DATA_DRAWN = 1024
Encode = Callable[[np.ndarray], np.ndarray]
"""Pictures, uint8 of (n, 3, h, w) -> samples in unit variance."""
JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
MEND = "write the samples again"
REMEDIES = {
    "labels": "put each picture into a subfolder for its class, or say the classes by --labels FILE",
    "path": "name a folder or zip with a subfolder for each class, or say the classes by --labels FILE",
    "convert": "save the pictures as RGB with 8 bits a channel",
    "resize": "save the pictures in the size of the data, as the model draws them",
}
"""By the key of a study that is at fault where its own data are."""


@dataclass(frozen=True)
class Samples:
    """What is judged of samples that were drawn elsewhere."""

    drawn: Tensor
    """Unit variance, as many as the study draws."""
    files: Mapping[str, str]
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """As found: unit variance, with labels where there are any."""

    drawn: Tensor
    labels: Tensor | None
    files: Mapping[str, str]
    remarks: list[str]


def open_samples(
    place: Path, labels: Path | None, dataset: Dataset, count: int, sigma_d: float, encode: Encode | None
) -> Samples:
    """`count` samples of a folder, a zip of pictures or a file of arrays.

    Arrays are floats of (n, *shape) in the data's own units, of standard deviation `sigma_d`; uint8 are pictures.
    Where there are more than `count`, a fixed choice of them is taken, with the data's shares of each class. Raises
    BenchError for what has another shape, is not numbers, lies in another range, is too few, lacks labels where the
    data have classes, or has them in other shares.
    """
    if labels is not None and not dataset.classes:
        raise BenchError("the data have no classes", file=labels, key="--labels", remedy="remove it")
    read = _read_arrays if _arrays_in(place) else _read_pictures
    found = read(place, dataset, sigma_d, encode, labels is None)
    said = found.labels if labels is None else torch.from_numpy(_labels_in(labels))
    digests = dict(found.files) if labels is None else {**found.files, str(labels): sha256(labels)}
    if lost := not_numbers(found.drawn):
        raise BenchError(f"{lost} of {len(found.drawn)} samples are not numbers", file=place, remedy=MEND)
    chosen, remarks = _chosen(place, len(found.drawn), said, dataset, count)
    drawn = found.drawn if chosen is None else found.drawn[chosen]
    scale = check_scale(drawn, dataset, sigma_d, place)
    return Samples(drawn, digests, [*found.remarks, *remarks, *scale])


def check_scale(drawn: Tensor, dataset: Dataset, sigma_d: float, place: Path | str) -> list[str]:
    """What to say of the scale of samples (unit variance), which a model that learned little makes small.

    Raises BenchError where they are wider than data by more than any model is, or images without a negative number.
    """
    data, _ = dataset.draw(generator("scale of data"), DATA_DRAWN)
    ours, theirs = (sigma_d * float(values.double().square().mean().sqrt()) for values in (drawn, data))
    shifted = drawn.ndim == 4 and bool((drawn >= 0).all()) and bool((data < 0).any())
    said = f"root mean square {ours:.3g}, where that of data is {theirs:.3g}"
    if ours <= WIDE * theirs and not shifted:
        return [f"{said}: a model that learned little, or a scale applied twice"] if ours < NARROW * theirs else []
    low, high, here, there = (sigma_d * float(end) for end in (drawn.min(), drawn.max(), data.min(), data.max()))
    problem = f"samples from {low:.3g} to {high:.3g}, {said}, from {here:.3g} to {there:.3g}"
    remedy = (
        f"give them in the units of the data, of standard deviation {sigma_d:g} (docs/judge.md): images in [0, 1] "
        f"become 2 x - 1, those of 0 to 255 are saved as pictures or uint8, unit variance is multiplied by {sigma_d:g}"
    )
    raise BenchError(problem, file=place, remedy=remedy)


# --- reading --------------------------------------------------------------------------------------


def _arrays_in(place: Path) -> list[Path]:
    """The files of arrays, in the order of their names; none where there are pictures."""
    if place.is_file():
        return [place] if place.suffix in ARRAYS else []
    return sorted(path for path in place.iterdir() if path.suffix in ARRAYS and not path.name.startswith("."))


def _read_arrays(place: Path, dataset: Dataset, sigma_d: float, encode: Encode | None, needs_labels: bool) -> _Read:
    paths = _arrays_in(place)
    if place.is_dir() and any(path.suffix.lower() in SUFFIXES for path in place.rglob("*")):
        raise BenchError("both arrays and pictures lie there", file=place, remedy="give each a folder of its own")
    drawn, labels = [], []
    for path in paths:
        arrays = _arrays_of(path)
        values = _first(arrays, SAMPLES)
        if values is None:
            remedy = f"call them {SAMPLES[0]!r}, and their labels {LABELS[0]!r}"
            raise BenchError(f"no samples in it, but {', '.join(arrays) or 'nothing'}", file=path, remedy=remedy)
        drawn.append(_in_unit_variance(path, values, dataset, sigma_d, encode))
        labels.append(_first(arrays, LABELS))
    together = None if any(one is None for one in labels) else torch.from_numpy(np.concatenate(labels))
    if dataset.classes and needs_labels and together is None:
        lacking = next(path for path, one in zip(paths, labels, strict=True) if one is None)
        raise _unlabelled(lacking, dataset.classes)
    return _Read(torch.cat(drawn), together, {str(path): sha256(path) for path in paths}, [])


def _arrays_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        found = read_tensors(path, MEND)
        halves = (torch.float16, torch.bfloat16)
        return {name: (one.float() if one.dtype in halves else one).numpy() for name, one in found.items()}
    if path.suffix == ".npz":
        return dict(read_arrays(path, MEND))
    try:
        return {SAMPLES[0]: np.load(path, allow_pickle=False)}
    except (OSError, ValueError, EOFError) as error:
        raise BenchError(f"cannot read {path.name}: {error}", file=path, remedy=MEND) from error


def _first(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _in_unit_variance(
    path: Path, values: np.ndarray, dataset: Dataset, sigma_d: float, encode: Encode | None
) -> Tensor:
    if values.dtype == np.uint8 and encode is not None:
        return torch.from_numpy(encode(_checked_grey(path, _channels_first(path, values, dataset.shape), dataset)))
    expected = ("n", *dataset.shape)
    if values.shape[1:] != dataset.shape or not np.issubdtype(values.dtype, np.floating) or not len(values):
        pictures = "" if encode is None else "; or uint8 pictures, 0 to 255"
        problem = f"{values.dtype} of {values.shape}, where floats of ({', '.join(map(str, expected))}) were expected"
        remedy = f"save samples in the units of the data, of standard deviation {sigma_d:g}{pictures} (docs/judge.md)"
        raise BenchError(problem, file=path, remedy=remedy)
    return torch.from_numpy(values.astype(np.float32)) / sigma_d


def _channels_first(path: Path, pictures: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of (n, 3, h, w): grey in all three where there is one channel, or none."""
    sides = shape[-2:]
    if pictures.ndim == 3:
        pictures = pictures[:, None]
    elif pictures.ndim == 4 and pictures.shape[1:3] == sides and pictures.shape[3] in (1, 3):
        pictures = pictures.transpose(0, 3, 1, 2)
    if pictures.ndim != 4 or pictures.shape[2:] != sides or pictures.shape[1] not in (1, 3):
        expected = f"(n, {sides[0]}, {sides[1]}, 3) or (n, 3, {sides[0]}, {sides[1]})"
        raise BenchError(f"pictures of {pictures.shape}, where {expected} was expected", file=path, remedy=MEND)
    return np.repeat(pictures, 3, 1) if pictures.shape[1] == 1 else pictures


def _checked_grey(path: Path, pictures: np.ndarray, dataset: Dataset) -> np.ndarray:
    """The same; raises BenchError for colour where data have none, as two of three channels would be lost."""
    coloured = (pictures != pictures[:, :1]).any(axis=(1, 2, 3)) if dataset.shape[0] == 1 else np.zeros(1, bool)
    if coloured.any():
        problem = f"{coloured.sum()} of {len(pictures)} pictures are in colour, and the data are grey"
        raise BenchError(problem, file=path, remedy="save them in grey, as you mean it")
    return pictures


def _read_pictures(place: Path, dataset: Dataset, sigma_d: float, encode: Encode | None, needs_labels: bool) -> _Read:
    if encode is None:
        remedy = f"save samples as arrays of (n, {', '.join(map(str, dataset.shape))}) (docs/judge.md)"
        raise BenchError("pictures, and the study's data are no images of their own size", file=place, remedy=remedy)
    labelled = bool(dataset.classes) and needs_labels
    with _in_words_of_samples():
        part = folder_part(place, dataset.shape[-1], "none", convert=dataset.shape[0] == 1, labelled=labelled)
    labels = None
    if part.labels is not None:
        labels = torch.from_numpy(part.labels[:])
        if len(part.classes) == dataset.classes and all(name.isdecimal() for name in part.classes):
            labels = torch.tensor([int(name) for name in part.classes])[labels]  # 10 is not before 2
        elif len(part.classes) != dataset.classes:
            problem = f"{len(part.classes)} subfolders, and the data have {dataset.classes} classes"
            remedy = "give each class a subfolder, in the order of the classes or by their numbers from 0; or --labels"
            raise BenchError(problem, file=place, remedy=remedy)
    progress, pixels = Progress(f"pictures of {place.name}", part.rows), []
    for row in range(part.rows):
        with _in_words_of_samples():
            pixels.append(part.pixels(row))
        progress.update(row + 1)
    drawn = torch.from_numpy(encode(_checked_grey(place, np.stack(pixels), dataset)))
    lossy = any(PurePosixPath(name).suffix.lower() in JPEG for name in _names_in(place))
    remarks = ["JPEG changes pixels, and distances with them: PNG keeps them"] if lossy else []
    return _Read(drawn, labels, {str(place): sha256(place) if place.is_file() else _content(place)}, remarks)


@contextlib.contextmanager
def _in_words_of_samples() -> Iterator[None]:
    """Where a remedy is a study's key, which samples have not, theirs."""
    try:
        yield
    except BenchError as error:
        if error.said["key"] not in REMEDIES:
            raise
        said: dict[str, Any] = error.said | {"key": None, "remedy": REMEDIES[error.said["key"]]}
        raise BenchError(**said) from error


def _names_in(place: Path) -> list[str]:
    if place.is_dir():
        return [path.name for path in place.rglob("*")]
    with zipfile.ZipFile(place) as archive:  # which was read before
        return archive.namelist()


def _content(folder: Path) -> str:
    """A digest of the names and contents of the pictures."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _labels_in(path: Path) -> np.ndarray:
    """One whole number for each sample: an array, or text with one a line."""
    try:
        if path.suffix in ARRAYS:
            arrays = _arrays_of(path)
            found = arrays[SAMPLES[0]] if path.suffix == ".npy" else _first(arrays, LABELS)
            if found is None:
                raise BenchError(f"no {LABELS[0]!r} in it", file=path, remedy=f"call them {LABELS[0]!r}")
            return found
        return np.array([int(line) for line in path.read_text(encoding="utf-8").split()], np.int64)
    except (OSError, ValueError) as error:
        remedy = "write one whole number a line, in the order of the samples, or an array of them"
        raise BenchError(f"cannot read labels: {error}", file=path, key="--labels", remedy=remedy) from error


# --- which of them --------------------------------------------------------------------------------


def _unlabelled(place: Path, classes: int) -> BenchError:
    remedy = (
        f"say the class of each, from 0 to {classes - 1}: in subfolders, as {LABELS[0]!r} beside the samples, or by "
        "--labels FILE"
    )
    return BenchError(f"the data have {classes} classes, and samples have no labels", file=place, remedy=remedy)


def _chosen(
    place: Path, there: int, labels: Tensor | None, dataset: Dataset, count: int
) -> tuple[Tensor | None, list[str]]:
    """(rows that are judged, None for all as they come; what to say of it)."""
    if there < count:
        remedy = f"draw {count - there} more: distances depend on how many samples there are"
        raise BenchError(f"{there} samples, and the study judges {count}", file=place, remedy=remedy)
    said = [] if there == count else [f"{count} of {there} samples, a fixed choice of them"]
    if not dataset.classes:
        order = torch.randperm(there, generator=generator("samples from outside"))[:count].sort().values
        return (None if there == count else order), said
    if labels is None:
        raise _unlabelled(place, dataset.classes)
    if fault := fault_of_labels(labels, there, dataset.classes):
        remedy = f"give each of the {there} samples a whole number from 0 to {dataset.classes - 1}"
        raise BenchError(f"{dataset.classes} classes, {there} samples, and {fault}", file=place, remedy=remedy)
    assert dataset.shares is not None, "checked"
    if there == count:
        _check_shares(place, labels, dataset.shares)
        return None, said
    said = [f"{count} of {there} samples, of each class the first ones in its share"]
    return _in_shares(place, labels.numpy(), dataset.shares, count), said


def _check_shares(place: Path, labels: Tensor, shares: tuple[float, ...]) -> None:
    """Raise BenchError where classes come oftener or more rarely than chance would have it."""
    found = np.bincount(labels.numpy(), minlength=len(shares))
    share = np.array(shares) / sum(shares)
    due = share * len(labels)
    far = np.abs(found - due) - (CHANCE * np.sqrt(due * (1 - share)) + 1)
    if (far <= 0).all():
        return
    worst = int(far.argmax())
    problem = f"{found[worst]} samples of class {worst}, of which the study draws {due[worst]:.0f}"
    raise BenchError(problem, file=place, remedy="draw samples of every class as often as the data have it")


def _in_shares(place: Path, labels: np.ndarray, shares: tuple[float, ...], count: int) -> Tensor:
    """Rows whose labels are those that the study draws, of each class the first ones; in their own order."""
    wanted = np.bincount(labels_in_shares(range(count), shares), minlength=len(shares))
    there = np.bincount(labels, minlength=len(shares))
    if (there < wanted).any():
        short = int((wanted - there).argmax())
        problem = f"{there[short]} samples of class {short}, of which the study judges {wanted[short]}"
        raise BenchError(problem, file=place, remedy=f"draw {wanted[short] - there[short]} more of that class")
    rows = [np.flatnonzero(labels == label)[:number] for label, number in enumerate(wanted)]
    return torch.from_numpy(np.sort(np.concatenate(rows)))
