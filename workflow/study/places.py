"""Where the workflow writes, below the folder that it is started in."""

from dataclasses import dataclass
from pathlib import Path

from trigbench._places import ROOT

RESULTS, REPORTS = Path("results"), Path("reports")
TIMING = RESULTS / "timing.json"
SIMULATIONS = RESULTS / "simulations.json"
"""How often verdicts are false, and find what is there."""
FRONT = REPORTS / "index.html"
PUBLISHED = ROOT / RESULTS / "published"
"""The committed results, beside the workflow."""


@dataclass(frozen=True)
class RunFiles:
    """Where the files of one run are: what its parts leave in its folder, and what stands while it is made."""

    folder: Path
    checkpoints: Path
    """Not an output of any rule: a place that the workflow never clears."""
    printed: Path
    """What the run's job printed (workflow/rules/runs.smk)."""

    @property
    def timed(self) -> Path:
        """How long Snakemake says that the job took."""
        return self.printed.with_suffix(".tsv")

    @property
    def training(self) -> Path:
        """The record of training (workflow.study.records), as `samples_record` and `metrics` are of the parts after."""
        return self.folder / "training.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    @property
    def weights(self) -> Path:
        """The averaged ones."""
        return self.folder / "weights.safetensors"

    @property
    def snapshots(self) -> Path:
        """The averages along training, of an arm that keeps any."""
        return self.folder / "snapshots.safetensors"

    @property
    def adapter(self) -> Path:
        """The averaged adapter, of an arm that has one; it is in `weights`, added."""
        return self.folder / "adapter.safetensors"

    @property
    def samples_record(self) -> Path:
        return self.folder / "samples.json"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.npz"

    @property
    def metrics(self) -> Path:
        """The run's record, which says that it is finished."""
        return self.folder / "metrics.json"

    @property
    def of_training(self) -> tuple[Path, ...]:
        """What training leaves, of every run; the first is written last."""
        return self.training, self.log, self.weights

    @property
    def of_sampling(self) -> tuple[Path, ...]:
        """What sampling leaves; the first is written last."""
        return self.samples_record, self.samples

    @property
    def after_training(self) -> tuple[Path, ...]:
        """What is of the weights, and would be taken for that of others."""
        return self.metrics, *self.of_sampling, self.snapshots, self.adapter

    def parts_of_samples(self, mark: str) -> Path:
        """The folder of samples that are drawn before all are there, by the mark of what they are drawn from."""
        return self.checkpoints / f"samples-{mark}"

    @property
    def growing_log(self) -> Path:
        """The log while the run trains; `log` takes its place."""
        return self.checkpoints / "log.csv"

    @property
    def live(self) -> Path:
        """What the process that works on the run says of itself."""
        return self.checkpoints / "live.json"


def run_files(study: Path, arm: str, seed: int | str) -> RunFiles:
    """Of an arm with a seed, in a study's folder; for the rules, all three may be wildcards in braces."""
    return RunFiles(
        folder=study / "runs" / arm / f"seed-{seed}",
        checkpoints=study / "checkpoints" / arm / f"seed-{seed}",
        printed=study / "logs" / "runs" / f"{arm}-seed-{seed}.log",
    )
