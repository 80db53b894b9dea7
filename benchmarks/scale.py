"""What the workflow itself costs at 5,000 runs: the plan, every job beside its work, and finding nothing to do.

The rules, the profile and Snakemake are the real ones. The study is made up (1,000 arms, five seeds), and
`python` is a stand-in that leaves empty results at once, so that what is measured is the engine's.

    python benchmarks/scale.py [--runs 5000] [--publish]
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
SEEDS = 5
BLOCK = 250
"""Jobs over which the seconds of one are averaged."""
STAND_IN = """#!/bin/bash
# stands for `python -m trigbench.workflow.steps.NAME ...`: leaves what the rule promises, empty, and the
# fingerprints of runs
step=${2##*.}
shift 2
while [ $# -gt 1 ]; do
  case $1 in --arm) arm=$2 ;; --seed) seed=$2 ;; --data) data=$2 ;; --experiment) experiment=$2 ;;
    --fingerprint) fingerprint=$2 ;; esac
  shift
done
case $step in
  prepare) files=(results/scale/data/$data.{npz,json}) ;;
  run) files=(results/scale/runs/$arm/seed-$seed/{{training,metrics,samples}.json,log.csv,weights.safetensors}
    results/scale/runs/$arm/seed-$seed/samples.npz) ;;
  experiment) files=(results/scale/experiments/$experiment/{{runs,curves,table}.csv,figure.{svg,png},finding.json}) ;;
  collect) files=(results/scale/{{runs,curves,claims,redrawn}.csv,{provenance,claims}.json}) ;;
  report) files=(reports/{scale,index}.html) ;;
  simulate) files=(results/simulations.json) ;;
esac
for file in "${files[@]}"; do echo "{}" > "$file"; done
if [ $step = run ]; then printf '{"fingerprint": "%s"}' $fingerprint > "${files[1]}"; fi
"""

MEASURED = """
import atexit, pathlib, snakemake.cli
from trigbench.workflow.machine.provenance import peak_memory_mb
atexit.register(lambda: pathlib.Path("peak").write_text(str(peak_memory_mb())))
snakemake.cli.main()
"""
"""Snakemake, which says at its end how much memory it held. What the system counts for a child, it counts from the
moment in which the child was still its parent."""


@dataclass(frozen=True)
class Timed:
    """What a call of Snakemake took and said."""

    seconds: float
    memory_mb: float
    """The largest resident set of Snakemake."""
    said: str


def made_up(runs: int) -> dict:
    """A study of that many runs, in ten experiments."""
    experiment = {
        "title": "A tenth", "paper": "none", "question": "How long?", "expectation": "Not long.",
        "figure": "methods", "metric": "map_rms",
    }  # fmt: skip
    arm = {"data": "mixture", "size": "small", "objective": "dscd", "teacher": "exact"}
    arm |= {"iterations": 10, "batch": 8, "rate": 1e-3, "ema_half_life": 100}
    return {
        "study": "scale",
        "title": "A study of many runs",
        "summary": "Made up to measure the workflow.",
        "sigma_d": 0.5,
        "seeds": list(range(SEEDS)),
        "data": {"mixture": {"kind": "mixture", "dimension": 2, "components": 2, "std": 0.5}},
        "sizes": {"small": {"width": 8, "blocks": 1}},
        "arms": {"dscd-{intervals}": {**arm, "intervals": list(range(10, 10 + runs // SEEDS))}},
        "evaluation": {"samples": 64},
        "experiments": {f"tenth-{digit}": {**experiment, "arms": [f"dscd-*{digit}"]} for digit in range(10)},
    }


def write_project(folder: Path, runs: int) -> None:
    """The study, and the stand-in for python."""
    (folder / "scale.yaml").write_text(yaml.safe_dump(made_up(runs), sort_keys=False))
    stand_in = folder / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)


def snakemake(folder: Path, *arguments: str) -> Timed:
    """Call Snakemake on the made-up study; raises RuntimeError with what it said unless it succeeds."""
    command = [sys.executable, "-c", MEASURED, "-s", str(ROOT / "Snakefile"), "-d", str(folder), *arguments]
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with (folder / "said").open("w+") as said:
        process = subprocess.run(
            [*command, "--config", "study=scale.yaml"],
            check=False, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        seconds = time.monotonic() - started
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(text[-5000:])
    return Timed(seconds, float((folder / "peak").read_text()), text)


def seconds_of_jobs(folder: Path) -> list[float]:
    """Seconds from one finished run to the next, on average over blocks of them, in the order of the clock."""
    done = sorted(path.stat().st_mtime for path in folder.glob("results/scale/runs/*/*/metrics.json"))
    edges = done[::BLOCK]
    return [(after - before) / BLOCK for before, after in itertools.pairwise(edges)]


def measure(runs: int) -> pd.DataFrame:
    """A row per measured quantity; what it is of stands in `jobs`, the first of a block in `first`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, runs)
        plan, whole = snakemake(folder, "-n"), snakemake(folder)
        nothing = snakemake(folder)
        if "Nothing to be done" not in nothing.said:
            raise RuntimeError(nothing.said[-5000:])
        rows = [
            {"what": what, "jobs": runs, "seconds": timed.seconds, "memory_mb": timed.memory_mb}
            for what, timed in (("plan", plan), ("run", whole), ("nothing to be done", nothing))
        ]
        for block, seconds in enumerate(seconds_of_jobs(folder)):
            rows.append({"what": "one job", "jobs": runs, "first": block * BLOCK, "seconds": seconds})
    return pd.DataFrame(rows, columns=["what", "jobs", "first", "seconds", "memory_mb"]).astype({"first": "Int64"})


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000, help="of the largest study (default: %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write table and figure to results/published/benchmarks")
    arguments = parser.parse_args()
    table = pd.concat([measure(runs) for runs in (arguments.runs // 10, arguments.runs)])
    print(table.to_string(index=False, na_rep=""))
    if arguments.publish:
        publish(table)


def publish(table: pd.DataFrame) -> None:
    """Write scale.csv, scale.json (provenance) and the figure."""
    import shared  # noqa: PLC0415 (torch, for which measuring alone need not wait)
    from matplotlib import pyplot as plt  # noqa: PLC0415

    from trigbench.workflow.report.style import apply_style  # noqa: PLC0415

    apply_style()
    figure, ax = plt.subplots(figsize=(6, 3))
    for runs, rows in table[table.what == "one job"].groupby("jobs"):
        ax.plot(rows["first"].astype(float) + BLOCK / 2, 1000 * rows.seconds, marker=".", label=f"{runs} runs")
    ax.set(xlabel="jobs finished", ylabel="ms from one to the next", ylim=(0, None))
    ax.legend()
    shared.publish(table, "scale", figure=figure)


if __name__ == "__main__":
    main()
