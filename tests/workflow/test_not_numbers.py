"""A run whose samples are not numbers is a result, like one that diverged, whatever the data."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workflow.conftest import say_drawn
from trigbench.workflow.claims.tables import experiment_tables
from trigbench.workflow.data.dataset import not_numbers
from trigbench.workflow.data.features import judging
from trigbench.workflow.data.features.extractors import classifier as colour_classifier
from trigbench.workflow.data.features.extractors import open_extractor
from trigbench.workflow.data.features.metrics import check_features
from trigbench.workflow.data.features.reference import reference_file
from trigbench.workflow.data.files.shards import write_shards
from trigbench.workflow.data.kinds.digits.classifier import classifier
from trigbench.workflow.data.kinds.images import making as images
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_arrays, write_json, write_text
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.report.pictures import pictures
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.log import LOG_COLUMNS
from trigbench.workflow.run.measurements import search
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import Outcome
from trigbench.workflow.study.freshness import made_from
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import RunRecord, read_record
from trigbench.workflow.study.study import Run, Study

COUNT = 70
RUN = Run(arm="x", seed=0)
Made = Callable[..., Study]


def _digits(study: Study) -> dict[str, np.ndarray]:
    """Arrays as the digits', of noise and of a classifier that has learned nothing."""
    g = torch.Generator().manual_seed(0)
    images = torch.randint(17, (2 * COUNT, 1, 8, 8), generator=g).float()
    torch.manual_seed(0)
    weights = {f"extractor/{name}": value.numpy() for name, value in classifier().state_dict().items()}
    parts = {"train": images[:COUNT], "held_out": images[COUNT:]}
    labels = np.arange(COUNT) % 10
    known = {"mean": np.float64(8), "std": np.float64(5), "sigma_d": np.float64(0.5), "train_labels": labels}
    return {**{name: ((part - 8) / 5 * 0.5).numpy() for name, part in parts.items()}, **known, **weights}


def _images(study: Study) -> dict[str, np.ndarray]:
    """Arrays, shards and references as those of a folder of images, of the same kind."""
    rng, shape = np.random.default_rng(0), (3, 8, 8)
    pixels = rng.integers(0, 256, (COUNT, *shape), np.uint8)
    labels, names = np.arange(COUNT) % 2, ("a", "b")
    parts = {
        part: write_shards(
            Path(part), "noise", shape, "uint8", labels, names, COUNT, lambda rows: pixels[np.array(rows)]
        )
        for part in ("train", "held_out")
    }
    torch.manual_seed(0)
    write_tensors(Path("w.safetensors"), colour_classifier(2, 1).state_dict())
    extractor = open_extractor("classifier", Path("w.safetensors"))
    rows = np.arange(COUNT)
    references = {
        part: reference_file(Path(), part, "noise", extractor, rows, lambda r: torch.from_numpy(pixels[r]))
        for part in parts
    }
    about = {
        "folder": ".", "conditional": True, "flips": False, "parts": parts, "references": references,
        "extractor": {"kind": "classifier", "weights": "w.safetensors", "sha256": extractor.sha256},
    }  # fmt: skip
    shown = {f"{part}_shown": pixels for part in parts}
    return {**judging.arrays_of(about, images.DRAWN), "sigma_d": np.array(0.5), **shown}


DATA: dict[str, tuple[dict[str, Any], str]] = {
    "mixture": ({}, "sliced_wasserstein"),
    "digits": ({"kind": "digits"}, "fd_train"),
    "images": ({"kind": "images_folder", "path": "nowhere", "held_out": 0.5, "size": 8}, "fd_train"),
}


@pytest.fixture
def made(tiny: dict, write_study, with_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A study on such data, with all that a run of two samplings leaves before it is judged; its samples are noise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trigbench.workflow.run.evaluation.TANGENT_ANGLES", 1)

    def make(kind: str, snapshots: int | None = None) -> Study:
        settings, metric = DATA[kind]
        tiny["data"] = {"mixture": settings or tiny["data"]["mixture"]}
        tiny["arms"] = {"x": {"objective": "sct", "snapshots": snapshots, "iterations": 4, "samplers": ["two"]}}
        tiny["samplers"] = {"two": {"solver": "few", "times": [[], [1.1]], "metrics": [metric]}}
        tiny["evaluation"] = {"samples": COUNT, "snapshot_metrics": [metric]}
        shown = {"arms": ["x"], "metric": metric}
        tiny["experiments"] = {"methods": tiny["experiments"]["discretisation"] | shown | {"figure": "methods"}}
        if kind == "mixture":
            study = with_data(tiny)
        else:
            study = load(write_study(tiny))
            write_arrays(study.data_file("mixture"), {"digits": _digits, "images": _images}[kind](study))
            write_json(study.made.facts("mixture"), {"facts": {}, "floors": []})
        out, task = study.files(RUN).folder, opened(study, RUN)
        dataset = task.data
        weights = dict(make_network(task).named_parameters())
        write_tensors(out / "weights.safetensors", weights)
        write_json(out / "training.json", made_from(study, RUN) | dataclasses.asdict(Outcome(step=4)))
        write_text(out / "log.csv", ",".join(LOG_COLUMNS) + "\n")
        g = torch.Generator().manual_seed(0)
        write_arrays(
            out / "samples.npz",
            {way.key: torch.randn(COUNT, *dataset.shape, generator=g).numpy() for way in study.samplings("x")},
        )
        say_drawn(study, RUN)
        return study

    return make


def _spoil(study: Study, *bad: tuple[str, int], value: float = math.nan) -> None:
    path = study.files(RUN).samples
    with np.load(path) as archive:
        samples = dict(archive)
    for key, count in bad:
        samples[key][:count].reshape(count, -1)[:, -1] = value
    write_arrays(path, samples)


def _of(record: RunRecord, metric: str) -> dict[int | None, float | None]:
    return {value.steps: value.value for value in record.metrics if value.metric == metric}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", DATA)
def test_samples_that_are_not_numbers_are_a_result_and_say_how_many(kind: str, made: Made) -> None:
    study, metric = made(kind), DATA[kind][1]
    whole = evaluate(study, RUN)
    assert whole.status == "finished" and whole.reason is None and None not in _of(whole, metric).values()
    one, two = (way.key for way in study.samplings("x"))
    _spoil(study, (two, 30))
    evaluate(study, RUN)
    record = read_record(study.files(RUN).metrics)
    assert record.status == "diverged" and record.reason == f"{two}: 30 of {COUNT} samples are not numbers"
    assert _of(record, metric) == {1: _of(whole, metric)[1], 2: None}, "the other way is judged as it was"
    assert record.step == 4 and record.lost == [two]
    _spoil(study, (one, COUNT), value=-math.inf)
    assert evaluate(study, RUN).reason == (
        f"{one}: {COUNT} of {COUNT} samples are not numbers; {two}: 30 of {COUNT} samples are not numbers"
    )


def test_in_tables_only_the_way_that_gave_no_numbers_is_worst(made: Made) -> None:
    study = made("mixture")
    _spoil(study, (study.samplings("x")[1].key, 1))
    evaluate(study, RUN)
    runs, _ = experiment_tables(study, "methods", [RUN])
    own = runs[runs.objective != "data"].set_index(["metric", "steps"])[["value", "status"]]
    assert tuple(own.loc[("sliced_wasserstein", 2)]) == (math.inf, "diverged")
    assert own.loc[("sliced_wasserstein", 1)].status == "finished"
    assert math.isfinite(own.loc[("sliced_wasserstein", 1)].value)
    assert set(own.loc["map_rms"].status) == {"finished"}


@pytest.mark.slow
def test_a_map_that_is_not_a_number_is_worst_and_samples_beside_it_count(made: Made) -> None:
    study = made("mixture")
    whole = evaluate(study, RUN)
    weights = dict(make_network(opened(study, RUN)).named_parameters())
    write_tensors(study.files(RUN).weights, {n: torch.full_like(w, math.nan) for n, w in weights.items()})
    say_drawn(study, RUN)
    record = evaluate(study, RUN)
    assert record.status == "diverged" and record.lost == ["map"]
    assert record.reason == "map: map_rms, map_rms_one_step, map_worst: no number"
    assert _of(record, "map_rms") == {None: None}
    assert _of(record, "sliced_wasserstein") == _of(whole, "sliced_wasserstein")


def test_a_snapshot_whose_samples_are_not_numbers_is_a_point_without_a_value(made: Made) -> None:
    study, metric = made("digits", snapshots=2), DATA["digits"][1]
    out = study.files(RUN).folder
    weights = dict(make_network(opened(study, RUN)).named_parameters())
    kept = {f"2/{name}": torch.full_like(value, math.nan) for name, value in weights.items()}
    write_tensors(out / "snapshots.safetensors", kept | {f"4/{name}": value for name, value in weights.items()})
    record = evaluate(study, RUN)
    assert record.status == "finished", "its final weights are what is judged"
    found = {(v.x, v.steps): v.value for v in record.curves if v.metric == metric and v.x in (2.0, 4.0)}
    assert found[2.0, 1] is None and found[2.0, 2] is None and None not in (found[4.0, 1], found[4.0, 2])


def test_a_picture_of_samples_that_are_not_numbers_leaves_them_white(made: Made) -> None:
    study = made("images")
    _spoil(study, (study.samplings("x")[0].key, 5))
    figure = pictures(study, [RUN], real=False)
    assert figure is not None
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert np.isfinite(shown).all() and shown[-1, 7, 2] == 1.0


@pytest.mark.slow
def test_the_search_for_middle_times_is_not_led_by_them_and_finds_none(made: Made) -> None:
    study = made("digits")
    weights = dict(make_network(opened(study, RUN)).named_parameters())
    huge = {name: torch.full_like(value, 1e38) for name, value in weights.items()}
    write_tensors(study.files(RUN).weights, huge)
    study = study.model_copy(
        update={"experiments": {"methods": study.experiments["methods"].model_copy(update={"measurement": "search"})}}
    )
    rows = [row.value for row in search.measure(study, "methods").runs]
    assert {row.metric for row in rows} == {"found_mid_time", "fd_train"} and len(rows) == 4
    assert all(row.value is None and row.times is None for row in rows)


def test_a_sample_with_one_number_that_is_none_is_no_sample() -> None:
    samples = torch.zeros(4, 2, 3)
    samples[1, 1, 2], samples[3] = math.inf, math.nan
    assert not_numbers(samples) == 2 and not_numbers(samples[:0]) == 0
    with pytest.raises(BenchError, match="2 of 4 generated samples are not finite"):
        check_features(samples.flatten(1), torch.zeros(4, 6))
