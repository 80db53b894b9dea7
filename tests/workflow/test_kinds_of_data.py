"""A kind of data has one home: a folder or a file, and a line in the table."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, as_a_new_process, copied_project, snakemake, touched
from trigbench.workflow.claims.collecting import tabulate_experiment
from trigbench.workflow.data import kinds
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.report.pages.common import render
from trigbench.workflow.report.pages.study import PRECISION_NOTE, study_page
from trigbench.workflow.report.pictures import pictures
from trigbench.workflow.report.style import save
from trigbench.workflow.run.counts import shape_of
from trigbench.workflow.run.estimate_table import prepared
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.task import open_data
from trigbench.workflow.study.fingerprint import data_fingerprint
from trigbench.workflow.study.kinds import KINDS, data_kind, kind_module, kind_named, known_of
from trigbench.workflow.study.models import DataSettings
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

LINE = '    "ring": "trigbench.workflow.data.kinds.ring:RING",\n'
RING = """
from typing import Literal

from pydantic import PositiveInt

from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.kinds import DataKind, Known
from trigbench.workflow.study.models import DataSettings

METRICS = {"map": (), "samples": ("sliced_wasserstein",)}


class RingData(DataSettings):
    kind: Literal["ring"]
    beads: PositiveInt


def _known(data):
    return Known(f"{data.beads} beads on a ring.", shape=(2,), classes=0, metrics=METRICS)


def _check_arm(data, name, arm):
    if arm.batch < data.beads:
        raise Mistake(f"arms.{name}.batch: fewer than the {data.beads} beads of {arm.data!r}", "draw more")


RING = DataKind(RingData, _known, __name__, parts=False, check_arm=_check_arm)


def prepare(data, evaluation, sigma_d):
    import torch

    angle = 2 * torch.pi * torch.arange(data.beads) / data.beads
    means = 2**0.5 * torch.stack([angle.cos(), angle.sin()], 1)
    arrays = {"weights": torch.ones(data.beads) / data.beads, "means": means, "stds": torch.full((data.beads,), 0.01)}
    arrays["reference"] = means[torch.arange(evaluation.samples) % data.beads]
    return {name: value.numpy() for name, value in arrays.items()}, {"beads": data.beads}


def open_dataset(arrays, sigma_d):
    from dataclasses import replace
    from trigbench.workflow.data.kinds.mixture.draws import open_dataset as opened

    return replace(opened(arrays, sigma_d), velocity=None)


def judge_map(dataset, field):
    return [], []


def judge_samples(dataset, samples, wanted=METRICS["samples"]):
    from trigbench.workflow.data.kinds.mixture.making import judge_samples as judged

    return judged(dataset, samples, wanted)


def floors(dataset):
    return []
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the project with one more kind of data."""
    place = tmp_path / "source"
    copied_project(place)
    table, at = place / "workflow/study/kinds.py", '    "own": '
    text = table.read_text(encoding="utf-8")
    assert text.count(at) == 1
    table.write_text(text.replace(at, LINE + at), encoding="utf-8")
    (place / "workflow/data/kinds/ring.py").write_text(RING)
    return place


@pytest.fixture
def ring(tiny: dict, write_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A study on such data."""
    monkeypatch.chdir(tmp_path)

    def write(**settings: object) -> Path:
        tiny["data"] = {"beads": {"kind": "ring", "beads": 8, **settings}}
        tiny["defaults"] |= {"data": "beads", "iterations": 2}
        tiny["arms"] = {"sct": {"objective": "sct"}}
        shown = {"figure": "methods", "metric": "sliced_wasserstein", "arms": ["*"]}
        tiny["experiments"] = {"methods": {**next(iter(tiny["experiments"].values())), **shown}}
        return write_study(tiny)

    return write


@pytest.fixture
def known_here(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy's kind, in this process."""
    places = [*kinds.__path__, str(source / "workflow/data/kinds")]
    monkeypatch.setattr(kinds, "__path__", places)
    monkeypatch.setitem(KINDS, "ring", "trigbench.workflow.data.kinds.ring:RING")
    monkeypatch.delitem(sys.modules, "trigbench.workflow.data.kinds.ring", raising=False)


def test_a_kind_is_one_file_and_a_line_and_its_mathematics_is_hashed(source: Path, ring, known_here) -> None:
    assert touched(source) == {"workflow/data/kinds/ring.py", "workflow/study/kinds.py"}
    study = load(ring())

    before, file = data_fingerprint(study.data_specification("beads"), source), source / "workflow/data/kinds/ring.py"
    file.write_text(RING.replace("0.01", "0.02"))
    as_a_new_process()
    assert data_fingerprint(study.data_specification("beads"), source) != before


@pytest.mark.slow
def test_a_kind_from_outside_is_checked_estimated_run_and_shown(ring, known_here) -> None:
    for settings, wanted in (
        ({"bead": 3}, ["data.beads.bead", "did you mean 'beads'?"]),
        ({"beads": 17}, ["arms.sct.batch", "fewer than the 17 beads of 'beads'", "draw more"]),
        ({"kind": "rings"}, ["data.beads", "choose of: 'mixture'", "'ring'"]),
    ):
        with pytest.raises(BenchError) as caught:
            load(ring(**settings))
        assert all(part in str(caught.value) for part in wanted), caught.value
    study = load(ring())
    assert shape_of(study, "beads") == ((2,), 0)
    prepare(study, "beads")
    for run in study.runs():
        record = make_run(study, run)
        assert record is not None and "sliced_wasserstein" in {value.metric for value in record.metrics}
    figure = pictures(study, study.runs())
    assert figure is not None and len(figure.axes) == 5, "one row, of points over the reference"
    save(figure, study.made.experiment("methods").folder / "pictures")
    tabulate_experiment(study, "methods", partial=True)
    page = study_page(study)
    shown = page.experiments[0].pictures
    assert shown is not None and "fresh data in grey" in shown.caption
    assert [section.description for section in page.data] == ["8 beads on a ring."]
    assert "8 beads on a ring." in render("study.html.j2", page=page, precision_note=PRECISION_NOTE)


@pytest.mark.slow
def test_a_kind_from_outside_is_planned(source: Path, ring, tmp_path: Path) -> None:
    plan = snakemake("-n", "--config", f"study={ring()}", cwd=tmp_path, root=source).stdout
    assert "preparing beads of tiny" in plan


def test_no_kind_takes_torch_or_numpy_to_be_known() -> None:
    code = (
        "import sys; from trigbench.workflow.study.kinds import KINDS, kind_named; [kind_named(name) for name in KINDS]"
    )
    code += "; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


HOMES = {path.split(":")[0].removesuffix(".kind") for path in KINDS.values()}
USERS = {
    "mixture": {
        "report/one_noise.py",
        *(f"run/measurements/{name}.py" for name in ("editing", "flow_map", "step_errors", "theory")),
    },
    "latents": {"steps/encode.py"},
    "digits": {"run/measurements/edited_images.py"},
    "navigation": {"run/measurements/policy.py"},
    "speech": {"run/measurements/speaking.py"},
}
"""Whose matter is one kind: measurements and a picture of known maps, edits of digits, policies in the simulated task,
what speaking takes, and a step that encodes."""


def test_nothing_but_its_home_and_the_table_knows_a_kind() -> None:
    """So a kind more touches nothing else, and neither did those that are there."""
    shipped = [name for name in KINDS if name != "own"]  # which is also a word
    named = re.compile(rf"""["']({"|".join(shipped)})["']""")
    of_home = re.compile(rf"({'|'.join(map(re.escape, sorted(HOMES)))})\b")
    for suffix in ("py", "smk", "j2", "js"):
        for file in ROOT.glob(f"workflow/**/*.{suffix}"):
            place, text = file.relative_to(ROOT / "workflow").as_posix(), file.read_text(encoding="utf-8")
            if place == "study/kinds.py" or re.fullmatch(r"data/kinds/\w+/.*", place):
                continue
            assert not named.search(text), f"{place} names the kind {named.search(text)}"
            for used in of_home.findall(text):
                assert place in USERS.get(used.rpartition(".")[2], ()), f"{place} uses {used}"


def test_a_kind_uses_no_other_kind() -> None:
    for file in ROOT.glob("workflow/data/kinds/*/*.py"):
        for home in HOMES - {f"trigbench.workflow.data.kinds.{file.parent.name}"}:
            assert home not in file.read_text(encoding="utf-8"), f"{file} uses {home}"


def test_what_computes_takes_of_a_kind_the_names_of_metrics_alone() -> None:
    """Fingerprints do not follow it there."""
    said = {path.split(":")[0] for path in KINDS.values()}
    for file in (*ROOT.glob("workflow/data/**/*.py"), *ROOT.glob("workflow/run/**/*.py")):
        if f"trigbench.{'.'.join(file.relative_to(ROOT).with_suffix('').parts)}" in said:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        checked = [line for node in ast.walk(tree) if isinstance(node, ast.If) for line in ast.walk(node)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in said and node not in checked:
                assert [name.name for name in node.names] == ["METRICS"], file


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_says_of_its_settings_what_its_schema_has(name: str) -> None:
    kind = kind_named(name)
    assert name in kind.schema.model_fields["kind"].annotation.__args__  # pyright: ignore
    within = [field.annotation for field in kind.schema.model_fields.values() if isinstance(field.annotation, type)]
    nested = {key for part in within if issubclass(part, DataSettings) for key in part.model_fields}
    assert kind.places <= {*kind.schema.model_fields, *nested, "weights"}
    assert (kind.module is None) == (name == "own")


def test_what_is_known_beforehand_is_what_the_data_are(mixture: Path, tiny: dict, with_data) -> None:
    study = with_data(tiny)
    assert isinstance(study, Study)
    data: Dataset = open_data(study, study.arms["scd"].data)
    known = known_of(study.data["mixture"])
    assert (data.shape, data.classes, data.velocity is not None) == (
        known.shape,
        known.classes,
        data_kind(study.data["mixture"]).exact,
    )
    for settings in (study.data["mixture"], load("digits").data["digits"]):
        assert known_of(settings).metrics == kind_module(settings).METRICS


def test_prepared_images_are_estimated() -> None:
    assert prepared(load("oracle")) == ""
    said = prepared(load("imagenet512"))
    images = 1_281_167 + (load("imagenet512").data["imagenet512"].held_out_count or 0)  # pyright: ignore
    assert f"imagenet512 {images * 65536 / 1e9:.3g} GB" in said, "mean and deviation of 4 x 64 x 64, in float16"
