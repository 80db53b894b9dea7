"""What makes a finished run stale, and what leaves it fresh."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import as_a_new_process
from workflow.reading import load
from workflow.runtime.fingerprint import fingerprint
from workflow.study import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the project's source that may be edited."""
    for package in ("core", "workflow"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _edit(source: Path, file: str, old: str, new: str) -> None:
    path = source / file
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {file}"
    path.write_text(text.replace(old, new, 1))


def _marks(source: Path) -> dict[str, str]:
    as_a_new_process()
    oracle, digits = load("oracle"), load("digits")
    runs = {"scd": (oracle, "scd-fp32"), "dscd": (oracle, "dscd-8-fp32"), "digits": (digits, "sct-m")}
    return {name: fingerprint(s.specification(Run(arm=arm, seed=0)), source) for name, (s, arm) in runs.items()}


HARMLESS = {
    "a comment": ("core/tangents.py", "from core.forward_mode", "# a remark\nfrom core.forward_mode"),
    "a docstring": ("core/objectives/continuous.py", '"""Continuous-time', '"""The continuous-time'),
    "layout": ("core/trigflow.py", "return c * x0 + s * z", "return (\n        c * x0 + s * z\n    )"),
    "the table of objectives": (
        "core/objectives/__init__.py",
        "OBJECTIVES: dict[str, Method] = {",
        'OBJECTIVES: dict[str, Method] = {\n    "mine": Method("core.objectives.mine:mine"),',
    ),
    "the report": ("workflow/report/style.py", '"scd": "#0072B2"', '"scd": "#0072B3"'),
    "the schema": ("workflow/study.py", 'DEFAULT_BUDGET = "laptop"', 'DEFAULT_BUDGET = "desk"'),
    "a progress message": ("workflow/runtime/progress.py", "about {duration", "roughly {duration"),
}
MATHEMATICS = {
    "the tangent": ("core/tangents.py", "-c * c * (F - v)", "-c * (F - v)", {"scd", "dscd", "digits"}),
    "an objective of its own": ("core/objectives/discrete.py", "return Direction(F_t, c * quotient)",
                                "return Direction(F_t, quotient)", {"dscd"}),
    "the sampler": ("core/samplers/consistency.py", "interpolate(sample, z, t)", "interpolate(z, sample, t)",
                    {"scd", "dscd", "digits"}),
    "the network": ("core/networks/mlp.py", "1 + scale", "2 + scale", {"scd", "dscd", "digits"}),
    "the training step": ("workflow/runtime/assembly.py", "tangent_warmup(step - 1,", "tangent_warmup(step,",
                          {"scd", "dscd", "digits"}),
    "the judge of one kind of data": ("workflow/runtime/features.py", "range(30)", "range(31)", {"digits"}),
}  # fmt: skip


@pytest.mark.parametrize("what", HARMLESS)
def test_editing_what_decides_no_number_leaves_every_run_fresh(what: str, source: Path) -> None:
    before = _marks(source)
    _edit(source, *HARMLESS[what])
    assert _marks(source) == before


@pytest.mark.parametrize("what", MATHEMATICS)
def test_editing_the_mathematics_makes_the_runs_that_use_it_stale_and_no_other(what: str, source: Path) -> None:
    file, old, new, stale = MATHEMATICS[what]
    before = _marks(source)
    _edit(source, file, old, new)
    after = _marks(source)
    assert {name for name in before if before[name] != after[name]} == stale


def test_adding_an_objective_touches_no_finished_run(source: Path) -> None:
    before = _marks(source)
    shutil.copy(source / "core/objectives/diffusion.py", source / "core/objectives/mine.py")
    _edit(source, *HARMLESS["the table of objectives"])
    assert _marks(source) == before


def test_a_key_that_does_not_apply_is_no_part_of_a_run() -> None:
    specification = load("oracle").specification(Run(arm="scd-fp32", seed=0))
    assert "intervals" not in specification["arm"]
    assert specification["arm"]["proposal_mean"] == -1.0, "a default counts: changing it changes the numbers"
