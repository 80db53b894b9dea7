"""Models in files: networks of EDM and EDM2, CM's, maps of two times, and U-Nets of diffusers with their scheduler."""

import importlib
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.fields import Jump
from trigbench.core.networks.families import (
    CONSISTENCY,
    ITS_TEACHER,
    OPENAI,
    PUBLISHED,
    SIGMA_MIN_OF,
    PublishedFamily,
    map_family_of,
)
from trigbench.core.networks.openai import consistency_field
from trigbench.core.networks.teachers import field_from_discrete_vp
from trigbench.core.trigflow import Field
from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import sha256
from trigbench.workflow.machine.tensors import names_in
from trigbench.workflow.run.maps import open_network
from trigbench.workflow.run.teachers import EdmTeacher, open_consistency
from trigbench.workflow.study.converted import header_of

CONVERT = (
    "convert a published checkpoint as docs/teachers.md says; other models are judged as a function (docs/judge.md)"
)
UNET, SCHEDULER = "UNet2DModel", "scheduler_config.json"


@dataclass(frozen=True)
class DiffusionModel:
    """A diffusion model."""

    field: Callable[[Tensor | None], Field]
    """labels -> its velocity, in unit variance."""
    files: dict[str, str]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConsistencyModel:
    """A consistency model, whose map is the identity at a noise level above 0."""

    field: Callable[[Tensor | None], Field]
    """labels -> the field whose map it is, in unit variance."""
    boundary: float
    """The angle at which the map ends."""
    files: dict[str, str]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class MapFile:
    """A map of two times."""

    jump: Callable[[Tensor | None], Jump]
    """labels -> its map, in unit variance."""
    sigma_d: float
    files: dict[str, str]
    remarks: tuple[str, ...]


def open_safetensors(
    path: Path, dataset: Dataset, sigma_d: float, device: torch.device
) -> DiffusionModel | ConsistencyModel | MapFile:
    """What `trigbench convert` wrote: a consistency model of CM's, or a map of two times, where its tensors are one's,
    else a network of EDM or EDM2.

    Raises BenchError for what is none, and for another shape, other classes or another scale than the data's.
    """
    names = names_in(path)
    if SIGMA_MIN_OF in names:
        return open_cm(path, dataset, sigma_d, device)
    family = map_family_of(names)
    if family is None:
        return open_edm(path, dataset, sigma_d, device)
    found = open_network(path, family, sigma_d, device)
    _check_fits(path, found.shape, found.classes, dataset)
    known = PUBLISHED[family]
    _check_scale(path, known, sigma_d)
    guided = (known.guided,) if known.guided and found.classes else ()
    return MapFile(found.jump, sigma_d, {str(path): sha256(path)}, (known.remark.format(sigma_d=sigma_d), *guided))


def open_edm(path: Path, dataset: Dataset, sigma_d: float, device: torch.device) -> DiffusionModel:
    """A converted network of EDM or EDM2. Raises BenchError unless it is of the data's shape, classes and scale."""
    try:
        header = header_of(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"no network that is known here: {error}", file=path, remedy=CONVERT) from error
    _check_fits(path, header.shape, header.classes, dataset)
    _check_scale(path, PUBLISHED[header.kind], sigma_d)
    taken = (PUBLISHED[ITS_TEACHER].remark,) if any(name.startswith(OPENAI) for name in names_in(path)) else ()
    return DiffusionModel(EdmTeacher(path, sigma_d, device).field, {str(path): sha256(path)}, taken)


def open_cm(path: Path, dataset: Dataset, sigma_d: float, device: torch.device) -> ConsistencyModel:
    """A converted consistency model of CM's. Raises BenchError unless it is of the data's shape, classes and scale."""
    network, smallest = open_consistency(path)
    _check_fits(path, network.shape, network.classes, dataset)
    _check_scale(path, known := PUBLISHED[CONSISTENCY], sigma_d)
    network.requires_grad_(False).to(device).eval()
    return ConsistencyModel(
        lambda labels: consistency_field(network, smallest, sigma_d, labels),
        math.atan(smallest / sigma_d), {str(path): sha256(path)}, (known.remark,),
    )  # fmt: skip


def is_diffusers(folder: Path) -> bool:
    """Whether the folder holds a U-Net of diffusers, alone or in a pipeline."""
    return _unet_folder(folder) is not None


def open_diffusers(folder: Path, dataset: Dataset, sigma_d: float, device: torch.device) -> DiffusionModel:
    """A U-Net of diffusers that predicts the noise or v, with the table of its scheduler.

    Raises BenchError unless it is of the data's shape and classes, and where diffusers is missing.
    """
    unet_folder = _unet_folder(folder)
    assert unet_folder is not None, "asked before"
    settings = _settings(unet_folder / "config.json")
    side, channels = settings.get("sample_size"), settings.get("in_channels")
    sides = side if isinstance(side, list) else [side, side]
    embedded = settings.get("num_class_embeds") if settings.get("class_embed_type") is None else None
    _check_fits(folder, (channels, *sides), embedded or 0, dataset)
    if settings.get("class_embed_type") is not None:
        problem = f"class_embed_type {settings['class_embed_type']!r} is not known here"
        raise BenchError(problem, file=unet_folder / "config.json", remedy="judge it as a function (docs/judge.md)")
    places = [folder, folder / "scheduler", folder.parent / "scheduler"]
    scheduler = next((place / SCHEDULER for place in places if (place / SCHEDULER).is_file()), None)
    if scheduler is None:
        remedy = f"put {SCHEDULER} there, as diffusers saves it: its steps say what noise the network has seen"
        raise BenchError("no scheduler beside the U-Net", file=folder, remedy=remedy)
    unet, table, prediction = _opened(unet_folder, scheduler)
    unet = unet.requires_grad_(False).to(device).eval()

    def field(labels: Tensor | None) -> Field:
        named = {} if labels is None else {"class_labels": labels}
        return field_from_discrete_vp(lambda x, n: unet(x, n, **named).sample, table, sigma_d, prediction)

    try:
        field(None)
    except ValueError as error:
        raise BenchError(str(error), file=scheduler, remedy="judge it as a function (docs/judge.md)") from error
    weights = sorted(unet_folder.glob("*.safetensors"))
    return DiffusionModel(
        field, {str(file): sha256(file) for file in (unet_folder / "config.json", *weights, scheduler)}
    )


def _unet_folder(folder: Path) -> Path | None:
    for place in (folder / "unet", folder):
        if (place / "config.json").is_file() and _settings(place / "config.json").get("_class_name") == UNET:
            return place
    return None


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _opened(unet_folder: Path, scheduler: Path) -> tuple[Any, Tensor, Any]:
    """(the U-Net, its table, what it predicts), read without a network and without a pickle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package: Any = importlib.import_module("diffusers")
            unets, schedulers = package.UNet2DModel, package.DDPMScheduler  # imported when first named
    except (ImportError, RuntimeError) as error:  # the second where a library of its own is of another build than torch
        problem = f"diffusers cannot be imported: {str(error).strip().splitlines()[-1]}"
        remedy = "pip install 'trigbench[latents]', with torch and torchvision of one build"
        raise BenchError(problem, file=unet_folder, remedy=remedy) from error
    try:
        unet: Any = unets.from_pretrained(unet_folder, local_files_only=True, use_safetensors=True)
        made: Any = schedulers.from_config(_settings(scheduler))
    except (OSError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        remedy = "save it again by diffusers' save_pretrained, as .safetensors"
        raise BenchError(f"diffusers cannot open it: {said}", file=unet_folder, remedy=remedy) from error
    return unet, made.alphas_cumprod, made.config.prediction_type


def _check_scale(path: Path, family: PublishedFamily, sigma_d: float) -> None:
    if family.sigma_d not in (None, sigma_d):
        remedy = "judge it as a function, which says how it is scaled (docs/judge.md)"
        problem = f"{family.said}'s data have a standard deviation of {family.sigma_d}, the study's of {sigma_d:g}"
        raise BenchError(problem, file=path, remedy=remedy)


def _check_fits(place: Path, shape: tuple[Any, ...], classes: int, dataset: Dataset) -> None:
    if tuple(shape) != dataset.shape:
        problem = f"the network is of shape {tuple(shape)}, the data of {dataset.shape}"
        raise BenchError(problem, file=place, remedy="judge it in a study of data of its shape")
    if classes != dataset.classes:
        problem = f"the network is told {classes or 'no'} classes, and the data have {dataset.classes or 'none'}"
        remedy = "take the network that is told the data's classes, or a study whose networks are told none"
        raise BenchError(problem, file=place, remedy=remedy)
