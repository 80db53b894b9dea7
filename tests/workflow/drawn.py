"""Images made up for tests: a coloured disc on noise, its colour by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

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
