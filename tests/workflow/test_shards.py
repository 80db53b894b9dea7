"""Shards are written once, survive interruptions to the same bytes, and are never read damaged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from trigbench.workflow.data.files.shards import Shards, in_parallel, open_shards, write_shards
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import sha256 as sha256_of

SHAPE, ROWS = (3, 4, 4), 700
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, *SHAPE), np.uint8)
LABELS = np.arange(ROWS) % 3
NAMES = ("a", "b", "c")
THREE = 300 * 48  # bytes of 300 rows: three shards, the last one short


def _write(folder: Path, make: Callable[[Sequence[int]], np.ndarray] | None = None, source: str = "s") -> str:
    rows = make or (lambda chosen: PIXELS[list(chosen)])
    return write_shards(folder, source, SHAPE, "uint8", LABELS, NAMES, ROWS, rows, shard_bytes=THREE)


def _open(folder: Path, digest: str) -> Shards:
    return open_shards(folder, digest, "make it again")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def test_rows_come_back_in_any_order_and_with_repetition(tmp_path: Path) -> None:
    folder = tmp_path / "a folder é"
    shards = _open(folder, _write(folder))
    assert [shard.rows for shard in shards.manifest.shards] == [300, 300, 100]
    chosen = np.random.default_rng(1).integers(0, ROWS, 1000)
    np.testing.assert_array_equal(shards.rows(chosen), PIXELS[chosen])
    np.testing.assert_array_equal(np.asarray(shards.labels), LABELS)
    assert shards.rows(np.array([], int)).shape == (0, *SHAPE)
    assert all(isinstance(part, np.memmap) for part in shards.maps)


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    _write(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["rows"] == ROWS and manifest["shape"] == list(SHAPE) and manifest["dtype"] == "uint8"
    assert manifest["rows_of_class"] == {"a": 234, "b": 233, "c": 233}
    assert {s["file"]: s["sha256"] for s in manifest["shards"]} == {
        f"0000{i}.npy": sha256_of(tmp_path / f"0000{i}.npy") for i in range(3)
    }


def test_an_interrupted_writing_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, broken, asked = tmp_path / "whole", tmp_path / "broken", list[int]()
    digest = _write(whole)

    def stopping(rows: Sequence[int]) -> np.ndarray:
        if rows[0] >= 600:
            raise KeyboardInterrupt
        return PIXELS[list(rows)]

    with pytest.raises(KeyboardInterrupt):
        _write(broken, stopping)
    with pytest.raises(BenchError, match="only 600 of 700 rows"):
        _open(broken, sha256_of(broken / "manifest.json"))

    def noting(rows: Sequence[int]) -> np.ndarray:
        asked.extend(rows)
        return PIXELS[list(rows)]

    assert _write(broken, noting) == digest
    assert asked == list(range(600, 700)), "what was there is not made again"
    assert _bytes(broken) == _bytes(whole)


def test_what_is_whole_is_kept_and_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    digest = _write(tmp_path)
    _write(tmp_path, lambda _: pytest.fail("nothing is missing"))
    content = bytearray((tmp_path / "00001.npy").read_bytes())
    content[500] ^= 1
    (tmp_path / "00001.npy").write_bytes(content)
    assert _write(tmp_path) == digest
    np.testing.assert_array_equal(_open(tmp_path, digest).rows(np.arange(ROWS)), PIXELS)


def test_shards_of_another_source_are_not_taken(tmp_path: Path) -> None:
    digest = _write(tmp_path)
    other = _write(tmp_path, lambda rows: 255 - PIXELS[list(rows)], source="other")
    assert other != digest
    np.testing.assert_array_equal(_open(tmp_path, other).rows(np.arange(5)), 255 - PIXELS[:5])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": ("00001.npy", _flip),
    "a truncated shard": ("00002.npy", lambda path: path.write_bytes(path.read_bytes()[:-10])),
    "a missing shard": ("00000.npy", Path.unlink),
    "flipped labels": ("labels.npy", _flip),
    "a changed manifest": ("manifest.json", lambda path: path.write_text(path.read_text().replace("233", "234"))),
    "a missing manifest": ("manifest.json", Path.unlink),
    "a manifest that is no JSON": ("manifest.json", lambda path: path.write_text("{")),
    "a manifest of something else": ("manifest.json", lambda path: path.write_text('{"rows": 3}')),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_refused_naming_the_file_and_the_remedy(what: str, tmp_path: Path) -> None:
    digest = _write(tmp_path)
    name, harm = DAMAGE[what]
    harm(tmp_path / name)
    with pytest.raises(BenchError) as caught:
        _open(tmp_path, digest)
    assert name in str(caught.value) and "make it again" in str(caught.value)


def test_rows_read_in_threads_keep_their_order() -> None:
    np.testing.assert_array_equal(in_parallel(lambda row: PIXELS[row])(range(50, 300)), PIXELS[50:300])
