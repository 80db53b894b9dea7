"""What may have been meant by a name that is not there: the same words for commands, studies and what they name."""

import difflib
from collections.abc import Iterable

NAMED = 20
"""Of what a name could be, so many are named at most."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like it, as a remedy says it; None where none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else None


def among(name: str, known: Iterable[str], said: str) -> str:
    """The nearest name, if one is near, and what is `said` of all of them."""
    return " ".join(filter(None, (nearest(name, known), said)))


def choice(name: str, known: Iterable[str]) -> str:
    """A remedy for a name that is not there: the nearest one, or which there are."""
    there = [one for one in known if not one.startswith("_")]
    more = f", and {len(there) - NAMED} more" if len(there) > NAMED else ""
    return nearest(name, there) or f"there are {', '.join(there[:NAMED]) or 'none'}{more}"
