"""A solver has one home, its function, and a line in the table: one from outside is checked, hashed, run and shown."""

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workflow.conftest import ROOT
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.schedules import karras_noise_levels
from trigbench.core.solvers import SOLVERS, Solver
from trigbench.core.trigflow import angle_from_noise_level
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.report.catalogue import sampling_said
from trigbench.workflow.report.kinds import steps
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.sampling import draw_samples, solved
from trigbench.workflow.run.settings import settings_at
from trigbench.workflow.run.task import opened
from trigbench.workflow.study import fingerprint as fingerprints
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import Sampler
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


def test_a_solver_s_name_stands_in_its_table_and_in_that_of_the_methods_that_are_sampled_by_it() -> None:
    of_words = {"heun": {f"workflow/{room}/theory.py" for room in ("report/kinds", "run/measurements")}}  # as `euler`
    by_methods = {method.sampler for method in OBJECTIVES.values()}
    for name in SOLVERS:
        homes = {p.relative_to(ROOT).as_posix() for room in ("core", "workflow") for p in (ROOT / room).rglob("*.py")
                 if f'"{name}"' in p.read_text()}  # fmt: skip
        tables = {"core/solvers.py"} | ({"core/objectives/__init__.py"} if name in by_methods else set[str]())
        assert homes - of_words.get(name, set()) == tables, name


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
    settings = settings_at(study.arms["cd"], study.sigma_d)(1)
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


# --- settings of a solver's own ----------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "bh1": {"solver": "unipc", "order": 3, "variant": "bh1", "corrector": False, "evaluations": [4]},
    "bh2": {"solver": "unipc", "order": 3, "variant": "bh2", "corrector": False, "evaluations": [4]},
    "ancestral": {"solver": "ddim_eta", "eta": 1, "evaluations": [3, 4]},
    "churned": {"solver": "heun_churn", "churn": 1e9, "churn_min": 0.3, "churn_noise": 1.003, "evaluations": [5]},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another solver's": ({"solver": "heun", "eta": 0.5}, r"'heun' takes no 'eta'(.|\n)*remove 'eta'"),
    "a map's": ({"solver": "unipc", "eta": 0.5}, r"'unipc' takes no 'eta'(.|\n)*order, variant, corrector"),
    "none that there is": ({"solver": "unipc", "ordr": 3}, r"samplers.x.ordr(.|\n)*did you mean 'order'"),
    "an order beyond": ({"solver": "unipc", "order": 4}, r"order: 4 is no value(.|\n)*1 at least and 3 at most"),
    "no whole order": ({"solver": "unipc", "order": 2.5}, "order: 2.5 is no value"),
    "a truth value as an order": ({"solver": "unipc", "order": True}, "order: True is no value"),
    "a variant": ({"solver": "unipc", "variant": "bh3"}, r"variant: 'bh3' is no value(.|\n)*one of bh1, bh2"),
    "a number for true": ({"solver": "unipc", "corrector": 1}, "corrector: 1 is no value"),
    "eta that is missing": ({"solver": "ddim_eta"}, "'ddim_eta' needs 'eta'"),
    "eta beyond 1": ({"solver": "ddim_eta", "eta": 1.5}, "eta: 1.5 is no value"),
    "churn that is missing": ({"solver": "heun_churn", "churn_min": 0.1}, "'heun_churn' needs 'churn'"),
    "churn below 0": ({"solver": "heun_churn", "churn": -1}, "churn: -1.0 is no value"),
    "an even number": ({"solver": "heun_churn", "churn": 1, "evaluations": [4]}, "odd number of evaluations"),
    "two places": ({"solver": "unipc", "order": 3, "settings": {"order": 2}}, "order: settings .* in two places"),
    "another place": ({"solver": "unipc", "settings": {"order": 4}}, "order: 4 is no value"),
}


@pytest.fixture
def many(tiny: dict, write_study) -> Study:
    tiny["arms"] = {"teacher": {"objective": "diffusion", "samplers": ["heun", *WAYS]}}
    tiny["samplers"], tiny["experiments"] = WAYS, {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    return load(write_study(tiny))


def test_a_study_sets_what_its_solvers_take(many: Study) -> None:
    told = {way.sampler: way.settings for way in many.samplings("teacher")}
    assert told["heun"] is None and told["ancestral"] == {"eta": 1.0}
    assert told["churned"] == {"churn": 1e9, "churn_min": 0.3, "churn_noise": 1.003}
    assert Sampler.model_validate(many.samplers["bh1"].model_dump()) == many.samplers["bh1"]
    assert sampling_said(many.samplers["bh1"]) == "unipc: 4 evaluations, order 3, variant bh1, corrector False"


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_solver_does_not_take_is_refused_with_file_and_key(case: str, tiny: dict, write_study) -> None:
    said, expected = REFUSED[case]
    tiny["samplers"] = {"x": {"evaluations": [5], **said}}
    file = write_study(tiny)
    with pytest.raises(BenchError, match=expected) as refused:
        load(file)
    assert str(file) in str(refused.value) and "samplers.x" in str(refused.value)


@pytest.mark.slow
def test_fresh_noise_is_each_sample_s_own_and_changes_no_other_sampler_s(many: Study, tiny: dict, with_data) -> None:
    study = with_data(tiny)
    task, ways = opened(study, Run(arm="teacher", seed=0)), {way.key: way for way in study.samplings("teacher")}
    network = make_network(task)
    weights = {name: torch.randn_like(p, dtype=p.dtype) / 4 for name, p in network.named_parameters()}

    def drawn(*keys: str, count: int = 6) -> dict[str, torch.Tensor]:
        return draw_samples(task, weights, [ways[key] for key in keys], count)

    whole = drawn(*ways)
    assert len({tuple(one.flatten().tolist()) for one in whole.values()}) == len(ways), "each way is another"
    for key, together in whole.items():
        assert torch.equal(drawn(key)[key], together), "whatever else is drawn"
        torch.testing.assert_close(drawn(key, count=2)[key], together[:2])


def test_a_setting_makes_samples_stale_and_nothing_else(many: Study, tiny: dict, write_study) -> None:
    run, before = Run(arm="teacher", seed=0), many
    tiny["samplers"] = WAYS | {"ancestral": WAYS["ancestral"] | {"eta": 0.5}}
    one, two = (fingerprints.marks(study.specification(run)) for study in (before, load(write_study(tiny))))
    assert one.training == two.training and one.sampling != two.sampling


def test_a_solver_from_outside_is_named_in_findings(thirds: str) -> None:
    assert steps._way("teacher", "diffusion", thirds, 7.0) == "teacher by Thirds in 7 evaluations"
