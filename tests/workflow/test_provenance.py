"""What a result says of where it comes from: whose code, which build, how much memory, how long."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workflow.conftest import ROOT, environment
from trigbench.workflow.claims import collecting
from trigbench.workflow.claims.tables import is_fresh
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import provenance as module
from trigbench.workflow.machine.files import read_json, write_arrays, write_json
from trigbench.workflow.machine.provenance import (
    SOURCES,
    attribution,
    peak_memory_mb,
    provenance,
    seconds_since_start,
    sources_at,
)
from trigbench.workflow.report.publishing import own_code_outside, publish
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.freshness import INPUTS, SETTINGS, run_verdict
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import read_record, write_record
from trigbench.workflow.study.study import Run, Study


def test_provenance_names_versions_and_hardware() -> None:
    found = provenance()
    assert found["cores"] >= 1
    assert set(found) >= {"commit", "dirty", "python", "cuda", "device", "processor", "time"}
    assert peak_memory_mb() > 50
    before = seconds_since_start()
    time.sleep(0.05)
    assert 0 < before < seconds_since_start() < 3600
    assert np.isfinite(before)


def test_provenance_names_the_build_of_torch_where_it_is_imported(monkeypatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert provenance()["libraries"]["torch"] == "2.13.0+cu130"
    monkeypatch.delitem(sys.modules, "torch")
    assert provenance()["libraries"]["torch"] == metadata.version("torch")


@pytest.mark.slow
def test_the_peak_of_memory_is_the_process_s_own_and_not_of_what_started_it() -> None:
    own = "from trigbench.workflow.machine.provenance import peak_memory_mb; print(peak_memory_mb())"
    large = f"import os, sys; held = bytearray(600 * 2**20); os.execv(sys.executable, [sys.executable, '-c', {own!r}])"
    said = subprocess.run([sys.executable, "-c", large], env=environment(), capture_output=True, text=True, check=True)
    assert 5 < float(said.stdout) < 300


# --- whose commit ------------------------------------------------------------------------------------


@pytest.fixture
def git(tmp_path: Path, monkeypatch) -> Callable[..., str]:
    """Git with settings of nobody, in a new process each time that it is asked for."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.delenv("GIT_DIR", raising=False)

    def call(folder: Path, *arguments: str) -> str:
        module._git.cache_clear()
        module._digest_of_files.cache_clear()
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return call


def _project(folder: Path) -> Path:
    for name in ("core/a.py", "workflow/b.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("x = 1\n")
    (folder / "Snakefile").write_text("")
    return folder


def test_a_clean_checkout_is_its_commit_and_a_changed_one_or_one_with_unknown_files_is_not(git, tmp_path: Path) -> None:
    root = _project(tmp_path / "trigbench")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    commit = git(root, "rev-parse", "HEAD")
    assert attribution(root) == {"commit": commit, "dirty": False, "version": attribution(root)["version"]}
    (root / "core/own.py").write_text("y = 1")
    git(root, "config", "status.showUntrackedFiles", "no")
    assert attribution(root)["dirty"] is True
    (root / "core/own.py").unlink()
    (root / "core/a.py").write_text("x = 2")
    git(root, "version")
    assert attribution(root)["dirty"] is True and attribution(root)["source"]


def test_a_copy_in_somebody_else_s_repository_is_known_by_its_files_and_not_by_their_commit(
    git, tmp_path: Path
) -> None:
    root = _project(tmp_path / "theirs/vendor/trigbench")
    git(tmp_path / "theirs", "init", "-q")
    git(tmp_path / "theirs", "add", ".")
    git(tmp_path / "theirs", "commit", "-qm", "first")
    found = attribution(root)
    assert found["commit"] is None and found["dirty"] is None
    (root / "core/a.py").write_text("x = 2")
    git(root, "version")
    assert attribution(root)["source"] != found["source"]


def test_a_hook_of_another_repository_gives_no_commit_to_ours(git, tmp_path: Path, monkeypatch) -> None:
    root = _project(tmp_path / "trigbench")
    git(root, "version")
    (tmp_path / "theirs").mkdir()
    git(tmp_path / "theirs", "init", "-q")
    git(tmp_path / "theirs", "commit", "-qm", "first", "--allow-empty")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "theirs/.git"))
    assert attribution(root)["commit"] is None


def test_a_checkout_that_git_refuses_to_read_is_neither_clean_nor_of_a_commit(git, tmp_path: Path, monkeypatch) -> None:
    root = _project(tmp_path / "trigbench")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "version")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # dubious ownership
    found = attribution(root)
    assert found["commit"] is None and found["dirty"] is None and found["source"]


ORIGIN = {
    "runs_missing": 0, "dirty": False, "commits": ["a"], "sources": [None],
    "fingerprints": {"x/seed-0": "f", "x/seed-1": "g"},
}  # fmt: skip
REFUSED = {
    "no commit": ({"commits": [None]}, "carry no commit"),
    "a commit and none": ({"commits": ["a", None]}, "carry no commit"),
    "changes": ({"dirty": True, "sources": ["changed"]}, "uncommitted changes"),
    "several commits": ({"commits": ["a", "b"]}, "which of several commits"),
    "several commits, and a run of none": ({"commits": ["a", "b"], "commit_of": {"x/seed-0": "a"}}, "which of several"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_commit_can_be_held_responsible_for_is_not_published(
    what: str, tiny: dict, write_study, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study, (change, problem) = load(write_study(tiny)), REFUSED[what]
    write_json(study.made.origin, ORIGIN | change)
    with pytest.raises(BenchError, match=f"(?s){problem}.*remedy: commit, then make the study again"):
        publish(study)


def test_a_log_beside_the_sources_is_no_change_of_what_computes(git, tmp_path: Path) -> None:
    """A commit's digest is that of its checkout, whatever lies beside it; and one changed file has another."""
    root = _project(tmp_path / "trigbench")
    (root / "core").mkdir(exist_ok=True)
    (root / "core" / "map.py").write_text("x = 1\n", encoding="utf-8")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    (root / "run.log").write_text("step 1", encoding="utf-8")
    found = attribution(root)
    assert found["dirty"] and found["source"] == sources_at(found["commit"], root)
    (root / "core" / "map.py").write_text("x = 2\n", encoding="utf-8")
    module._digest_of_files.cache_clear()
    assert attribution(root)["source"] != sources_at(found["commit"], root)
    assert sources_at("0" * 40, root) is None


def test_what_the_digest_leaves_out_computes_nothing() -> None:
    """Of the rest of the package, what computes takes names, places and the words of the command."""
    line = re.compile(r"^ *(?:from|import) (trigbench\b[.\w]*)", re.MULTILINE)
    files = [path for part in ("core", "workflow") for path in (ROOT / part).rglob("*.py")]
    taken = {name for path in files for name in line.findall(path.read_text(encoding="utf-8"))}
    rest = {name for name in taken if not re.match(r"trigbench\.(core|workflow)\b", name)}
    assert rest <= {
        "trigbench",
        *(f"trigbench._{name}" for name in ("arguments", "checksum", "extras", "nearest", "parser", "places", "short")),
        *("trigbench.exported", "trigbench.pipeline"),  # of runs that leave, which are results already
    }
    assert {*SOURCES} >= {"core", "workflow"}


def test_a_run_beside_which_a_log_lay_is_its_commit_s(monkeypatch) -> None:
    monkeypatch.setattr(collecting, "sources_at", {"a": "digest"}.get)

    def changed(own: tuple[str, ...] = (), **origin: str | bool | None) -> bool:
        return collecting._is_changed({"dirty": True, "commit": "a", "source": "digest"} | origin, {*own})

    assert not changed() and not changed(dirty=False, source=None)
    assert changed(source="other") and changed(source=None) and changed(commit="b")
    assert changed(commit=None, source=None) and changed(commit="b", source=None)
    assert changed(own=("mine",)), "its own code is in no digest"
    assert not changed(own=("mine",), dirty=False)


def test_a_study_whose_own_code_is_in_no_commit_of_the_checkout_is_not_published(
    tiny: dict, write_study, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere.py").write_text("")
    tiny["sizes"]["small"] = {"network": "elsewhere:Net"}
    study = load(write_study(tiny))
    write_json(study.made.origin, ORIGIN)
    with pytest.raises(BenchError, match=r"(?s)no commit holds elsewhere.*remedy: move it into the checkout"):
        publish(study)
    assert own_code_outside(load(ROOT / "examples/own_network.yaml")) == []
    assert own_code_outside(load(ROOT / "examples/own_data.yaml")) == []
    shutil.copytree(ROOT / "examples", "examples")
    assert own_code_outside(load(ROOT / "examples/own_data.yaml")) == ["examples.own_data"], "which Python takes first"


# --- a record has one writer -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_is_judged_again_by_hand_keeps_its_protocol_and_its_seconds(
    scd_arm: Callable[..., Study],
) -> None:
    study, run = scd_arm(iterations=3), Run(arm="scd", seed=0)
    made = make_run(study, run)
    assert made is not None and made.protocol["samples"] == 64 and made.inputs.keys() == {"data", "judged"}
    evaluate(study, run)
    again = read_record(study.files(run).metrics)
    own = {"seconds", "provenance", "peak_memory_mb"}
    assert again.model_dump(exclude=own) == made.model_dump(exclude=own)
    assert again.seconds.keys() == made.seconds.keys() == {"start", "train", "sample", "evaluate"}
    assert all(again.seconds[part] == made.seconds[part] for part in ("start", "train", "sample"))
    assert again.peak_memory_mb >= made.peak_memory_mb
    file, training = study.files(run).metrics, study.files(run).training
    write_record(file, again.model_copy(update={"fingerprint": "of other settings", "peak_memory_mb": 99999.0}))
    elsewhere = {"tf32": True, "provenance": {"commit": "a", "time": "then"}, "peak_memory_mb": 88888.0}
    write_json(training, {**read_json(training, ""), **elsewhere})  # trained on a GPU, judged elsewhere
    alone = evaluate(study, run)
    assert alone.peak_memory_mb == 88888, "of what made it, and not of a record that was there"
    assert (made.provenance["tf32"], alone.provenance["tf32"]) == (False, True)
    assert alone.provenance_of == {"training": elsewhere["provenance"], "sampling": made.provenance_of["sampling"]}


def _replace_data(study: Study) -> None:
    data = study.data_file("mixture")
    with np.load(data) as archive:
        write_arrays(data, {name: 2 * values for name, values in archive.items()})


OTHER = r"(?s)seed 0 was trained from something else.*remedy: make the run again"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("what", ["settings", "data"])
def test_judging_by_hand_does_not_make_a_stale_run_fresh(what: str, scd_arm: Callable[..., Study]) -> None:
    study, run = scd_arm(iterations=3), Run(arm="scd", seed=0)
    make_run(study, run)
    before = read_record(study.files(run).metrics)
    now = scd_arm(iterations=4 if what == "settings" else 3)
    if what == "data":
        _replace_data(now)
    with pytest.raises(BenchError, match=OTHER):
        evaluate(now, run)
    assert read_record(study.files(run).metrics) == before
    assert run_verdict(now, run, fingerprint(now.specification(run))) == (
        SETTINGS if what == "settings" else INPUTS[what]
    )
    assert not is_fresh(now, run), "nor do tables and pages take it"


def test_a_run_whose_data_are_replaced_while_it_trains_is_not_judged(
    scd_arm: Callable[..., Study], monkeypatch
) -> None:
    study, run = scd_arm(iterations=3), Run(arm="scd", seed=0)
    update = train_module._update
    monkeypatch.setattr(train_module, "_update", lambda *given: (_replace_data(study), update(*given))[1])
    with pytest.raises(BenchError, match=OTHER):
        make_run(study, run)
    assert not study.files(run).metrics.exists()


@pytest.mark.slow
def test_samples_of_earlier_weights_are_not_judged_as_of_new_ones(scd_arm: Callable[..., Study]) -> None:
    run = Run(arm="scd", seed=0)
    make_run(scd_arm(iterations=3), run)
    study = scd_arm(iterations=4)
    train_module.train(study, run)
    with pytest.raises(BenchError, match=r"(?s)samples\.json.*remedy: draw them again"):
        evaluate(study, run)
