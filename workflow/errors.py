"""The one family of errors that the workflow raises on bad input: file, key, remedy."""

from pathlib import Path


class BenchError(Exception):
    """Something a user can mend; `str` names the file, the key and the remedy in one line each."""

    def __init__(self, problem: str, *, file: Path | str | None = None, key: str | None = None, remedy: str) -> None:
        lines = [problem]
        if file is not None:
            lines.append(f"  file:   {file}")
        if key is not None:
            lines.append(f"  key:    {key}")
        lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))
