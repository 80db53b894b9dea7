"""The project's own studies, known from their files alone."""

import re
from functools import cache

from trigbench.workflow.study.places import STUDIES

BY_DEFAULT = re.compile(r"^by_default: *(\d+)", re.MULTILINE)


def shipped() -> list[str]:
    """Their names."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


@cache  # of the project's own files, which every job asks for
def by_default() -> tuple[str, ...]:
    """Those that are made where none is named, in their order (`by_default` of a study).

    Read off the line itself: to read all studies as such takes a second.
    """
    texts = {name: (STUDIES / f"{name}.yaml").read_text(encoding="utf-8") for name in shipped()}
    places = {name: int(found[1]) for name, text in texts.items() if (found := BY_DEFAULT.search(text))}
    return tuple(sorted(places, key=places.__getitem__))
