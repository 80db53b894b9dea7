"""Where the project's own files lie: at the top of a checkout, or inside the installed package."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = (PACKAGE / "Snakefile").resolve().parent
"""What holds core/, workflow/, docs/, profiles/ and the Snakefile: the checkout, or else the package itself."""
IS_CHECKOUT = PACKAGE.resolve() != ROOT


def place_of(name: str) -> str:
    """A file of the project, as a message names it: short in a checkout, where one sees it."""
    return name if IS_CHECKOUT else str(ROOT / name)


PAGE = re.compile(r"(?<![\w/])docs/[\w/-]+\.md\b")


def with_pages(text: str) -> str:
    """A message in which pages of docs/ are named as files that are there."""
    return PAGE.sub(lambda page: place_of(page[0]), text)
