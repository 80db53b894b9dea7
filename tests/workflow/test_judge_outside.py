"""`trigbench judge`: a model trained elsewhere is measured as a study's own, refused where it cannot be compared, and
stands apart."""

import json
import math
import re
import shutil
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.core.test_adm import openai_checkpoint
from tests.core.test_imf import imf_written
from tests.core.test_public_maps import ctm_state, meanflow_state, mf_unet_state
from tests.workflow.conftest import TINY, as_a_new_process, copied_project
from tests.workflow.made_up import tabulated
from tests.workflow.test_converted import published
from trigbench import cli
from trigbench.core.condition import UNTOLD, Condition
from trigbench.core.networks.openai import cm_network, cm_tensors, consistency_field
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.samplers.jumps import sample_jumps
from trigbench.workflow.claims.outside import means_of, own_results
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.kinds.digits.kind import DIGITS
from trigbench.workflow.data.kinds.images.kind import IMAGES
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import read_arrays, read_json, write_arrays, write_json
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.report.writing import report
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.maps import open_map
from trigbench.workflow.run.outside import judging
from trigbench.workflow.run.outside.checkpoints import (
    ConsistencyModel,
    MapFile,
    open_diffusers,
    open_edm,
    open_safetensors,
)
from trigbench.workflow.run.outside.functions import open_function
from trigbench.workflow.run.outside.judging import Asked, judge
from trigbench.workflow.run.outside.samples import Samples, open_samples
from trigbench.workflow.study import outside as outside_module
from trigbench.workflow.study.converted import header_of
from trigbench.workflow.study.fingerprint import digest
from trigbench.workflow.study.freshness import page_from
from trigbench.workflow.study.outside import (
    OutsideKind,
    OutsideRecord,
    outside_mark,
    outside_verdict,
    way_of,
    write_outside,
)
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.study import Run, Study

RUN = Run(arm="scd", seed=0)
CPU = torch.device("cpu")
EXACT = """
import numpy as np, torch
from trigbench.core import oracle

def sample(noise, times, labels):
    a = np.load("results/tiny/data/mixture.npz")
    mixture = oracle.Mixture(*(torch.from_numpy(a[k]) for k in ("weights", "means", "stds")))
    x0 = torch.zeros_like(noise[0]).double()
    for z, t in zip(noise, times):
        x0 = oracle.consistency_map(mixture, t.cos() * x0 + t.sin() * z, t.expand(len(x0)), 24)
    return 0.5 * x0

def late(noise, times, labels):
    return 0.5 * noise[0]

def broken(noise, times, labels):
    return 0.5 * noise[0] / 0

def flat(noise, times, labels):
    return 0.5 * noise[0].flatten()

def numpys(noise, times, labels):
    return noise[0].numpy()

def raises(noise, times, labels):
    raise RuntimeError("no such weights")

def unit(noise, times, labels):
    return 2.0 * noise[0]

def two(noise, times):
    return noise[0]

def weighted(noise, times, labels):
    return 0.5 * noise[0]

weighted.files = ["nowhere.safetensors"]
"""
OWN = """
import functools, torch
from pathlib import Path
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.assembly import make_network, student_field
from trigbench.workflow.run.task import opened
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run

@functools.cache
def field():
    task = opened(load("tiny.yaml"), Run(arm="scd", seed=0))
    weights = read_tensors(Path("results/tiny/runs/scd/seed-0/weights.safetensors"), "")
    return student_field(task, make_network(task), weights)

def sample(noise, times, labels):
    assert labels is None and times.dtype == torch.float64 and len(times) == len(noise)
    return 0.5 * sample_consistency(field(), noise, times.tolist())

sample.files = ["results/tiny/runs/scd/seed-0/weights.safetensors"]
"""


def asked(what: Path | str, **more: Any) -> Asked:
    return Asked(str(what), "theirs", "mixture", "trigbench judge ...", **more)


@pytest.fixture(scope="module")
def finished(
    mixture: Path, tmp_path_factory: pytest.TempPathFactory, unchecked: Callable[[], AbstractContextManager[None]]
) -> Path:
    """A folder with the tiny study, its data and one finished run of it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(folder)
        patch.delenv("SLURM_JOB_ID", raising=False)
        shutil.copytree(mixture, folder / "results/tiny/data")
        make_run(load("tiny.yaml"), RUN)
    for name, text in {"exact": EXACT, "own": OWN}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def study(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(finished)
    return load("tiny.yaml")


def values_of(values: list[Value], metric: str) -> dict[int | None, float | None]:
    return {value.steps: value.value for value in values if value.metric == metric}


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.slow
def test_samples_of_the_study_s_own_run_have_the_numbers_of_its_record_to_the_bit(study: Study, tmp_path: Path) -> None:
    record = json.loads(study.files(RUN).metrics.read_text())
    theirs = values_of([Value(**value) for value in record["metrics"]], "sliced_wasserstein")
    for steps, (key, drawn) in enumerate(read_arrays(study.files(RUN).samples, "").items(), 1):
        write_arrays(tmp_path / f"{key}.npz", {"samples": study.sigma_d * drawn})
        found = judge(study, asked(tmp_path / f"{key}.npz", steps=(steps,)))
        (result,) = found.results
        assert values_of(result.metrics, "sliced_wasserstein") == {steps: theirs[steps]}
        assert found.kind == "samples" and result.seed is None and found.curves == []


@pytest.mark.slow
def test_the_study_s_own_map_as_a_function_has_the_numbers_of_its_record(study: Study) -> None:
    record = json.loads(study.files(RUN).metrics.read_text())
    theirs = [Value(**value) for value in record["metrics"]]
    found = judge(study, asked("own.py:sample", seeds=(0, 1)))
    of_map, first, second = found.results
    assert (of_map.seed, first.seed, second.seed) == (None, 0, 1)
    for metric in ("map_rms", "map_rms_one_step", "map_worst"):
        ours, own = values_of(of_map.metrics, metric)[None], values_of(theirs, metric)[None]
        assert ours == pytest.approx(own, rel=1e-5), "but for dividing by the sine"
    assert values_of(first.metrics, "sliced_wasserstein") == values_of(theirs, "sliced_wasserstein")
    assert values_of(second.metrics, "sliced_wasserstein") != values_of(first.metrics, "sliced_wasserstein")
    assert [value.times for value in first.metrics] == [None, (1.1,)]
    assert {Path(name).name for name in found.files} == {"own.py", "weights.safetensors"}
    means = {(mean.metric, mean.steps): mean.interval for mean in means_of(found)}
    assert means["sliced_wasserstein", 1].seeds == 2 and means["sliced_wasserstein", 1].low < np.inf
    assert np.isnan(means["map_rms", None].low), "of one map there is no interval"


@pytest.mark.slow
def test_the_exact_map_as_a_function_has_no_error_and_what_ignores_its_times_none_that_means_anything(
    study: Study,
) -> None:
    exact, late = (judge(study, asked(f"exact.py:{name}", steps=(1,))) for name in ("sample", "late"))
    assert max(value.value or 0.0 for value in exact.results[0].metrics) < 1e-5
    assert {point.metric for point in exact.curves} == {"map_rms"} and len(exact.curves) == 13
    assert [result.seed for result in late.results] == [0]
    assert "the angle that it is told makes no difference" in late.remarks[0]


# --- what is refused ------------------------------------------------------------------------------

DRAWN = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32) * 0.5
NOT_A_NUMBER = np.where(np.arange(64)[:, None] == 3, np.nan, DRAWN)
BAD_SAMPLES = {
    "another shape": (DRAWN[:, :1], "(64, 1), where floats of (n, 2) were expected"),
    "too few": (DRAWN[:63], "63 samples, and the study judges 64"),
    "no number": (NOT_A_NUMBER, "1 of 64 samples are not numbers"),
    "whole numbers": (DRAWN.astype(np.int64), "int64 of (64, 2), where floats"),
    "unit variance": (2 * DRAWN, "units of the data, of standard deviation 0.5"),
    "levels": (100 + 40 * DRAWN, "root mean square"),
    "bytes": (DRAWN.astype(np.uint8), "uint8 of (64, 2), where floats"),
    "nothing": (DRAWN[:0], "(0, 2)"),
}


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_samples_that_cannot_be_compared_are_refused_with_a_remedy(case: str, study: Study, tmp_path: Path) -> None:
    values, wanted = BAD_SAMPLES[case]
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(BenchError) as caught:
        judge(study, asked(tmp_path / "x.npy"))
    assert wanted in str(caught.value) and "x.npy" in str(caught.value) and "remedy" in str(caught.value)


BAD_MODELS = {
    "exact.py:broken": "samples by few-1 are not numbers",
    "exact.py:flat": "returns torch.float32 of",
    "exact.py:numpys": "returns float32 of",
    "exact.py:raises": "RuntimeError: no such weights (",
    "exact.py:unit": "units of the data",
    "exact.py:two": "let it take (noise, times, labels)",
    "exact.py:sampel": "did you mean 'sample'?",
    "exact.py:weighted": "nowhere.safetensors",
    "nowhere.py:sample": "there is no such file",
    "nowhere:sample": "cannot import 'nowhere'",
    "nowhere": "there is no such file or folder",
    "exact.py": "a function of a file is exact.py:NAME",
}


@pytest.mark.parametrize("what", BAD_MODELS)
def test_what_draws_no_samples_is_refused_with_a_remedy(what: str, study: Study) -> None:
    with pytest.raises(BenchError) as caught:
        judge(study, asked(what))
    assert BAD_MODELS[what] in str(caught.value) and "remedy" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"steps": (3,)}, "no sampler of the study takes 3 steps(.|\n)*choose of 1, 2"),
        ({"labels": Path("labels.txt")}, "labels are of samples"),
    ],
)
def test_options_that_a_function_does_not_take_are_refused(options: dict, wanted: str, study: Study) -> None:
    with pytest.raises(BenchError, match=wanted):
        judge(study, asked("exact.py:late", **options))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"steps": (1, 2)}, "one lot of samples"), ({"seeds": (0,)}, "have no seed here")],
)
def test_options_that_samples_do_not_take_are_refused(options: dict, wanted: str, study: Study, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", DRAWN)
    with pytest.raises(BenchError, match=wanted):
        judge(study, asked(tmp_path / "x.npy", **options))


BAD_COMMANDS = {
    "--name scd": "'scd' is an arm of the study",
    "--name ../x": "is no name",
    "--name x --data mixtur": "did you mean 'mixture'?",
    "--name x --steps 0": "'0' is no list of numbers",
    "--name x --steps 1,1": "'1,1' is no list of numbers",
    "--name x --seeds a": "'a' is no list of numbers",
    "--name x --budget nowhere": "budget",
}


@pytest.mark.parametrize("options", BAD_COMMANDS)
def test_a_bad_command_line_ends_with_what_is_wrong_with_it(options: str, study: Study) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["judge", "tiny.yaml", "exact.py:late", *options.split()])
    assert BAD_COMMANDS[options] in str(caught.value) and "remedy" in str(caught.value)


def test_data_that_are_stale_or_take_long_to_make_are_said_with_the_command(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(study.folder / "data", tmp_path / study.folder / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    path = study.made.facts("mixture")
    write_json(path, read_json(path, "") | {"fingerprint": "another"})
    for name in ("some.npy", "x.txt"):  # not looked into before the data are there
        (tmp_path / name).touch()
    line = ["--name", "x", "--labels", "x.txt"]
    with pytest.raises(SystemExit, match=r"mixture is stale(.|\n)*steps.prepare --study tiny.yaml --budget laptop"):
        cli.main(["judge", "tiny.yaml", "some.npy", *line])
    with pytest.raises(SystemExit, match=r"cifar10 is not prepared(.|\n)*prepare --study cifar10 --budget laptop"):
        cli.main(["judge", "cifar10", "some.npy", *line])
    with pytest.raises(SystemExit, match=r"several data sets(.|\n)*mixture-2d, mixture-32d"):
        cli.main(["judge", "oracle", "some.npy", *line])


# --- labels and pictures --------------------------------------------------------------------------


def dataset(shape: tuple[int, ...] = (3, 4, 4), shares: tuple[float, ...] | None = None) -> Dataset:
    def draw(g: torch.Generator, batch: int) -> tuple[torch.Tensor, Condition]:
        return torch.randn(batch, *shape, generator=g), UNTOLD

    return Dataset(shape, len(shares or ()), draw, None, {}, shares)


PIXELS = np.random.default_rng(1).integers(0, 256, (13, 4, 4, 3), dtype=np.uint8)
LABELLED = [0, 1, 2] * 4


def encode(pictures: np.ndarray) -> np.ndarray:
    images = IMAGES.images
    assert images is not None
    encoded = images({"train_shown": PIXELS.transpose(0, 3, 1, 2), "sigma_d": np.array(0.5)}, 1).encoded
    assert encoded is not None
    return encoded(pictures)


def opened(
    place: Path, count: int = 12, shares: tuple[float, ...] | None = None, labels: Path | None = None
) -> Samples:
    return open_samples(place, labels, dataset(shares=shares), count, 0.5, encode)


def written(folder: Path, names: list[str], pixels: np.ndarray = PIXELS) -> Path:
    for name, picture in zip(names, pixels, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name)
    return folder


def test_pictures_bytes_and_floats_are_the_same_samples(tmp_path: Path) -> None:
    pixels = PIXELS[:12]
    folder = written(tmp_path / "png", [f"{i:02d}.png" for i in range(12)])
    floats = pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    np.savez(tmp_path / "adm.npz", arr_0=pixels)
    np.savez(tmp_path / "first.npz", samples=pixels.transpose(0, 3, 1, 2))
    np.save(tmp_path / "x.npy", floats.astype(np.float64))
    write_tensors(tmp_path / "x.safetensors", {"samples": torch.from_numpy(floats)})
    (tmp_path / "parts").mkdir()
    for part in range(2):
        np.save(tmp_path / "parts" / f"{part}.npy", floats[6 * part : 6 * part + 6])
    wanted = torch.from_numpy(floats) / 0.5
    for name in ("png", "adm.npz", "first.npz", "x.npy", "x.safetensors", "parts"):
        found = opened(tmp_path / name)
        torch.testing.assert_close(found.drawn, wanted, rtol=0, atol=1e-6)
        assert found.remarks == [] and len(found.files) == (2 if name == "parts" else 1), name
    again = opened(folder)
    assert again.files == opened(folder).files
    written(folder, ["00.png"], 255 - pixels)
    assert opened(folder).files != again.files


def test_a_picture_of_digits_comes_back_as_the_grey_levels_that_it_was_made_of() -> None:
    levels = np.random.default_rng(0).integers(0, 17, (20, 8, 8))
    labels = np.arange(20) % 10
    arrays = {"train_labels": labels, "mean": np.float64(4.9), "std": np.float64(6.0), "sigma_d": np.float64(0.5)}
    images = DIGITS.images
    assert images is not None
    seen = images({**arrays, "train": np.zeros((20, 1, 8, 8))}, 1)
    assert seen.encoded is not None
    pictures = np.repeat(np.round(levels * 255 / 16).astype(np.uint8)[:, None], 3, 1)
    back = seen.encoded(pictures)
    assert back.shape == (20, 1, 8, 8) and back.dtype == np.float32
    assert (np.round(back[:, 0] * 6.0 + 4.9) == levels).all()


def test_images_from_0_to_1_are_refused_where_data_are_from_minus_1(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS[:12].transpose(0, 3, 1, 2) / np.float32(255))
    with pytest.raises(BenchError, match=r"images in \[0, 1\] become 2 x - 1"):
        opened(tmp_path / "x.npy")


def test_colour_is_refused_where_data_are_grey_and_labels_where_they_have_no_classes(tmp_path: Path) -> None:
    grey = np.repeat(PIXELS[:12, ..., :1], 3, 3)
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "colour.npy", PIXELS[:12])
    one = dataset((1, 4, 4))
    drawn = open_samples(tmp_path / "grey.npy", None, one, 12, 0.5, lambda p: encode(p)[:, :1]).drawn
    assert drawn.shape == (12, 1, 4, 4)
    with pytest.raises(BenchError, match="12 of 12 pictures are in colour"):
        open_samples(tmp_path / "colour.npy", None, one, 12, 0.5, lambda p: encode(p)[:, :1])
    with pytest.raises(BenchError, match="the data have no classes"):
        opened(tmp_path / "colour.npy", labels=tmp_path / "labels.txt")


def test_jpeg_is_judged_and_said(tmp_path: Path) -> None:
    folder = written(tmp_path / "jpg", [f"{i:02d}.jpg" for i in range(12)])
    assert "JPEG" in opened(folder).remarks[0]
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    assert "JPEG" in opened(packed).remarks[0] and torch.equal(opened(packed).drawn, opened(folder).drawn)


@pytest.mark.parametrize("how", ["folders", "numbers", "beside", "file", "text"])
def test_classes_are_said_by_folders_beside_the_samples_or_in_a_file(how: str, tmp_path: Path) -> None:
    shares, place, labels = (1.0, 1.0, 1.0), tmp_path / "x", None
    if how in ("folders", "numbers"):
        names = ["cat", "dog", "owl"] if how == "folders" else ["0", "1", "2"]
        written(place, [f"{names[label]}/{i:02d}.png" for i, label in enumerate(LABELLED)])
    elif how == "beside":
        place = tmp_path / "x.npz"
        np.savez(place, arr_0=PIXELS[:12], arr_1=np.array(LABELLED))
    else:
        place, labels = tmp_path / "x.npy", tmp_path / ("labels.npy" if how == "file" else "labels.txt")
        np.save(place, PIXELS[:12])
        np.save(labels, np.array(LABELLED)) if how == "file" else labels.write_text("\n".join(map(str, LABELLED)))
    assert len(opened(place, shares=shares, labels=labels).drawn) == 12


def test_of_more_samples_the_first_of_each_class_are_taken_in_the_data_s_shares(tmp_path: Path) -> None:
    labels = np.array([0] * 6 + [1] * 6 + [0])
    np.savez(tmp_path / "x.npz", samples=PIXELS, labels=labels)
    found = opened(tmp_path / "x.npz", count=8, shares=(3.0, 1.0))
    counts = np.bincount(labels_in_shares(range(8), (3.0, 1.0)))
    assert counts.tolist() == [6, 2]
    wanted = encode(PIXELS[[0, 1, 2, 3, 4, 5, 6, 7]].transpose(0, 3, 1, 2))
    assert torch.equal(found.drawn, torch.from_numpy(wanted))
    assert found.remarks == ["8 of 13 samples, of each class the first ones in its share"]


def test_of_more_samples_without_classes_a_fixed_choice_is_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    first, again = (opened(tmp_path / "x.npy", count=8) for _ in range(2))
    assert torch.equal(first.drawn, again.drawn) and len(first.drawn) == 8
    assert first.remarks == ["8 of 13 samples, a fixed choice of them"]


BAD_LABELS = {
    "none": (None, "the data have 3 classes, and samples have no labels"),
    "too few": ([0, 1, 2], "labels that are torch.int64 of (3,)"),
    "no class": ([0, 1, 3] * 4, "labels from 0 to 3"),
    "from 1": ([1, 2, 3] * 4, "labels from 1 to 3"),
    "another share": ([0] * 60, "60 samples of class 0, of which the study draws 20"),
    "too few of one": ([0] * 9 + [1] * 4, "0 samples of class 2, of which the study judges 4"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_are_not_the_study_s_are_refused(case: str, tmp_path: Path) -> None:
    labels, wanted = BAD_LABELS[case]
    count = max(12, len(labels or ()))
    said = {} if labels is None else {"labels": np.array(labels)}
    write_arrays(tmp_path / "x.npz", {"samples": np.resize(PIXELS, (count, 4, 4, 3)), **said})
    with pytest.raises(BenchError) as caught:
        opened(tmp_path / "x.npz", count=12 if count == 13 else count, shares=(1.0, 1.0, 1.0))
    assert wanted in str(caught.value) and "x.npz" in str(caught.value)


def _mixed(folder: Path) -> None:
    written(folder, [f"{i:02d}.png" for i in range(12)])
    np.save(folder / "x.npy", PIXELS)


BAD_PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "size": (lambda f: written(f, ["0.png"], PIXELS[:, :3]), "in the size of the data"),
    "grey": (lambda f: written(f, ["0.png"], PIXELS[..., 0]), "save the pictures as RGB"),
    "mixed": (_mixed, "both arrays and pictures lie there"),
    "empty": (lambda f: f.mkdir(), "no image in it"),
    "pickled": (lambda f: _saved(f, np.array([{}] * 12, object)), "cannot read x.npy"),
    "no name": (lambda f: np.savez(_made(f) / "x.npz", pictures=PIXELS), "no samples in it, but pictures"),
    "picture shape": (lambda f: _saved(f, PIXELS[:, :3]), "pictures of (13, 3, 4, 3)"),
}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _saved(folder: Path, values: np.ndarray) -> None:
    np.save(_made(folder) / "x.npy", values)


@pytest.mark.parametrize("case", BAD_PLACES)
def test_folders_that_hold_something_else_are_refused(case: str, tmp_path: Path) -> None:
    make, wanted = BAD_PLACES[case]
    make(tmp_path / "there")
    with pytest.raises(BenchError) as caught:
        opened(tmp_path / "there")
    assert wanted in str(caught.value) and "there" in str(caught.value)


def test_subfolders_that_are_not_the_classes_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "x", [f"{label % 2}/{i:02d}.png" for i, label in enumerate(LABELLED)])
    with pytest.raises(BenchError, match="2 subfolders, and the data have 3 classes"):
        opened(tmp_path / "x", shares=(1.0, 1.0, 1.0))
    written(tmp_path / "y", [f"{i:02d}.png" for i in range(12)])
    with pytest.raises(BenchError, match="or say the classes by --labels FILE"):
        opened(tmp_path / "y", shares=(1.0, 1.0, 1.0))


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_converted_network_of_edm_is_a_diffusion_model_of_the_data_s_shape_and_classes(tmp_path: Path) -> None:
    path = published("ddpmpp", tmp_path / "edm.safetensors", classes=3)
    labelled = dataset((1, 8, 8), (1.0, 1.0, 1.0))
    found = open_edm(path, labelled, 0.5, CPU)
    x, t = torch.randn(2, 1, 8, 8), torch.full((2,), 0.7, dtype=torch.float64)
    assert found.field(torch.tensor([0, 2]))(x, t).shape == x.shape and list(found.files) == [str(path)]
    for other, wanted in ((dataset((3, 8, 8), (1.0,) * 3), "of shape"), (dataset((1, 8, 8)), "told 3 classes")):
        with pytest.raises(BenchError, match=wanted):
            open_edm(path, other, 0.5, CPU)
    with pytest.raises(BenchError, match=r"standard deviation of 0\.5, the study's of 1"):
        open_edm(path, labelled, 1.0, CPU)


MAPS = {
    "ctm": (ctm_state, (3, 8, 8), 3),
    "meanflow": (mf_unet_state, (3, 8, 8), 0),
    "imf": (imf_written, (4, 32, 32), 3),
}


@pytest.mark.parametrize(("family", "steps"), [("ctm", 1), ("ctm", 4), ("meanflow", 2), ("imf", 2)])
def test_a_converted_map_of_two_times_is_sampled_by_jumps_in_any_number_of_steps(family, steps, tmp_path: Path) -> None:
    path, (state, shape, classes) = tmp_path / "map.safetensors", MAPS[family]
    write_tensors(path, {name: tensor.float() for name, tensor in state().items()})
    data = dataset(shape, (1.0,) * classes)
    opened = open_safetensors(path, data, 0.5, CPU)
    assert isinstance(opened, MapFile) and list(opened.files) == [str(path)] and len(opened.remarks) == 1
    way, labels = way_of(load("digits"), "map", steps), torch.tensor([2, 0]) if classes else None
    assert way.steps == steps == len(way.times) + 1 and (way.sampler == "jumps") == (steps <= 2)
    noise = torch.randn(steps, 2, *shape)
    made = judging._map(opened).draw(way, noise, labels)
    exact = sample_jumps(open_map(path, family, 0.5, labels), noise, [math.atan(160), *way.times])
    assert torch.equal(made, exact) and made.abs().max() > 0.1
    for other, sigma_d, wanted in (
        (dataset((1, 8, 8), (1.0,) * classes), 0.5, rf"of shape {re.escape(str(shape))}"),
        (dataset(shape, (1.0,) * 5), 0.5, r"told (3|no) classes.*have 5(.|\n)*take the network"),
        *([(data, 1.0, r"CTM's data have a standard deviation of 0\.5(.|\n)*a function")] if family == "ctm" else []),
    ):
        with pytest.raises(BenchError, match=wanted):
            open_safetensors(path, other, sigma_d, CPU)


def test_a_converted_consistency_model_re_noises_from_where_its_map_ends(tmp_path: Path) -> None:
    path = tmp_path / "cm.safetensors"
    write_tensors(path, state := cm_tensors(openai_checkpoint(labelled=True), side=8))
    data = dataset((3, 8, 8), (1.0,) * 3)
    opened = open_safetensors(path, data, 0.5, CPU)
    assert isinstance(opened, ConsistencyModel) and list(opened.files) == [str(path)] and len(opened.remarks) == 1
    way, labels = way_of(load("digits"), "consistency", 2), torch.tensor([2, 0])
    assert (way.solver, way.steps) == ("few", 2)
    noise = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        made = judging._from_file(load("digits"), opened).draw(way, noise, labels)
        field = consistency_field(cm_network(state)[0], 0.002, 0.5, labels)
        exact = sample_consistency(field, noise, [math.atan(160), *way.times], math.atan(0.002 / 0.5))
    assert torch.equal(made, exact) and made.abs().max() > 0.1
    late = way.model_copy(update={"times": (0.003,)})
    with pytest.raises(BenchError, match=r"ends at the angle 0\.004(.|\n)*samplers\.few(.|\n)*--steps"):
        judging._from_file(load("digits"), opened).draw(late, noise, labels)
    for other, sigma_d, wanted in (
        (dataset((1, 8, 8), (1.0,) * 3), 0.5, r"of shape \(3, 8, 8\)"),
        (dataset((3, 8, 8)), 0.5, r"told 3 classes"),
        (data, 1.0, r"CM's data have a standard deviation of 0\.5"),
    ):
        with pytest.raises(BenchError, match=wanted):
            open_safetensors(path, other, sigma_d, CPU)
    with pytest.raises(ValueError, match="a consistency model, which has no velocity"):
        header_of(path)


def test_a_map_whose_heads_nobody_knows_is_judged_by_a_function(tmp_path: Path) -> None:
    write_tensors(tmp_path / "map.safetensors", {name: tensor.float() for name, tensor in meanflow_state().items()})
    with pytest.raises(BenchError, match=r"how many heads(.|\n)*in a function of yours"):
        open_safetensors(tmp_path / "map.safetensors", dataset((4, 8, 8), (1.0,) * 3), 0.5, CPU)


@pytest.mark.slow
def test_a_u_net_of_diffusers_is_opened_with_its_scheduler(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers: Any = pytest.importorskip("diffusers")
        unet = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )  # fmt: skip
        unet.save_pretrained(tmp_path / "model" / "unet")
        with pytest.raises(BenchError, match="no scheduler beside the U-Net"):
            open_diffusers(tmp_path / "model", dataset((1, 8, 8)), 0.5, CPU)
        diffusers.DDIMScheduler().save_pretrained(tmp_path / "model" / "scheduler")
        found = open_diffusers(tmp_path / "model", dataset((1, 8, 8)), 0.5, CPU)
        x, t = torch.randn(2, 1, 8, 8), torch.full((2,), 0.7, dtype=torch.float64)
        assert found.field(None)(x, t).isfinite().all() and len(found.files) == 3
        with pytest.raises(BenchError, match="of shape"):
            open_diffusers(tmp_path / "model", dataset((3, 8, 8)), 0.5, CPU)


# --- where it stands ------------------------------------------------------------------------------


@pytest.fixture
def record(study: Study) -> OutsideRecord:
    return judge(study, asked("exact.py:late", steps=(1,), by="Jo", note="noise <itself>"))


def test_a_record_says_when_what_it_was_measured_with_changed(
    study: Study, record: OutsideRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(**update: Any) -> Study:
        return study.model_copy(update=update)

    assert outside_verdict(study, record) == ""
    more = study.evaluation.model_copy(update={"samples": 65})
    snapshots = study.evaluation.model_copy(update={"snapshot_samples": 5})
    assert "changed since" in outside_verdict(changed(evaluation=more), record)
    assert outside_verdict(changed(evaluation=snapshots), record) == "", "which it has not"
    assert outside_verdict(changed(arms={}), record) == ""
    assert "no such data" in outside_verdict(changed(data={}), record)
    with monkeypatch.context() as patch:
        patch.setattr(outside_module, "identity", lambda path: "another")
        assert outside_verdict(study, record) == outside_module.OTHER_DATA
    with monkeypatch.context() as patch:
        patch.setitem(outside_module.JUDGED_BY, "function", ("trigbench.workflow.run.training",))
        assert outside_verdict(study, record) == outside_module.CHANGED, "the code that judges"


@pytest.mark.slow
def test_what_came_from_outside_stands_on_the_pages_and_in_no_table_or_verdict_of_the_study(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(finished, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    study = load("tiny.yaml")
    tabulated(study)
    plain = page_from(study)
    runs = (study.made.runs).read_bytes()
    command = ["judge", "tiny.yaml", "own.py:sample", "--name", "theirs", "--steps", "1,2", "--seeds", "0,1"]
    cli.main([*command, "--by", "Jo & Co", "--note", "<b>"])
    said = capsys.readouterr().out
    assert "theirs by Jo & Co, from outside, on mixture of tiny" in said and "(scd)" in said
    assert "sampling seeds 0, 1: mean and 95% t interval" in said and "results/tiny/outside/theirs/outside.json" in said
    assert (study.made.runs).read_bytes() == runs and page_from(study) != plain
    page = study.report.read_text()
    assert "From outside" in page and "Jo &amp; Co" in page and "&lt;b&gt;" in page and "own.py" in page
    again = "trigbench judge tiny.yaml own.py:sample --name theirs --steps 1,2 --seeds 0,1"
    assert again in page and "is stale" not in page and "<dt>Measured with</dt>" in page
    beside = (study.report.parent / "tiny" / "discretisation.html").read_text()
    assert "discretisation-outside" in beside and "theirs" in beside
    assert "tiny-outside" not in (study.report.parent / "tiny" / "training.html").read_text(), "of another metric"
    table = read_table(study.folder / "outside" / "outside.csv")
    assert set(table.name) == {"theirs"} and len(table) == 3 + 2 * 2
    with pytest.raises(SystemExit, match=r"there is a 'theirs' already(.|\n)*--replace"):
        cli.main(command)
    own = own_results(study)
    best = own.best("mixture", "sliced_wasserstein", 1)
    assert best is not None and best.arm == "scd" and own.best("mixture", "nothing", 1) is None

    monkeypatch.setattr(outside_module, "OTHER_DATA", "the data moved")
    monkeypatch.setattr(outside_module, "identity", lambda path: "another")
    assert page_from(study) != plain
    report(study)
    page = study.report.read_text()
    assert "theirs is stale: the data moved" in page and "theirs (stale)" in page and f"{again} " in page


def test_code_that_draws_a_model_from_outside_and_its_data_is_part_of_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, oracle = copied_project(tmp_path), load("oracle")
    monkeypatch.setattr(outside_module, "digest", partial(digest, root=source))

    def marks(file: str = "", old: str = "", new: str = "") -> list[str]:
        if file:
            text = (source / file).read_text()
            assert old in text
            (source / file).write_text(text.replace(old, new, 1))
        as_a_new_process()
        return [outside_mark(oracle, "mixture-2d", kind, []) for kind in get_args(OutsideKind)]

    first = marks()
    second = marks("workflow/run/sampling.py", "torch.sin(angles[0])", "torch.cos(angles[0])")
    assert [one == two for one, two in zip(first, second, strict=True)] == [True, False, False, False, False]
    third = marks("workflow/data/kinds/mixture/draws.py", "means.shape[1]", "means.shape[0]")
    assert not set(second) & set(third)


def test_a_damaged_record_is_refused_by_its_file(study: Study, record: OutsideRecord, tmp_path: Path) -> None:
    place = study.model_copy(update={"study": "other"})
    path = write_outside(place, record)
    path.write_text(path.read_text().replace('"theirs"', '"others"'))
    with pytest.raises(BenchError, match=r"damaged(.|\n)*outside.json"):
        outside_module.outside_records(place)
    assert outside_module.standing_outside(place)[0][2] == "damaged"


def test_own_modules_that_a_function_brings_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "brought_by_it.py").write_text("SCALE = 0.5\n")
    text = (
        "from brought_by_it import SCALE\nimport math\ndef sample(noise, times, labels):\n    return SCALE * noise[0]\n"
    )
    (tmp_path / "sub" / "main.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    found = open_function("sub/main.py:sample")
    assert list(found.files) == ["sub/main.py", "sub/brought_by_it.py"]


def test_where_nothing_of_the_study_s_own_is_there_nothing_is_best(study: Study) -> None:
    empty = own_results(study.model_copy(update={"study": "nowhere"}))
    assert empty.best("mixture", "map_rms", None) is None and empty.real("mixture", "map_rms") is None
    assert own_results(study).real("mixture", "sliced_wasserstein") is not None, "the data say it"
