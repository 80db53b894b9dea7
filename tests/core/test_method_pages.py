"""Every page of a method says what its code is: formula, lines that stand in the source, and tests that are there."""

import re
from importlib import import_module
from inspect import getsource
from pathlib import Path

import pytest

from trigbench.core.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs/methods").glob("*.md"))}
PARTS = ("Formula", "Its lines", "Settings", "Where it differs from the paper", "Tests")


def test_every_method_of_two_times_has_a_page_and_every_page_a_method() -> None:
    assert set(PAGES) <= set(OBJECTIVES)
    assert {name for name, method in OBJECTIVES.items() if method.two_times} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_its_method_is(name: str) -> None:
    text, method = PAGES[name].read_text(encoding="utf-8"), OBJECTIVES[name]
    assert text.startswith(f"# `{name}`: ")
    assert tuple(re.findall(r"^## (.*)$", text, re.MULTILINE)) == PARTS
    assert method.paper and f"(https://arxiv.org/abs/{method.paper.removeprefix('arXiv ')})" in text
    source = getsource(import_module(method.path.partition(":")[0]))
    lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert lines and all(block in source for block in lines), "the page's code is not the source's"
    settings = text.partition("## Settings")[2].partition("\n## ")[0]
    assert {word for word in method.accepted if f"`{word}`" not in settings} == set()
    tests = re.findall(r"`(tests/\S+\.py)::(\w+)`", text)
    assert tests and all(f"def {test}(" in (ROOT / file).read_text(encoding="utf-8") for file, test in tests)
    assert "](../" not in text, "a page of the site's own folder links nowhere above it"
