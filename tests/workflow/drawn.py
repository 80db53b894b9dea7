"""Images made up for tests: a coloured disc on noise, its colour by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trigbench.workflow.data.autoencoders import load_diffusers
from trigbench.workflow.data.features.dinov2 import DINOv2
from trigbench.workflow.machine.tensors import write_tensors

CLASSES = ("blue bird", "grün", "red")


def draw(side: int, label: int, seed: int) -> np.ndarray:
    """uint8 of (side, side, 3)."""
    rng = np.random.default_rng([seed, label])
    y, x = np.mgrid[:side, :side] / side
    disc = (x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < rng.uniform(0.02, 0.09)
    image = rng.integers(40, 100, (side, side, 3))
    image[disc] = 60
    image[disc, 2 - label % 3] = 230
    return image.astype(np.uint8)


def write_images(
    folder: Path, per_class: int, side: int, classes: Sequence[str] = CLASSES, suffix: str = "png", seed: int = 0
) -> Path:
    """Folders of images, one a class; return `folder`."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            Image.fromarray(draw(side, label, seed + i)).save(folder / name / f"{i:04d} é.{suffix}")
    return folder


def write_noise(folder: Path, per_class: int, side: int, seed: int = 0) -> Path:
    """Such folders, of images that fill the range of bytes evenly: in [-1, 1] they deviate by 0.58."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(np.random.default_rng([seed, label]).integers(256, size=(per_class, side, side, 3))):
            Image.fromarray(image.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def write_autoencoder(place: Path, side: int) -> Path:
    """A tiny autoencoder in `vae` and a tiny DINOv2 beside it, both with random weights; return `place`."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = load_diffusers("vae").AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), latent_channels=4, norm_num_groups=2, sample_size=side, **blocks
    )
    vae.save_pretrained(place / "vae", safe_serialization=True)
    network = DINOv2(64, 1, patch=14, positions=1 + 16 * 16)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    write_tensors(place / "dinov2.safetensors", network.state_dict())
    return place
