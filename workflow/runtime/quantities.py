"""The table of what is measured: its label, which way is better, and what a diverged run counts as."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Quantity:
    """One metric of runs.csv."""

    label: str
    better: Literal["lower", "higher", "neither"]
    meaning: str

    @property
    def worst(self) -> float:
        """What a diverged run is given: no run is worse."""
        return 0.0 if self.better == "higher" else math.inf


QUANTITIES: dict[str, Quantity] = {
    "map_rms": Quantity(
        "RMS error of the map", "lower", "root mean square over points and angles of learned minus exact map, per axis"
    ),
    "map_rms_one_step": Quantity(
        "RMS error of the map at t_max", "lower", "the same from pure noise alone: the error of one-step samples"
    ),
    "map_worst": Quantity("worst error of the map", "lower", "largest distance of learned and exact map at any point"),
    "sliced_wasserstein": Quantity(
        "sliced Wasserstein distance", "lower", "samples against fresh data, 2-Wasserstein over 128 fixed directions"
    ),
    "fd_train": Quantity(
        "Fréchet distance to the training part", "lower", "torch-fidelity, in the classifier's 64 features"
    ),
    "fd_held_out": Quantity("Fréchet distance to the held-out part", "lower", "the same, to images never trained on"),
    "kid_train": Quantity("kernel distance (KID)", "lower", "torch-fidelity, to the training part"),
    "precision": Quantity("precision", "higher", "torch-fidelity, k = 3, against the training part"),
    "recall": Quantity("recall", "higher", "torch-fidelity, k = 3, against the training part"),
    "nearest_train": Quantity(
        "distance to the nearest training image",
        "neither",
        "mean over samples, in pixels of unit variance; among as many training images as are held out",
    ),
    "nearest_held_out": Quantity(
        "distance to the nearest held-out image", "neither", "mean over samples, in pixels of unit variance"
    ),
}
