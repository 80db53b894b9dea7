"""What must be said beside a run's numbers so that somebody else's can be held against them."""

from typing import Any

from trigbench.workflow.machine.files import read_json
from trigbench.workflow.study.study import Run, Study


def protocol(study: Study, run: Run) -> dict[str, Any]:
    """Samples, seeds, and what the data set says: reference, resizing, extractor."""
    data = study.arms[run.arm].data
    facts = read_json(study.made.facts(data), "delete it; the workflow prepares the data again")
    own = {"data": data, "training_seed": run.seed, "samples": study.evaluation.samples}
    own |= {"snapshot_samples": study.evaluation.snapshot_samples or study.evaluation.samples}
    return {**own, **facts["facts"].get("protocol", {}), "sampling_seed": study.evaluation.noise_seed(run.seed)}
