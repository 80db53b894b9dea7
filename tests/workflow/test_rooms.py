"""The shell stays small: short steps, short files, short functions."""

import ast
import re
from collections.abc import Iterator

from tests.workflow.conftest import ROOT
from trigbench.workflow.study.places import study_files

STEP, FILE, FUNCTION = 40, 350, 50
PLACES = (
    "workflow/**/*.py", "workflow/**/*.smk", "workflow/**/*.css", "workflow/**/*.js", "Snakefile", "trigbench/*.py",
    "trigbench/commands/**/*.py",
)  # fmt: skip
CODE = {path.relative_to(ROOT).as_posix(): path.read_text() for place in PLACES for path in sorted(ROOT.glob(place))}
"""Not counted are data: workflow/claims.yaml and workflow/studies. No table in the code is so long that it need be."""


def _functions(text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function, decorators and all that stands within included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield node.name, (node.end_lineno or first) - first + 1


def _too_long(file: str, text: str) -> list[str]:
    lines = len(text.splitlines())
    most = STEP if file.startswith("workflow/steps/") else FILE
    found = [] if lines <= most else [f"{file}: {lines} lines of {most} at most"]
    if file.endswith(".py"):
        found += [f"{file}:{name}: {n} lines of {FUNCTION} at most" for name, n in _functions(text) if n > FUNCTION]
    return found


def test_steps_files_and_functions_of_the_shell_are_short() -> None:
    said = [said for file, text in CODE.items() for said in _too_long(file, text)]
    assert said == []


PAIRED = {
    "workflow/claims/ledger.py": "rules, checked against a study and its arms",
    "workflow/report/tensorboard.py": "what a run has left by now, by its names",
    "workflow/run/evaluation.py": "a door: what it read is noted before the task is made",
    "workflow/run/training.py": "a door, as well",
    "workflow/study/arms.py": "an arm, checked beside the others",
    "workflow/study/freshness.py": "what a run is made from, before anything is read",
    "workflow/study/guided.py": "an arm, checked beside what guides it",
}
"""Modules of three functions or more that are given a study with a run or an arm, and why no Task (CONTRIBUTING.md)."""


def test_what_is_resolved_is_given_as_a_task() -> None:
    found = set[str]()
    for file in (file for file in CODE if file.endswith(".py")):
        functions = [node for node in ast.walk(ast.parse(CODE[file])) if isinstance(node, ast.FunctionDef)]
        told = [{argument.arg for argument in function.args.args} for function in functions]
        if sum("study" in names and not names.isdisjoint({"run", "arm"}) for names in told) >= 3:
            found.add(file)
    assert found == PAIRED.keys()


HOME = "workflow/study/places.py"
FILE_NAME = re.compile(r'"(?:[^"\n ]*/)?([\w-]+\.(?:csv|json|npz|safetensors|svg|png))"')
FOLDERS = "experiments|measurements|looks|outside|logs|checkpoints|runs|data|studies"
FOLDER = re.compile(rf'(?:[/(] "|"results/[^"\n]*/)({FOLDERS})(?=["/])')


def test_the_files_of_a_run_an_experiment_and_a_study_are_named_in_one_place() -> None:
    made = study_files("study")
    run, experiment = made.run("arm", 0), made.experiment("experiment")
    files = (
        *run.of_training, *run.of_sampling, run.snapshots, run.adapter, run.metrics, run.live,
        experiment.runs, experiment.curves, experiment.table, experiment.finding, experiment.figure,
        experiment.pictures, made.verdicts, made.origin, made.redrawn, made.one_noise, made.of_outside("model"),
        made.outside_values,
    )  # fmt: skip
    named = set(FILE_NAME.findall(CODE[HOME]))
    assert named >= {path.name for path in files}
    assert set(FOLDER.findall(CODE[HOME])) == set(FOLDERS.split("|"))
    for file, text in CODE.items():
        if file != HOME:
            assert not named & set(FILE_NAME.findall(text)), f"{file} names a file that workflow.study.places names"
            assert not FOLDER.search(text), f"{file} names a folder that places names"


def test_all_of_the_shell_is_measured_and_what_is_too_long_is_named() -> None:
    for file in (
        "workflow/steps/report.py",
        "workflow/rules/common.smk",
        "workflow/report/assets/style.css",
        "workflow/report/assets/report.js",
        "trigbench/cli.py",
        "trigbench/commands/run.py",
    ):
        assert file in CODE
    step, room = "workflow/steps/x.py", "workflow/run/x.py"
    assert _too_long(step, "x = 1\n" * 40) == _too_long(room, "x = 1\n" * 350) == []
    assert _too_long(step, "x = 1\n" * 41) == [f"{step}: 41 lines of 40 at most"]
    assert _too_long(room, "x = 1\n" * 351) == [f"{room}: 351 lines of 350 at most"]
    function = "@staticmethod\ndef f():\n" + "    pass\n" * 49
    assert _too_long(room, function) == [f"{room}:f: 51 lines of 50 at most"]


def test_no_other_place_names_the_folders_of_results_and_reports() -> None:
    named = re.compile(r"""Path\(["'](results|reports)\b""")
    found = [file for file, text in CODE.items() if named.search(text) and file != HOME]
    assert not found, "take them from workflow.study.places"
    assert named.search(CODE[HOME])


def test_the_walk_of_a_run_that_contributors_are_told_is_there() -> None:
    """Every file that it names, and in it every function or class that it says is there."""
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = told.split("## One run, from its command to its files")[1].split("\n## ")[0]
    steps = re.findall(r"`([\w/]+\.py)`(?:\s*(?:\(|, |: )((?:`\w+`(?:, )?)+))?", walk)
    assert len(steps) > 12 and {room for file, _ in steps for room in file.split("/")[1:2]} >= {"study", "run"}
    for file, names in steps:
        found = [ROOT / file] if "/" in file else sorted(ROOT.glob(f"workflow/data/kinds/*/{file}"))
        text = "".join(path.read_text(encoding="utf-8") for path in found)
        assert text, f"there is no {file}"
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^(?:def|class) {name}\b", text, re.MULTILINE), f"{file} has no {name}"
    for name, file in re.findall(r"`(\w+)` of `([\w/]+\.py)`", walk):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
