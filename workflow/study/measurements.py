"""What an experiment measures beside its runs: the table.

A measurement is a module with `measure(study, experiment) -> Measured`; adding one is such a module and one entry here,
which says what it measures. Imports nothing heavy, since every plan reads the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trigbench.workflow.study.edits import BY_VELOCITY, EDITED, EDITING
from trigbench.workflow.study.policies import COSTS_OF_POLICIES, FROM_LOW_VARIANCE, OF_POLICIES
from trigbench.workflow.study.quantity import Curve, Quantity


@dataclass(frozen=True)
class Measurement:
    """One measurement, and what only it measures."""

    path: str
    """Its module."""
    shares: tuple[str, ...] = ()
    """Quantities of every study that it measures in another way."""
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    costs: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    samples: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    """Words, line and marker of the samples that it draws in ways of its own, by what stands for their sampler."""

    @property
    def measures(self) -> tuple[str, ...]:
        """The curves and quantities that it measures."""
        return (*self.shares, *self.quantities, *self.curves)


_CONTROLS = {
    "none": "as it is",
    "half": "over the root of its squared length",
    "one": "over its squared length",
    "normalised": "as cos t df/dt normalised as sCM's tangent",
}
_WAYS = {"renoised": "all re-noised between steps", "jumps": "nothing re-noised"}

MEASUREMENTS: dict[str, Measurement] = {
    "adapters": Measurement(
        "trigbench.workflow.run.measurements.adapters",
        quantities={
            "interaction": Quantity(
                "interaction of two adapters",
                "lower",
                "what a style's and an acceleration's adapter change together at scales 0.8 and 1 beyond the sum of "
                "what each changes alone, over the smaller of these; root mean squares of F over points and angles",
                of="map",
            ),
            "interaction_order": Quantity(
                "order of the interaction",
                "neither",
                "p of an interaction ~ scale^p, from both adapters at a quarter to both at a half; 2 where they add to "
                "first order",
                signed=True,
                of="map",
            ),
        },
        curves={
            "interaction_at": Curve("`interaction` at one angle; x is the angle", "angle"),
            "interaction_size": Curve(
                "root mean square of what two adapters change together beyond what each changes alone; x is the scale "
                "of both",
                "scale",
            ),
        },
        samples={
            "sum": ("style and acceleration, added", "-", "o"),
            "acceleration": ("acceleration alone", ":", "s"),
        },
    ),
    "costs": Measurement(
        "trigbench.workflow.run.measurements.costs",
        costs={
            "train_flops": "floating-point operations of training, counted on two images "
            "(measured where an experiment asks)",
            "sample_flops": "floating-point operations of one sample (measured where an experiment asks)",
        },
    ),
    EDITING: Measurement(
        "trigbench.workflow.run.measurements.editing",
        quantities=EDITED,
        samples=BY_VELOCITY,
        curves={
            "edit_gap": Curve(
                "2-Wasserstein distance of zero-shot edits to the posterior: of a Gaussian of correlation 0.8 of which "
                "1.5 is seen, by its exact map, in closed form; x is the number of steps",
                "steps",
                exact=True,
            ),
        },
    ),
    "flow_map": Measurement(
        "trigbench.workflow.run.measurements.flow_map",
        shares=("segment_rms", "map_rms", "map_rms_one_step", "map_worst"),
    ),
    "normalisation_bias": Measurement(
        "trigbench.workflow.run.measurements.normalisation_bias",
        curves={
            "normalisation_bias": Curve(
                "mean normalised direction of sCT at the exact map over its RMS; x is the dimension", "dimension"
            ),
            "critical_batch": Curve(
                "batch at which the noise of sCT's mean direction equals that bias; x is the dimension", "dimension"
            ),
        },
    ),
    "policy": Measurement(
        "trigbench.workflow.run.measurements.policy",
        quantities=OF_POLICIES,
        costs=COSTS_OF_POLICIES,
        samples=FROM_LOW_VARIANCE,
    ),
    "power_bias": Measurement(
        "trigbench.workflow.run.measurements.power_bias",
        curves={
            **{
                f"power_bias_{name}": Curve(
                    f"mean direction of MeanFlow at the exact map, {said}, over its RMS; x is the dimension",
                    "dimension",
                )
                for name, said in _CONTROLS.items()
            },
            **{
                f"power_critical_batch_{name}": Curve(
                    f"batch whose mean direction of MeanFlow, {said}, has as much noise as bias; x is the dimension",
                    "dimension",
                )
                for name, said in _CONTROLS.items()
            },
        },
    ),
    "search": Measurement(
        "trigbench.workflow.run.measurements.search",
        costs={
            "found_mid_time": "middle time that the search found; steps says for which number of steps",
        },
    ),
    "speaking": Measurement(
        "trigbench.workflow.run.measurements.speaking",
        quantities={
            "heard": Quantity(
                "recognition accuracy of what is heard",
                "higher",
                "share of samples, made sound by the vocoder and that spectrograms again, that the data's own "
                "recogniser reads as the word asked for",
                signed=True,
                least=0.0,
                floor=0.0,
                ceiling=1.0,
            ),
        },
        costs={
            "network_seconds": "real-time factor of the network: seconds for a clip, drawn alone, over the clip's "
            "seconds; of the machine that measured, and decides no claim",
            "vocoder_seconds": "real-time factor of the vocoder: the same of making a clip sound",
        },
    ),
    "step_errors": Measurement(
        "trigbench.workflow.run.measurements.step_errors",
        curves={
            **{
                f"excess_{way}": Curve(
                    f"RMS of samples by a map that errs over that by the exact one, less 1, {said}; "
                    "x is the number of steps",
                    "steps",
                    signed=True,
                )
                for way, said in _WAYS.items()
            },
            **{
                f"predicted_{way}": Curve(
                    f"the same of a Gaussian, in closed form, {said}; x is the number of steps",
                    "steps",
                    signed=True,
                    exact=True,
                )
                for way, said in _WAYS.items()
            },
        },
    ),
    "theory": Measurement(
        "trigbench.workflow.run.measurements.theory",
        curves={
            "fixed_point_error_euler": Curve(
                "RMS distance of Euler's own trajectory to the exact map; x is N", "intervals", exact=True
            ),
            "fixed_point_error_heun": Curve("the same of Heun's", "intervals", exact=True),
            "ct_minus_cd_loss": Curve(
                "CT's loss over CD's, less one, at a fixed network; x is N", "intervals", "CT minus CD loss"
            ),
            "gradient_bias": Curve(
                "mean gradient over the grid's step against its limit in N, relative, at a fixed network; x is N",
                "intervals",
            ),
            "gradient_noise": Curve(
                "standard deviation of the gradient over batches, over its mean; x is N", "intervals"
            ),
        },
    ),
}
