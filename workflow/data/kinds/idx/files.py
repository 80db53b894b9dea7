"""IDX files of the MNIST family, plain or gzipped: two zero bytes, a type, how many dimensions, these, and the numbers.

Read whole; what does not agree with its header is refused.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from trigbench.workflow.data.files.pictures import Pictures
from trigbench.workflow.errors import BenchError

PARTS = {"train": "train", "held_out": "t10k"}
"""What the files of each part begin with."""
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
PLACES = ("", "raw")
"""Where in the given folder they may lie: torchvision adds a folder."""
BYTES = 8
"""The type of unsigned bytes, the only one that is read."""
AGAIN = "fetch the file again; docs/data.md says from where"
FETCH = (
    "Fashion-MNIST: apt install dataset-fashion-mnist (Debian, Ubuntu), or set 'path' to a folder that holds "
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz, "
    "with .gz or unpacked: FashionMNIST/raw below the root of torchvision's FashionMNIST(root, download=True), or "
    "data/fashion of its authors' github.com/zalandoresearch/fashion-mnist"
)


def idx_part(path: Path, part: str, size: int, names: tuple[str, ...]) -> Pictures:
    """The images, uint8 of (1, size, size), and labels of `train` or `held_out`; `names` are those of the labels.

    Raises BenchError naming the file that is missing, damaged, or of something else.
    """
    images, labels = (_file(path, f"{PARTS[part]}-{name}") for name in (IMAGES, LABELS))
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (size, size):
        problem = f"expected images of {size}x{size} pixels, found {'x'.join(map(str, pixels.shape[1:]))}"
        raise BenchError(problem, file=images, key="size", remedy="set 'size', or name the folder that is meant")
    if len(pixels) != len(numbers):
        problem = f"{len(numbers)} labels for the {len(pixels)} images of {images.name}"
        raise BenchError(problem, file=labels, remedy="fetch both files again, from one place")
    if len(numbers) and numbers.max() >= len(names):
        problem = f"expected labels 0 to {len(names) - 1}, found {numbers.min()} to {numbers.max()}"
        raise BenchError(problem, file=labels, key="classes", remedy="set 'classes', or name the folder that is meant")
    if lacking := set(range(len(names))) - set(np.unique(numbers).tolist()):
        problem = f"no image has the label {min(lacking)}, of {len(names)} classes"
        raise BenchError(problem, file=labels, key="classes", remedy="set 'classes' to what is there")
    rows, digest = pixels[:, None], hashlib.sha256(pixels.tobytes() + numbers.tobytes()).hexdigest()
    return Pictures(str(images), lambda row: rows[row], numbers.astype(np.int64), names, len(rows), digest)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of a file, uint8 of so many dimensions. Raises BenchError unless header and length agree."""
    content = _content(path)
    head = 4 + 4 * dimensions
    if len(content) < head or content[:2] != b"\0\0":
        raise BenchError("not an IDX file: it does not begin with the header of one", file=path, remedy=AGAIN)
    if tuple(content[2:4]) != (BYTES, dimensions):
        found = f"type {content[2]:#04x} and {content[3]} dimensions"
        problem = f"expected type {BYTES:#04x} (unsigned bytes) and {dimensions} dimensions, found {found}"
        raise BenchError(problem, file=path, remedy="images have three dimensions, labels one; " + AGAIN)
    shape = np.frombuffer(content[4:head], ">u4").tolist()
    wanted, found = math.prod(shape), len(content) - head
    if wanted != found:
        how = "truncated" if found < wanted else "longer than its header says"
        said = f"expected {wanted} bytes ({'x'.join(map(str, shape))}) after the header, found {found}"
        raise BenchError(f"the file is {how}: {said}", file=path, remedy=AGAIN)
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _content(path: Path) -> bytes:
    """Unpacked where it is gzipped, whatever it is called; gzip checks length and CRC."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"the file cannot be read, or is damaged: {error}", file=path, remedy=AGAIN) from error


def _file(path: Path, name: str) -> Path:
    """The file of that name in the folder, plain or gzipped."""
    for place in PLACES:
        for file in (path / place / name, path / place / f"{name}.gz"):
            if file.is_file():
                return file
    raise BenchError(f"no {name} there, nor {name}.gz", file=path, key="path", remedy=FETCH)
