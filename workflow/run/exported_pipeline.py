"""A finished run as the folder of a pipeline of diffusers (trigbench.pipeline), which loads it as it stands."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers.scheduling_scm import SCMScheduler

from trigbench.core.exported import Exported, exported
from trigbench.pipeline import ExportedNetwork, ExportedPipeline
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_text, writing
from trigbench.workflow.run.exporting import ROWS, TOLERANCE, Leaving, check_alike

NETWORK, SCHEDULER, PIPELINE = "network", "scheduler", "pipeline"
"""Parts of the folder, by the names that diffusers gives them."""
CODE = '''"""What diffusers looks for here; it stands in trigbench, which is to be installed."""

from trigbench.pipeline import {name} as {name}
'''


def check_pipeline(found: Leaving) -> None:
    """Raise BenchError for what SCMScheduler cannot sample, or others cannot make, before anything is written."""
    about, solvers = found.card["network"], {how["solver"] for how in found.card["samplings"].values()}
    if solvers != {"few"}:
        why = f"this run is sampled by {' and '.join(sorted(solvers))}"
    elif about["field"] != "map":
        why = "this run's maps go to data from some angles alone"
    elif about["boundary"]:
        why = f"this run's map ends at the noise level {about['boundary']:g}"
    elif found.network is not None:
        why = f"its network, {about['path']}, is no part of trigbench"
    else:
        return
    problem, remedy = f"SCMScheduler takes maps to data by their own steps, and {why}", "export it as safetensors"
    raise BenchError(problem, file=found.task.study.file, key="--format", remedy=remedy)


def write_pipeline(found: Leaving, folder: Path) -> None:
    """Write a folder, which has its name once it is read again and draws what the run does; else BenchError."""
    made, network = exported(found.card, found.weights), ExportedNetwork(dict(found.card))
    check_alike(found, made)
    network.network = made.network
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with writing(folder):
            _write_parts(network, beside)
            _check_read(found, made, beside)
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_parts(network: ExportedNetwork, folder: Path) -> None:
    network.save_pretrained(folder / NETWORK)
    SCMScheduler(sigma_data=network.exported.sigma_d).save_pretrained(folder / SCHEDULER)
    index = {
        "_class_name": [PIPELINE, ExportedPipeline.__name__],
        "_diffusers_version": diffusers.__version__,
        NETWORK: [NETWORK, ExportedNetwork.__name__],
        SCHEDULER: ["diffusers", SCMScheduler.__name__],
    }
    write_text(folder / "model_index.json", json.dumps(index, indent=1) + "\n")
    write_text(folder / f"{PIPELINE}.py", CODE.format(name=ExportedPipeline.__name__))
    write_text(folder / NETWORK / f"{NETWORK}.py", CODE.format(name=ExportedNetwork.__name__))


def _check_read(found: Leaving, made: Exported, folder: Path) -> None:
    """Raise BenchError unless the folder draws what the core draws, in every way of the study, from the same noise."""
    network = ExportedNetwork.from_pretrained(folder / NETWORK, low_cpu_mem_usage=False)
    scheduler: Any = SCMScheduler.from_pretrained(folder / SCHEDULER)
    pipeline: Any = ExportedPipeline(network, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    labels = torch.arange(ROWS) % made.classes if made.classes else None
    for way, how in found.card["samplings"].items():
        g = generator("export", way)
        noise = torch.stack([torch.randn(ROWS, *made.shape, generator=g) for _ in how["times"]])
        theirs = pipeline(
            ROWS, labels, timesteps=how["times"], guidance_scale=how["guidance"], generator=generator("export", way),
            output_type="latent",
        ).images  # fmt: skip
        apart = float((theirs / made.sigma_d - made.sample(noise, labels, way)).abs().max())
        if not apart <= TOLERANCE:
            problem = f"diffusers' samples by {way} are {apart:.2g} from those of the run"
            raise BenchError(problem, file=found.task.study.file, key="--format", remedy="export it as safetensors")
