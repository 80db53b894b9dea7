"""What a job of the workflow costs beside its work, in seconds of a processor, children included.

    python benchmarks/starts.py [--results results]

A start by itself and a forked one (workflow/machine/warm), of a run that does nothing and of the smallest one; what
every plan costs; and, of runs that are there, how their seconds on the clock divide.
"""

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trigbench.workflow.machine import warm
from trigbench.workflow.study.records import read_record

ROOT = Path(__file__).parents[1]
RUN = "trigbench.workflow.steps.run"
PRELOAD = (RUN, "trigbench.workflow.run.job:get_ready")
STUDY = ("--study", "oracle", "--budget", "smoke")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
NOTHING = ("-m", RUN, "--help")
SEEDS = itertools.count()


def smallest() -> tuple[str, ...]:
    """The smallest run of a seed that no one has yet."""
    return ("-m", RUN, *STUDY, "--arm", "cd-8", "--seed", str(next(SEEDS)))


def used() -> float:
    """Seconds of a processor that children have used which were waited for, and theirs."""
    by = resource.getrusage(resource.RUSAGE_CHILDREN)
    return by.ru_utime + by.ru_stime


def taken(*command: str, python: str = sys.executable) -> float:
    """By one process, with all that it started."""
    before, quiet = used(), subprocess.DEVNULL
    subprocess.run([python, *command], check=True, env=ENVIRONMENT, stdout=quiet, stderr=quiet)
    return used() - before


def forked(command: Callable[[], Sequence[str]], few: int = 1, many: int = 5) -> tuple[float, float]:
    """(by the server alone, by one fork and its client)."""
    found = list[float]()
    for count in (few, many):
        before = used()
        with warm.serving(PRELOAD, variables=ENVIRONMENT) as folder:
            for _ in range(count):
                taken(*command(), python=str(folder / "python"))
        found.append(used() - before)
    each = (found[1] - found[0]) / (many - few)
    return found[0] - few * each, each


def of_starts() -> Iterator[tuple[str, float]]:
    """In the folder that this is called in."""
    server, fork = forked(lambda: NOTHING)
    yield "Python alone", taken("-c", "")
    yield "with torch", taken("-c", "import torch")
    yield "a run that does nothing, by itself", taken(*NOTHING)
    yield "the same, forked", fork
    yield "what forks them, once", server
    taken("-m", "trigbench.workflow.steps.prepare", *STUDY, "--data", "mixture-2d")
    yield "the smallest run, by itself", taken(*smallest())
    yield "the same, forked", forked(smallest)[1]
    yield "a plan of both studies", taken("-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--quiet", "all")


def of_runs(results: Path) -> list[tuple[str, float]]:
    """The mean over all runs there, by part, on the clock."""
    records = [read_record(path).seconds for path in results.glob("*/runs/*/*/metrics.json")]
    parts = ("start", "train", "sample", "evaluate") if records else ()
    return [(f"{part}, mean of {len(records)} runs", sum(r[part] for r in records) / len(records)) for part in parts]


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--results", type=Path, default=Path("results"), help="whose runs are counted")
    results = arguments.parse_args().results.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for what, seconds in itertools.chain(of_starts(), of_runs(results)):
            print(f"{what:45} {seconds:7.2f} s", flush=True)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
