"""The notebooks of docs/notebooks run to their end, and their pages are of them."""

import re
from pathlib import Path

import pytest

from benchmarks import notebooks
from tests.workflow.conftest import ROOT

NOTEBOOKS = notebooks.NOTEBOOKS


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["bring_your_own_network", "from_a_gaussian"]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_what_it_finds_holds(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells assert what they find against the exact answer; in fewer steps of training, as they say."""
    monkeypatch.setenv("STEPS", "120")
    found = notebooks.run(notebook)
    assert sum(bool(printed) for printed, _ in found) > 4
    assert sum(len(figures) for _, figures in found) >= 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_page_is_of_it(notebook: Path) -> None:
    """`python benchmarks/notebooks.py` makes it anew."""
    page = notebook.with_suffix(".md").read_text(encoding="utf-8")
    assert page.endswith(f"<!-- {notebooks.digest(notebook)} -->\n")
    for cell in notebooks.cells_of(notebook):
        assert cell.text in page
    figures = re.findall(r"\]\(\.\./\.\./(.*\.svg)\)", page)
    assert figures and all((ROOT / figure).is_file() for figure in figures)
