"""A few-step sampler has one home, its function, and a line in the table: one from outside is checked, hashed, run."""

import re
import sys
from pathlib import Path

import pytest
import torch

from tests.workflow.conftest import ROOT
from trigbench.core.map_samplers import MAP_SAMPLERS, MapSampler
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.study import fingerprint as fingerprints
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)
SOURCE = """
import torch

from trigbench import rotate


def straight(student_to, noise, times, gamma):
    x = torch.sin(torch.tensor(times[0], dtype=torch.float64)).to(noise.dtype) * noise[0]
    for t, u in zip(times, [*times[1:], 0.0]):
        now, then = (torch.full((len(x),), angle, dtype=torch.float64) for angle in (t, u))
        x = rotate(x, student_to(then)(x, now), now, then)
    return x + gamma * noise[-1]
"""
TIMES = [[], [1.2, 0.7]]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a sampler that stands in a file of one's own: jumps, and its last slice of noise times gamma."""
    (tmp_path / "way_of_mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "way_of_mine", raising=False)
    line = MapSampler("way_of_mine:straight", ("times", "gamma"), times=((),), others=("jumps",))
    monkeypatch.setitem(MAP_SAMPLERS, "odd", line)
    return "odd"


@pytest.fixture
def content(tiny: dict, odd: str) -> dict:
    tiny["arms"] = {"x": {"objective": "meanflow", "samplers": ["mine", "plain"]}, "scd": tiny["arms"]["scd"]}
    tiny["samplers"] = {
        "mine": {"solver": odd, "times": TIMES, "gamma": 0.25}, "plain": {"solver": "jumps", "times": TIMES},
    }  # fmt: skip
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
    return tiny


def test_one_from_outside_is_told_the_map_its_noise_and_what_it_takes(content: dict, with_data) -> None:
    study: Study = with_data(content)
    task, g = opened(study, X), torch.Generator().manual_seed(0)
    weights = {name: torch.randn(p.shape, generator=g) / 4 for name, p in make_network(task).named_parameters()}
    drawn = draw_samples(task, weights, study.samplings("x"), 2000)
    for way in ("1", "3-t1.2-t0.7"):
        added = drawn[f"mine-{way}"] - drawn[f"plain-{way}"]
        assert added.std().item() == pytest.approx(0.25, rel=0.05) and abs(added.mean().item()) < 0.02
    one, three = (drawn[f"mine-{way}"] - drawn[f"plain-{way}"] for way in ("1", "3-t1.2-t0.7"))
    assert torch.stack([one.flatten(), three.flatten()]).corrcoef()[0, 1].abs() < 0.1, "a slice of noise for each angle"


def test_one_from_outside_is_accepted_and_refused_as_those_of_the_project(content: dict, write_study) -> None:
    def refused(expected: str, **change: object) -> None:
        with pytest.raises(BenchError, match=expected):
            load(write_study(content | change))

    odd, arms = content["samplers"]["mine"], content["arms"]
    refused("'odd' needs 'times'", samplers=content["samplers"] | {"mine": {"solver": "odd"}})
    refused("no 'evaluations'", samplers=content["samplers"] | {"mine": odd | {"evaluations": [2]}})
    refused("did you mean 'odd'", samplers=content["samplers"] | {"mine": odd | {"solver": "odf"}})
    refused("'mine' does not sample objective 'scd'", arms=arms | {"scd": arms["scd"] | {"samplers": ["mine"]}})
    own = {"path": "trigbench.core.objectives.meanflow:meanflow", "sampler": "odd"}
    refused("'odd' ask a network for its target time", arms={"x": {"objective": own, "samplers": ["odd"]}})


def test_samples_are_hashed_with_their_sampler_and_with_no_other_line_of_the_table(
    content: dict, write_study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load(write_study(content))

    def of_now(arm: str) -> fingerprints.Marks:
        return fingerprints.marks(study.specification(Run(arm=arm, seed=0)))

    before = {arm: of_now(arm) for arm in ("x", "scd")}
    monkeypatch.setitem(MAP_SAMPLERS, "further", MapSampler("way_of_mine:further", ("times",), times=((),)))
    assert {arm: of_now(arm) for arm in before} == before
    monkeypatch.setitem(MAP_SAMPLERS, "odd", MapSampler("way_of_mine:straight", ("times",), times=((),)))
    assert of_now("scd") == before["scd"] and of_now("x").training == before["x"].training
    assert of_now("x").sampling != before["x"].sampling
    assert "trigbench.core.map_samplers" in fingerprints.TABLES


def test_no_code_beside_the_table_asks_which_sampler_it_is() -> None:
    names = "|".join(MAP_SAMPLERS)
    asks = re.compile(rf"""(==|!=|\bin) *\(?["']({names})["']|sampler=["']({names})["']""")
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in ("core", "workflow", "trigbench/commands")
        for path in (ROOT / room).rglob("*.py")
        for line in path.read_text().splitlines()
        if asks.search(line) and path != ROOT / "core/objectives/__init__.py"  # whose methods name theirs
    }
    assert found == set()
