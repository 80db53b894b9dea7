"""The autoencoder of ImageNet 512: pixels to latents and back, with the paper's normalisation.

Its input is in [-1, 1]; latents are (x - mean) / std by channel in unit variance, times sigma_d in
data's (arXiv 2410.11081, App. G). EDM2 feeds it [0, 1], so that its own statistics differ.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trigbench.workflow.data.autoencoders import load_diffusers
from trigbench.workflow.data.kinds.latents.dimensions import LATENT_CHANNELS, PIXELS_A_LATENT
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import best_device

MEAN, STD = (1.56, -0.695, 0.483, 0.729), (5.27, 5.91, 4.21, 4.31)
CHANNELS, FACTOR = LATENT_CHANNELS, PIXELS_A_LATENT
BATCH = 8
INSTRUCTIONS = (
    "fetch stabilityai/sd-vae-ft-mse (config.json and diffusion_pytorch_model.safetensors) into that folder, "
    "or set 'vae' to where it is (docs/data.md)"
)


def check_autoencoder(folder: Path) -> list[Path]:
    """Its files: config.json and one or more .safetensors. Raises BenchError where they, or diffusers, are missing."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) < 2 or not all(file.is_file() for file in files):
        raise BenchError("the autoencoder is not there", file=folder, key="vae", remedy=INSTRUCTIONS)
    load_diffusers("vae")
    return files


@cache
def open_autoencoder(folder: Path) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """(encode, decode) between pixels from 0 to 255, (n, 3, h, w), and raw latents, on the CPU outside.

    Encode takes uint8 and gives mean and standard deviation of each latent, (n, 8, h / 8, w / 8); decode takes (n, 4,
    ...) and gives whole floats, or what is no number where the network's output is none.
    """
    check_autoencoder(folder)
    device = best_device()
    try:  # safetensors alone: the other format is a pickle
        network: Any = load_diffusers("vae").AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise BenchError(
            f"cannot read the autoencoder: {error}", file=folder, key="vae", remedy=INSTRUCTIONS
        ) from error
    network = network.eval().requires_grad_(False).to(device)

    def in_batches(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([function(part.to(device)).cpu() for part in x.split(BATCH)])

    def encode(pixels: Tensor) -> Tensor:
        found = network.encode(pixels.float() / 127.5 - 1).latent_dist
        return torch.cat([found.mean, found.std], dim=1).float()

    def decode(latents: Tensor) -> Tensor:
        found = network.decode(latents).sample.float().clamp(-1, 1)
        return ((found + 1) * 127.5).round()

    return lambda pixels: in_batches(encode, pixels), lambda latents: in_batches(decode, latents)


def normalise(raw: Tensor, noise: Tensor) -> Tensor:
    """Means and deviations (n, 8, h, w) and standard normal noise (n, 4, h, w) -> latents in unit variance."""
    mean, std = raw.float().chunk(2, dim=1)
    return (mean + std * noise - _by_channel(MEAN)) / _by_channel(STD)


def denormalise(latents: Tensor) -> Tensor:
    """Unit variance -> raw latents."""
    return latents * _by_channel(STD) + _by_channel(MEAN)


def _by_channel(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers)[:, None, None]
