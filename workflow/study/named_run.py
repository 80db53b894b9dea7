"""A run that is named by its folder, as results/digits/runs/scd-m/seed-0."""

import os
import re
from pathlib import Path

from trigbench._nearest import choice
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.places import RESULTS
from trigbench.workflow.study.reading import budgets_of, load
from trigbench.workflow.study.shipped import shipped
from trigbench.workflow.study.standing import study_said
from trigbench.workflow.study.study import DEFAULT_BUDGET, Run, Study

FORM = "name the folder of a finished run, results/STUDY/runs/ARM/seed-N, and start from the folder that has results/"


def named_run(folder: Path, file: str | None = None, key: str = "--run") -> tuple[Study, Run]:
    """The study under its budget, and the run; `file` is that of a study of one's own, `key` what names the folder.

    Raises BenchError unless the folder is there, of that study, and of an arm and a seed of it.
    """
    parts = Path(os.path.abspath(folder)).parts  # by its name: results/ may be a link
    found = re.fullmatch(r"seed-(\d+)", parts[-1])
    if len(parts) < 5 or found is None or parts[-3] != "runs" or parts[-5] != RESULTS.name or not folder.is_dir():
        raise BenchError("this is no folder of a run", file=folder, key=key, remedy=FORM)
    study = _study(parts[-4], file, folder)
    run = Run(arm=parts[-2], seed=int(found[1]))
    if run.arm not in study.arms:
        remedy = choice(run.arm, study.arms)
        raise BenchError(f"{study.label} has no arm {run.arm!r}", file=folder, key=key, remedy=remedy)
    if study.files(run).folder.resolve() != folder.resolve():
        raise BenchError("the run is of other results than those here", file=folder, key=key, remedy=FORM)
    if not study.files(run).training.is_file():
        remedy = f"make it: {study.command()}"
        raise BenchError("the run is not trained", file=study.files(run).training, key=key, remedy=remedy)
    return study, run


def _study(label: str, file: str | None, folder: Path) -> Study:
    """The study whose results are called so, under the budget that the name ends with."""
    if file is None and (said := study_said(RESULTS / label)):
        return load(*said)
    names = [file] if file else [name for name in shipped() if label == name or label.startswith(f"{name}-")]
    for said in sorted(names, key=len, reverse=True):
        study = load(said, DEFAULT_BUDGET)
        if label == study.study:
            return study
        budget = label.removeprefix(f"{study.study}-")
        if label != budget and budget in budgets_of(study.file):
            return load(said, budget)
    remedy = "name the file of the study that it is of" + (
        ", and start where its results are" if file else ": --study my.yaml"
    )
    raise BenchError(f"{label!r} is no study that is known here", file=folder, key="--study", remedy=remedy)
