"""Examples in docstrings show what they say.

Not by pytest's own doctests, which import and search every module: of two hundred files thirty show something.
"""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = (path for room in ("core", "workflow") for path in sorted((ROOT / room).rglob("*.py")))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text(
        encoding="utf-8"
    ).count(">>> ")
    for path in FILES
}
"""What a checkout calls them, and the lines of examples in each."""


@pytest.mark.parametrize("module", [name for name, lines in MODULES.items() if lines])
def test_examples_in_docstrings_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"trigbench.{module}"))
    assert (found.failed, found.attempted) == (0, MODULES[module])
