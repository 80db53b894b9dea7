"""`trigbench estimate`, `report`, `audit` and `convert`: what each says, and what is wrong."""

import json
import sys
import webbrowser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.workflow.conftest import ROOT
from tests.workflow.made_up import STUDY, make_results
from tests.workflow.test_estimate import COSTS
from trigbench.cli import main
from trigbench.core.audit.remedies import TERM_BY_TERM, remedy_of
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.report import writing
from trigbench.workflow.run import auditing, estimate_table
from trigbench.workflow.run.auditing import audit
from trigbench.workflow.steps import convert as convert_step
from trigbench.workflow.steps import estimate as estimate_step
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("tiny.yaml").write_text(STUDY)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says as it ends with status 1."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = ended.value.code
    assert said == 1 or (isinstance(said, str) and "\n  remedy: " in said), said
    return capsys.readouterr().out if said == 1 else str(said)


# --- estimate -----------------------------------------------------------------------------------------


@pytest.fixture
def costed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arms whose cost is known."""
    monkeypatch.setattr(estimate_table, "costs_of", lambda study, judged, measure: COSTS)


def test_estimate_prints_what_its_step_prints(costed, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    options = ["--device-name", "one of ours", "--device-tflops", "100", "--utilisation", "0.4", "--no-measure"]
    main(["estimate", "tiny.yaml", *options])
    said = capsys.readouterr().out
    assert "Device hours: one of ours at 40% of 100 TFLOP/s" in said and "GFLOP/s" not in said
    monkeypatch.setattr(sys, "argv", ["estimate", "--study", "tiny.yaml", *options])
    estimate_step.command()
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["none.yaml"], ["none.yaml", "remedy:"]),
        (["tiny.yaml", "--budget", "huge"], ["huge", "short"]),
        (["tiny.yaml", "--utilisation", "2"], ["--utilisation", "at most 1"]),
        (["tiny.yaml", "--device-tflops", "0"], ["--device-tflops", "above 0"]),
        (["tiny.yaml", "--device-tflops", "inf"], ["--device-tflops", "above 0"]),
        (["tiny.yaml", "--check", "--no-measure"], ["--check", "without --no-measure"]),
        (["tiny.yaml", "--check"], ["no run has finished", "make the study first"]),
    ],
)
def test_estimate_refuses_what_is_not_there_before_any_step_is_timed(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(estimate_table, "costs_of", None)
    said = refused(capsys, "estimate", *words)
    assert all(part in said for part in expected), said


# --- report -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_report_writes_a_study_s_pages_from_the_runs_that_are_there_and_opens_them(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    opened = list[str]()
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    make_results(load("tiny.yaml"), [Run(arm="continuous", seed=0)])
    main(["report", "tiny.yaml", "--open"])
    said = capsys.readouterr().out
    assert "missing: 5 of 6 runs of 'One and two steps'" in said and "reports/tiny.html" in said
    assert opened == [Path("reports/tiny.html").absolute().as_uri()]
    assert "One and two steps" in Path("reports/tiny.html").read_text() and Path("reports/index.html").is_file()
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert "reports/tiny.html" in refused(capsys, "report", "tiny.yaml", "--open")


@pytest.mark.slow
def test_report_of_nothing_says_how_each_study_is_made_and_writes_no_page_and_which_folder_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(writing, "by_default", lambda: ("tiny.yaml",))
    command = load("tiny.yaml").command()
    for words in ([], ["tiny.yaml"]):
        assert f"remedy: make {'it' if words else 'some, as'} with: {command}" in refused(capsys, "report", *words)
    assert not Path("reports").exists()
    Path("results/unknown/data").mkdir(parents=True)
    assert "results/unknown" in refused(capsys, "report")
    assert Path("reports/index.html").is_file(), "one folder costs no other its pages"
    first, *pages = capsys.readouterr().out.splitlines()
    assert first == f"missing: all 6 runs of tiny; make them with: {command}"
    assert pages == ["reports/tiny.html", "reports/index.html"]
    assert "--budget" in refused(capsys, "report", "--budget", "smoke")


# --- audit --------------------------------------------------------------------------------------------

OWN = """
from beside import SHIFT
from trigbench import ContinuousSettings, Regression, interpolate, sct


def mine(fields, x0, draws, settings: ContinuousSettings):
    return sct(fields, x0, draws, settings)


def of_other_times(fields, x0, draws, settings):
    t = 0.1 + draws.uniform + SHIFT
    return Regression(fields.student(interpolate(x0, draws.noise, t), t).square().mean(), t)


def failing(field, teacher, x0, z, t, r):
    raise RuntimeError("no such thing")


def of_three(x, y, z):
    return x
"""


@pytest.fixture
def own() -> str:
    """A file of losses, which imports what stands beside it."""
    Path("own").mkdir()
    Path("own/losses.py").write_text(OWN)
    Path("own/beside.py").write_text("SHIFT = 0.0\n")
    return "own/losses.py"


@pytest.mark.slow
def test_audit_says_what_is_wrong_with_a_loss_in_a_file_and_what_to_do(capsys) -> None:
    path = f"{ROOT / 'examples/audit_a_loss.py'}:my_loss"
    lines = refused(capsys, "audit", path).splitlines()
    assert lines[0] == f"{path}, with a teacher, at sigma_d = 0.5, r = 1 and 0.5"
    assert lines[1].startswith("wrong: dF/dt: sigma_d is missing")
    assert "sigma_d dF/dt" in lines[2] and lines[2].startswith("  remedy: ")
    assert "\n".join(lines[1:]) in (ROOT / "docs/audit.md").read_text()
    found = json.loads(refused(capsys, "audit", path, "--json"))
    assert not found["right"] and found["problems"][0]["problem"] == lines[1].removeprefix("wrong: ")
    assert f"  remedy: {found['problems'][0]['remedy']}" == lines[2] and found["ratios"]["dF/dt"] == pytest.approx(2)


@pytest.mark.slow
def test_audit_of_an_objective_of_the_project_or_of_one_s_own_is_of_its_loss(own: str, capsys) -> None:
    main(["audit", "scd", "--sigma-d", "0.7"])
    assert capsys.readouterr().out.splitlines()[:2] == ["scd, with a teacher, at sigma_d = 0.7, r = 1 and 0.5", "right"]
    main(["audit", f"{own}:mine", "--r", "0.8"])
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{own}:mine, without a teacher, at sigma_d = 0.5, r = 0.8", "right"]


@pytest.mark.slow
@pytest.mark.parametrize("name", auditing.NAMES)
def test_every_name_can_be_audited_and_only_the_continuous_are_algorithm_1_s(name: str) -> None:
    found = audit(name, 0.5, (1.0, 0.5))
    assert found.report.right == (name in ("scd", "sct")) and found.distils is OBJECTIVES[name].teacher
    assert TERM_BY_TERM not in map(remedy_of, found.report.problems)
    if not found.report.right:
        assert "a diffusion loss" in str(found) if name == "diffusion" else "a discrete loss" in str(found)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("vsd", ["trains more than one field", "scd", "file.py:function"]),
        ("nothing", ["is no objective", "scd"]),
        ("own/nowhere.py:mine", ["no such file", "own/nowhere.py"]),
        ("own/losses.py:min", ["there is no 'min'", "did you mean 'mine'?"]),
        ("own.nowhere:mine", ["cannot import 'own.nowhere'"]),
        (":mine", ["names no function"]),
        ("own/losses.py:of_three", ["no loss that can be audited", "fields, x0, draws, settings"]),
        ("own/losses.py:SHIFT", ["no loss that can be audited"]),
        ("own/losses.py:failing", ["RuntimeError: no such thing", "losses.py, line"]),
        ("own/losses.py:of_other_times", ["trains at other times", "docs/audit.md"]),
    ],
)
def test_audit_refuses_what_is_no_loss(loss: str, expected: list[str], own: str, capsys) -> None:
    said = refused(capsys, "audit", loss)
    assert all(part in said for part in expected), said


def test_audit_refuses_a_sigma_d_or_r_that_is_none(capsys) -> None:
    for option, value in (("--sigma-d", "-1"), ("--sigma-d", "nan"), ("--r", "0"), ("--r", "inf")):
        said = refused(capsys, "audit", "sct", option, value)
        assert option in said and "a number above 0" in said


# --- convert ------------------------------------------------------------------------------------------


def test_convert_writes_and_says_what_its_step_does(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    torch.save({"step": 1, "ema": {"w": torch.ones(2, 3)}}, "all.pt")
    assert "--entry: ema" in refused(capsys, "convert", "all.pt", "out.safetensors")
    assert (
        "none.pt" in refused(capsys, "convert", "none.pt", "out.safetensors") and not Path("out.safetensors").exists()
    )
    main(["convert", "all.pt", "out.safetensors", "--entry", "ema"])
    said = capsys.readouterr().out
    assert said.startswith("out.safetensors: 1 tensors") and read_tensors(Path("out.safetensors"), "")["w"].shape == (
        2,
        3,
    )
    monkeypatch.setattr(sys, "argv", ["convert", "all.pt", "out.safetensors", "--entry", "ema"])
    convert_step.command()
    assert capsys.readouterr().out == said


# --- the command itself -------------------------------------------------------------------------------


def test_without_a_word_the_commands_are_said(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2 and "judge" in capsys.readouterr().out


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(estimate_table, "estimate_as_asked", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["estimate", "oracle"])
    assert ended.value.code == 130


@pytest.mark.parametrize(
    "words", [["run", "oracle", "--cores", "x"], ["run", "oracle", "--cores", "0"], ["check", "a:b", "--classes", "-2"]]
)
def test_what_is_no_number_is_refused_before_anything_is_read(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "write a whole number" in capsys.readouterr().err


def test_a_folder_is_nothing_to_check_and_a_study_without_arms_says_so(capsys) -> None:
    assert "it is a folder" in refused(capsys, "check", ".")
    Path("none.yaml").write_text("study: none\n")
    assert "the study has no arms" in refused(capsys, "check", "none.yaml")


def test_judge_prepares_nothing_for_what_is_not_there(capsys) -> None:
    for what in ("nowhere.npz", "nowhere.py:sample"):
        said = refused(capsys, "judge", "oracle", what, "--name", "x", "--data", "mixture-2d", "--budget", "smoke")
        assert "no such file" in said and not Path("results").exists()


# --- steps by hand --------------------------------------------------------------------------------------

STEPS = sorted({path.stem for path in (ROOT / "workflow/steps").glob("*.py")} - {"__init__", "simulate"})
"""All but one, which takes no words."""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_s_own_errors_name_key_and_remedy_as_the_commands_do(step: str, monkeypatch, capsys) -> None:
    command = import_module(f"trigbench.workflow.steps.{step}").command
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name=f"trigbench.workflow.steps.{step}"))
    for words in (["--nonsense"], ["--seed", "x"], []):
        monkeypatch.setattr(sys, "argv", [step, *words])
        if not words and step in ("estimate", "publish", "recompute", "report", "summary"):
            continue  # which need none
        with pytest.raises(SystemExit) as ended:
            command()
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.startswith("error: ") and "\n  key:    " in said, said
        assert f"remedy: python -m trigbench.workflow.steps.{step} --help says" in said or "did you mean" in said, said
