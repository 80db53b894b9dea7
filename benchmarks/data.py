"""Do steps wait for their data? How fast a thread draws batches, against how fast a GPU could take them.

A process of training draws the next batch in one thread while its GPU works on this one. For each study of images
this draws its batches (images from memory-mapped shards of the right shape, noise, times, labels, masks) on one core,
by its processor time, and counts the operations that the step spends on an image. `bound` is the share of the GPU's
peak above which the step would wait; at or above 1 it never would. Files are in the page cache: no disk is measured,
and no copy to a GPU.

    python benchmarks/data.py [--rounds 15] [--tflops 989] [--publish]
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from shared import interleaved, publish

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.data.files.shards import write_shards
from trigbench.workflow.data.kinds.latents.kind import LatentsData
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.counts import counts_of, shape_of
from trigbench.workflow.run.task import Task
from trigbench.workflow.study.kinds import draws_module
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

ARMS = {
    "cifar10-small": ("teacher", "scd", "vsd"),
    "cifar10": ("teacher",),
    "imagenet64": ("teacher-s",),
    "imagenet512": ("teacher-s",),
}
"""Diffusion of the smallest network, whose step asks for most images; sCD works and VSD draws more for each."""
ROWS = 4096
BLOCK = 256


def noise_set(study: Study, folder: Path) -> Dataset:
    """The study's data set as training opens it, its prepared images being noise."""
    name, settings = next(iter(study.data.items()))
    (channels, *side), classes = shape_of(study, name)
    latents = isinstance(settings, LatentsData)
    shape, dtype = ((2 * channels, *side), "float16") if latents else ((channels, *side), "uint8")  # mean and scale
    block = torch.randint(256, (BLOCK, *shape), generator=torch.Generator().manual_seed(0)).numpy().astype(dtype)
    names = tuple(map(str, range(max(classes, 1))))
    digest = write_shards(
        folder / "train",
        "noise",
        shape,
        dtype,
        np.arange(ROWS) % len(names),
        names,
        ROWS,
        lambda r: block[np.array(r) % BLOCK],
    )
    about = {"folder": str(folder), "parts": {"train": digest}, "conditional": classes > 0, "flips": not latents}
    arrays = {"about": np.array(json.dumps(about)), "sigma_d": np.array(study.sigma_d)}
    return draws_module(settings).open_dataset(arrays, study.sigma_d)


def measure(name: str, rounds: int, tflops: float, folder: Path) -> list[dict[str, object]]:
    """A row for each of the study's arms."""
    study, rows = load(name), []
    data, processes = noise_set(study, folder / name), max(1, study.resources.gpu)
    for arm in (arm for arm in ARMS[name] if arm in study.arms):
        task = Task(study, Run(arm=arm, seed=0), study.arms[arm], data)
        share = range(task.arm.batch // processes)
        draw = {"draw": lambda t=task, n=share: draw_batch(t, 1, n)}
        speed = len(share) / float(np.median(interleaved(draw, rounds, "cpu")["draw"]))
        operations = counts_of(task).step
        rows.append({
            "study": name, "arm": arm, "processes": processes, "rows": len(share), "images_per_second": speed,
            "gflop_per_image": operations / 1e9, "tflops": tflops, "bound": speed * operations / (tflops * 1e12),
        })  # fmt: skip
        print(f"{name} {arm}: {speed:.0f} images/s, bound {rows[-1]['bound']:.2f}", flush=True)
    return rows


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="batches drawn for each arm (default: %(default)s)")
    parser.add_argument(
        "--tflops", type=float, default=989, help="the GPU's peak (default: %(default)s, bf16 of an H200)"
    )
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for name in ARMS for row in measure(name, arguments.rounds, arguments.tflops, Path(folder))]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.4g"))
    if arguments.publish:
        publish(table, "data-cpu")


if __name__ == "__main__":
    main()
