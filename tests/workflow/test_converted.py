"""Teachers that a study names by their file: what the plan refuses, what they teach, and what makes runs stale."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from tests.workflow.conftest import ROOT, as_a_new_process
from trigbench.core.condition import Condition
from trigbench.core.fields import Draws, Fields
from trigbench.core.networks import adm, ddpmpp, edm2, families, teachers
from trigbench.core.networks.adm import ADM
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.edm2 import EDM2
from trigbench.core.networks.teachers import edm_field
from trigbench.core.objectives.continuous import ContinuousSettings, scd
from trigbench.core.objectives.regression import Regression
from trigbench.workflow.claims.tables import _about
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import started_modules, student_field
from trigbench.workflow.run.counts import counts_of, stand_in, without_data
from trigbench.workflow.run.operations import Operations
from trigbench.workflow.run.task import Task, open_teacher
from trigbench.workflow.run.teachers import open_edm_network
from trigbench.workflow.run.training import train
from trigbench.workflow.study import fingerprint as fingerprint_module
from trigbench.workflow.study.converted import header_of
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.freshness import inputs_of, marks_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)
SMALL: dict[str, Any] = {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4]}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpmpp": (DDPMpp, {**SMALL, **ddpmpp.PLAIN}),
    "adm": (ADM, {**SMALL, **adm.PLAIN}),
    "openai": (ADM, {**SMALL, **adm.PLAIN, "conditioning": "shift", **families.OPENAI_SETTINGS}),
    "edm2": (EDM2, {**SMALL, "width": 32, **edm2.PLAIN}),
}
INCEPTION = {"kind": "inception", "weights": "w.safetensors"}
PATHS = {
    "ddpmpp": "trigbench.core.networks.ddpmpp:DDPMpp",
    "adm": "trigbench.core.networks.adm:ADM",
    "openai": "trigbench.core.networks.adm:ADM",
    "edm2": "trigbench.core.networks.edm2:EDM2",
}


def published(family: str, path: Path, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, seed: int = 0) -> Path:
    """Write a random network as its authors name its tensors, with those that a field has no use for."""
    make, settings = FAMILIES[family]
    network = make(shape=shape, classes=classes, **settings)
    ours = [naming for naming in families.NAMINGS if naming.network == PATHS[family]]
    about = next(naming for naming in ours if (naming.prefix == families.OPENAI) == (family == "openai"))
    g = torch.Generator().manual_seed(seed)
    state = {
        teachers._published(about, name, network.plan.stem): torch.randn(value.shape, generator=g)
        * (0.2 if value.ndim else 1.0)
        for name, value in network.state_dict().items()
    }
    unused = {"edm2": ["logvar_linear.weight"], "openai": []}.get(family, ["model.map_augment.weight"])
    write_tensors(path, state | {name: torch.ones(4, 9) for name in unused})
    return path


def capturing(fields: Fields, x0: Tensor, draws: Draws, settings: ContinuousSettings) -> Regression:
    """sCD by an objective of one's own, which keeps what it asked the teacher and what that said."""
    assert fields.teacher is not None
    with torch.no_grad():
        t = draws.uniform * 1.5
        ASKED.append((x0, t, fields.teacher(x0, t)))
    return scd(fields, x0, draws, settings)


ASKED: list[tuple[Tensor, Tensor, Tensor]] = []


@pytest.fixture
def taught(tiny: dict, write_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Study]:
    """A study on digits, noise in their place, whose arm `x` a file teaches."""
    monkeypatch.chdir(tmp_path)
    on_noise = lambda study, run, arm: Task(study, run, arm, stand_in(study, arm.data))  # noqa: E731
    monkeypatch.setattr(train_module, "opened", on_noise)

    def make(file: Path | str, size: dict | None = None, **settings: Any) -> Study:
        latents = {"kind": "imagenet512", "path": "p", "held_out": "h", "vae": "v", "extractor": INCEPTION}
        tiny["data"] = {"digits": {"kind": "digits"}, **({"latents": latents} if "data" in settings else {})}
        tiny["sizes"] = {"small": size or {"width": 16, "blocks": 1}}
        tiny["evaluation"]["samples"] = 80
        tiny["defaults"] |= {"data": "digits", "iterations": 2, "batch": 4}
        arm = {"objective": "scd", "teacher": {"file": str(file), "kind": "edm"}}
        tiny["arms"] = {"x": {**arm, **settings}, "y": {"objective": "sct"}}
        tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
        study = load(write_study(tiny))
        study.data_file("digits").parent.mkdir(parents=True, exist_ok=True)
        study.data_file("digits").write_bytes(b"noise")
        return study

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_the_header_says_what_the_network_is(family: str, tmp_path: Path) -> None:
    for shape, classes in (((1, 8, 8), 10), ((4, 4, 4), 0)):
        file = published(family, tmp_path / f"{classes}.safetensors", shape, classes)
        found, network = header_of(file), open_edm_network(file)
        assert (found.shape, found.classes) == (network.shape, network.classes) == (shape, classes)
        assert found.network == PATHS[family]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_from_a_file_teaches_its_own_velocity(family: str, taught, tmp_path: Path) -> None:
    """What an objective sees is `edm_field` of the file's network, told the sample's labels."""
    file = published(family, tmp_path / "edm.safetensors")
    study = taught(file, objective=f"{__name__}:capturing")
    ASKED.clear()
    outcome = train(study, X)
    assert (outcome.step, outcome.reason) == (2, None)
    network = open_edm_network(file)
    for x, t, said in ASKED:
        fields = [edm_field(network, study.sigma_d, torch.full((len(x),), label)) for label in range(10)]
        answers = torch.stack([field(x, t) for field in fields]).detach()
        assert said.abs().max() > 0.01
        nearest = (answers - said).flatten(2).norm(dim=2)
        assert (nearest.min(0).values <= 1e-12).all() and (nearest.max(0).values > 1e-4).all()
    own = read_tensors(study.files(X).weights, "")
    assert all(value.isfinite().all() for value in own.values())
    assert _about(study, "training", X)["teacher"] == "edm:edm.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_starts_as_its_teacher_from_a_file_or_is_refused(
    family: str, taught, tmp_path: Path, monkeypatch
) -> None:
    file = published(family, tmp_path / "edm.safetensors")
    settings = FAMILIES[family][1] | {"coordinate": "log_noise_level"}
    size = {"network": PATHS[family], "settings": settings}
    study = taught(file, size, start="teacher")
    task = without_data(study, "x")
    task = dataclasses.replace(task, teacher=open_teacher(task))
    modules = started_modules(task)
    x, t = torch.randn(5, 1, 8, 8), torch.linspace(0.05, 1.55, 5, dtype=torch.float64)
    field = edm_field(open_edm_network(file), study.sigma_d, torch.arange(5))
    ours = student_field(task, modules.student.eval(), None, Condition(torch.arange(5)))(x, t)
    torch.testing.assert_close(ours, field(x, t), rtol=1e-3, atol=1e-4)
    other = {"network": PATHS[family], "settings": {**settings, "coordinate": "angle"}}
    with pytest.raises(BenchError, match="computes something else") as caught:
        started_modules(dataclasses.replace(task, study=taught(file, other, start="teacher")))
    assert "coordinate: log_noise_level" in str(caught.value)
    wider = {"network": PATHS[family], "settings": {**settings, "width": 2 * settings["width"]}}
    with pytest.raises(BenchError, match=r"do not fit the student's network: of another shape: .* instead of"):
        started_modules(dataclasses.replace(task, study=taught(file, wider, start="teacher")))
    opened: list[Path] = []
    monkeypatch.setattr(
        "trigbench.workflow.run.teachers.open_edm_network", lambda path: opened.append(path) or open_edm_network(path)
    )
    train(taught(file, size, start="teacher"), X)
    assert len(opened) == 1


def _with_its_end(file: Path) -> None:
    write_tensors(file, read_tensors(file, "") | {families.SIGMA_MIN_OF: torch.tensor(0.002)})


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _text(file: Path) -> None:
    file.write_text("no tensors at all, but long enough to hold a length of eight bytes")


def _other(file: Path) -> None:
    write_tensors(file, {"model.0.weight": torch.ones(3)})


def _no_header(file: Path) -> None:
    text = json.dumps({"model.enc.8x8_conv.weight": {"shape": 3, "data_offsets": []}}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)


def _shape(file: Path) -> None:
    published("ddpmpp", file, (3, 8, 8))


def _classes(file: Path) -> None:
    published("edm2", file, classes=0)


LOG = {"network": PATHS["edm2"], "settings": FAMILIES["edm2"][1]}
REFUSED: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str]]] = {
    "no file": (Path.unlink, {}, ["arms.x.teacher.file", "No such file", "where the workflow is started"]),
    "a folder": (lambda f: (f.unlink(), f.mkdir()), {}, ["arms.x.teacher.file", "directory"]),
    "text": (_text, {}, ["arms.x.teacher.file", "not a whole .safetensors file", "trigbench.workflow.steps.convert"]),
    "cut short": (_cut, {}, ["arms.x.teacher.file", "not a whole .safetensors file"]),
    "another header": (_no_header, {}, ["arms.x.teacher.file", "not a whole .safetensors file"]),
    "another network": (_other, {}, ["arms.x.teacher.file", "neither EDM's DDPM++", "docs/teachers.md"]),
    "another shape": (_shape, {}, ["arms.x.teacher.file", "(3, 8, 8)", "(1, 8, 8)"]),
    "other classes": (_classes, {}, ["arms.x.teacher.file", "told 0 classes", "10"]),
    "a flat stem": (
        lambda f: write_tensors(f, {"model.enc.8x8_conv.weight": torch.ones(3)}),
        {},
        ["arms.x.teacher.file", "of another shape"],
    ),
    "latents": (str, {"data": "latents"}, ["arms.x.teacher.file", "App. G", "diffusion arm"]),
    "another scale": (str, {"sigma_d": 0.4}, ["arms.x.teacher.file", "standard deviation of 0.5, not 0.4"]),
    "guidance": (str, {"guidance_max": 2.0, "samplers": ["g"]}, ["arms.x.guidance_max", "label_dropout"]),
    "an MLP": (str, {"start": "teacher"}, ["arms.x.start", "trigbench.core.networks.ddpmpp:DDPMpp", "an MLP"]),
    "a consistency model": (_with_its_end, {}, ["teacher.file", "a consistency model", "--family cm_edm"]),
    "another family": (str, {"start": "teacher", "size": LOG}, ["arms.x.start", PATHS["edm2"]]),
    "a kind": (str, {"teacher": {"file": "f", "kind": "vp"}}, ["arms.x.teacher.kind", "there are edm, "]),
    "a key": (str, {"teacher": {"fil": "f", "kind": "edm"}}, ["arms.x.teacher.fil", "file"]),
    "a number": (str, {"teacher": 5}, ["arms.x.teacher", "{file: ..., kind: edm}"]),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("fault", REFUSED)
def test_a_file_that_cannot_teach_is_refused_in_the_plan(fault: str, taught, tiny: dict, tmp_path: Path) -> None:
    spoil, settings, words = REFUSED[fault]
    file = published("ddpmpp", tmp_path / "edm.safetensors")
    spoil(file)
    tiny["samplers"] = {"g": {"solver": "few", "times": [[]], "guidance": [1.5]}}
    tiny["sigma_d"], settings = settings.get("sigma_d", 0.5), {k: v for k, v in settings.items() if k != "sigma_d"}
    size = settings.pop("size", None)
    with pytest.raises(BenchError) as caught:
        taught(file, size, **settings)
    said = str(caught.value)
    assert all(word in said for word in [*words, "tiny.yaml", "remedy:"]), said


def test_another_content_makes_runs_stale_and_another_place_does_not(taught, tmp_path: Path, monkeypatch) -> None:
    file = published("ddpmpp", tmp_path / "edm.safetensors")
    study = taught(file)
    before, mark = fingerprint(study.specification(X)), train_module.checkpoint_mark(without_data(study, "x"))
    assert study.teacher_run(X) is None and study.generation(X) == 0
    assert before != fingerprint(study.specification(Run(arm="y", seed=0)))
    copy = tmp_path / "elsewhere.safetensors"
    shutil.copy(file, copy)
    assert fingerprint(taught(copy).specification(X)) == before
    os.utime(file)
    with monkeypatch.context() as patch:
        patch.setattr(
            "trigbench.workflow.machine.files.sha256",
            lambda path: pytest.fail("gigabytes are read, where the header says it"),
        )
        assert fingerprint(study.specification(X)) == before
    published("ddpmpp", file, seed=1)
    assert fingerprint(study.specification(X)) != before
    assert train_module.checkpoint_mark(without_data(study, "x")) != mark


def test_what_opens_files_is_mathematics_of_the_runs_that_they_teach_alone(taught, tmp_path: Path, monkeypatch) -> None:
    study, read = taught(published("ddpmpp", tmp_path / "edm.safetensors")), set[str]()
    real = fingerprint_module.syntax_digest
    monkeypatch.setattr(
        fingerprint_module, "syntax_digest", lambda path, module: read.add(path.stem) or real(path, module)
    )
    opening = {"teachers", "ddpmpp", "edm2"}
    for run, expected in ((Run(arm="y", seed=0), set()), (X, opening)):
        as_a_new_process()
        fingerprint(study.specification(run))
        assert read & opening == expected


@pytest.mark.slow
def test_a_teacher_from_a_file_is_counted_in_what_a_step_takes(taught, tmp_path: Path) -> None:
    file = published("ddpmpp", tmp_path / "edm.safetensors")
    study, network = taught(file), open_edm_network(file)
    with_teacher, without = (counts_of(without_data(study, arm)).step for arm in ("x", "y"))
    with Operations() as once, torch.no_grad():
        network(torch.zeros(1, 1, 8, 8), torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert with_teacher - without == pytest.approx(once.total, rel=0.02)


def _example() -> dict[str, Any]:
    """The study's part that docs/teachers.md shows first, of EDM's teachers."""
    text, *_ = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8"), re.DOTALL)
    return yaml.safe_load(text)


def test_the_example_of_the_documents_is_a_study(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny["defaults"] = {**tiny["defaults"], "data": "cifar10"}
    tiny["evaluation"]["samples"] = 5000
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    content = tiny | _example()
    (name,) = {arm["teacher"]["file"] for arm in content["arms"].values()}
    published("ddpmpp", tmp_path / name, (3, 32, 32))
    study = load(write_study(content))
    assert {study.teacher_file(arm) for arm in study.arms} == {Path(name)}
    assert {study.arms[arm].start for arm in study.arms} == {"random", "teacher"}


def test_a_run_s_inputs_have_its_teacher_s_file_whatever_its_time(taught, tmp_path: Path) -> None:
    study = taught(file := published("ddpmpp", tmp_path / "edm.safetensors"))
    marks = marks_of(study, X)
    assert inputs_of(study, X)["teacher"] == [file]
    assert "teacher" not in inputs_of(study, Run(arm="y", seed=0))
    os.utime(file, (0, 0))
    assert marks_of(study, X) == marks
