"""What git knows of a file: its versions, and which commit came first."""

import io
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path


def versions(path: Path) -> Iterator[tuple[str, str]]:
    """(commit, text) of every committed version of a file, ancestors first; none outside a checkout."""
    listed = git(path.parent, "log", "--topo-order", "--reverse", "--format=%H", "--", path.name)
    commits = (listed or "").split()
    texts = contents(path.parent, [f"{commit}:./{path.name}" for commit in commits])
    yield from ((commit, text) for commit, text in zip(commits, texts, strict=True) if text is not None)


def contents(folder: Path, names: Sequence[str]) -> Iterator[str | None]:
    """What git has by each of these names, `commit:file`; None where it has nothing, as where a commit removed it."""
    done = _run(folder, "cat-file", "--batch", said="".join(f"{name}\n" for name in names))
    answers = io.BytesIO(b"" if done is None else done.stdout)
    for _ in names:
        size = answers.readline().split()[-1:]
        found = answers.read(int(size[0]) + 1) if size and size[0].isdigit() else None  # a line ends what was read
        yield None if found is None else _text(found[:-1])


def listed(folder: Path, *paths: str) -> list[tuple[str, str, list[str]]]:
    """(commit, its day, those before it of the same list) of all that changed any of these paths, ancestors first."""
    said = ("--topo-order", "--reverse", "--parents", "--format=%H %cs %P")
    lines = (git(folder, "log", *said, "--", *paths) or "").splitlines()
    return [(commit, date, parents) for commit, date, *parents in (line.split() for line in lines)]


def is_whole(folder: Path) -> bool:
    """Whether the folder is of a repository with all its history."""
    return (git(folder, "rev-parse", "--is-shallow-repository") or "").strip() == "false"


def is_ancestor(folder: Path, commit: str, of: str) -> bool | None:
    """Whether `commit` is `of` or came before it; None where git cannot tell."""
    done = _run(folder, "merge-base", "--is-ancestor", commit, of)
    return None if done is None or done.returncode > 1 else done.returncode == 0


def git(folder: Path, *arguments: str) -> str | None:
    """What git says of that folder; None where it cannot."""
    done = _run(folder, *arguments)
    return _text(done.stdout) if done is not None and done.returncode == 0 else None


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace")


def _run(folder: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[bytes] | None:
    """In that folder, and not in a repository that a hook or a script of the user's is in."""
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    here = {name: value for name, value in os.environ.items() if name not in elsewhere}
    command = ["git", "-C", folder, *arguments]
    try:
        return subprocess.run(command, env=here, input=said.encode(), capture_output=True, check=False)
    except OSError:  # there is no git
        return None
