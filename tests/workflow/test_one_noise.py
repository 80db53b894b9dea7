"""One noise through every method: that it is one, what the picture shows of it, and what it does not claim."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_arrays, write_arrays
from trigbench.workflow.report import one_noise
from trigbench.workflow.report.one_noise import Drawn, clouds, draw_one_noise, exact_flow, one_noise_of, strips
from trigbench.workflow.run.noise import noise_of_rows
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.kinds import Images, draws_module
from trigbench.workflow.study.one_noise import one_noise_runs
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import RunRecord, Value, write_record
from trigbench.workflow.study.study import Study

MANY = {"many": {"solver": "few", "times": [[1.5 - 0.05 * k for k in range(15)]]}}
"""16 steps: in two dimensions a draw of so many slices begins otherwise than one of a few."""


@pytest.fixture
def seen(tiny: dict, with_data: Callable[[dict], Study]) -> Study:
    """Two arms whose samples are known: the exact flow's, and these moved by 3 to the right."""
    return with_data(tiny | {"one_noise": ["dscd-4", "scd"]})


def arrays_of(study: Study) -> dict[str, np.ndarray]:
    return dict(read_arrays(study.data_file("mixture"), ""))


def dataset_of(study: Study, arm: str) -> Dataset:
    settings = study.data[study.arms[arm].data]
    return draws_module(settings).open_dataset(arrays_of(study), study.sigma_d)


def made(study: Study, arm: str, samples: np.ndarray | None, collapse: float = 0.0) -> None:
    """A run's record and samples in one step; without any it diverged."""
    (run,) = [run for run in one_noise_runs(study) if run.arm == arm]
    record = RunRecord(
        status="finished" if samples is not None else "diverged", fingerprint=fingerprint(study.specification(run)),
        arm=arm, seed=0, step=1, parameters=1, metrics=[Value(metric="collapse", value=collapse)], curves=[],
        seconds={}, reason=None if samples is not None else "loss is nan", peak_memory_mb=1.0, provenance={},
    )  # fmt: skip
    write_record(study.files(run).metrics, record)
    first = study.samplings(arm)[0].key
    write_arrays(study.files(run).samples, {} if samples is None else {first: samples})


def test_the_noise_of_the_picture_is_the_noise_that_runs_draw_whatever_their_steps(seen: Study) -> None:
    found = one_noise_of(seen, "mixture", arrays_of(seen))
    assert found is not None
    for arm, slices in (("scd", 1), ("dscd-4", 2)):
        drawn = noise_of_rows(seen.evaluation.seed, range(64), slices, dataset_of(seen, arm))[0]
        assert torch.equal(torch.from_numpy(found), drawn)


def test_no_noise_is_called_one_where_methods_start_from_others(tiny: dict, with_data: Callable[[dict], Study]) -> None:
    tiny["arms"]["scd"] |= {"samplers": ["few", "many"]}
    study = with_data(tiny | {"one_noise": ["scd", "dscd-4"], "samplers": MANY})
    dataset = dataset_of(study, "scd")
    few, many = (noise_of_rows(study.evaluation.seed, range(4), slices, dataset)[0] for slices in (2, 16))
    assert not torch.equal(few, many)
    made(study, "scd", np.zeros((64, 2)))
    assert draw_one_noise(study) == [study.made.one_noise]
    said = json.loads(study.made.one_noise.read_text())
    assert said["caption"].startswith("No picture: the methods' samples do not start from one")


@pytest.mark.slow
def test_points_are_held_against_the_exact_flow_of_the_same_noise(seen: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = one_noise_of(seen, "mixture", arrays_of(seen))
    assert noise is not None
    exact = exact_flow(seen, arrays_of(seen), noise)
    made(seen, "scd", exact)
    made(seen, "dscd-4", exact + np.array([0.3, 0.0]), collapse=0.9)
    figures = []
    monkeypatch.setattr(one_noise, "save", lambda figure, stem: figures.append((figure, stem)))
    draw_one_noise(seen)
    ((figure, stem),) = figures
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["exact flow (teacher)", "dsCD, N = 4: 0.21", "sCD: 0"], "0.3 in one of two coordinates"
    assert stem == seen.made.one_noise.with_suffix("")
    said = json.loads(seen.made.one_noise.read_text())
    assert said["alt"] == "Samples of dsCD, N = 4, sCD, from the same noise."
    assert "Collapsed, as they leave the noise that comes in: dsCD, N = 4." in said["caption"]


@pytest.mark.slow
def test_what_diverged_or_was_not_run_is_said_and_no_picture_stays_of_what_is_gone(seen: Study) -> None:
    made(seen, "scd", None)
    assert draw_one_noise(seen) == [seen.made.one_noise]
    said = json.loads(seen.made.one_noise.read_text())
    assert said["caption"] == "Diverged, so that nothing is drawn: sCD. Not run yet: dscd-4."
    made(seen, "scd", np.zeros((64, 2)))
    record, *files = draw_one_noise(seen)
    assert record == seen.made.one_noise and [file.name for file in files] == ["one-noise.svg", "one-noise.png"]
    assert all(file.is_file() for file in files)
    made(seen, "scd", None)
    draw_one_noise(seen)
    assert not any(file.is_file() for file in files)


def test_images_stand_in_columns_and_a_method_without_such_steps_leaves_its_half_empty() -> None:
    def method(name: str, steps: tuple[int, ...], objective: str = "scd") -> Drawn:
        return Drawn(name, name, {k: np.full((12, 4), k / 35) for k in steps}, objective, False)

    def decoded(samples: np.ndarray) -> np.ndarray:
        return samples.reshape(-1, 2, 2)

    methods = [
        method("teacher", (35,), "diffusion"), method("sCD", (1, 2)), method("VSD", (1,)), method("four", (4,)),
        method("lost", ()), method("many", (8, 4, 2, 1)),
    ]  # fmt: skip
    figure = strips(methods, Images(np.zeros((1, 2, 2)), decoded))
    rows = [[_level(ax) for ax in pair] for pair in np.array(figure.axes).reshape(-1, 2)]
    assert rows == [
        ["1", "1"],
        ["0.0286", "0.0571"],
        ["0.0286", "has none"],
        ["has none", "0.114"],
        ["diverged"] * 2,
        ["0.0286", "0.0571"],
    ]
    assert figure.axes[0].get_ylabel() == "teacher\n35 evaluations" and figure.axes[6].get_ylabel() == "four\n4 steps"
    assert figure.axes[10].get_ylabel() == "many"
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None and shown.shape == (2, one_noise.COLUMNS * 3)
    plt.close(figure)


def test_a_cloud_without_one_step_is_not_called_diverged_and_a_solver_shows_its_own_steps() -> None:
    exact = np.ones((3, 2))
    methods = [
        Drawn("teacher", "t", {35: exact + 0.5}, "diffusion", False), Drawn("two", "two", {2: exact}, "scd", False),
        Drawn("lost", "lost", {}, "scd", False), Drawn("sCD", "scd", {1: exact, 2: exact + 1}, "scd", False),
    ]  # fmt: skip
    arrays = {"weights": np.ones(1), "means": np.zeros((1, 2)), "stds": np.ones(1)}
    figure = clouds(methods, arrays, exact)
    said = [(ax.get_title(), [text.get_text() for text in ax.texts]) for ax in figure.axes[1:5]]
    assert said == [("teacher, 35 evaluations: 0.5", []), ("two", ["has none"]), ("lost", ["diverged"]), ("sCD: 0", [])]
    plt.close(figure)


def _level(ax: Axes) -> str:
    return f"{np.nanmax(np.array(ax.images[0].get_array())):.3g}" if ax.images else ax.texts[0].get_text()


@pytest.mark.slow
def test_the_shipped_studies_draw_teachers_first_and_only_what_they_make() -> None:
    arms = {name: [run.arm for run in one_noise_runs(load(name))] for name in ("oracle", "digits", "fashion")}
    assert (arms["digits"][0], arms["fashion"][0], arms["oracle"][0]) == ("teacher-m", "teacher", "scd-fp32")
    assert {load("oracle", "smoke").arms.keys() >= {run.arm for run in one_noise_runs(load("oracle", "smoke"))}} == {
        True
    }
    assert one_noise_runs(load("imagenet64")) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["sdc"], "no arm is called 'sdc'"), (["scd", "other"], "share no noise"), (["other"], "have no picture")],
)
def test_what_cannot_be_drawn_is_refused_as_the_study_is_read(
    asked: list[str], said: str, tiny: dict, write_study: Callable[[dict], Path]
) -> None:
    tiny["data"]["deep"] = tiny["data"]["mixture"] | {"dimension": 8}
    tiny["arms"]["other"] = {"objective": "scd", "teacher": "exact", "data": "deep"}
    with pytest.raises(BenchError, match=rf"(?s)one_noise.*{said}|{said}.*one_noise"):
        load(write_study(tiny | {"one_noise": asked}))
