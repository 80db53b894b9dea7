"""Draw samples from one trained run: the same noise for every method, in every way that the study asks for."""

import time

from workflow.runtime.files import read_json, write_arrays
from workflow.runtime.sampling import draw_samples
from workflow.runtime.tensors import read_tensors
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.study import Run, Study

AGAIN = "delete the run's folder; the workflow makes it again"


def sample(study: Study, run: Run) -> float:
    """Write samples.npz (one array per Sampling.key, unit variance; empty for a diverged run); return seconds."""
    started = time.monotonic()
    out, arm = study.run_folder(run), study.arms[run.arm]
    weights = read_tensors(out / "weights.safetensors", AGAIN)
    diverged = read_json(out / "training.json", AGAIN)["reason"] is not None
    count = 0 if diverged else study.evaluation.samples
    samplings = study.samplings(run.arm)
    drawn = draw_samples(study, arm, weights, samplings, count)
    write_arrays(out / "samples.npz", {key: values.numpy() for key, values in drawn.items()})
    return time.monotonic() - started


def command() -> None:
    """Parse the arguments and sample."""
    parsed = run_parser(__doc__).parse_args()
    study = study_of(parsed)
    print(f"sampled in {sample(study, run_of(study, parsed)):.1f} s")


if __name__ == "__main__":
    main(command)
