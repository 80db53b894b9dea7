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
        "Fréchet distance to the training part", "lower", "torch-fidelity, in the features that the data are judged in"
    ),
    "fd_held_out": Quantity("Fréchet distance to the held-out part", "lower", "the same, to images never trained on"),
    "fdd_train": Quantity(
        "Fréchet distance in DINOv2's features", "lower", "torch-fidelity, to the training part; FD_DINOv2 of the paper"
    ),
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
    "direction_spike": Quantity(
        "largest direction over the median",
        "lower",
        "norm before any control: largest over the run's median",
    ),
    "gradient_spike": Quantity(
        "largest gradient over the median", "lower", "norm of the gradient: largest of any step over the run's median"
    ),
}

COSTS: dict[str, str] = {
    "train_seconds": "wall-clock of training",
    "total_seconds": "wall-clock of the run's job",
    "peak_memory_mb": "largest resident memory of the run's process",
    "images_seen": "training images drawn, with repetition",
    "train_flops": "floating-point operations of training, counted on two images (measured where an experiment asks)",
    "found_mid_time": "middle time that the search found; steps says for which number of steps",
    "sample_flops": "floating-point operations of one sample (measured where an experiment asks)",
    "rate": "learning rate before ramp-up and decay; chosen by tuning where the arm says so",
}
"""What a run costs: neither better nor worse by itself."""

CURVES: dict[str, str] = {
    "training_loss": "loss, mean since the last point; x is the optimiser step",
    "training_direction_norm": "norm of the direction before any control, mean since the last point",
    "training_direction_norm_max": "the largest such norm since the last point",
    "training_gradient_norm": "norm of the gradient, mean since the last point",
    "training_gradient_norm_max": "the largest such norm since the last point",
    "log_weight": "the learned w(t) at the end of training; x is the angle",
    "space_tangent": "norm of dF/dx v over sqrt(D), mean over points; x is the angle",
    "time_tangent": "norm of dF/dt over sqrt(D), mean over points; x is the angle",
    "fixed_point_error_euler": "RMS distance of Euler's own trajectory to the exact map; x is N",
    "fixed_point_error_heun": "the same of Heun's",
    "ct_minus_cd_loss": "CT's loss over CD's, less one, at a fixed network; x is N",
    "gradient_bias": "mean gradient over the grid's step against its limit in N, relative, at a fixed network; x is N",
    "gradient_noise": "standard deviation of the gradient over batches, over its mean; x is N",
    "normalisation_bias": "mean normalised direction of sCT at the exact map over its RMS; x is the dimension",
    "critical_batch": "batch at which the noise of sCT's mean direction equals that bias; x is the dimension",
}
"""What is measured along something, beside the quantities above."""
