"""A solver has one home, its function, and a line in the table: one from outside is checked, hashed, run and shown."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workflow.conftest import ROOT
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.solvers import SOLVERS, Solver
from trigbench.core.trigflow import angle_from_noise_level
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.report.kinds import steps
from trigbench.workflow.run.sampling import solved
from trigbench.workflow.run.settings import settings_of
from trigbench.workflow.study import fingerprint as fingerprints
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

SOURCE = """
from trigbench import rotate


def thirds(field, x, t, u):
    for _ in range(2):
        x, t = rotate(x, field(x, t), t, (t + 2 * u) / 3), (t + 2 * u) / 3
    return rotate(x, field(x, t), t, u)
"""


@pytest.fixture
def thirds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a solver of three evaluations a step that stands in a file of one's own."""
    (tmp_path / "of_mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "of_mine", raising=False)
    monkeypatch.setitem(SOLVERS, "thirds", Solver("of_mine:thirds", "Thirds", "--", "x", evaluations=3))
    return "thirds"


@pytest.fixture
def study(tiny: dict, write_study, thirds: str) -> Study:
    """An arm that is sampled by it, and one whose teacher steps by it."""
    tiny["arms"] = {
        "teacher": {"objective": "diffusion", "samplers": ["mine"]},
        "cd": {"objective": "cd", "teacher": "exact", "intervals": 4, "solver": thirds},
        "scd": {"objective": "scd", "teacher": "exact"},
    }
    tiny["samplers"] = {"mine": {"solver": thirds, "evaluations": [4, 7]}}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    return load(write_study(tiny))


def test_a_solver_s_name_stands_in_one_file_of_the_code() -> None:
    homes = {
        name: {p.relative_to(ROOT).as_posix() for room in ("core", "workflow") for p in (ROOT / room).rglob("*.py")
               if f'"{name}"' in p.read_text()}
        for name in ("ddim", "dpm_2s", "dpm_pp_2m")
    }  # fmt: skip
    assert all(files == {"core/solvers.py"} for files in homes.values()), homes


def test_a_solver_from_outside_draws_samples_by_so_many_evaluations(thirds: str) -> None:
    calls = []

    def field(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x * torch.cos(t)[:, None]

    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for count in (3, 6):
        calls.clear()
        made = solved(field, z, thirds, count, sigma_d=0.5)
        assert len(calls) == count, "the step takes three"
        levels = torch.cat([karras_noise_levels(count // 3), torch.zeros(1, dtype=torch.float64)])
        angles = angle_from_noise_level(levels, 0.5)
        x = torch.sin(angles[0]).float() * z
        for t, u in itertools.pairwise(angles):
            x = named("of_mine:thirds")(field, x, t.expand(5), u.expand(5))
        assert torch.equal(made, x)


def test_a_solver_from_outside_is_accepted_and_refused_as_those_of_the_project(
    study: Study, tiny: dict, write_study, thirds: str
) -> None:
    assert [way.steps for way in study.samplings("teacher")] == [4, 7]
    arm = study.arms["cd"]
    settings = settings_of(named(arm.method.path), study, Run(arm="cd", seed=0), arm)(1)
    assert settings.solver is named("of_mine:thirds")
    for change, expected in (
        ({"samplers": {"mine": {"solver": thirds, "evaluations": [5]}}}, r"3 a step.*got 5(.|\n)*write 4 or 7"),
        ({"samplers": {"mine": {"solver": "third", "evaluations": [4]}}}, "did you mean 'thirds'"),
        ({"arms": tiny["arms"] | {"cd": tiny["arms"]["cd"] | {"solver": "third"}}}, "did you mean 'thirds'"),
        ({"arms": tiny["arms"] | {"cd": tiny["arms"]["cd"] | {"solver": "dpm_pp_2m"}}}, "solver: 'dpm_pp_2m'"),
        ({"arms": tiny["arms"] | {"scd": tiny["arms"]["scd"] | {"samplers": ["mine"]}}}, "does not sample"),
    ):
        with pytest.raises(BenchError, match=expected):
            load(write_study(tiny | change))


def test_a_run_is_hashed_with_its_solvers_and_with_no_other_line_of_the_table(
    study: Study, thirds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    monkeypatch.setattr(fingerprints, "digest", lambda said, modules, root: hashed.append((said, [*modules])) or "")

    def of_all() -> dict[str, list[tuple[Any, list[str]]]]:
        found = {}
        for arm in study.arms:
            hashed.clear()
            fingerprints.fingerprint(study.specification(Run(arm=arm, seed=0)))
            found[arm] = hashed.copy()
        return found

    before = of_all()
    named_by = {arm: ["of_mine" in modules for _, modules in parts] for arm, parts in before.items()}
    trained, sampled, neither = [True, False, False], [False, True, False], [False] * 3
    assert named_by == {"teacher": sampled, "cd": trained, "scd": neither}
    monkeypatch.setitem(SOLVERS, "further", Solver("of_mine:further", "Further", ":", "o"))
    monkeypatch.setitem(SOLVERS, thirds, Solver("of_mine:thirds", "One of three", ":", "o", evaluations=3))
    assert of_all() == before, "neither another line nor a look decides a number"
    monkeypatch.setitem(SOLVERS, thirds, Solver("of_mine:thirds", "Thirds", "--", "x"))
    assert {arm for arm, found in of_all().items() if found != before[arm]} == {"teacher", "cd"}
    assert "trigbench.core.solvers" in fingerprints.TABLES


def test_a_solver_from_outside_is_named_in_findings(thirds: str) -> None:
    assert steps._way("teacher", "diffusion", thirds, 7.0) == "teacher by Thirds in 7 evaluations"
