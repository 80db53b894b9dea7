"""The table of figure kinds, by which studies name them. Imports nothing, since every plan reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureKind:
    """Where a kind is, and what a study is checked for before anything is run."""

    path: str
    """`package.module:name` of its workflow.report.kinds.Kind."""
    metric: str | None = None
    """What it shows whatever the experiment's metric is; empty for that metric alone."""
    snapshots: bool = False
    """Whether some arm needs snapshots."""


FIGURES: dict[str, FigureKind] = {
    "discretisation": FigureKind("trigbench.workflow.report.kinds.discretisation:KIND"),
    "map_error": FigureKind("trigbench.workflow.report.kinds.map_error:KIND", metric="map_rms"),
    "training": FigureKind("trigbench.workflow.report.kinds.training:KIND"),
    "methods": FigureKind("trigbench.workflow.report.kinds.methods:KIND"),
    "editing": FigureKind("trigbench.workflow.report.kinds.editing:KIND"),
    "policy": FigureKind("trigbench.workflow.report.kinds.policy:KIND"),
    "recognition": FigureKind("trigbench.workflow.report.kinds.recognition:KIND"),
    "sizes": FigureKind("trigbench.workflow.report.kinds.sizes:KIND"),
    "memorisation": FigureKind("trigbench.workflow.report.kinds.memorisation:KIND", metric="nearest_train"),
    "tangents": FigureKind("trigbench.workflow.report.kinds.tangents:KIND", metric="time_tangent"),
    "quality_curves": FigureKind("trigbench.workflow.report.kinds.quality_curves:KIND", snapshots=True),
    "guidance": FigureKind("trigbench.workflow.report.kinds.guidance:KIND"),
    "steps": FigureKind("trigbench.workflow.report.kinds.steps:KIND"),
    "mid_time": FigureKind("trigbench.workflow.report.kinds.mid_time:KIND"),
    "compute": FigureKind("trigbench.workflow.report.kinds.compute:KIND"),
    "theory": FigureKind("trigbench.workflow.report.kinds.theory:KIND"),
}
