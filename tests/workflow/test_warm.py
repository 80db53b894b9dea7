"""Processes that are warm do what new ones do. What goes wrong: test_warm_server.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow import warm
from tests.workflow.conftest import ROOT, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(warm.python() == sys.executable, reason="no process forks here"),
]
SAID = """
import os, sys
torch = "torch" in sys.modules
path = [place for place in sys.path if os.path.isabs(place)]  # Snakemake adds one
ours = [name for name in sys.modules if name.split(".")[0] in ("core", "workflow", "tests", "client", "server")]
print(__name__, sys.argv[1:], os.getcwd(), os.environ["SLURM_X"], path, ours, sys.stdin.read())
print(*["no"][torch:], "torch", *["and trigbench"]["trigbench.core.trigflow" not in sys.modules:], file=sys.stderr)
sys.exit(3)
"""
WAITS = """
import os, sys, time
print(os.getpid(), flush=True)
time.sleep(60)
"""


ENDS = """
import atexit, sys, threading, time
atexit.register(print, "at the end")
threading.Thread(target=lambda: (time.sleep(0.2), print("when its threads have ended"))).start()
print("no line", end=", ")
sys.exit({code})
"""


def _said(python: str, folder: Path, *options: str, **variables: str) -> tuple[int, str, str]:
    (folder / "mine.py").write_text(SAID)
    env = {**environment(), "SLURM_X": "é", **variables}
    command = [python, *options, "-m", "mine", "a b", "--c"]
    done = subprocess.run(command, cwd=folder, env=env, input="asked", capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_one_says_and_ends_as_a_new_one_does(options: tuple[str, ...], tmp_path: Path) -> None:
    found, expected = _said(warm.python(), tmp_path, *options), _said(sys.executable, tmp_path, *options)
    assert found[:2] == expected[:2] and found[0] == 3 and "asked" in found[1] and "['a b', '--c']" in found[1]
    assert (found[2], expected[2]) == ("torch and trigbench\n", "no torch\n")


@pytest.mark.parametrize("code", ["", "256 + 4", "'words'"])
def test_one_ends_with_its_threads_its_last_calls_and_its_status(code: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDS.format(code=code))
    found, expected = (
        subprocess.run([python, "-m", "mine"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
        for python in (warm.python(), sys.executable)
    )
    assert found.stdout == "no line, when its threads have ended\nat the end\n"
    assert (found.returncode, found.stdout, found.stderr) == (expected.returncode, expected.stdout, expected.stderr)


@pytest.mark.parametrize("where", ["here", "path"])
def test_a_copy_of_the_project_is_imported_by_who_finds_it(where: str, tmp_path: Path) -> None:
    (tmp_path / "trigbench").mkdir()
    (tmp_path / "trigbench/__init__.py").touch()
    folder = tmp_path if where == "here" else tmp_path / "other"
    folder.mkdir(exist_ok=True)
    assert _said(warm.python(), folder, PYTHONPATH=str(tmp_path))[2] == "torch\n"


@pytest.mark.parametrize("how", ["options", "hash seed", "limit", "KMP_BLOCKTIME", "GLIBC_TUNABLES", "DNNL_X", "ANY"])
def test_what_a_fork_cannot_do_is_left_to_python(how: str, tmp_path: Path) -> None:
    options, variables, python = (), {}, warm.python()
    if how == "options":
        options = ("-B",)
    elif how == "hash seed":
        variables = {"PYTHONHASHSEED": "1"}
    elif how != "limit":
        variables = {how: "0"}
    else:
        python = str(tmp_path / "limited")
        Path(python).write_text(f'#!/bin/bash\nulimit -n 64\nexec "{warm.python()}" "$@"\n')
        Path(python).chmod(0o755)
    assert _said(python, tmp_path, *options, **variables)[2] == "no torch\n"


def test_jobs_of_slurm_in_a_folder_that_leads_to_the_checkout_are_warm(tmp_path: Path) -> None:
    for name in ("trigbench", "core", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    job = tmp_path / "job"
    job.write_text(f'#!/bin/bash\nulimit -m 500000\nexec "{warm.python()}" "$@"\n')
    job.chmod(0o755)
    said = _said(str(job), tmp_path, PYTHONPATH=str(tmp_path), CUDA_VISIBLE_DEVICES="0")[2]
    assert said == "torch and trigbench\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it_with_its_client(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WAITS)
    command = [warm.python(), "-m", "mine"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        process = int(client.stdout.readline())
        assert process != client.pid
        client.send_signal(number)
    assert client.returncode == -number
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_is_killed_ends_its_client_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WAITS)
    command = [warm.python(), "-m", "mine"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        os.kill(int(client.stdout.readline()), signal.SIGKILL)
    assert client.returncode == -signal.SIGKILL
