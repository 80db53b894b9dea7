"""The same results wherever it is started: notebooks, settings of matplotlib, locales, threads, containers."""

import ast
import io
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yte
from matplotlib import pyplot as plt

from tests.workflow.conftest import ROOT, environment
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import cores
from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.cores import cores_here
from trigbench.workflow.machine.files import check_writable, write_json
from trigbench.workflow.machine.stopping import stopping
from trigbench.workflow.report import timing
from trigbench.workflow.report.style import apply_style, save
from trigbench.workflow.run.training import train
from trigbench.workflow.study.study import Run, Study

# --- matplotlib ---------------------------------------------------------------------------------------

HOSTILE = """
backend: TkAgg
lines.linewidth: 9
axes.facecolor: red
text.usetex: True
savefig.transparent: True
font.size: 30
image.cmap: jet
"""
DRAW = """
from pathlib import Path
import trigbench.workflow.steps
from matplotlib import pyplot as plt
from trigbench.workflow.report.style import apply_style, save
apply_style()
figure, ax = plt.subplots()
ax.plot([0, 1], [1, 0], label="line")
ax.set(xlabel="t", title="figure")
ax.legend()
save(figure, Path("drawn"))
"""


@pytest.mark.slow
def test_figures_are_the_same_bytes_whatever_backend_and_settings_of_matplotlib_the_user_has(
    tmp_path: Path, monkeypatch
) -> None:
    hostile = tmp_path / "hostile"
    (hostile / "config").mkdir(parents=True)
    for place in (hostile, hostile / "config"):
        (place / "matplotlibrc").write_text(HOSTILE)
    of_notebook = {"MPLBACKEND": "module://nothing.of_a_notebook", "MPLCONFIGDIR": str(hostile / "config")}
    subprocess.run([sys.executable, "-c", DRAW], cwd=hostile, env={**environment(), **of_notebook}, check=True)
    monkeypatch.chdir(tmp_path)
    plt.rcParams["lines.linewidth"] = 7
    apply_style()
    figure, ax = plt.subplots()
    ax.plot([0, 1], [1, 0], label="line")
    ax.set(xlabel="t", title="figure")
    ax.legend()
    save(figure, Path("drawn"))
    plt.close(figure)
    for name in ("drawn.svg", "drawn.png"):
        assert (tmp_path / name).read_bytes() == (hostile / name).read_bytes()


def test_a_notebook_keeps_its_backend_and_a_command_that_it_starts_does_not(monkeypatch) -> None:
    backend = "module://of_a_notebook"
    for imported, kept in (("report", backend), ("steps", "Agg")):
        monkeypatch.setenv("MPLBACKEND", backend)
        runpy.run_path(str(ROOT / "workflow" / imported / "__init__.py"))
        assert os.environ["MPLBACKEND"] == kept
    monkeypatch.setenv("MPLBACKEND", backend)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    runpy.run_path(str(ROOT / "workflow/steps/__init__.py"))
    assert os.environ["MPLBACKEND"] == backend


# --- letters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_letter_is_told_its_number(encoding: str, monkeypatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    def command() -> None:
        print("σ_d of Müller")
        raise BenchError("no τ", remedy="none")

    with pytest.raises(SystemExit):
        main(command)
    for stream, expected in ((sys.stdout, rb"\u03c3_d of M"), (sys.stderr, rb"no \u03c4")):
        stream.flush()
        assert isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BytesIO)
        assert expected in stream.buffer.getvalue()


def _without_encoding(tree: ast.AST) -> list[int]:
    """Lines that read or write text in the encoding of the locale."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opens = name == "open" and not any("b" in text for text in texts) and "mode" not in given
        reads = name in ("read_text", "fdopen") or (name == "write_text" and len(node.args) == 1)
        runs = isinstance(given.get("text"), ast.Constant) or "universal_newlines" in given
        library = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("Image", "zipf")
        if (opens or reads or runs) and "encoding" not in given and not library:
            found.append(node.lineno)
    return found


@pytest.mark.slow
def test_no_text_is_read_or_written_in_the_encoding_of_the_locale() -> None:
    assert _without_encoding(ast.parse("x.open(); open('a', 'w'); p.read_text(); run(a, text=True)")) == [1] * 4
    assert _without_encoding(ast.parse("x.open('rb'); p.read_text(encoding='utf-8'); write_text(p, t)")) == []
    places = {path: _without_encoding(ast.parse(path.read_bytes())) for path in (ROOT / "workflow").rglob("*.py")}
    assert len(places) > 50
    assert {str(path.relative_to(ROOT)): lines for path, lines in places.items() if lines} == {}


# --- threads and links --------------------------------------------------------------------------------


def test_a_run_in_a_thread_trains_and_says_that_it_heeds_no_signal(scd_arm: Callable[..., Study], capsys) -> None:
    study, made = scd_arm(iterations=3), []
    thread = threading.Thread(target=lambda: made.append(train(study, Run(arm="scd", seed=0))))
    thread.start()
    thread.join()
    assert [outcome.step for outcome in made] == [3]
    assert "in a thread: SIGTERM ends it without a checkpoint" in capsys.readouterr().err
    with stopping() as stop_now:
        assert stop_now() is None
    assert "thread" not in capsys.readouterr().err


def test_a_link_to_nowhere_and_a_file_where_a_folder_belongs_are_named(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(tmp_path / "a disk that is not there")
    for write in (
        lambda: check_writable(tmp_path / "results/tiny"),
        lambda: write_json(tmp_path / "results/a.json", {}),
    ):
        with pytest.raises(BenchError, match=r"(?s)results is a link to .*a disk that is not there.*remedy: make"):
            write()
    (tmp_path / "reports").write_text("")
    with pytest.raises(BenchError, match=r"(?s)reports is a file.*remedy: move it"):
        check_writable(tmp_path / "reports/tiny")


# --- cores --------------------------------------------------------------------------------------------


@pytest.fixture
def sixteen(monkeypatch) -> None:
    """A process that its mask leaves sixteen cores."""
    for name in ("process_cpu_count", "cpu_count"):
        monkeypatch.setattr(os, name, lambda: 16, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


QUOTAS = {
    "none": ("0::/", {}, 16),
    "no limit": ("0::/", {"cpu.max": "max 100000"}, 16),
    "of a container": ("0::/", {"cpu.max": "250000 100000"}, 2),
    "below a core": ("0::/", {"cpu.max": "20000 100000"}, 1),
    "of the group around it": ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
    "above the mask": ("0::/", {"cpu.max": "9900000 100000"}, 16),
    "of version 1": ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000",
                                         "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 4),
    "no limit of version 1": ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
    "nonsense": ("0::/", {"cpu.max": "a b c"}, 16),
}  # fmt: skip


@pytest.mark.parametrize("what", QUOTAS)
def test_cores_are_those_of_the_mask_and_of_the_container_s_quota(what: str, sixteen: None, tmp_path: Path) -> None:
    line, files, expected = QUOTAS[what]
    (tmp_path / "cgroup").write_text(f"{line}\n")
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    assert cores_here(tmp_path / "groups", tmp_path / "cgroup") == expected


def test_a_bare_call_and_the_summary_count_these_cores(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(cores, "cores_here", lambda: 7)
    profile = yte.process_yaml((ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8"))
    assert profile is not None and profile["cores"] == 7
    monkeypatch.setattr(timing, "cores_here", lambda: 7)
    monkeypatch.chdir(tmp_path)
    timing.summarise([], time.time() - 10, time.time() - 10)
    assert capsys.readouterr().out.count("on 7 cores") == 3
