"""Completion of the command's words, asked as a shell does."""

import io
import os
import subprocess
import sys
from pathlib import Path

import argcomplete
import pytest

from trigbench import cli
from trigbench.commands import _completion


def completed(line: str) -> list[str]:
    """What a shell is given for the line, the cursor at its end."""
    answer, real = io.StringIO(), argcomplete.autocomplete

    def end(status: int) -> None:
        raise SystemExit(status)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"": "1", "_IFS": "\n", "_SUPPRESS_SPACE": "1"}.items():
            patch.setenv(f"_ARGCOMPLETE{name}", value)
        patch.setenv("COMP_LINE", line)
        patch.setenv("COMP_POINT", str(len(line.encode())))
        patch.setattr(
            os, "fdopen", lambda *_: io.StringIO()
        )  # it writes what went wrong to a descriptor of the shell's
        patch.setattr(argcomplete, "autocomplete", lambda parser: real(parser, exit_method=end, output_stream=answer))
        with pytest.raises(SystemExit):
            cli.main([])
    return [word.strip() for word in answer.getvalue().split("\n") if word.strip()]


@pytest.mark.slow
def test_words_of_the_command_are_completed():
    assert {"list", "run", "show"} <= set(completed("trigbench "))
    assert set(completed("trigbench run or")) == {"oracle", "oracle-long", "oracle-seeds"}
    assert set(completed("trigbench run cifar")) == {"cifar10", "cifar10-small"}
    assert completed("trigbench run oracle dim") == ["dimension"]
    assert "claims/continuous-beats-every-n" in completed("trigbench run oracle claims/continuous-b")
    assert completed("trigbench run oracle --budget sm") == ["smoke"]
    for command in ("estimate", "judge", "report", "watch"):
        assert set(completed(f"trigbench {command} dig")) == {"digits", "digits-lineage", "digits-maps"}
    assert completed("trigbench list net") == ["networks"]
    assert "scd-raw" in completed("trigbench show --study oracle scd-r")
    assert "continuous-beats-every-n" in completed("trigbench show continuous-b")


def test_files_of_one_s_own_are_completed_too(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert set(_completion.files("", (".yaml",))) == {"mine.yaml", "sub/"}
    assert _completion.files(f"{tmp_path}/m", (".yaml",)) == [f"{tmp_path}/mine.yaml", f"{tmp_path}/sub/"]
    assert completed("trigbench run min") == ["mine.yaml"]


def test_a_study_with_a_mistake_is_completed_with_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("study: [")
    assert completed("trigbench run bad.yaml dim") == []


@pytest.mark.slow
def test_completion_imports_nothing_heavy():
    """A shell waits for it at every tab."""
    code = (
        "import argparse, sys\n"
        "from trigbench.commands import _completion\n"
        "assert _completion.names('', argparse.Namespace(study=None))\n"
        "assert _completion.parts('', argparse.Namespace(study='oracle'))\n"
        "print([name for name in ('torch', 'pandas', 'scipy', 'snakemake') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
