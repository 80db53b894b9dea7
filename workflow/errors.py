"""The one family of errors that the workflow raises on bad input: file, key, remedy."""

from pathlib import Path

from trigbench._places import with_pages


class BenchError(Exception):
    """Something a user can mend; `str` names the file, the key and the remedy in one line each.

    `again` says that the same job may do better when it is tried again as it is: what stood in its way is no mistake.
    """

    def __init__(
        self, problem: str, *, file: Path | str | None = None, key: str | None = None, remedy: str, again: bool = False
    ) -> None:
        self.again = again
        problem, remedy = with_pages(problem), with_pages(remedy)
        self.said = {"problem": problem, "file": file and str(file), "key": key, "remedy": remedy}
        lines = [problem]
        if file is not None:
            lines.append(f"  file:   {file}")
        if key is not None:
            lines.append(f"  key:    {key}")
        lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))


FINAL = "  again:  no, it would end in the same way"
"""What a step says below an error that no second try mends."""


def is_final(log: Path, since: float) -> bool:
    """Whether the job with that log has ended, after `since`, by an error that no second try mends."""
    try:
        if log.stat().st_mtime < since:
            return False
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - 100_000))
            return FINAL.encode() in handle.read().splitlines()
    except OSError:
        return False


class Mistake(ValueError):
    """What a check inside a study finds, with its remedy; reading makes it a BenchError with file and key."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy
