"""The digits' feature space says what people would say."""

import numpy as np
import pytest
import torch

from trigbench.workflow.data.features.metrics import frechet_distance
from trigbench.workflow.data.kinds.digits import making as digits
from trigbench.workflow.data.kinds.digits.classifier import features, to_pixels
from trigbench.workflow.data.kinds.digits.draws import open_dataset
from trigbench.workflow.data.kinds.digits.kind import DigitsData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings


@pytest.fixture(scope="module")
def prepared() -> tuple[dict, dict]:
    study = load("digits")
    data = study.data["digits"]
    assert isinstance(data, DigitsData)
    return digits.prepare(data, study.evaluation, study.sigma_d)


@pytest.mark.slow
def test_data_have_the_study_s_sigma_d_and_the_parts_do_not_overlap(prepared) -> None:
    arrays, facts = prepared
    assert arrays["train"].std() == pytest.approx(0.5, rel=1e-4)
    assert facts["held_out"] == pytest.approx(0.2 * 1797, abs=1)
    rows = {row.tobytes() for row in arrays["train"]}
    assert sum(row.tobytes() in rows for row in arrays["held_out"]) <= 1


@pytest.mark.parametrize("share, wanted", [(0.0001, "0 images are held out"), (0.035, "63 images"), (0.99, "left to")])
def test_a_share_too_small_to_judge_by_is_refused_by_its_key(share: float, wanted: str) -> None:
    data = DigitsData(kind="digits", held_out=share)
    with pytest.raises(BenchError, match=rf"{wanted}[\s\S]*key: +held_out"):
        digits.prepare(data, EvaluationSettings(samples=100), 0.5)


@pytest.mark.slow
def test_the_classifier_is_good_on_images_that_it_has_not_seen(prepared) -> None:
    assert prepared[1]["classifier_accuracy_held_out"] > 0.97


@pytest.mark.slow
def test_the_frechet_distance_orders_a_chain_of_growing_corruptions(prepared) -> None:
    arrays, _ = prepared
    dataset = open_dataset(arrays, 0.5)
    real = torch.from_numpy(arrays["train"]).float() / 0.5
    of_real = features(to_pixels(real, arrays), arrays)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    distances = [
        frechet_distance(features(to_pixels(real + level * noise, arrays), arrays), of_real)
        for level in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
    ]
    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert all(np.diff(distances) > 0), distances
    assert set(digits.judge_samples(dataset, real[:400])) == set(digits.METRICS["samples"])
