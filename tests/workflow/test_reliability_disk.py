"""Disks that are full or closed, files that are damaged, folders with strange names."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import copied_project, snakemake, step
from trigbench.workflow.machine.files import CHECKSUM, read_json, write_json
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

pytestmark = pytest.mark.slow
SCD, DSCD = Run(arm="scd", seed=0), Run(arm="dscd-4", seed=0)


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mount something until the end of the test; where this may not be, the test is skipped, but in CI it fails."""
    mounted: list[Path] = []

    def make(place: Path, *arguments: str) -> None:
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True)
        if done.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"mounting needs root: {done.stderr.strip()}")
        mounted.append(place)

    yield make
    for place in reversed(mounted):
        subprocess.run(["umount", str(place)], check=True)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _fill(folder: Path, leave: int) -> Path:
    """A file that takes all room but `leave` bytes."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(_free(folder) - leave, 0)))
    assert _free(folder) <= leave
    return ballast


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _file_of(study: Study, run: Run) -> str:
    return str(study.files(run).metrics)


def test_a_full_disk_at_a_checkpoint_is_named_and_nothing_finished_is_lost(
    tiny: dict, write_study, made_once: Path, tmp_path: Path, mount
) -> None:
    tiny["resources"] = {"checkpoint_every": 20}
    study = load(write_study(tiny))
    results = tmp_path / "results"
    mount(results, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
    for made in (study.data_file("mixture").parent, study.files(SCD).folder):
        shutil.copytree(made_once / made, tmp_path / made)
    finished = _content(tmp_path / study.files(SCD).folder)
    ballast = _fill(results, leave=32_768)
    wanted = (_file_of(study, DSCD), "--cores", "1", "--config", f"study={study.file}")
    failed = snakemake(*wanted, "--retries", "0", cwd=tmp_path, check=False)
    assert failed.returncode == 1
    place = study.files(DSCD).checkpoints / "step-00000020.safetensors"
    for part in ("No space left on device", str(place), "remedy: make room"):
        assert part in failed.stdout, failed.stdout
    assert "Traceback" not in failed.stdout
    assert _content(tmp_path / study.files(SCD).folder) == finished
    ballast.unlink()
    snakemake(*wanted, cwd=tmp_path)
    assert _content(tmp_path / study.files(SCD).folder) == finished


def test_a_full_disk_at_a_result_loses_no_step_of_training(tiny: dict, with_data, tmp_path: Path, mount) -> None:
    tiny["evaluation"]["samples"] = 100_000
    study = with_data(tiny)
    data, results = tmp_path / study.folder / "data", tmp_path / "results"
    shutil.move(data, tmp_path / "data")
    mount(results, "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    shutil.move(tmp_path / "data", data)
    ballast = _fill(results, leave=700_000)  # samples take 1.6 million, and random numbers compress badly
    run = ("run", "--study", study.file, "--arm", "scd", "--seed", "0")
    failed = step(*run, cwd=tmp_path, check=False)
    assert failed.returncode == 2
    for part in ("No space left on device", str(study.files(SCD).samples), "remedy: make room"):
        assert part in failed.stderr, failed.stderr
    assert not (tmp_path / study.files(SCD).samples).exists()
    ballast.unlink()
    assert "scd seed 0: its weights stand, and are not made again" in step(*run, cwd=tmp_path).stderr


def test_read_only_results_are_named_before_any_job(made: Path, tmp_path: Path, mount) -> None:
    study = load(made)
    call = ("--cores", "1", "--config", f"study={study.file}")
    shutil.rmtree(tmp_path / study.files(DSCD).folder)
    finished = _content(tmp_path / study.files(SCD).folder)
    results = tmp_path / "results"
    mount(results, "--bind", str(results))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
    failed = snakemake(_file_of(study, DSCD), *call, cwd=tmp_path, check=False)
    assert failed.returncode == 1
    for part in ("Read-only file system", f"file:   {study.folder}", "remedy: make the folder writable"):
        assert part in failed.stdout, failed.stdout
    assert "Error in rule" not in failed.stdout, "no job was started"
    by_hand = step("train", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path, check=False)
    assert by_hand.returncode == 2
    assert str(study.files(SCD).checkpoints) in by_hand.stderr
    assert "Nothing to be done" in snakemake(_file_of(study, SCD), *call, cwd=tmp_path).stdout
    subprocess.run(["mount", "-o", "remount,rw,bind", str(results)], check=True)
    snakemake(_file_of(study, DSCD), *call, cwd=tmp_path)
    assert _content(tmp_path / study.files(SCD).folder) == finished


def test_a_damaged_result_is_named_and_only_its_run_is_made_again(made: Path, tmp_path: Path) -> None:
    study = load(made)
    call = ("tiny/discretisation", "--cores", "2", "--config", f"study={study.file}")
    record = tmp_path / _file_of(study, SCD)
    text = record.read_text()
    assert '"seed": 0' in text
    record.write_text(text.replace('"seed": 0', '"seed": 1'))  # a flipped bit: JSON as before, and of the schema
    failed = snakemake(*call, "--retries", "0", "--forcerun", "experiment", cwd=tmp_path, check=False)
    assert failed.returncode == 1
    for part in (_file_of(study, SCD), "metrics.json is damaged: its checksum differs", "remedy: delete the file"):
        assert part in failed.stdout, failed.stdout
    record.unlink()
    other = tmp_path / _file_of(study, DSCD)
    before = other.stat().st_mtime_ns
    snakemake(*call, cwd=tmp_path)
    assert record.is_file()
    assert other.stat().st_mtime_ns == before


def test_a_flipped_bit_in_a_teacher_s_weights_is_named_before_anything_is_taught(
    tiny: dict, with_data, tmp_path: Path
) -> None:
    tiny["arms"] = {
        "teacher": {"objective": "diffusion"},
        "scd": {"objective": "scd", "teacher": "teacher", "start": "teacher"},
    }
    study = with_data(tiny)
    call = (_file_of(study, SCD), "--cores", "1", "--config", f"study={study.file}")
    teacher = Run(arm="teacher", seed=0)
    make_run(study, teacher)
    weights = tmp_path / study.files(teacher).weights
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    by_hand = step("run", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path, check=False)
    assert by_hand.returncode == 2
    for part in ("checksum differs", str(study.files(teacher).folder), "delete its folder"):
        assert part in by_hand.stderr
    weights.unlink()
    done = snakemake(*call, cwd=tmp_path)
    assert "tiny: teacher, seed 0" in done.stdout
    assert (tmp_path / _file_of(study, SCD)).is_file()


def test_a_study_runs_from_and_in_folders_with_spaces_quotes_and_umlauts(tiny: dict, tmp_path: Path) -> None:
    place = tmp_path / "it's größer, 一 & zwei"
    source, here = place / "the source", place / "mes résultats"
    copied_project(source, compiled=True)
    here.mkdir()
    tiny["title"] = "Größe, 一, and 'quotes'"
    del tiny["arms"]["dscd-{intervals}"], tiny["experiments"]["discretisation"]  # one run goes through every step
    path = here / "my study, größer.yaml"
    path.write_text(yaml.safe_dump(tiny, sort_keys=False, allow_unicode=True), encoding="utf-8")
    snakemake("--config", f"study={path}", "--cores", "2", cwd=here, root=source)
    assert "Größe, 一, and" in (here / "reports" / "tiny.html").read_text(encoding="utf-8")
    assert (here / "results" / "tiny" / "claims.csv").is_file()
    assert "Nothing to be done" in snakemake("--config", f"study={path}", cwd=here, root=source).stdout


def test_a_file_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    content = read_json(path, "")
    assert content == {"a": 1}
    assert CHECKSUM in path.read_text()
    path.write_text('{"a": 2}')
    assert read_json(path, "") == {"a": 2}
