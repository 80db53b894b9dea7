"""What git knows of a file: its versions, and which commit came first."""

import subprocess
from collections.abc import Iterator
from pathlib import Path


def versions(path: Path) -> Iterator[tuple[str, str]]:
    """(commit, text) of every committed version of a file, ancestors first; none outside a checkout."""
    listed = _git(path.parent, "log", "--topo-order", "--reverse", "--format=%H", "--", path.name)
    for commit in (listed or "").split():
        text = _git(path.parent, "show", f"{commit}:./{path.name}")
        if text is not None:  # a commit may also have removed it
            yield commit, text


def is_ancestor(folder: Path, commit: str, of: str) -> bool | None:
    """Whether `commit` is `of` or came before it; None where git cannot tell."""
    done = _run(folder, "merge-base", "--is-ancestor", commit, of)
    return None if done is None or done.returncode > 1 else done.returncode == 0


def _git(folder: Path, *arguments: str) -> str | None:
    done = _run(folder, *arguments)
    return done.stdout if done is not None and done.returncode == 0 else None


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        command = ["git", "-C", folder, *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError:  # there is no git
        return None
