"""One more of each kind, from outside, is a file and an entry of its table; everything else finds it there."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, copied_project, touched
from tests.workflow.test_figures import OUTSIDE as FIGURE
from tests.workflow.test_kinds_of_data import LINE as RING_LINE
from tests.workflow.test_kinds_of_data import RING
from tests.workflow.test_map_samplers import SOURCE as STRAIGHT
from tests.workflow.test_solvers import SOURCE as THIRDS
from trigbench.core.networks.families import PUBLISHED
from trigbench.core.objectives import OBJECTIVES

OBJECTIVE = '''
"""Regression onto half of the velocity."""

from trigbench.core.objectives.regression import Regression, Settings, regress
from trigbench.core.tangents import Direction
from trigbench.core.trigflow import interpolate, lognormal_angle, velocity


def halfway(fields, x0, draws, settings: Settings) -> Regression:
    """The direction is half the velocity, less F."""
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    F = fields.student(interpolate(x0, draws.noise, t), t)
    return regress(Direction(F, (velocity(x0, draws.noise, t) / 2 - F).detach()), t)
'''
MEASUREMENT = '''
"""How many runs an experiment has."""

from trigbench.workflow.run.measurements.measured import Measured


def measure(study, experiment):
    return Measured((), ())
'''
ADDED = {
    "core/objectives/halfway.py": OBJECTIVE,
    "core/samplers/straight.py": '"""Straight on."""\n' + STRAIGHT,
    "core/samplers/thirds.py": '"""In thirds."""\n' + THIRDS,
    "workflow/data/kinds/ring.py": '"""Beads."""\n' + RING,
    "workflow/report/kinds/spread.py": FIGURE,
    "workflow/run/measurements/headcount.py": MEASUREMENT,
}
PAPER = 'papers.Paper("2999.00001", "doe2999", "Halfway", ("Doe, J.",), 2999)'
ENTRIES = {
    "core/objectives/__init__.py": (
        "OBJECTIVES: dict[str, Method] = {\n",
        '    "halfway": Method("trigbench.core.objectives.halfway:halfway", PROPOSAL, '
        f'look=Look("half", {PAPER}, "#123456", "1")),\n',
    ),
    "core/map_samplers.py": (
        "MAP_SAMPLERS: dict[str, MapSampler] = {\n",
        '    "straight": MapSampler("trigbench.core.samplers.straight:straight", ("times", "gamma"), '
        'times=((),), others=("jumps",)),\n',
    ),
    "core/solvers.py": (
        "SOLVERS: dict[str, Solver] = {\n",
        '    "thirds": Solver("trigbench.core.samplers.thirds:thirds", "Thirds", "--", "x", evaluations=3),\n',
    ),
    "workflow/study/kinds.py": ("KINDS = {\n", RING_LINE),
    "workflow/study/figures.py": (
        "FIGURES: dict[str, FigureKind] = {\n",
        '    "spread": FigureKind("trigbench.workflow.report.kinds.spread:KIND"),\n',
    ),
    "workflow/study/measurements.py": (
        "MEASUREMENTS: dict[str, Measurement] = {\n",
        '    "headcount": Measurement("trigbench.workflow.run.measurements.headcount", '
        'quantities={"heads": Quantity("heads", "neither", "how many runs there are")}),\n',
    ),
}
"""Of each table its first line, and what is added."""
ASK = """
import json, sys
import trigbench
from trigbench.workflow.report.catalogue import LISTINGS
from trigbench.workflow.study.reading import load

study = load(sys.argv[1])
lists = ("objectives", "samplers", "solvers", "data", "figures", "measurements", "metrics")
said = {name: [row[0] for row in LISTINGS[name].rows([study])] for name in lists}
said["public"] = trigbench.halfway.__module__
said["cited"] = trigbench.citation("halfway")
said["runs"] = [run.arm for run in study.runs()]
print(json.dumps(said))
"""


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A copy of the project with one more of each."""
    place = copied_project(tmp_path / "grown")
    for name, text in ADDED.items():
        (place / name).write_text(text)
    for name, (first, entry) in ENTRIES.items():
        text = (place / name).read_text(encoding="utf-8")
        assert text.count(first) == 1, name
        (place / name).write_text(text.replace(first, first + entry), encoding="utf-8")
    return place


@pytest.mark.slow
def test_one_more_of_each_kind_is_one_file_and_its_entry(grown: Path, tiny: dict, tmp_path: Path) -> None:
    assert touched(grown) == {*ADDED, *ENTRIES}
    tiny["data"] = {"beads": {"kind": "ring", "beads": 8}}
    tiny["defaults"] |= {"data": "beads"}
    tiny["samplers"] = {"mine": {"solver": "thirds", "evaluations": [4]}, "odd": {"solver": "straight", "times": [[]]}}
    tiny["arms"] = {
        "half": {"objective": "halfway"}, "mean": {"objective": "meanflow", "samplers": ["odd"]},
        "teacher": {"objective": "diffusion", "samplers": ["mine"]},
    }  # fmt: skip
    asked = {"figure": "spread", "measurement": "headcount", "metric": "heads", "arms": ["*"]}
    tiny["experiments"] = {"spread": {**next(iter(tiny["experiments"].values())), **asked}}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(tiny, sort_keys=False))
    told = subprocess.run(
        [sys.executable, "-c", ASK, "more.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(grown)},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    said = json.loads(told.stdout)
    assert set(said["runs"]) == {"half", "mean", "teacher"} and str(ROOT) not in told.stderr
    assert said["public"] == "trigbench.core.objectives.halfway" and "eprint = {2999.00001}" in said["cited"]
    added = {
        "objectives": "halfway", "samplers": "odd", "solvers": "thirds", "data": "ring", "figures": "spread",
        "measurements": "headcount", "metrics": "heads",
    }  # fmt: skip
    assert {kind: name for kind, name in added.items() if name not in said[kind]} == {}


THEIR_MATTER = {
    "workflow/claims/ledger.py": "names papers, and one is called as its method",
    "workflow/report/kinds/theory.py": "draws what CM's theorems say of CD and CT",
    "workflow/run/measurements/normalisation_bias.py": "the bias of sCT's direction",
    "workflow/run/measurements/power_bias.py": "the bias of MeanFlow's direction",
    "workflow/run/measurements/theory.py": "CM's theorems are of CD and CT",
}
"""Code whose matter is one method, and why it names it."""


def test_no_code_knows_a_method_or_a_published_network_by_its_name_but_their_tables() -> None:
    files = [path for room in ("workflow", "trigbench") for path in (ROOT / room).rglob("*.py")]  # follows no link
    quoted = re.compile(rf"""["'](?:{"|".join(map(re.escape, (*OBJECTIVES, *PUBLISHED)))})["']""")
    found = dict[str, set[str]]()
    for path, text in ((path, path.read_text()) for path in files):
        if not quoted.search(text):  # parsing all takes a second
            continue
        said = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
        if named := {name for name in (*OBJECTIVES, *PUBLISHED) if name in said}:
            found[path.relative_to(ROOT).as_posix()] = named
    assert found.pop("workflow/study/converted.py") == {"edm"}, "what is no map is taken for one of EDM's"
    assert found.keys() == THEIR_MATTER.keys()
