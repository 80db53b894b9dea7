"""Processes of the workflow that find torch, pandas and Snakemake imported, where a test is not about their start.

Most of what a step takes in a test is the import of libraries. So the workflow's own server forks for every
`python -m ...`, with more imported: this checkout's project; and, where a test has a copy of it, the libraries alone.
Tests of signals, limits, memory and starts use Python itself.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trigbench.workflow.machine import warm

ROOT = Path(__file__).parents[2].resolve()
PYTHON = "TRIGBENCH_TESTS_WARM"
IMPORTED = (
    "torch", "torch.func", "numpy", "pandas", "scipy.stats", "matplotlib.pyplot", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "PIL.Image", "seaborn", "pydantic.main", "pydantic.json_schema",
    "pydantic.types", "pydantic.functional_validators", "yaml", "jinja2", "safetensors.torch", "jaxtyping",
    "faulthandler", "snakemake.cli", "snakemake.workflow", "snakemake.executors.local", "snakemake.profiles",
    "snakemake.report.html_reporter", "smart_open",
    *(f"snakemake_interface_{kind}_plugins.registry:{kind.capitalize()}PluginRegistry"  # which looks for its plugins
      for kind in ("executor", "logger", "report", "scheduler", "storage")),
)  # fmt: skip
READ = ("run.job:get_ready", "claims.ledger:read_claims", "claims.dating:rule_commits")
"""Calls of the workflow whose answers many steps ask for: of its sources, and of its claims as they are and were. They
are kept by the text that was read."""
WITH_TRITON = ("run.operations", "run.counts", "run.estimates", "run.estimate_table", "run.measurements.costs")
"""These take triton, which at the end of each process lists what it leaks; who imports them does it by itself."""
VARIABLES = {"PYTHONWARNINGS": "default", "MPLBACKEND": "Agg"}


@contextmanager
def server() -> Iterator[None]:
    """Processes are warm within it, also those of this process's children; where none can fork, none is."""
    if not sys.platform.startswith("linux"):
        yield
        return
    with (
        warm.serving(IMPORTED, root=None, within=True, variables=VARIABLES) as bare,
        warm.serving(
            [*IMPORTED, "torch.distributed.fsdp", *_project(), *(f"trigbench.workflow.{call}" for call in READ)],
            str(bare / "python"), ROOT, within=True, variables=VARIABLES,
        ) as project,
    ):  # fmt: skip
        for folder in (bare, project):
            workflow = folder / "snakemake"  # as is installed beside a Python
            workflow.write_text(f'#!/bin/sh\nexec {folder}/python -m snakemake "$@"\n')
            workflow.chmod(0o755)
        os.environ[PYTHON] = str(project / "python")
        try:
            yield
        finally:
            del os.environ[PYTHON]


def python() -> str:
    """The Python to start: one that is warm, where there is one."""
    return os.environ.get(PYTHON, sys.executable)


def _project() -> list[str]:
    """Its modules, but for commands and what takes triton."""
    files = [path.relative_to(ROOT) for room in ("core", "workflow") for path in sorted((ROOT / room).rglob("*.py"))]
    names = [".".join(("trigbench", *file.with_suffix("").parts)).removesuffix(".__init__") for file in files]
    left = tuple(f"trigbench.workflow.{name}" for name in WITH_TRITON)
    never = ("trigbench.workflow.steps.", "trigbench.core.attention_triton")
    return [name for name in names if name not in left and not name.startswith(never)]
