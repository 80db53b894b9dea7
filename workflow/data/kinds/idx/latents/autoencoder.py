"""A small AutoencoderKL of diffusers: trained on grey images, kept as diffusers keeps one, and opened again.

Its input is in [-1, 1]. Latents are (raw - shift_factor) * scaling_factor in unit variance, both measured once it is
trained and kept in its config.json, where diffusers' pipelines look for them.
"""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trigbench.workflow.data.autoencoders import load_diffusers
from trigbench.workflow.data.features.judging import fixed_order
from trigbench.workflow.data.files.drawing import AGAIN
from trigbench.workflow.data.files.shards import check_file
from trigbench.workflow.data.kinds.idx.latents.dimensions import CHANNELS
from trigbench.workflow.data.randomness import generator, seeded
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import best_device
from trigbench.workflow.machine.files import Arrays, read_json, sha256, write_json, writing
from trigbench.workflow.machine.progress import Progress

if TYPE_CHECKING:
    from trigbench.workflow.data.kinds.idx.latents.kind import IdxLatentsData

GROUPS = 4
BATCH, RATE, RAMPUP = 32, 1 / 500, 100
"""Of its training; the rate grows for RAMPUP steps, and falls evenly to 0 over all of them."""
KL_WEIGHT = 1e-3
"""Of the divergence of an image's latents from standard normal ones, over its pixels, beside the mean squared error."""
SCALED = 2000
"""Training images on whose latents shift and scale are measured."""
AT_ONCE = 250
FILES = ("config.json", "diffusion_pytorch_model.safetensors")
DIGESTS = "digests.json"
"""Of these, beside them."""


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder with its scale; tensors outside are on the CPU."""

    network: Any
    shift: float
    scale: float

    def encode(self, levels: Tensor) -> Tensor:
        """Grey levels, uint8 of (n, 1, side, side), -> mean and deviation of each latent in unit variance, (n, 2
        CHANNELS, side / 4, side / 4)."""

        def encoded(part: Tensor) -> Tensor:
            found = self.network.encode(_centred(part)).latent_dist
            return torch.cat([(found.mean - self.shift) * self.scale, found.std * self.scale], dim=1)

        return self._in_batches(encoded, levels)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents in unit variance, (n, CHANNELS, ...), -> whole grey levels from 0 to 255 as floats, (n, 1, side,
        side), or what is no number where the network's output is none."""

        def decoded(part: Tensor) -> Tensor:
            found = self.network.decode(part / self.scale + self.shift).sample
            return ((found.clamp(-1, 1) + 1) * 127.5).round()

        return self._in_batches(decoded, latents)

    def _in_batches(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([function(part.to(self.network.device)).float().cpu() for part in x.split(AT_ONCE)])


def make_autoencoder(
    folder: Path, data: "IdxLatentsData", rows: Callable[[np.ndarray], np.ndarray], count: int
) -> dict[str, str]:
    """The digests of its files, by their names; trained unless it is there, as it was written.

    `rows` gives the training images, uint8 of (n, 1, side, side), of which there are `count`.
    """
    if (kept := _kept(folder)) is not None:
        return kept
    network = _trained(_new(data), data, rows, count)
    shift, scale = _measured(network, rows(fixed_order(count, data.seed, "scale")[:SCALED]))
    network.register_to_config(shift_factor=shift, scaling_factor=scale)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        try:
            network.save_pretrained(beside, safe_serialization=True)
            write_json(beside / DIGESTS, {name: sha256(beside / name) for name in FILES})
            if (kept := _kept(folder)) is not None:  # made by another meanwhile
                return kept
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return read_json(folder / DIGESTS, AGAIN)


def _kept(folder: Path) -> dict[str, str] | None:
    """The digests that were written with the files, where each is still as it was then."""
    written = read_json(folder / DIGESTS, AGAIN) if (folder / DIGESTS).is_file() else {}
    whole = written.keys() == set(FILES) and all((folder / name).is_file() for name in FILES)
    return written if whole and all(sha256(folder / name) == written[name] for name in FILES) else None


def said_of(arrays: Arrays) -> dict[str, Any]:
    """Of prepared data: the autoencoder's folder, and the digests of its files."""
    return json.loads(str(arrays["autoencoder"]))


def autoencoder_of(arrays: Arrays) -> Autoencoder:
    """The one of prepared data. Raises BenchError where its files are not those that were prepared."""
    origin = said_of(arrays)
    for name in FILES:
        check_file(Path(origin["folder"]) / name, origin["sha256"][name], AGAIN)
    return _opened(Path(origin["folder"]), *origin["sha256"].values())


@cache
def _opened(folder: Path, *digests: str) -> Autoencoder:
    try:  # safetensors alone: the other format is a pickle
        network: Any = load_diffusers("kind").AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise BenchError(f"cannot read the autoencoder: {error}", file=folder, key="kind", remedy=AGAIN) from error
    network = network.eval().requires_grad_(False).to(best_device())
    return Autoencoder(network, network.config.shift_factor, network.config.scaling_factor)


def _new(data: "IdxLatentsData") -> Any:
    """As it is drawn from the data's seed."""
    levels = len(data.widths)
    with seeded(data.seed, "autoencoder"):
        return load_diffusers("kind").AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=data.widths,
            layers_per_block=1,
            latent_channels=CHANNELS,
            norm_num_groups=GROUPS,
            sample_size=data.images.size,
        )


def _trained(network: Any, data: "IdxLatentsData", rows: Callable[[np.ndarray], np.ndarray], count: int) -> Any:
    """After its training, on the CPU; to the same bits from one seed, number of threads and versions."""
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    steps = -(-data.seen // BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, (step + 1) / RAMPUP) * (1 - step / steps))
    progress = Progress("autoencoder: steps", steps)
    for step, (chosen, g) in enumerate(itertools.islice(_batches(data, count), steps)):
        images = _centred(torch.from_numpy(rows(chosen.numpy())))
        posterior = network.encode(images).latent_dist
        decoded = network.decode(posterior.sample(generator=g)).sample
        divergence = posterior.kl().mean() / images[0].numel()
        loss = (decoded - images).square().mean() + KL_WEIGHT * divergence
        if not bool(loss.isfinite()):
            problem = f"the autoencoder's loss is no number after {step} steps"
            raise BenchError(problem, key="widths", remedy="set other 'widths', or another 'seed'")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        progress.update(step + 1)
    return network.eval().requires_grad_(False)


def _batches(data: "IdxLatentsData", count: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Rows in an order of each pass's own, and a generator for what is drawn of them."""
    for turn in itertools.count():
        g = generator(data.seed, "autoencoder", turn)
        for chosen in torch.randperm(count, generator=g).split(BATCH):
            yield chosen, g


def _measured(network: Any, levels: np.ndarray) -> tuple[float, float]:
    """The mean of raw latents of these images, and one over their standard deviation, each drawn of its image's own."""
    raw = Autoencoder(network.to(best_device()), 0.0, 1.0).encode(torch.from_numpy(levels)).double()
    mean, std = raw.chunk(2, dim=1)
    spread = float((mean.var(correction=0) + std.square().mean()).sqrt())
    return float(mean.mean()), 1 / spread


def _centred(levels: Tensor) -> Tensor:
    return levels.float() / 127.5 - 1
