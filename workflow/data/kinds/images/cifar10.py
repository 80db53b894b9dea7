"""CIFAR-10 in its published files, python or binary, or as folders of images. No pickle is loaded.

The python files are pickles. Their instructions are read, not executed: the one long string in them is
the pixels, the one list of small numbers the labels.
"""

import hashlib
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from trigbench.workflow.data.files.pictures import Pictures, folder_part
from trigbench.workflow.errors import BenchError

SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
PLACES = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
"""Where in the given folder the published files may lie: torchvision and the archives add a folder."""
AGAIN = "fetch the file again; docs/data.md names the layouts that are read"


def cifar10_parts(path: Path, convert: bool) -> tuple[Pictures, Pictures]:
    """The training and the test part. Raises BenchError where none of the layouts is there."""
    for folder in (path / place for place in PLACES):
        for suffix, read in READERS.items():
            if (folder / f"data_batch_1{suffix}").is_file():
                return _published(folder, "train", suffix, read), _published(folder, "test", suffix, read)
    if (path / "train").is_dir():
        train, test = (folder_part(path / part, 32, "none", convert, labelled=True) for part in ("train", "test"))
        return train, test
    problem = "no CIFAR-10 there: neither data_batch_1, nor data_batch_1.bin, nor folders train and test of images"
    raise BenchError(problem, file=path, key="path", remedy="put it there, link to it, or set 'path' (docs/data.md)")


def _published(folder: Path, part: str, suffix: str, read: Callable[[Path], tuple[np.ndarray, np.ndarray]]) -> Pictures:
    files = [folder / f"{name}{suffix}" for name in FILES[part]]
    for file in files:
        if not file.is_file():
            raise BenchError("a file of CIFAR-10 is missing", file=file, remedy=AGAIN)
    images, labels = (np.concatenate(parts) for parts in zip(*map(read, files), strict=True))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(NAMES):
        raise BenchError(f"expected labels 0 to 9, found {labels.min()} to {labels.max()}", file=folder, remedy=AGAIN)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Pictures(str(folder), lambda row: images[row], labels, NAMES, len(images), digest)


def _from_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A byte of label and 3072 of pixels for each image."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if len(content) == 0 or len(content) % (ROW + 1):
        problem = f"expected a multiple of {ROW + 1} bytes (label and pixels), found {len(content)}"
        raise BenchError(problem, file=path, remedy=AGAIN)
    rows = content.reshape(-1, ROW + 1)
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].astype(np.int64)


def _from_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels and labels out of a pickle's instructions; nothing that they ask for is done."""
    pixels, labels, flag, by_columns = b"", list[int](), False, False
    try:
        for name, argument, collects in _instructions(path.read_bytes()):
            if name in ("NEWTRUE", "NEWFALSE"):
                flag = name == "NEWTRUE"
            elif isinstance(argument, str | bytes | bytearray) and len(argument) > ROW - 1:
                pixels = argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)
                by_columns = flag  # the array's last word before its bytes
            elif collects and isinstance(argument, int):
                labels.append(argument)
    except (ValueError, IndexError, UnicodeError) as error:
        raise BenchError(f"not a python file of CIFAR-10: {error}", file=path, remedy=AGAIN) from error
    if not labels or len(pixels) != ROW * len(labels):
        problem = f"expected {ROW} bytes of pixels for each label, found {len(pixels)} bytes and {len(labels)} labels"
        raise BenchError(problem, file=path, remedy=AGAIN)
    rows = np.frombuffer(pixels, np.uint8).reshape((len(labels), ROW), order="F" if by_columns else "C")
    return rows.reshape(-1, *SHAPE), np.array(labels, np.int64)


def _instructions(content: bytes) -> Iterator[tuple[str, object, bool]]:
    """(name, argument, whether it stands in the list named labels) of each instruction."""
    inside, wanted = False, False
    for instruction, argument, _ in pickletools.genops(content):
        name = instruction.name
        if argument in ("labels", b"labels"):
            wanted = True
        elif wanted and name in ("EMPTY_LIST", "LIST"):
            inside, wanted = True, False
        elif inside and (name == "SETITEM" or "STRING" in name or "BYTES" in name or "UNICODE" in name):
            inside = False  # the next key of the dictionary
        yield name, argument, inside and name in ("BININT", "BININT1", "BININT2", "INT")


READERS = {"": _from_python, ".bin": _from_binary}
