"""What samples start from: one noise for all runs, or, of each training seed, noise that all of its runs share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workflow.test_one_noise import arrays_of, dataset_of
from trigbench.workflow.claims.collecting import _shared
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.report.one_noise import one_noise_of
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.measurements import search, speaking
from trigbench.workflow.run.noise import noise_of_rows
from trigbench.workflow.run.outside import judging
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.fingerprint import marks
from trigbench.workflow.study.outside import outside_mark
from trigbench.workflow.study.protocol import protocol
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study


@pytest.fixture
def by_seed(tiny: dict, with_data: Callable[[dict], Study]) -> Study:
    evaluation = tiny["evaluation"] | {"noise": "by_seed"}
    return with_data(tiny | {"seeds": [3, 5], "one_noise": ["dscd-4", "scd"], "evaluation": evaluation})


def with_shared(study: Study) -> Study:
    """The study with one noise for all runs."""
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"noise": None})})


def drawn(study: Study, arm: str, seed: int, weights: dict[str, Tensor]) -> Tensor:
    """One step's samples of a run with these weights."""
    (way, *_) = study.main_samplings(arm)
    return draw_samples(opened(study, Run(arm=arm, seed=seed)), weights, [way], 8)[way.key]


def some_weights(study: Study) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    kept = kept_of(make_network(opened(study, Run(arm="scd", seed=study.seeds[0]))))
    return {name: value + 0.1 * torch.randn(value.shape, generator=g) for name, value in kept.items()}


def test_runs_of_one_seed_share_their_noise_and_another_seed_has_other(by_seed: Study) -> None:
    weights = some_weights(by_seed)
    samples = {seed: drawn(by_seed, "scd", seed, weights) for seed in by_seed.seeds}
    assert torch.equal(samples[3], drawn(by_seed, "dscd-4", 3, weights))
    assert not torch.isclose(samples[3], samples[5]).any()
    shared = with_shared(by_seed)
    assert torch.equal(drawn(shared, "scd", 3, weights), drawn(shared, "scd", 5, weights))


def test_the_picture_of_one_noise_is_of_the_first_seed_s(by_seed: Study) -> None:
    found = one_noise_of(by_seed, "mixture", arrays_of(by_seed))
    assert found is not None
    wanted = noise_of_rows(by_seed.evaluation.seed + 3, range(64), 1, dataset_of(by_seed, "scd"))[0]
    assert torch.equal(torch.from_numpy(found), wanted)


def test_it_is_a_part_of_what_samples_are_made_from_and_of_no_weight(
    tiny: dict, write_study: Callable[[dict], Path]
) -> None:
    run = Run(arm="scd", seed=0)
    shared, own = (
        marks(load(write_study(tiny | {"evaluation": tiny["evaluation"] | said})).specification(run))
        for said in ({}, {"noise": "by_seed"})
    )
    assert own.training == shared.training and own.sampling != shared.sampling


def test_data_are_prepared_alike(by_seed: Study) -> None:
    said = by_seed.data_specification("mixture")
    assert said == with_shared(by_seed).data_specification("mixture") and "noise" not in said["evaluation"]


def test_a_record_says_the_seed_of_its_noise_and_a_study_what_all_its_records_say(by_seed: Study) -> None:
    said = [protocol(by_seed, Run(arm="scd", seed=seed)) for seed in by_seed.seeds]
    assert [one["sampling_seed"] - by_seed.evaluation.seed for one in said] == [3, 5]
    together = _shared(said)["mixture"]
    assert "sampling_seed" not in together and together["samples"] == by_seed.evaluation.samples
    alike = [protocol(with_shared(by_seed), Run(arm="scd", seed=seed)) for seed in by_seed.seeds]
    assert _shared(alike)["mixture"]["sampling_seed"] == by_seed.evaluation.seed


def test_the_search_for_middle_times_starts_from_it_too(by_seed: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(search, "generator", lambda seed, *rest: asked.append(seed) or generator(seed, *rest))
    monkeypatch.setattr(search, "greedy_times", lambda score, many, *_: [1.2 - k / 10 for k in range(many)])
    task = opened(by_seed, Run(arm="scd", seed=5))
    search._search(task, make_network(task), some_weights(by_seed), "sliced_wasserstein")
    assert set(asked) == {by_seed.evaluation.seed + 5}


def test_clips_that_are_timed_start_from_it_too(by_seed: Study) -> None:
    weights, (way, *_) = some_weights(by_seed), by_seed.main_samplings("scd")

    def clips(seed: int) -> Tensor:
        task = opened(by_seed, Run(arm="scd", seed=seed))
        return speaking._draws(task, (make_network(task), weights), way)(range(8))()

    assert torch.equal(clips(3), drawn(by_seed, "scd", 3, weights)) and not torch.isclose(clips(3), clips(5)).any()


def test_what_comes_from_outside_starts_from_the_noise_of_the_study_s_own_seeds(by_seed: Study) -> None:
    assert judging._seeds(by_seed) == (3, 5) and judging._seeds(with_shared(by_seed)) == (0, 1)
    marks_of = [outside_mark(study, "mixture", "function", []) for study in (by_seed, with_shared(by_seed))]
    assert marks_of[0] != marks_of[1]
