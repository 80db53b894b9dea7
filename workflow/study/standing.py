"""Which studies stand in results/: whatever was made there, under every budget."""

import json
from pathlib import Path
from typing import Any

from trigbench._places import to_step
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.places import RESULTS, STUDIES, StudyFiles, begun
from trigbench.workflow.study.reading import budgets_of, load
from trigbench.workflow.study.shipped import by_default, shipped
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study

MADE_BY = "made_by"
"""Of the record beside prepared data: what a command line calls the study, and its budget."""


def made_by(study: Study) -> dict[str, str]:
    """What that record says."""
    return {"study": study.said, "budget": study.budget}


def standing(results: Path = RESULTS) -> tuple[list[Study], list[BenchError]]:
    """(the studies that have results there, the laptop's own first; what is wrong with the folders of others)."""
    found, problems = dict[str, Study](), list[BenchError]()
    for label in begun(results):
        try:
            found[label] = _study_in(results / label)
        except BenchError as error:
            problems.append(error)
    first = sorted(found.values(), key=lambda study: study.study not in by_default())
    return first, problems


def _study_in(folder: Path) -> Study:
    """The study that made the folder: as its data say, else the project's own of that name. Raises BenchError."""
    named = study_said(folder) or _shipped(folder.name)
    command = to_step("report", "--partial", "--study", "FILE")
    again = f"write its pages by name ({command}), or delete the folder"
    if named is None:
        problem = "nothing says which study makes this: its data are not prepared yet, or its file is gone"
        raise BenchError(problem, file=folder, remedy=f"name its file, as `trigbench watch FILE`; or {again}")
    study = load(*named)
    if study.label != folder.name:
        raise BenchError(f"what made this is called {study.label!r} now", file=folder, remedy=f"rename one; or {again}")
    return study


def study_said(folder: Path) -> tuple[str, str] | None:
    """The study and budget in the records of its data; nothing where that file is not there."""
    for path in sorted(StudyFiles(folder).data.glob("*.json")):
        said = _content(path).get(MADE_BY) or {}
        if "study" in said and (said["study"] in shipped() or Path(said["study"]).is_file()):
            return said["study"], said.get("budget", DEFAULT_BUDGET)
    return None


def _content(path: Path) -> dict[str, Any]:
    """Of a damaged record nothing is known."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _shipped(label: str) -> tuple[str, str] | None:
    """The project's own study of that label, and its budget."""
    for name in sorted(shipped(), key=len, reverse=True):  # `cifar10-small` is no budget of `cifar10`
        if label == name:
            return name, DEFAULT_BUDGET
        budget = label.removeprefix(f"{name}-")
        if budget != label and budget in budgets_of(STUDIES / f"{name}.yaml"):
            return name, budget
    return None
