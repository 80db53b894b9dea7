"""Judge one trained and sampled run, and write its record, metrics.json."""

import csv
import json
import time
from typing import Any

import torch

from core.fields import bind
from workflow.runtime.datasets import kind_module
from workflow.runtime.files import read_arrays, read_json
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.provenance import peak_memory_mb, provenance
from workflow.runtime.records import RunRecord, Value, write_record
from workflow.runtime.tensors import read_tensors
from workflow.steps.command import main, run_of, run_parser, study_of
from workflow.steps.train import make_network, open_data
from workflow.study import Run, Study

AGAIN = "delete the run's folder; the workflow makes it again"


def evaluate(study: Study, run: Run, seconds: dict[str, float]) -> RunRecord:
    """Write metrics.json from weights and samples; `seconds` are the parts that came before."""
    started = time.monotonic()
    out, arm = study.run_folder(run), study.arms[run.arm]
    training: dict[str, Any] = read_json(out / "training.json", AGAIN)
    dataset, kind = open_data(study, arm), kind_module(study.data[arm.data].kind)
    weights = read_tensors(out / "weights.safetensors", AGAIN)
    samples = {int(k.split("-")[1]): torch.from_numpy(v) for k, v in read_arrays(out / "samples.npz", AGAIN).items()}
    metrics, curves = [], []
    consistency = arm.objective != "diffusion"
    if training["reason"] is None:
        if consistency:
            metrics, curves = kind.judge_map(dataset, bind(make_network(study, arm, dataset), weights))
        for k, drawn in samples.items():
            found = kind.judge_samples(dataset, drawn)
            metrics += [Value(metric=name, value=value, steps=k) for name, value in found.items()]
    else:
        metrics = [Value(metric=m, value=None) for m in kind.METRICS["map"] if consistency]
        metrics += [Value(metric=m, value=None, steps=k) for k in samples for m in kind.METRICS["samples"]]
    record = RunRecord(
        status="diverged" if training["reason"] else "finished",
        fingerprint=fingerprint(study.specification(run)),
        arm=run.arm,
        seed=run.seed,
        step=training["step"],
        last_good_checkpoint=training["last_good_checkpoint"],
        reason=training["reason"],
        last_direction_norm=training["last_direction_norm"],
        parameters=sum(p.numel() for p in weights.values()),
        metrics=metrics,
        curves=curves + _log_curves(out / "log.csv"),
        seconds={**seconds, "train": round(training["seconds"], 3), "evaluate": round(time.monotonic() - started, 3)},
        peak_memory_mb=peak_memory_mb(),
        provenance=provenance(),
    )
    write_record(out / "metrics.json", record)
    return record


def _log_curves(path: Any) -> list[Value]:
    """The training log's columns as curves over the step."""
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    return [
        Value(metric=f"training_{column}", x=float(row["step"]), value=float(row[column]))
        for column in ("loss", "direction_norm", "direction_norm_max", "gradient_norm")
        for row in rows
    ]


def command() -> None:
    """Parse the arguments and evaluate."""
    parsed = run_parser(__doc__).parse_args()
    study = study_of(parsed)
    record = evaluate(study, run_of(study, parsed), {})
    print(json.dumps([m.model_dump(exclude_none=True) for m in record.metrics], indent=1))


if __name__ == "__main__":
    main(command)
