"""What of a run is made again when its study changes: its weights, its samples, or what is measured of it."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import hasty_classifier, snakemake
from trigbench.workflow.claims.collecting import study_provenance
from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_json, write_json
from trigbench.workflow.machine.provenance import attribution
from trigbench.workflow.run import evaluation, samples, training
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.freshness import samples_stand, weights_stand
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.study import Run, Study

SCD = Run(arm="scd", seed=0)
FILES = ("weights.safetensors", "training.json", "log.csv", "samples.npz", "samples.json")


def _left(study: Study, run: Run = SCD) -> dict[str, tuple[int, bytes]]:
    """Of each file that a run leaves beside its record, when it was written, and its bits."""
    paths = {name: study.files(run).folder / name for name in FILES}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in paths.items()}


def _changed(before: dict, after: dict) -> list[str]:
    return [name for name in FILES if before[name] != after[name]]


@pytest.fixture
def ways(tiny: dict, scd_arm: Callable[..., Study]) -> Callable[..., Study]:
    """The tiny study, whose run is sampled in the given ways."""

    def make(*names: str, **settings: object) -> Study:
        steps = {"one": [[]], "two": [[1.1]]}
        tiny["samplers"] = {name: {"solver": "few", "times": steps[name]} for name in names}
        return scd_arm(iterations=4, samplers=[*names], **settings)

    return make


def _measured(study: Study, run: Run = SCD) -> set[tuple[str, str]]:
    record = read_record(study.files(run).metrics)
    return {(value.sampler, value.metric) for value in record.metrics if value.sampler}


@pytest.mark.slow
def test_a_new_metric_draws_nothing_and_a_new_sampler_trains_nothing(
    tiny: dict, write_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hasty_classifier(monkeypatch)
    tiny["data"], tiny["evaluation"] = {"digits": {"kind": "digits"}}, {"samples": 65}
    tiny["arms"] = {"scd": {"objective": "sct", "data": "digits", "iterations": 4, "samplers": ["one"]}}
    shown = {"arms": ["scd"], "metric": "nearest_train"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | shown}
    one: dict[str, Any] = {"solver": "few", "times": [[]], "metrics": ["nearest_train"]}

    def made(**samplers: dict) -> Study:
        tiny["samplers"], tiny["arms"]["scd"]["samplers"] = samplers, [*samplers]
        study = load(write_study(tiny))
        if not study.data_file("digits").exists():
            prepare(study, "digits")
        make_run(study, SCD)
        assert is_fresh(study, SCD)
        return study

    study = made(one=one)
    first = _left(study)
    one["metrics"] = ["nearest_train", "precision"]
    made(one=one)
    assert _measured(study) == {("one", "nearest_train"), ("one", "precision")} and _left(study) == first
    made(one=one, two=one | {"times": [[1.1]]})
    assert _changed(first, _left(study)) == ["samples.npz", "samples.json"]
    assert ("two", "precision") in _measured(study)
    tiny["arms"]["scd"]["rate"] = 2e-3
    made(one=one)
    assert set(_changed(first, _left(study))) == set(FILES)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("killed_in", ["sampling", "evaluation"])
def test_a_run_that_ends_between_its_parts_goes_on_from_them(killed_in: str, ways, monkeypatch) -> None:
    study, place = (
        ways("one"),
        {"sampling": (samples, "draw_parts"), "evaluation": (evaluation, "judge_drawn")}[killed_in],
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*place, lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        make_run(study, SCD)
    assert weights_stand(study, SCD) and samples_stand(study, SCD) == (killed_in == "evaluation")
    before = study.files(SCD).weights.stat().st_mtime_ns
    make_run(study, SCD)
    assert study.files(SCD).weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_weights_that_training_did_not_finish_writing_do_not_stand(ways, monkeypatch) -> None:
    """Nor do they when the settings of before come back."""
    make_run(before := ways("one"), SCD)
    other = ways("one", rate=2e-3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "write_record", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        make_run(other, SCD)
    again = ways("one")
    assert not weights_stand(other, SCD) and not weights_stand(again, SCD)
    make_run(again, SCD)
    assert read_record(again.files(SCD).metrics).fingerprint == _mark(before) and is_fresh(again, SCD)


@pytest.mark.slow
@pytest.mark.parametrize("by_hand", [train, sample])
def test_what_is_made_by_hand_leaves_no_record_of_what_was_there_before(by_hand: Callable, ways) -> None:
    """With settings that come back, it would be taken for one of these weights, and their students with it."""
    make_run(before := ways("one"), SCD)
    by_hand(ways("one", rate=2e-3) if by_hand is train else ways("one", "two"), SCD)
    assert not is_fresh(ways("one"), SCD) and not before.files(SCD).metrics.exists()


@pytest.mark.parametrize("step", ["sample", "evaluate"])
def test_a_run_that_another_process_works_on_is_neither_sampled_nor_judged_by_hand(
    step: str, tiny: dict, write_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load(write_study(tiny))
    monkeypatch.setattr("sys.argv", [step, "--study", "tiny.yaml", "--arm", "scd", "--seed", "0"])
    command = importlib.import_module(f"trigbench.workflow.steps.{step}").command
    with training.working_on(study, SCD, "training"), pytest.raises(BenchError, match="another process is working on"):
        command()


def _mark(study: Study) -> str:
    return read_record(study.files(SCD).metrics).fingerprint


@pytest.mark.slow
def test_stale_weights_are_not_sampled_nor_stale_samples_judged_by_hand(ways) -> None:
    make_run(ways("one"), SCD)
    more = ways("one", "two")
    with pytest.raises(BenchError, match=r"(?s)was sampled otherwise.*remedy: draw them again by trigbench"):
        evaluate(more, SCD)
    sample(more, SCD)
    assert evaluate(more, SCD).status == "finished"
    with pytest.raises(BenchError, match=r"(?s)was trained from something else.*remedy: make the run again"):
        sample(ways("one", rate=2e-3), SCD)


@pytest.mark.slow
def test_parts_of_several_commits_are_all_named(ways) -> None:
    make_run(study := ways("one"), SCD)
    file = study.files(SCD).training
    said = read_json(file, "")
    write_json(file, said | {"provenance": said["provenance"] | {"commit": "of the weights", "dirty": True}})
    make_run(study, SCD)
    found, now = study_provenance(study), attribution()["commit"]
    assert found["commits"] == sorted([now, "of the weights"]) and found["dirty"] is True
    parts = {"training": "of the weights", "sampling": now, "evaluation": now}
    assert found["commits_of_parts"] == {"scd/seed-0": parts}
    assert found["commit_of"]["scd/seed-0"] is None, "no one commit made all of it"


@pytest.mark.slow
def test_the_workflow_trains_nothing_for_a_new_sampler_and_students_stay_as_they_are(
    tiny: dict, write_study, lay_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_data(tmp_path)
    tiny["defaults"]["iterations"] = 4
    tiny["arms"] = {"teacher": {"objective": "diffusion"}, "student": {"objective": "scd", "teacher": "teacher"}}
    shown = {"arms": ["*"], "figure": "methods", "metric": "sliced_wasserstein"}
    tiny["experiments"] = {"methods": tiny["experiments"]["training"] | shown}
    tiny["samplers"] = {"more": {"solver": "heun", "evaluations": [3]}}
    teacher, student = Run(arm="teacher", seed=0), Run(arm="student", seed=0)
    target = ("tiny/methods", "--config", f"study={write_study(tiny)}", "--cores", "1")
    snakemake(*target, cwd=tmp_path)
    study = load(tmp_path / "tiny.yaml")
    before, record = _left(study, teacher), study.files(student).metrics.stat().st_mtime_ns
    tiny["arms"] = tiny["arms"] | {"teacher": {"objective": "diffusion", "samplers": ["heun", "more"]}}
    write_study(tiny)
    said = snakemake(*target, cwd=tmp_path).stdout
    assert re.findall(r"^Job \d+: (.*seed 0)$", said, re.MULTILINE) == ["tiny: teacher, seed 0"]
    assert "1 run is stale, by the record: how it is sampled changed since; its weights stay" in said
    after = _left(load(tmp_path / "tiny.yaml"), teacher)
    assert _changed(before, after) == ["samples.npz", "samples.json"]
    assert {v.sampler for v in read_record(study.files(teacher).metrics).metrics} == {
        None,
        "heun",
        "more",
    }
    assert study.files(student).metrics.stat().st_mtime_ns == record
    study.files(teacher).samples.unlink()
    said = snakemake("-n", *target, cwd=tmp_path).stdout
    assert "samples.npz is missing" in said and "student, seed 0" not in said
