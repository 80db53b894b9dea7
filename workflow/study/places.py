"""Where the workflow writes, below the folder that it is started in."""

from dataclasses import dataclass
from pathlib import Path

from trigbench._places import ROOT

STUDIES = ROOT / "workflow" / "studies"
"""The project's own."""
RESULTS, REPORTS = Path("results"), Path("reports")
TIMING = RESULTS / "timing.json"
COMPILED = RESULTS / ".compiled"
"""What is compiled for a step of some shape, for all runs of it."""
SIMULATIONS = RESULTS / "simulations.json"
"""How often verdicts are false, and find what is there."""
FRONT = REPORTS / "index.html"
BELOW_PUBLISHED = RESULTS / "published"
PUBLISHED = ROOT / BELOW_PUBLISHED
"""The committed results, beside the workflow."""
RUNS, CURVES, VERDICTS, ORIGIN = "runs.csv", "curves.csv", "claims.csv", "provenance.json"
"""What a set of results is read from, also in a commit: tables, verdicts, and what made them."""


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
        """How long its process took."""
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


@dataclass(frozen=True)
class ExperimentFiles:
    """Where the tables and figures of an experiment are; drawing anew replaces them."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / RUNS

    @property
    def curves(self) -> Path:
        return self.folder / CURVES

    @property
    def table(self) -> Path:
        """Means and intervals over seeds."""
        return self.folder / "table.csv"

    @property
    def finding(self) -> Path:
        """The sentence, and what it was drawn from."""
        return self.folder / "finding.json"

    @property
    def figure(self) -> Path:
        """One of its `forms`, as `pictures` is."""
        return self.folder / "figure.svg"

    @property
    def pictures(self) -> Path:
        """Samples, where they say something."""
        return self.folder / "pictures.svg"

    @property
    def sounds(self) -> Path:
        """Samples that can be heard."""
        return self.folder / "sounds.json"

    @property
    def films(self) -> Path:
        """Samples that are seen to move."""
        return self.folder / "films.json"


@dataclass(frozen=True)
class StudyFiles:
    """Where the files of one study are. Of a published study the tables, verdicts and provenance alone are there."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / RUNS

    @property
    def curves(self) -> Path:
        return self.folder / CURVES

    @property
    def origin(self) -> Path:
        """The provenance, which also says what the tables are made from."""
        return self.folder / ORIGIN

    @property
    def verdicts(self) -> Path:
        """The table of verdicts."""
        return self.folder / VERDICTS

    @property
    def details(self) -> Path:
        """All that is known of every verdict, for the report."""
        return self.verdicts.with_suffix(".json")

    @property
    def redrawn(self) -> Path:
        """How many verdicts are false where chance points each seed."""
        return self.folder / "redrawn.csv"

    @property
    def one_noise(self) -> Path:
        """What the picture of one noise shows; the picture's `forms` lie beside it."""
        return self.folder / "one-noise.json"

    def verdict(self, claim: str) -> Path:
        """One claim's."""
        return self.folder / "claims" / f"{claim}.json"

    @property
    def data(self) -> Path:
        """Of prepared data: the folder that says that a study was begun."""
        return self.folder / "data"

    def arrays(self, data: str) -> Path:
        """Of a data set, prepared."""
        return self.data / f"{data}.npz"

    def facts(self, data: str) -> Path:
        """What is known of these, and what they were prepared from."""
        return self.arrays(data).with_suffix(".json")

    def experiment(self, name: str) -> ExperimentFiles:
        return ExperimentFiles(self.folder / "experiments" / name)

    def measured(self, experiment: str) -> Path:
        """What the experiment measured beside its runs; apart from its folder, which drawing anew replaces."""
        return self.folder / "measurements" / f"{experiment}.json"

    @property
    def family(self) -> Path:
        """The rules that judged these results first (workflow.claims.family); no rule of the workflow clears it."""
        return self.folder / "family.json"

    def looks(self, experiment: str) -> Path:
        """How far the experiment's plan of seeds has come (workflow.study.seeds.LooksRecord)."""
        return self.folder / "looks" / f"{experiment}.json"

    @property
    def all_runs(self) -> Path:
        """The folder of what its runs left."""
        return self.folder / "runs"

    def run(self, arm: str, seed: int | str) -> RunFiles:
        """Of an arm with a seed."""
        return RunFiles(
            folder=self.all_runs / arm / f"seed-{seed}",
            checkpoints=self.folder / "checkpoints" / arm / f"seed-{seed}",
            printed=self.log(f"runs/{arm}-seed-{seed}"),
        )

    def log(self, job: str) -> Path:
        """What a job of that name printed."""
        return self.folder / "logs" / f"{job}.log"

    @property
    def outside(self) -> Path:
        """Of models from outside (workflow.study.outside), a folder each; no rule makes or clears it."""
        return self.folder / "outside"

    @property
    def outside_values(self) -> Path:
        """All that was measured of them."""
        return self.outside / "outside.csv"

    def of_outside(self, name: str) -> Path:
        """The record of the one of that name."""
        return self.outside / name / "outside.json"


def study_files(label: str) -> StudyFiles:
    """Of the study of that label. For the rules it may be a wildcard in braces, as may all other names."""
    return StudyFiles(RESULTS / label)


def begun(results: Path = RESULTS) -> list[str]:
    """The labels of the studies that were begun there."""
    found = {path.parent.name for path in results.glob("*/data") if path.is_dir()}
    return sorted(found - {BELOW_PUBLISHED.name})


def page_record(reports: Path, label: str) -> Path:
    """Where a study's page, or the front page (`index`), records what it was made from."""
    return assets(reports) / f"{label}.json"


def assets(reports: Path) -> Path:
    """What pages are drawn with."""
    return reports / "assets"


def forms(drawn: Path) -> tuple[Path, Path]:
    """The files of something drawn, of which one is given: to be scaled, and of pixels."""
    return drawn.with_suffix(".svg"), drawn.with_suffix(".png")
