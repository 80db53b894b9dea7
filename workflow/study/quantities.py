"""The table of what is measured: its label, which way is better, and what a diverged run counts as.

A data set of one's own declares its own: QUANTITIES of its module, by name, as here. What one measurement alone
measures stands in that one's entry (workflow.study.measurements), and is added here.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.kinds import is_own, kind_module
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.quantity import Curve, Quantity

QUANTITIES: dict[str, Quantity] = {
    "map_rms": Quantity(
        "RMS error of the map",
        "lower",
        "root mean square over points and angles of learned minus exact map, per axis",
        of="map",
    ),
    "map_rms_one_step": Quantity(
        "RMS error of the map at t_max",
        "lower",
        "the same from pure noise alone: the error of one-step samples",
        of="map",
    ),
    "map_worst": Quantity(
        "worst error of the map", "lower", "largest distance of learned and exact map at any point", of="map"
    ),
    "segment_rms": Quantity(
        "RMS error of the map between two angles",
        "lower",
        "root mean square over points and pairs of angles of learned minus exact map of two times, per axis",
        of="map",
    ),
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
    "kid_train": Quantity("kernel distance (KID)", "lower", "torch-fidelity, to the training part", signed=True),
    "precision": Quantity(
        "precision",
        "higher",
        "torch-fidelity, k = 3, against the training part",
        signed=True,
        least=0.0,
        floor=0.0,
        ceiling=1.0,
    ),
    "recall": Quantity(
        "recall",
        "higher",
        "torch-fidelity, k = 3, against the training part",
        signed=True,
        least=0.0,
        floor=0.0,
        ceiling=1.0,
    ),
    "nearest_train": Quantity(
        "distance to the nearest training image",
        "neither",
        "mean over samples, in pixels of unit variance; among as many training images as are held out",
    ),
    "nearest_held_out": Quantity(
        "distance to the nearest held-out image", "neither", "mean over samples, in pixels of unit variance"
    ),
    **{
        name: Quantity(
            label,
            "higher",
            f"share of samples that the data's own recogniser, trained on the training part, reads as {what}",
            signed=True,
            least=0.0,
            floor=0.0,
            ceiling=1.0,
        )
        for name, label, what in (
            ("recognised", "recognition accuracy", "the word, or the class, asked for"),
            ("voice_recognised", "voices recognised", "in the voice asked for"),
        )
    },
    **{
        name: Quantity(label, "higher", meaning, signed=True, least=0.0, floor=0.0, ceiling=1.0)
        for name, label, meaning in (
            (
                "lawful",
                "videos that obey",
                "share of samples that are intact and move evenly, at a speed that the data have: motion error to 0.25",
            ),
            (
                "intact",
                "videos of one shape",
                "share of samples whose every frame shows the shape asked for, once: shape error to 0.25",
            ),
        )
    },
    "motion_error": Quantity(
        "motion error",
        "lower",
        "root mean square over frames from where the shape is to the nearest even motion between walls, mean over "
        "samples, in pixels; 0 also of what stands still",
    ),
    "shape_error": Quantity(
        "shape error",
        "lower",
        "root of the squared difference of a frame from the nearest shape at its place, over the side of a shape, mean "
        "over frames",
    ),
    "speed_error": Quantity(
        "error of speeds",
        "lower",
        "1-Wasserstein distance of the speeds of the nearest even motions from held-out videos' own, in pixels a frame",
    ),
    "direction_spike": Quantity(
        "largest direction over the median",
        "lower",
        "norm before any control: largest over the run's median",
        of="training",
    ),
    "gradient_spike": Quantity(
        "largest gradient over the median",
        "lower",
        "norm of the gradient: largest of any step over the run's median",
        of="training",
    ),
    "collapse": Quantity(
        "how far the student has collapsed",
        "lower",
        "noise that the student leaves at the end of training, from what its teacher's flow leaves (0) to what a dead "
        "map leaves (1), in the worst of four bins of time; from 0.5 on it has collapsed",
        signed=True,
        of="training",
    ),
    **{name: said for one in MEASUREMENTS.values() for name, said in one.quantities.items()},
}

Quantities = Mapping[str, Quantity]
"""By the metric's name in runs.csv."""

COSTS: dict[str, str] = {
    "train_seconds": "wall-clock of training",
    "total_seconds": "wall-clock of the run's job",
    "peak_memory_mb": "largest resident memory of the run's process",
    "images_seen": "training images drawn, with repetition",
    "rate": "learning rate before ramp-up and decay; chosen by tuning where the arm says so",
    **{name: said for one in MEASUREMENTS.values() for name, said in one.costs.items()},
}
"""What a run costs: neither better nor worse by itself."""
EXACT_COSTS = ("images_seen", "train_flops", "sample_flops")
"""Those that are counted."""

ACTIVITIES: dict[str, str] = {
    "clipped_share": "share of the direction's elements that clipping changed, mean over a run's steps",
    "clipped_steps": "share of a run's steps in which clipping changed an element of a direction",
    "clamped_share": "share of samples whose adaptive weight was beyond its bound, mean over a run's steps",
    "clamped_steps": "share of a run's steps in which a sample's adaptive weight was beyond its bound",
}
"""How far an intervention acted in a run, from 0 to 1; what shows that a claim on it was tested."""

_OF_TIME = ("t < 0.39", "0.39 < t < 0.79", "0.79 < t < 1.18", "t > 1.18")
"""The bins of core.noise_left."""
_MIDDLES = ("0.20", "0.59", "0.98", "1.37")
CURVES: dict[str, Curve] = {
    "training_loss": Curve("loss, mean since the last point; x is the optimiser step", "step", signed=True),
    "training_direction_norm": Curve("norm of the direction before any control, mean since the last point", "step"),
    "training_direction_norm_max": Curve("the largest such norm since the last point", "step"),
    "training_gradient_norm": Curve("norm of the gradient, mean since the last point", "step"),
    "training_gradient_norm_max": Curve("the largest such norm since the last point", "step"),
    **{
        f"training_{name}": Curve(f"{said} since the last point".replace("a run's steps", "steps"), "step")
        for name, said in ACTIVITIES.items()
    },
    **{
        f"training_direction_norm_{number}": Curve(
            f"norm of the direction before any control where {of_time}, mean since the last row of the log", "step"
        )
        for number, of_time in enumerate(_OF_TIME, 1)
    },
    **{
        f"training_noise_left_{number}": Curve(
            f"share of the noise at t = {middle} that the student's map leaves, on a held batch", "step"
        )
        for number, middle in enumerate(_MIDDLES, 1)
    },
    "log_weight": Curve("the learned w(t) at the end of training; x is the angle", "angle", signed=True),
    "space_tangent": Curve("norm of dF/dx v over sqrt(D), mean over points; x is the angle", "angle"),
    "time_tangent": Curve("norm of dF/dt over sqrt(D), mean over points; x is the angle", "angle"),
    **{name: said for one in MEASUREMENTS.values() for name, said in one.curves.items()},
}
"""What is measured along something, beside the quantities above."""


def along(metric: str) -> str:
    """What a metric of curves.csv goes along, as a Curve has it: the error of a map along the angle, others in time."""
    return CURVES[metric].along if metric in CURVES else "angle" if metric == "map_rms" else "step"


def is_signed(metric: str, known: Quantities = QUANTITIES) -> bool:
    """Whether a metric, or what is measured along something, may be zero or less."""
    found = known.get(metric) or CURVES.get(metric)
    return found is not None and found.signed


def is_exact(metric: str, known: Quantities = QUANTITIES) -> bool:
    """Whether a metric has no scatter over seeds."""
    found = known.get(metric) or CURVES.get(metric)
    return metric in EXACT_COSTS or (found is not None and found.exact)


def quantities_of(data_sets: Iterable[Any]) -> dict[str, Quantity]:
    """All that a study with these data sets (workflow.study.kinds.Data) may measure: the project's, and declared ones.

    Imports the modules of data sets of one's own. Raises BenchError where one measures what nothing declares, or
    declares what is no Quantity or has another meaning already.
    """
    found = dict(QUANTITIES)
    for module, data in {data.module: data for data in data_sets if is_own(data)}.items():
        own = kind_module(data)
        declared = getattr(own, "QUANTITIES", {})
        for name, quantity in declared.items() if isinstance(declared, Mapping) else [("QUANTITIES", None)]:
            if not isinstance(quantity, Quantity) or not str(name).isidentifier():
                problem = f"{name!r} is declared as {quantity!r}"
                raise _undeclared(module, problem, "a name and a Quantity(label, 'lower' or 'higher', meaning)")
            if name in COSTS or name in CURVES or found.get(name, quantity) != quantity:
                raise _undeclared(module, f"{name!r} means something else already", "another name")
            found[name] = quantity
        measured = [name for names in getattr(own, "METRICS", {}).values() for name in names]
        for name in measured:
            if name not in found:
                problem = f"{name!r} is measured, and nothing says which way is better"
                raise _undeclared(module, problem, f"{name!r}: Quantity(label, 'lower' or 'higher', meaning)")
    return found


def _undeclared(module: str, problem: str, wanted: str) -> BenchError:
    remedy = f"give QUANTITIES of {module} {wanted}; Quantity is of trigbench.workflow.study.quantity"
    return BenchError(problem, file=module, key="QUANTITIES", remedy=remedy)
