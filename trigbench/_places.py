"""Where the project's own files lie: at the top of a checkout, or inside the installed package."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = (PACKAGE / "Snakefile").resolve().parent
"""What holds core/, workflow/, docs/, profiles/ and the Snakefile: the checkout, or else the package itself."""
IS_CHECKOUT = PACKAGE.resolve() != ROOT
"""Whether this code lies in a checkout, whose git knows it."""


def in_checkout() -> bool:
    """Whether the folder that one is in is the top of that checkout, where Snakemake finds its Snakefile."""
    here = Path("Snakefile")
    return IS_CHECKOUT and here.is_file() and here.samefile(ROOT / here)


def place_of(name: str) -> str:
    """A file of the project, as a message names it: short at the top of a checkout, where one sees it."""
    return name if in_checkout() else str(ROOT / name)


def to_make(snakemake: Iterable[str], trigbench: Iterable[str]) -> str:
    """What to type, from the folder that one is in, that makes something: `snakemake ...`, or `trigbench run ...`."""
    return shlex.join(["snakemake", *snakemake] if in_checkout() else ["trigbench", "run", *trigbench])


def to_step(step: str, *words: object) -> str:
    """What to type that does one step by hand, from any folder: where trigbench is installed, Python finds it."""
    return shlex.join(["python", "-m", f"trigbench.workflow.steps.{step}", *map(str, words)])


PAGE = re.compile(r"(?<![\w/])docs/[\w/-]+\.md\b")


def with_pages(text: str) -> str:
    """A message in which pages of docs/ are named as files that are there."""
    return PAGE.sub(lambda page: place_of(page[0]), text)
