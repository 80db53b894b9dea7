"""Stages of distillation: each arm's student teaches the next, of half as many steps, and is sampled in its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from trigbench.core.condition import UNTOLD
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.report.rows import taught_by
from trigbench.workflow.run.assembly import guided_field, make_network, teacher_of
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import open_teacher, opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study import freshness
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

ARMS: dict[str, Any] = {
    "teacher": {"objective": "diffusion", "samplers": ["even"]},
    "pd-{segments}": {"objective": "pd", "segments": [4], "teacher": "teacher", "start": "teacher"},
    "pd-2": {"objective": "pd", "segments": 2, "teacher": "pd-4", "start": "teacher"},
}
SAMPLERS = {"even": {"solver": "ddim_even", "evaluations": [8]}}


@pytest.fixture
def staged(tiny: dict) -> dict:
    tiny["arms"], tiny["samplers"] = dict(ARMS), dict(SAMPLERS)
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    return tiny


def weights_of(study: Study, arm: str) -> dict[str, torch.Tensor]:
    return read_tensors(study.files(Run(arm=arm, seed=0)).weights, "")


@pytest.mark.slow
def test_each_stage_is_taught_by_the_one_before_and_sampled_in_its_own_steps(
    staged: dict, with_data: Callable[[dict], Study]
) -> None:
    study = with_data(staged)
    for arm in ("teacher", "pd-4", "pd-2"):
        train(study, Run(arm=arm, seed=0))
    before = weights_of(study, "pd-4")
    assert any(not torch.equal(before[name], weight) for name, weight in weights_of(study, "teacher").items())
    task = opened(study, Run(arm="pd-2", seed=0))
    task, network = replace(task, teacher=open_teacher(task)), make_network(task)
    x, t = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.7, dtype=torch.float64)
    field = teacher_of(task)(UNTOLD)
    assert field is not None and torch.equal(field(x, t), guided_field(network, before, UNTOLD)(x, t))

    for name, steps in (("teacher", 8), ("pd-4", 4), ("pd-2", 2)):
        (way,) = study.samplings(name)
        assert (way.solver, way.steps) == ("ddim_even", steps)
        made = draw_samples(opened(study, Run(arm=name, seed=0)), weights_of(study, name), [way], 6)[way.key]
        assert made.shape == (6, 2) and bool(made.isfinite().all())


def test_a_stage_waits_for_those_before_it_and_is_stale_with_them(
    staged: dict, write_study: Callable[[dict], Any]
) -> None:
    study, last = load(write_study(staged)), Run(arm="pd-2", seed=0)
    assert study.generation(last) == 2
    said = study.training_specification(last)
    assert said["teacher"]["arm"]["segments"] == 4 and said["teacher"]["teacher"]["arm"]["objective"] == "diffusion"


def test_a_long_chain_of_tuned_stages_is_told_in_a_length_that_does_not_explode(
    staged: dict, write_study: Callable[[dict], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of eight stages has six runs that choose its rate, and each of these all that the stage before it has."""
    length = 8

    def chain(rate: float = 0.01) -> Study:
        arms: dict[str, Any] = {"pd-256": ARMS["teacher"] | {"samplers": ["even"]}}
        for segments in (2**k for k in reversed(range(length))):
            teacher = f"pd-{2 * segments}" if segments < 2 ** (length - 1) else "pd-256"
            stage = {"objective": "pd", "segments": segments, "teacher": teacher, "start": "teacher"}
            rates = [rate if segments == 2 ** (length - 1) else 0.01, 0.02, 0.03]
            arms[f"pd-{segments}"] = stage | {"rate_of": f"pd-{segments}-rate-*"}
            arms[f"pd-{segments}-rate-{{rate}}"] = stage | {"rate": rates, "tuning": True}
        even = {"even": {"solver": "ddim_even", "evaluations": [256]}}
        said = {"tuning_seeds": [7, 8], "tuning_metric": "sliced_wasserstein", "samplers": even, "arms": arms}
        return load(write_study(staged | said))

    study, last = chain(), Run(arm="pd-1", seed=0)
    assert study.generation(last) == 2 * length, "of each stage a rate is chosen, then it is trained"
    assert len(json.dumps(study.specification(last))) < 100_000
    assert chain(rate=0.04).training_specification(last) != study.training_specification(last)
    first = study.training_specification(Run(arm=f"pd-{2 ** (length - 1)}", seed=0))
    assert [one["arm"]["rate"] for one in first["rate_from"]] == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03]
    assert first["teacher"]["rate_from"] == [], "told as before there were chains, so that such runs stay fresh"

    asked: dict[str, list[Run]] = {"weights_stand": [], "missing_files": [], "run_verdict": []}
    found = {"weights_stand": True, "missing_files": [], "run_verdict": freshness.FRESH}
    for name, runs in asked.items():
        monkeypatch.setattr(freshness, name, lambda _, run, *__, n=name, asked=runs: asked.append(run) or found[n])
    known: dict[Run | str, bool] = {}
    assert all(freshness.weights_stay(study, run, known) for run in study.runs())
    assert sorted(asked["weights_stand"], key=str) == sorted(study.runs(), key=str), "each is looked at once"
    chosen = [run for run in study.runs() if study.arms[run.arm].tuning]
    assert all(sorted(asked[name], key=str) == sorted(chosen, key=str) for name in ("missing_files", "run_verdict"))


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        ({"segments": 4}, r"4 are not half of its teacher's, 4(.|\n)*halve 4"),
        ({"objective": "scd", "segments": None}, "'pd-4' must be a diffusion arm on data"),
        ({"teacher": "scd"}, "'scd' must be a diffusion arm or an arm of 'pd' on data"),
        ({"samplers": ["even"]}, r"trained for 2 steps, not for \[8\](.|\n)*remove it"),
        ({"samplers": ["heun"]}, "whose solver is ddim_even"),
        ({"snr_weight": "snr"}, "write one of truncated, plus_one"),
    ],
)
def test_what_would_be_wrong_in_silence_is_refused(
    arm: dict, expected: str, staged: dict, write_study: Callable[[dict], Any]
) -> None:
    changed = {key: value for key, value in (ARMS["pd-2"] | arm).items() if value is not None}
    staged["arms"] = ARMS | {"scd": {"objective": "scd", "teacher": "exact"}, "pd-2": changed}
    with pytest.raises(BenchError, match=expected):
        load(write_study(staged))


def test_a_page_names_the_teacher_of_the_first_stage() -> None:
    """So that all stages are one line of a figure by steps."""
    arms = ["teacher", "pd-4", "pd-2", "pd-1 by mine", "scd", "alone"]
    rows = pd.DataFrame({"arm": arms, "objective": ["diffusion", *["pd"] * 3, "scd", "pd"], "size": "small"})
    rows["teacher"] = [None, "teacher", "pd-4", "pd-2", "exact", None]
    assert taught_by(rows).tolist() == ["teacher"] * 6


def test_a_teacher_in_even_steps_says_how_many(staged: dict, write_study: Callable[[dict], Any]) -> None:
    staged["arms"] = ARMS | {"teacher": ARMS["teacher"] | {"samplers": ["ddim_even"]}}
    with pytest.raises(BenchError, match=r"arms\.teacher has no number of steps of its own"):
        load(write_study(staged))
