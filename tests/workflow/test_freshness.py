"""What a finished result records of what it was made from, and when that is no longer so."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import identity, read_arrays, write_arrays, write_json
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.study import sources
from trigbench.workflow.study.fingerprint import marks
from trigbench.workflow.study.freshness import (
    FILES,
    FRESH,
    INPUTS,
    JUDGED,
    MADE_FROM,
    OTHER,
    SAMPLED,
    SETTINGS,
    SOURCE,
    data_verdict,
    experiment_from,
    inputs_of,
    judged_by,
    made_from,
    marks_of,
    missing_files,
    run_verdict,
    verdict,
    weights_stand,
    weights_stay,
)
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import RunRecord, Value, write_record
from trigbench.workflow.study.sources import source_of
from trigbench.workflow.study.study import Run, Study


@pytest.fixture
def images(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> Study:
    """A study of a folder of images, prepared as far as its record goes."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    tiny["data"] = {"mixture": {"kind": "images_folder", "path": "pictures", "held_out": 0.3, "size": 8}}
    tiny["arms"], tiny["experiments"] = {"teacher": {"objective": "diffusion"}}, _shown(tiny)
    tiny["evaluation"] = {"samples": 100}
    study = load(write_study(tiny))
    _prepared(study)
    return study


def _shown(tiny: dict) -> dict:
    """One experiment, of every arm."""
    return {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}


def _prepared(study: Study) -> None:
    path = study.made.facts("mixture")
    write_json(path, {"fingerprint": "f", "source": source_of(study, "mixture")})


def _later(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**10))


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced": lambda folder: ((folder / "a/1.png").write_bytes(b"A/1.png"), _later(folder / "a/1.png")),
    "deleted": lambda folder: (folder / "a/2.png").unlink(),
    "added": lambda folder: (folder / "b/2.png").write_bytes(b"new"),
    "renamed": lambda folder: (folder / "a/1.png").rename(folder / "b/3.png"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_images_that_were_replaced_deleted_added_or_renamed_make_their_data_stale(how: str, images: Study) -> None:
    assert data_verdict(images, "mixture", "f") == FRESH
    CHANGES[how](Path("pictures"))
    assert data_verdict(images, "mixture", "f") == SOURCE


def test_images_that_were_copied_or_touched_are_compared_by_content_once(images: Study, monkeypatch) -> None:
    for path in Path("pictures").rglob("*.png"):
        _later(path)
    Path("pictures/.hidden").write_bytes(b"")
    assert data_verdict(images, "mixture", "f") == FRESH

    def read_again(files: object) -> str:
        raise AssertionError

    monkeypatch.setattr(sources, "_content", read_again)
    assert data_verdict(images, "mixture", "f") == FRESH, "what was read once is remembered"


def test_a_plan_of_touched_images_needs_no_writing(images: Study, monkeypatch) -> None:
    _later(Path("pictures/a/1.png"))

    def refuse(path: Path, content: object) -> None:
        raise BenchError("read-only", file=path, remedy="none")

    monkeypatch.setattr(sources, "write_json", refuse)
    assert data_verdict(images, "mixture", "f") == FRESH


def test_results_without_the_images_that_they_were_prepared_from_are_kept(images: Study) -> None:
    shutil.rmtree("pictures")
    assert data_verdict(images, "mixture", "f") == FRESH
    assert data_verdict(images, "mixture", "other settings") == SETTINGS


def test_links_are_followed_and_circles_of_them_end(images: Study) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/1.png").write_bytes(b"linked")
    Path("pictures/c").symlink_to(Path("elsewhere").resolve())
    Path("pictures/a/round").symlink_to(Path("pictures").resolve())
    Path("pictures/a/nowhere.png").symlink_to("nothing")
    _prepared(images)
    assert data_verdict(images, "mixture", "f") == FRESH
    Path("elsewhere/1.png").write_bytes(b"other?")
    _later(Path("elsewhere/1.png"))
    assert data_verdict(images, "mixture", "f") == SOURCE


def test_a_zip_and_a_file_of_one_s_own_data_are_watched(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("mine.zip", "w") as archive:
        archive.writestr("a", "1")
    tiny["data"] = {"mixture": {"kind": "own", "module": "mine", "settings": {"table": "mine.zip", "word": "nothing"}}}
    tiny["arms"], tiny["experiments"] = {"teacher": {"objective": "diffusion"}}, _shown(tiny)
    study = load(write_study(tiny))
    _prepared(study)
    _later(Path("mine.zip"))
    assert data_verdict(study, "mixture", "f") == FRESH
    with zipfile.ZipFile("mine.zip", "w") as archive:
        archive.writestr("a", "2")
    assert data_verdict(study, "mixture", "f") == SOURCE


def test_own_data_that_name_the_folder_they_are_started_in_are_not_stale_by_what_is_made_there(
    tiny: dict, write_study, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny["data"] = {"mixture": {"kind": "own", "module": "mine", "settings": {"where": "."}}}
    tiny["arms"] = {"teacher": {"objective": "diffusion"}}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["teacher"]}}
    study = load(write_study(tiny))
    _prepared(study)
    for made in ("results/tiny/runs/x.json", "reports/tiny.html", ".snakemake/x", "__pycache__/mine.pyc"):
        write_json(tmp_path / made, {})
    assert data_verdict(study, "mixture", "f") == FRESH
    write_json(tmp_path / "mine/results/1.json", {})
    assert data_verdict(study, "mixture", "f") == SOURCE


def test_a_run_is_of_its_settings_its_data_and_its_teacher_whatever_the_times(
    tiny: dict, write_study, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny["arms"] = {"teacher": {"objective": "diffusion"}, "scd": {"objective": "scd", "teacher": "teacher"}}
    study, run, teacher = load(write_study(tiny)), Run(arm="scd", seed=0), Run(arm="teacher", seed=0)
    data, weights = study.data_file("mixture"), study.files(teacher).weights
    write_arrays(data, {"a": np.zeros(2)})
    write_tensors(weights, {"a": torch.zeros(2)})
    record = study.files(run).metrics
    assert inputs_of(study, run) == {"data": [data], "teacher": [weights]}
    write_json(record, {"fingerprint": "f"})
    assert run_verdict(study, run, "f") is None, "a record of an earlier version says nothing of its inputs"
    assert run_verdict(study, run, "g") == SETTINGS
    inputs = {**marks_of(study, run), "judged": judged_by(study, run)}
    write_json(record, {"fingerprint": "f", "inputs": inputs, "arm": '"inputs": 1'})
    write_arrays(data, {"a": np.zeros(2)})
    _later(data)
    _later(weights)
    assert run_verdict(study, run, "f") == FRESH
    write_json(record.with_name("training.json"), made_from(study, run))
    write_json(record.with_name("log.csv"), {})
    write_tensors(record.with_name("weights.safetensors"), {})
    assert weights_stand(study, run)
    write_tensors(weights, {"a": torch.ones(2)})
    assert run_verdict(study, run, "f") == INPUTS["teacher"] and not weights_stand(study, run)
    write_arrays(data, {"a": np.ones(2)})
    assert run_verdict(study, run, "f") == INPUTS["data"]


def test_a_record_says_which_of_its_parts_are_stale_and_data_what_they_are_judged_by(scd_arm) -> None:
    study, run = scd_arm(), Run(arm="scd", seed=0)
    mark = marks(study.specification(run))
    said = {"training": mark.training, "sampling": mark.sampling}

    def verdict_of(fingerprint: str, parts: dict[str, str]) -> str | None:
        inputs = {**marks_of(study, run), "judged": judged_by(study, run)}
        record = {"fingerprint": fingerprint, "parts": parts, "inputs": inputs}
        write_json(study.files(run).metrics, record)
        return run_verdict(study, run, mark.evaluation)

    assert verdict_of(mark.evaluation, said) == FRESH
    assert verdict_of("other", said) == JUDGED
    assert verdict_of("other", said | {"sampling": "other"}) == SAMPLED
    assert verdict_of("other", said | {"training": "other"}) == verdict_of("other", {}) == SETTINGS
    verdict_of(mark.evaluation, said)
    data = study.data_file("mixture")
    arrays = read_arrays(data, "")
    write_arrays(data, {**arrays, "reference": arrays["reference"] + 1})
    assert run_verdict(study, run, mark.evaluation) == INPUTS["judged"]
    write_arrays(data, {**arrays, "means": arrays["means"] + 1})
    assert run_verdict(study, run, mark.evaluation) == INPUTS["data"]


def test_a_tuned_run_is_of_what_tuning_reads_of_its_candidates(tiny: dict, write_study, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny["tuning_seeds"], tiny["tuning_metric"] = [7], "sliced_wasserstein"
    tiny["arms"] = {"c": {"objective": "sct", "tuning": True}, "tuned": {"objective": "sct", "rate_of": "c"}}
    study = load(write_study(tiny | {"experiments": _shown(tiny)}))
    run, record = Run(arm="tuned", seed=0), study.files(Run(arm="c", seed=7)).metrics
    one, two = (way.columns for way in study.samplings("c"))

    def mark_of(*values: Value) -> str:
        about = {"status": "finished", "fingerprint": "f", "arm": "c", "seed": 7, "step": 1}
        write_record(record, RunRecord.model_validate({**about, "metrics": values}))
        return marks_of(study, run)["candidates"]

    read = Value(metric="sliced_wasserstein", value=1.0, **one)
    before = mark_of(read)
    others = Value(metric="sliced_wasserstein", value=2.0, **two), Value(metric="map_rms", value=3.0)
    assert mark_of(read, *others) == before, "no other metric, nor more steps"
    assert mark_of(read.model_copy(update={"value": 1.5}), *others) != before
    record.write_text("damaged")
    assert marks_of(study, run)["candidates"] != before


def test_weights_stay_where_no_candidate_before_them_is_sampled_or_judged_again(
    tiny: dict, write_study, tmp_path: Path, monkeypatch
) -> None:
    """Else a student would not wait for its teacher's other rate."""
    monkeypatch.chdir(tmp_path)
    tiny["tuning_seeds"], tiny["tuning_metric"] = [7], "sliced_wasserstein"
    tiny["samplers"] = {"more": {"solver": "heun", "evaluations": [3]}}
    tiny["arms"] = {"c": {"objective": "diffusion", "tuning": True}, "teacher": {"objective": "diffusion"}}
    tiny["arms"]["teacher"] |= {"rate_of": "c"}
    tiny["arms"]["student"] = {"objective": "scd", "teacher": "teacher"}
    study = load(write_study(tiny | {"experiments": _shown(tiny)}))
    candidate, teacher, student = (Run(arm=arm, seed=seed) for arm, seed in (("c", 7), ("teacher", 0), ("student", 0)))
    for run in study.runs():
        _stands(study, run)
    assert weights_stay(study, teacher) and weights_stay(study, student)
    sampled = tiny["arms"] | {"c": tiny["arms"]["c"] | {"samplers": ["heun", "more"]}}
    other = load(write_study(tiny | {"arms": sampled, "experiments": _shown(tiny)}))
    assert weights_stand(other, candidate) and weights_stand(other, teacher) and weights_stand(other, student)
    assert weights_stay(other, candidate) and not weights_stay(other, teacher) and not weights_stay(other, student)
    study.files(candidate).samples.unlink()
    assert not weights_stay(study, teacher)


def _stands(study: Study, run: Run) -> None:
    """As if it had been made."""
    out, mark = study.files(run).folder, marks(study.specification(run))
    write_tensors(out / "weights.safetensors", {"a": torch.zeros(2)})
    for name in ("log.csv", "samples.npz", "samples.json"):
        write_json(out / name, {})
    write_json(out / "training.json", made_from(study, run))
    inputs, parts = {**marks_of(study, run), "judged": judged_by(study, run)}, vars(mark)
    about = {"status": "finished", "fingerprint": mark.evaluation, "parts": parts, "inputs": inputs, "step": 1}
    write_record(out / "metrics.json", RunRecord.model_validate({**about, "arm": run.arm, "seed": run.seed}))


def test_tables_are_of_their_runs_and_their_settings(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = load(write_study(tiny))
    runs = [study.files(run).metrics for run in study.runs_of("discretisation")]
    finding = study.made.experiment("discretisation").finding
    for number, path in enumerate(runs):
        write_json(path, {"number": number})
    write_json(finding, {"finding": "of an earlier version"})
    assert verdict(finding, lambda: experiment_from(study, "discretisation")) is None
    write_json(finding, {MADE_FROM: experiment_from(study, "discretisation")})
    for path in runs:
        _later(path)
    assert verdict(finding, lambda: experiment_from(study, "discretisation")) == FRESH
    tiny["experiments"]["discretisation"]["title"] = "Another"
    edited = load(write_study(tiny))
    assert verdict(finding, lambda: experiment_from(edited, "discretisation")) == OTHER
    runs[0].unlink()
    assert verdict(finding, lambda: experiment_from(study, "discretisation")) == OTHER


def test_what_was_made_beside_a_record_is_missed(images: Study, tmp_path: Path) -> None:
    finding, beside = tmp_path / "finding.json", tmp_path / "pictures.svg"
    beside.write_text("")
    write_json(finding, {MADE_FROM: "a", FILES: [str(beside)]})
    facts = images.data_file("mixture").with_suffix(".json")
    write_json(facts, {"fingerprint": "f", "source": source_of(images, "mixture"), FILES: [str(beside)]})
    assert verdict(finding, lambda: "a") == data_verdict(images, "mixture", "f") == FRESH
    beside.unlink()
    assert verdict(finding, lambda: "a") == data_verdict(images, "mixture", "f") == f"{beside} is missing"


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.json"])
def test_damaged_files_have_an_identity_too(name: str, tmp_path: Path) -> None:
    assert identity(tmp_path / name) is None
    (tmp_path / name).write_bytes(b"\x03\x00\x00\x00\x00\x00\x00\x00[1]")
    assert identity(tmp_path / name)


def test_averages_along_training_that_are_gone_are_missed_where_they_are_kept(scd_arm) -> None:
    study, run = scd_arm(snapshots=2), Run(arm="scd", seed=0)
    files = study.files(run)
    for path in (*files.of_training, *files.of_sampling, files.snapshots):
        write_json(path, made_from(study, run) | {"step": 4, "reason": None})
    assert weights_stand(study, run) and missing_files(study, run) == []
    files.snapshots.unlink()
    assert not weights_stand(study, run) and missing_files(study, run) == [files.snapshots]
    write_json(files.training, made_from(study, run) | {"step": 3, "reason": "the loss was nan"})
    assert weights_stand(study, run) and missing_files(study, run) == [], "of a run that diverged there may be none"
    write_json(files.training, made_from(study, run) | {"step": 4, "reason": None})
    assert missing_files(scd_arm(snapshots=None), run) == [], "an arm that keeps none"
