"""What may go wrong with a server of warm processes: it is killed, or who started it, or the sources are edited."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, environment
from trigbench.workflow.machine import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no process forks here"),
]
MINE = """
import os, sys, time
from pathlib import Path
print(os.getpid(), "trigbench" in sys.modules, flush=True)
while Path("sleeps").exists():
    time.sleep(0.01)
"""


def bare() -> dict[str, str]:
    """An environment in which no other trigbench comes first."""
    return {**environment(), "PYTHONPATH": ""}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What a server imports here, which takes no time."""
    made = tmp_path / "root/trigbench/__init__.py"
    made.parent.mkdir(parents=True)
    made.write_text("answer = 42")
    return made


@pytest.fixture
def python(project: Path, tmp_path: Path) -> Iterator[Path]:
    """One that is warm."""
    (tmp_path / "mine.py").write_text(MINE)
    with warm.serving(["trigbench"], root=tmp_path / "root", variables=environment()) as folder:
        yield folder / "python"


@contextlib.contextmanager
def sleeping(python: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """(client, process) of one that sleeps for as long as there is a file, or to the end of this."""
    folder = Path.cwd()
    (folder / "sleeps").touch()
    with subprocess.Popen([python, "-m", "mine"], env=bare(), stdout=subprocess.PIPE, text=True) as client:
        try:
            yield client, said(client, "True")
        finally:
            (folder / "sleeps").unlink(missing_ok=True)


def said(client: subprocess.Popen[str], is_warm: str) -> int:
    assert client.stdout is not None
    process, found = client.stdout.readline().split()
    assert found == is_warm
    return int(process)


def is_warm(python: Path) -> bool:
    done = subprocess.run([python, "-m", "mine"], env=bare(), capture_output=True, text=True, check=True)
    return done.stdout.split()[1] == "True"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state(process: int) -> str:
    """As the kernel has it; X for one that is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def printed(python: Path, content: str, *, umask: int = -1) -> list[str]:
    """By a module of this content, which is warm."""
    Path("mine.py").write_text(f"import os, sys\n{content}\nprint('trigbench' in sys.modules)")
    done = subprocess.run([python, "-m", "mine"], env=bare(), umask=umask, capture_output=True, text=True, check=True)
    *found, is_warm = done.stdout.split()
    assert is_warm == "True"
    return found


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("how", ["edited", "edited at the same time and size", "new"])
def test_sources_that_changed_are_imported_anew(
    how: str, python: Path, project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_warm(python)
    if how == "new":
        (project.parent / "other.py").touch()
    else:
        before = project.stat()
        project.write_text("answer = 41" if "size" in how else "answer = 6 * 7")
        os.utime(project, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_warm(python)


def test_a_module_of_the_same_name_that_comes_first_is_imported(python: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_warm(python)
    (tmp_path / "trigbench.py").touch()
    assert not is_warm(python)


def test_a_fork_keeps_to_its_client_s_cores(python: Path, tmp_path: Path, monkeypatch) -> None:
    """A scheduler binds a job to some of the machine's."""
    monkeypatch.chdir(tmp_path)
    one = {min(os.sched_getaffinity(0))}
    (tmp_path / "mine.py").write_text('import os, sys; print(*os.sched_getaffinity(0), "trigbench" in sys.modules)')
    bound = partial(os.sched_setaffinity, 0, one)
    done = subprocess.run(
        [python, "-m", "mine"], env=bare(), preexec_fn=bound, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [*map(str, one), "True"]


def test_a_fork_has_its_client_s_umask_and_draws_of_its_own(
    python: Path, project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project.write_text("import random, numpy.random")
    for umask in (0o027, 0o077):
        assert printed(python, "print(oct(os.umask(0)))", umask=umask) == [oct(umask)]
    drawn = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = printed(python, drawn), printed(python, drawn)
    assert len(first) == 2 and not set(first) & set(second)


def test_a_job_that_ends_at_once_runs_once(python: Path, tmp_path: Path, monkeypatch) -> None:
    """Its client may be told of it when it is over."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os, sys\nwith open('ran', 'a') as ran: print(os.getpid(), 'trigbench' in sys.modules, file=ran)"
    )
    for _ in range(4):
        clients = [subprocess.Popen([python, "-m", "mine"], env=bare()) for _ in range(15)]
        assert [client.wait() for client in clients] == [0] * 15
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    assert len(ran) == 60 and {is_warm for _, is_warm in ran} == {"True"}


def test_a_fork_that_is_killed_at_once_with_its_client_takes_no_other_with_it(
    python: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with sleeping(python) as (other, goes_on), sleeping(python) as (client, process):
        server = parent(process)
        os.kill(server, signal.SIGSTOP)  # it sees both at once
        try:
            os.kill(process, signal.SIGKILL)
            until(lambda: state(process) == "Z")
            client.kill()
            client.wait()
        finally:
            os.kill(server, signal.SIGCONT)
        until(lambda: state(process) == "X")
        assert state(goes_on) in "SR" and parent(goes_on) == server
    assert other.returncode == 0
    assert is_warm(python)


def test_where_the_server_is_killed_what_it_had_under_way_starts_anew(
    python: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with sleeping(python) as (client, process):
        os.kill(parent(process), signal.SIGKILL)
        assert said(client, "False") == client.pid
        assert state(process) in "ZX"
    assert client.returncode == 0
    assert not is_warm(python), "and so does all after it"


def test_a_server_ends_with_whoever_started_it_and_asks_what_is_under_way_to_stop(
    project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    owns = (
        "import sys, time; from pathlib import Path; from trigbench.workflow.machine import warm\n"
        f"with warm.serving(['trigbench'], root=Path({str(tmp_path / 'root')!r})) as folder:\n"
        "    print(folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", owns], env=environment(), stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "nobody else may call it"
        with sleeping(folder / "python") as (client, process):
            server = parent(process)
            owner.kill()
            assert client.wait() == -signal.SIGTERM
    until(lambda: state(process) in "ZX" and state(server) in "ZX" and not folder.exists())


def test_one_is_suspended_and_goes_on_with_its_client(python: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sleeping(python) as (client, process):
        client.send_signal(signal.SIGTSTP)
        until(lambda: state(process) == "T" and state(client.pid) == "T")
        client.send_signal(signal.SIGCONT)
        until(lambda: state(process) != "T")
    assert client.returncode == 0


@pytest.mark.parametrize(
    "content",
    [
        "import no_such_module",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import sys; from unittest.mock import Mock; sys.modules['torch'] = Mock()",
    ],
    ids=["error", "thread", "GPU"],
)
def test_where_imports_fail_or_leave_what_no_fork_can_have_all_starts_anew(
    content: str, python: Path, project: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project.write_text(content)
    assert not is_warm(python)


def test_it_is_for_the_python_of_the_jobs_and_can_be_forbidden(monkeypatch) -> None:
    monkeypatch.delenv(warm.COLD, raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert warm.possible()
    monkeypatch.setenv(warm.COLD, "1")
    assert not warm.possible()
    monkeypatch.delenv(warm.COLD)
    monkeypatch.setenv("PATH", str(ROOT))
    assert not warm.possible()
