"""trigbench check: a study, or a part of one's own, and its exit status."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import ROOT
from trigbench.cli import main
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.conformance import parts, stationarity
from trigbench.workflow.run.conformance.finding import Finding
from trigbench.workflow.run.own import check_study
from trigbench.workflow.run.planned import own_parts, planned
from trigbench.workflow.study.reading import load

OBJECTIVE = "from trigbench import *\nfrom examples.own_objective import blended\n"


@pytest.fixture(autouse=True)
def _quick(unchecked: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stationarity, "BATCHES", 6)
    with unchecked():
        yield


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of one's own, whose modules are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def refusal(*words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["check", *words])
    assert stopped.value.code != 0
    return str(stopped.value.code)


@pytest.mark.slow
def test_a_study_says_what_it_would_make_under_every_budget(capsys):
    main(["check", "oracle"])
    lines = capsys.readouterr().out.splitlines()
    for budget in ("laptop", "full", "smoke"):
        study = load("oracle", budget)
        (line,) = (line for line in lines if line.startswith(f"budget {budget} "))
        assert f"{len(study.runs())} runs of " in line
    assert sum(line.startswith("experiment") for line in lines) == len(load("oracle").experiments)


def test_what_is_seldom_meant_is_a_note(tiny, write_study):
    tiny["arms"]["scd"]["warmup"] = 30
    tiny["evaluation"]["samples"] = 65
    tiny["data"]["more"] = {"kind": "images_folder", "path": "nowhere", "size": 8, "held_out": 0.1}
    notes = [said for what, said in planned(write_study(tiny)) if what == "note"]
    assert notes == [
        "the warm-up ends with training, or never: scd (30 of 30 steps)",
        "the files of data more are not there yet: nowhere",
    ]


@pytest.mark.slow
def test_own_parts_are_named_with_their_own_check(monkeypatch):
    monkeypatch.setattr("trigbench.workflow.run.planned.check_own", lambda studies: None)  # tests of it start a process
    said = dict(planned(ROOT / "examples" / "own_objective.yaml"))
    assert said["own part"].endswith("trigbench check examples.own_objective:blended")
    assert own_parts(load(ROOT / "examples" / "own_data.yaml")) == ["examples.own_data"]
    assert own_parts(load(ROOT / "examples" / "own_network.yaml")) == ["examples.own_network:Waves"]
    assert own_parts(load("imagenet64")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["arms"]["scd"].update(ratee=1), ["key:    arms.scd.ratee", "did you mean 'rate'?"]),
        (lambda c: c["arms"]["scd"].update(objective="scdd"), ["unknown objective", "did you mean 'scd'?"]),
        (lambda c: c.update(budgets={"small": {"arms": ["no"]}}), ["budgets.small.arms"]),
    ],
)
def test_a_mistake_in_a_study_is_said_with_file_key_and_remedy(change, words, tiny, write_study):
    change(tiny)
    path = write_study(tiny)
    said = refusal(str(path))
    assert all(word in said for word in (*words, f"file:   {path}", "remedy: "))


@pytest.mark.slow
def test_a_study_whose_own_part_cannot_be_called_is_refused(tiny, write_study, tmp_path, monkeypatch):
    here: Any = lambda studies: [check_study(study) for study in studies]  # noqa: E731 - else a process of its own
    monkeypatch.setattr("trigbench.workflow.run.planned.check_own", here)
    (tmp_path / "mine.py").write_text("def loss(fields): ...\n")
    tiny["arms"]["own"] = {"objective": "mine:loss"}
    said = refusal(str(write_study(tiny)))
    assert "mine:loss cannot be called" in said and "arms.own.objective" in said


@pytest.mark.slow
def test_a_part_that_conforms_is_a_line_a_check_and_no_error(capsys):
    (Path("mine.py")).write_text(OBJECTIVE)
    main(["check", "mine.py:blended"])
    out = capsys.readouterr().out
    assert out.startswith("mine.py:blended: objective\n") and "8 passed, 0 failed, 0 do not apply" in out
    assert "z = " in out and "remedy" not in out


def test_a_part_that_does_not_conform_says_why_with_a_remedy_and_exit_status(capsys):
    Path("mine.py").write_text(OBJECTIVE + "def loss(fields, x0, draws, settings):\n    return 3\n")
    with pytest.raises(SystemExit) as stopped:
        main(["check", "mine:loss"])
    out = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "it returns a int" in out and "remedy: let it return trigbench.Regression" in out
    assert "0 passed, 1 failed, 7 do not apply" in out


def test_a_network_is_tried_at_the_shape_that_is_said_or_found(capsys):
    main(
        [
            "check",
            f"{ROOT}/examples/own_network.py:Waves",
            "--shape",
            "1,4,4",
            "--classes",
            "3",
            "--settings",
            "{waves: 8}",
        ]
    )
    assert "11 passed" in capsys.readouterr().out
    from trigbench import DiT  # noqa: PLC0415

    assert parts.shape_for(DiT, {"width": 16, "depth": 1, "heads": 2}, 0) == (1, 8, 8)


def test_a_data_set_is_a_module_by_its_file_or_name(capsys):
    main(["check", str(ROOT / "examples/own_data.py"), "--settings", "{turns: 2}"])
    assert ": data set" in capsys.readouterr().out
    main(["check", "examples.own_data:prepare"])
    assert "8 passed, 0 failed, 1 do not apply" in capsys.readouterr().out


PARTS = """
import torch
number = 3
class Network(torch.nn.Module):
    def __init__(self, shape): ...
def make(shape, sigma_d): ...
def loss(fields, x0, draws, settings): ...
def of_other_names(a, b, c, d): ...
def prepare(data, evaluation, sigma_d): ...
def neither(a): ...
"""


def test_what_a_part_is_is_told_by_what_it_takes(tmp_path):
    (tmp_path / "some_parts.py").write_text(PARTS)
    sys.path.insert(0, str(tmp_path))
    kinds = {
        "Network": "network",
        "make": "network",
        "loss": "objective",
        "of_other_names": "objective",
        "prepare": "data",
    }
    for name, kind in kinds.items():
        assert parts.kind_of(parts.found(f"some_parts:{name}"), name) == kind
    assert parts.kind_of(parts.found("some_parts"), "some_parts") == "data"
    for name in ("neither", "number"):
        with pytest.raises(BenchError, match="--as objective"):
            parts.kind_of(parts.found(f"some_parts:{name}"), name)


def test_what_is_not_there_or_takes_no_such_settings_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("def loss(fields, x0, draws, settings): ...\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "plain.py").write_text("def loss(fields): ...\nx = 1\n")
    assert "there is no such file" in refusal("nothing.py:loss")
    assert "cannot import 'nothing'" in refusal("nothing:loss")
    assert "ZeroDivisionError" in refusal("broken.py:loss")
    assert parts.found("json.py:loss").__module__ == "_of_json", "a file may be called like a library"
    assert "did you mean 'blended'?" in refusal("examples.own_objective:blend")
    assert "it has no 'prepare'" in refusal("plain.py")
    assert "let it take (fields, x0, draws, settings)" in refusal("plain:loss", "--as", "objective")
    assert "it is no function" in refusal("plain:x", "--as", "network")
    assert "takes no 'wave'" in refusal("examples.own_network:Waves", "--settings", "{wave: 3}")
    assert "takes no 'turn'" in refusal("examples.own_data", "--settings", "{turn: 3}")
    assert "key:    --settings" in refusal("examples.own_data", "--settings", "{turn: ")
    assert "is no mapping" in refusal("examples.own_data", "--settings", "3")


def test_a_setting_that_nothing_gives_is_asked_for(tmp_path):
    text = "import dataclasses\n@dataclasses.dataclass\nclass Told:\n    strength: float\n"
    (tmp_path / "needy.py").write_text(f"{text}def loss(fields, x0, draws, settings: Told): ...\n")
    said = refusal("needy:loss")
    assert "'strength'" in said and "--settings" in said
    assert isinstance(parts.check_part("needy:loss", settings={"strength": 1.0})[1][0], Finding)


def test_a_shape_is_whole_numbers(capsys):
    for shape in ("3,x", "0", "", "2.5"):
        with pytest.raises(SystemExit):
            main(["check", "examples.own_network:Waves", "--shape", shape])
        assert "write whole numbers" in capsys.readouterr().err
