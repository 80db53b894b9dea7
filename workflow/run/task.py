"""One run, resolved once: what is trained, on what, taught by what, and where its files are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trigbench.workflow.data.dataset import Dataset
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Task:
    """What all parts of a training ask for."""

    study: Study
    run: Run
    arm: Arm
    """The run's, at the rate that its candidates chose."""
    data: Dataset
    teacher: Any = None
    """As `open_teacher` opens it: weights of a trained one, a network from a file, or none."""

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def label(self) -> str:
        """For whoever watches."""
        return f"{self.study.label} {self.run.arm} seed {self.seed}"

    @property
    def checkpoints(self) -> Path:
        return self.study.files(self.run).checkpoints

    @property
    def network_key(self) -> str:
        """What an error about the network names in the study's file."""
        return f"sizes.{self.arm.size}.network"
