"""Maps of two times that a study names by their file: their velocity teaches, and a student starts from them."""

import dataclasses
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.core.test_imf import imf_written
from tests.core.test_public_maps import HEADS, ctm_state, meanflow_state, mf_unet_state, published_positions
from tests.workflow.conftest import ROOT
from tests.workflow.test_converted import X, taught  # noqa: F401 - a fixture
from trigbench.core.condition import Condition
from trigbench.core.fields import bind
from trigbench.core.flow_maps import eulerian_direction
from trigbench.core.networks.ddpmpp import PLAIN, DDPMpp
from trigbench.core.networks.families import DDPMPP, NAMINGS, PUBLISHED, map_family_of
from trigbench.core.networks.maps import CTMMap, IMFMap, MeanFlowMap, MeanFlowUNetMap
from trigbench.core.networks.teachers import _published
from trigbench.core.pairs.pair import FallbackWarning
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import names_in, write_tensors
from trigbench.workflow.run.assembly import started_modules
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.maps import MapTeacher, open_map, open_network
from trigbench.workflow.run.outside.checkpoints import MapFile, open_safetensors
from trigbench.workflow.run.task import open_teacher
from trigbench.workflow.run.training import train
from trigbench.workflow.study.converted import header_of
from trigbench.workflow.study.reading import load

UNET: dict[str, Any] = {"width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4]}
PATH = "trigbench.core.networks.maps:CTMMap"


def ctm(path: Path, classes: int = 10) -> Path:
    """A random network of digits by CTM's public names: EDM's, and of the second time as many again."""
    network = DDPMpp((1, 8, 8), classes=classes, **PLAIN, **UNET)
    naming = next(naming for naming in NAMINGS if naming.network == DDPMPP)
    named = {_published(naming, name, network.plan.stem): value for name, value in network.state_dict().items()}
    second = {
        re.sub(r"\.(weight|bias)$", r"_s.\1", name): value
        for name, value in named.items()
        if re.search(r"map_layer[01]|\.affine\.", name)
    }
    g = torch.Generator().manual_seed(0)
    write_tensors(path, {n: 0.2 * torch.randn(value.shape, generator=g) for n, value in (named | second).items()})
    return path


def placed() -> dict[str, torch.Tensor]:
    """MeanFlow's DiT, with the fixed embedding of places that the public networks have."""
    return {**meanflow_state(), "pos_embed": published_positions(4)}


@pytest.mark.parametrize(
    ("state", "kind", "network", "shape", "classes"),
    [
        (ctm_state, "ctm", CTMMap, (3, 8, 8), 3),
        (meanflow_state, "meanflow", MeanFlowMap, (4, 8, 8), 3),
        (mf_unet_state, "meanflow", MeanFlowUNetMap, (3, 8, 8), 0),
        (imf_written, "imf", IMFMap, (4, 32, 32), 3),
    ],
)
def test_a_plan_knows_a_converted_map_by_its_header(
    state: Callable, kind: str, network: type, shape: tuple, classes: int, tmp_path: Path
) -> None:
    path = tmp_path / "map.safetensors"
    write_tensors(path, {name: tensor.float() for name, tensor in state().items()})
    found = header_of(path)
    assert (found.kind, found.shape, found.classes) == (kind, shape, classes)
    assert found.network == f"{network.__module__}:{network.__name__}" and map_family_of(list(state())) == kind


def test_a_network_of_edm_is_no_map_for_its_filters_nor_for_another_second_time() -> None:
    edm = ["model.enc.8x8_conv.weight", "model.enc.4x4_down.conv0.resample_filter", "model.map_layer0.weight"]
    assert map_family_of(edm) is None
    assert map_family_of([*edm, "model.enc.8x8_block0.affine_s.weight"]) == "ctm"
    assert map_family_of([*edm, "model.map_layer0_s.other"]) is None
    assert map_family_of(["enc.4x4_down.conv0.resample_filter"]) == "meanflow"


def test_a_map_that_may_be_guided_says_so_where_it_teaches_and_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trigbench.core.networks.meanflow.HEADS", {24: HEADS})
    path, cpu = tmp_path / "map.safetensors", torch.device("cpu")
    write_tensors(path, {name: tensor.float() for name, tensor in placed().items()})
    with pytest.warns(UserWarning, match=r"map\.safetensors.*the velocity is the guided one"):
        MapTeacher(path, 0.5, cpu)
    data = Dataset((4, 8, 8), 3, lambda g, n: (torch.zeros(n, 4, 8, 8), Condition()), lambda x, t: x, {})
    found = open_safetensors(path, data, 0.5, cpu)
    assert isinstance(found, MapFile) and PUBLISHED["meanflow"].guided in found.remarks
    write_tensors(path, {name: tensor.float() for name, tensor in mf_unet_state().items()})
    MapTeacher(path, 0.5, cpu)  # told no labels, and no warning, which is an error
    write_tensors(path, {name: tensor.float() for name, tensor in imf_written().items()})
    MapTeacher(path, 0.5, cpu)  # not guided, and no warning


def test_names_of_a_file_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "map.safetensors").write_bytes(b"no such format")
    write_tensors(tmp_path / "samples.safetensors", {"samples": torch.zeros(1)})
    assert names_in(tmp_path / "samples.safetensors") == ["samples"]
    assert names_in(tmp_path / "map.safetensors") == names_in(tmp_path / "nowhere") == names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("state", "make", "settings", "heads"),
    [
        (ctm_state, CTMMap, UNET | {"width": 32}, None),
        (placed, MeanFlowMap, {"width": 24, "depth": 2, "heads": HEADS, "patch": 2}, HEADS),
        (mf_unet_state, MeanFlowUNetMap, UNET | {"width": 32}, None),
        (imf_written, IMFMap, {"width": 24, "heads": 2, "shared": 1, "own": 2, "patch": 8}, None),
    ],
)
def test_a_network_of_a_study_with_a_map_s_weights_is_that_map(
    state: Callable, make: Callable, settings: dict, heads: int | None, tmp_path: Path
) -> None:
    """At any end, and with a tangent along the path."""
    path, kind = tmp_path / "map.safetensors", map_family_of(list(state())) or ""
    write_tensors(path, {name: tensor.float() for name, tensor in state().items()})
    public = open_network(path, kind, 0.5, heads=heads)
    labels = torch.tensor([2, 0]) if public.classes else None
    student = make(public.shape, public.classes, ("target_time",), 0.5, **settings)
    student.network.load_state_dict(public.network.state_dict())
    x, t, u = torch.randn(2, *public.shape), torch.tensor([0.4, 1.5]).double(), torch.tensor([0.0, 0.9]).double()
    condition = Condition(labels, target_time=u)
    torch.testing.assert_close(student(x, t, condition), public.jump(labels)(u)(x, t), rtol=1e-5, atol=1e-5)
    field = bind(student, condition=condition)
    no_rule = pytest.warns(FallbackWarning, match="conv_transpose2d") if make is MeanFlowUNetMap else nullcontext()
    with no_rule:
        found = eulerian_direction(field, x, t, u, torch.randn_like(x), torch.ones(2))
    assert found.g.isfinite().all() and found.g.abs().max() > 1e-3, "its tangent is known"
    with pytest.raises(ValueError, match="told a target time alone"):
        make(public.shape, public.classes, (), 0.5, **settings)


@pytest.mark.slow
def test_a_student_is_taught_by_a_map_and_starts_from_it(taught, tmp_path: Path) -> None:  # noqa: F811
    file = ctm(tmp_path / "map.safetensors")
    said = {"teacher": {"file": str(file), "kind": "ctm"}, "objective": "ayf", "start": "teacher"}
    study = taught(file, {"network": PATH, "settings": UNET}, **said)
    task = without_data(study, "x")
    task = dataclasses.replace(task, teacher=open_teacher(task))
    student = started_modules(task).student.eval()
    x, t, u = (
        torch.randn(4, 1, 8, 8),
        torch.tensor([0.1, 0.7, 1.2, 1.5]).double(),
        torch.tensor([0, 0.7, 0, 1.0]).double(),
    )
    labels = torch.arange(4)
    jump = open_map(file, "ctm", 0.5, labels)
    torch.testing.assert_close(student(x, t, Condition(labels, target_time=u)), jump(u)(x, t), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(task.teacher.field(labels)(x, t), jump(t)(x, t))
    outcome = train(study, X)
    assert (outcome.step, outcome.reason) == (2, None)


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another kind": ({"teacher": "edm"}, ["arms.x.teacher.kind", "of the kind 'ctm'", "write kind: ctm"]),
    "of one time": (
        {"objective": "scd", "start": "teacher"},
        ["arms.x.start", "a method of two times", "start: random"],
    ),
    "another network": ({"start": "teacher", "size": {"width": 8, "blocks": 1}}, ["arms.x.start", PATH, "an MLP"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_map_that_does_not_fit_is_refused_in_the_plan(fault: str, taught, tmp_path: Path) -> None:  # noqa: F811
    settings, words = REFUSED[fault]
    file = ctm(tmp_path / "map.safetensors")
    teacher = {"file": str(file), "kind": settings.pop("teacher", "ctm")}
    size = settings.pop("size", {"network": PATH, "settings": UNET})
    with pytest.raises(BenchError) as caught:
        taught(file, size, **{"objective": "ayf", "teacher": teacher, **settings})
    assert all(word in str(caught.value) for word in [*words, "remedy:"]), str(caught.value)


def test_the_example_of_the_documents_is_a_study(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> None:
    """Of a file whose header is all that a plan reads."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/teachers.md").read_text(encoding="utf-8")
    _, shown = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    (arm,) = shown["arms"].values()
    layers = {"enc.32x32_conv": (128, 3, 3, 3), "map_label": (512, 10), "map_layer0_s": (1,)}
    tensors = {f"model.{name}.weight": torch.ones(shape) for name, shape in layers.items()}
    write_tensors(tmp_path / arm["teacher"]["file"], tensors)
    tiny["data"] = {"cifar10": {"kind": "cifar10", "path": "data/cifar10"}}
    tiny["defaults"] = {**tiny["defaults"], "data": "cifar10"}
    tiny["evaluation"]["samples"] = 5000
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    study = load(write_study(tiny | shown | {"data": tiny["data"]}))
    (made,) = study.arms.values()
    assert made.start == "teacher" and made.told == ("target_time",) and study.sizes[made.size].network == PATH
