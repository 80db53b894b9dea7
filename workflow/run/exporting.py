"""A finished run as a file that leaves the house: its averaged weights, and a card that says all of it.

The card is public: no path of a file or folder here stands in it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.core.citing import citation
from trigbench.core.constants import SIGMA_MIN
from trigbench.core.exported import FORMAT, NETWORKS, Exported, as_pictures
from trigbench.core.map_samplers import MAP_SAMPLERS, by_edges, is_everywhere
from trigbench.core.networks.mlp import ResidualMLP
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.schedules import karras_noise_levels, largest_angle
from trigbench.core.solvers import SOLVERS
from trigbench.core.trigflow import angle_from_noise_level
from trigbench.exported import CARD, load_exported
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import products
from trigbench.workflow.machine.files import identity, write_atomically
from trigbench.workflow.machine.named import named, takes
from trigbench.workflow.machine.provenance import attribution
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run.assembly import boundary_of, make_network
from trigbench.workflow.run.noise import labels_of_samples, noise_of_rows, noise_of_steps
from trigbench.workflow.run.samples import weights_of_now
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.study.converted import ConvertedTeacher
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.freshness import FRESH, run_verdict
from trigbench.workflow.study.kinds import Images, data_kind
from trigbench.workflow.study.licences import Said, licence_of_data, licence_of_weights, published_start
from trigbench.workflow.study.records import AGAIN, RunRecord, TrainingRecord, read_record
from trigbench.workflow.study.study import Run, Sampling, Study

ROWS, TOLERANCE = 2, 1e-5
"""Of the samples that are drawn by the run and by what leaves, and how far apart these may be, in unit variance."""


@dataclass(frozen=True)
class Leaving:
    """A run that leaves: its card, its weights, and the network of somebody's own that it has, if it has one."""

    card: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    task: Task

    @property
    def network(self) -> Any:
        """What makes a network that is no part of the core; None for one of its own."""
        path = self.card["network"]["path"]
        return None if path.startswith(NETWORKS) else named(path)


def leaving(study: Study, run: Run, said: Said) -> Leaving:
    """What of a finished run leaves. Raises BenchError unless it is finished, of now, and all is known that its card
    must say."""
    training, record = weights_of_now(study, run), _record_of_now(study, run)
    task = opened(study, run)
    return carded(task, read_tensors(task.files.weights, AGAIN), training, record, said)


def carded(
    task: Task, weights: Mapping[str, Tensor], training: TrainingRecord, record: RunRecord, said: Said
) -> Leaving:
    """A task's weights with their card. Raises BenchError for a licence that nobody knows or that is said in vain
    (workflow.study.licences), for a network that is told observations, and for latents whose autoencoder is not there.
    """
    study, run = task.study, task.run
    if task.data.observed is not None:
        problem = f"the network of {run.arm} is told observations, and what leaves is told labels alone"
        raise BenchError(problem, file=study.file, key=f"arms.{run.arm}", remedy="export a run on other data")
    about = {
        "format": FORMAT,
        "name": f"{study.label} {run.arm} seed {run.seed}",
        "run": _run_of(task, training, record),
        "network": _network_of(task),
        "weights": _start_of(task, said.weights),
        "data": _data_of(task, said.data),
        "units": _units_of(task),
        "samplings": {how.key: _sampling_of(task, how, record) for how in study.samplings(run.arm)},
        "metrics": {value.metric: value.value for value in record.metrics if value.sampler is None},
        "protocol": record.protocol,
        "provenance": {**record.provenance_of, "evaluation": record.provenance, "export": attribution()},
    }
    return Leaving(json.loads(json.dumps(about)), weights, task)


def place_for(said: str | None, usual: str, suffix: str) -> Path:
    """The file to write, or without suffix the folder. Raises BenchError where there is something already."""
    path = Path(said or f"{usual}{suffix}")
    if path.suffix != suffix and suffix:
        raise BenchError(f"a file of this format ends with {suffix}", file=path, key="--out", remedy=f"add {suffix}")
    if path.exists() or not path.parent.is_dir():
        problem = "there is something already" if path.exists() else "its folder is not there"
        raise BenchError(problem, file=path, key="--out", remedy="name another place, or make room")
    return path


def write_exported(found: Leaving, file: Path) -> None:
    """Write a .safetensors file, which has its name once it is read again and is what the run is; else BenchError."""

    def write(beside: Path) -> None:
        write_tensors(beside, found.weights, {CARD: json.dumps(found.card)})
        check_alike(found, load_exported(beside, found.network))

    write_atomically(file, write)


def check_alike(found: Leaving, made: Exported) -> None:
    """Raise BenchError unless it draws what the run draws, in every way of its study, from the same noise."""
    task, study = found.task, found.task.study
    ways = study.samplings(task.run.arm)
    most = max(how["noise"] for how in found.card["samplings"].values())
    rows, seed = range(ROWS), study.evaluation.noise_seed(task.run.seed)
    first = noise_of_rows(seed, rows, max(len(way.times) for way in ways) + 1, task.data)
    labels, drawn = labels_of_samples(rows, task.data), draw_samples(task, dict(found.weights), ways, ROWS)
    further = noise_of_steps(seed, rows, task.data)
    with_more = torch.stack([first[0], *(next(further) for _ in range(most))])
    made.network.to(task.device)
    for way in ways:
        noise = (first if way.solver in MAP_SAMPLERS else with_more).to(task.device)
        with products(task.device, tf32=False):
            own = made.sample(noise, labels, way.key).cpu()
        apart = float((own - drawn[way.key]).abs().max())
        if not apart <= TOLERANCE:
            problem = f"sampled by {way.key} it is {apart:.2g} from what the run draws from the same noise"
            remedy = "let the network be a function of what it is given, its weights and its persistent buffers alone"
            raise BenchError(problem, file=study.file, key=task.network_key, remedy=remedy)
    made.network.to("cpu")


def _record_of_now(study: Study, run: Run) -> RunRecord:
    """What the run has left. Raises BenchError unless it is judged, as it would be now, and its samples are numbers."""
    files, remedy = study.files(run), f"make it: {study.command()}"
    why = run_verdict(study, run, fingerprint(study.specification(run))) if files.metrics.is_file() else None
    if why != FRESH:
        raise BenchError(f"the run is not judged as it is now: {why or 'no record'}", file=files.metrics, remedy=remedy)
    record = read_record(files.metrics)
    if record.status != "finished" or record.lost:
        problem = f"the run {record.status}" + (f", and no numbers are {', '.join(record.lost)}" if record.lost else "")
        raise BenchError(f"nothing leaves: {problem}", file=files.metrics, remedy="export a run of another arm or seed")
    return record


def _run_of(task: Task, training: TrainingRecord, record: RunRecord) -> dict[str, Any]:
    """What was trained, how, and by which commit."""
    arm, study = task.arm, task.study
    origin = training.provenance
    settings = arm.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if isinstance(arm.teacher, ConvertedTeacher):
        settings["teacher"] = _published(arm.teacher)
    papers = {"citation": citation(arm.objective)} if arm.objective in OBJECTIVES else {}
    return {
        "study": study.study,
        "budget": study.budget,
        "arm": task.run.arm,
        "seed": task.seed,
        "objective": arm.objective,
        "settings": {**settings, "rate": training.rate},
        "steps": training.step,
        "fingerprint": record.fingerprint,
        "commit": origin.get("commit"),
        "dirty": origin.get("dirty"),
        "version": origin.get("version"),
        **papers,
    }


def _network_of(task: Task) -> dict[str, Any]:
    """By what path and settings the core makes the network again, and what it is."""
    study, arm, data = task.study, task.arm, task.data
    size = study.sizes[arm.size]
    about = {"shape": data.shape, "classes": data.classes, "sigma_d": study.sigma_d, "told": arm.told}
    if size.network is None:
        path = f"{ResidualMLP.__module__}:{ResidualMLP.__name__}"
        settings = size.model_dump(include={"width", "blocks", "embedding", "coordinate", "conditioning"}) | about
    else:
        make, path = named(size.network), size.network
        settings = {key: value for key, value in about.items() if takes(make, key)} | size.settings
    sampler, itself = arm.method.sampler, arm.label_dropout is not None and "scale" not in arm.told
    map_ = is_everywhere(sampler) and not by_edges(sampler)
    return {
        "path": path,
        "settings": settings,
        "told": arm.told,
        "field": "velocity" if sampler in SOLVERS else "map" if map_ else None,
        "boundary": SIGMA_MIN if arm.method.boundary else 0.0,
        "guidance": "told" if "scale" in arm.told else "itself" if itself and sampler in SOLVERS else None,
        "parameters": sum(p.numel() for p in make_network(task).parameters()),
    }


def _published(teacher: ConvertedTeacher) -> dict[str, Any]:
    """A published network by its kind and what its file holds, wherever that is."""
    return {"kind": teacher.kind, "content": identity(Path(teacher.file))}


def _start_of(task: Task, said: str | None) -> dict[str, Any] | None:
    """The published network from whose weights the run started, with their licence; None for no such start."""
    licence, start = licence_of_weights(task.study, task.run, said), published_start(task.study, task.run)
    return None if start is None else {**_published(start), "licence": licence}


def _data_of(task: Task, said: str | None) -> dict[str, Any]:
    study, name, data = task.study, task.arm.data, task.data
    about = {"name": name, "kind": study.data[name].kind, "licence": licence_of_data(study, name, said)}
    return {**about, "shape": data.shape, "classes": data.classes}


def _units_of(task: Task) -> dict[str, Any]:
    """What samples are of the data: divided by sigma_d, seen as pictures or not, and what their kind says beside."""
    data = task.study.data[task.arm.data]
    return {
        "sigma_d": task.study.sigma_d,
        "pictures": _pictures_of(task),
        **data_kind(data).units(data, task.data.arrays),
    }


def _pictures_of(task: Task) -> dict[str, Any] | None:
    """How samples become levels from 0 to 1: a factor, a shift, and how many pixels squared are a sample's channels;
    None where they are no pictures, or another function."""
    kind, shape = data_kind(task.study.data[task.arm.data]), task.data.shape
    images = kind.images(task.data.arrays, 1) if kind.images else None
    if images is None or len(shape) != 3:
        return None
    some = 0.3 * torch.randn(shape, generator=generator("pictures"))
    points = torch.stack([torch.zeros(shape), torch.full(shape, 0.5), some])
    levels = _levels(images, points)
    shift, half = float(levels[0].mean()), float(levels[1].mean())
    found = {"scale": 2 * (half - shift), "shift": shift, "fold": levels.shape[-1] // shape[-1]}
    if shape[0] % found["fold"] ** 2:  # as of latents, and of videos, whose frames stand side by side
        return None
    read = as_pictures(points, **found)
    return found if read.shape == levels.shape and torch.allclose(read, levels.clamp(0, 1), atol=1e-5) else None


def _levels(images: Images, points: Tensor) -> Tensor:
    """Points as their kind of data shows them, (n, channels, height, width), black 0 and white 1."""
    seen = torch.from_numpy((images.decoded(points.numpy()) - images.black) / (images.white - images.black)).float()
    return seen[:, None] if seen.ndim == 3 else seen.movedim(-1, 1)


def _sampling_of(task: Task, how: Sampling, record: RunRecord) -> dict[str, Any]:
    """What the core's sampler of that name takes, how much noise, and what was measured of such samples."""
    sigma_d, arm = task.study.sigma_d, task.arm
    way, columns = MAP_SAMPLERS.get(how.solver), how.columns
    measured = [v for v in record.metrics if all(getattr(v, name) == value for name, value in columns.items())]
    about = {
        "solver": how.solver,
        "steps": how.steps,
        "guidance": how.guidance,
        "metrics": {value.metric: value.value for value in measured},
    }
    if way is None:
        known = SOLVERS[how.solver]
        levels = karras_noise_levels(known.steps(how.steps)).tolist()
        angles = angle_from_noise_level(torch.tensor([*levels, 0.0], dtype=torch.float64), sigma_d).tolist()
        noise = len(angles) if "noise" in known.takes else 1
        return about | {"angles": angles, "settings": how.settings or {}, "noise": noise}
    told = {
        "times": [largest_angle(sigma_d), *how.times],
        "edges": segment_edges(arm, sigma_d).tolist(),
        "gamma": how.gamma or 0.0,
        "boundary": boundary_of(arm, sigma_d),
    }
    again = "times" in way.takes and ("gamma" not in way.takes or told["gamma"]) and way.everywhere
    return about | {name: told[name] for name in way.takes} | {"noise": how.steps if again else 1}
