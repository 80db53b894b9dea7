"""When is a finished run stale? A hash of what decides its numbers: specification and mathematics.

Snakemake does not see imported modules, so the source is hashed here: the modules of the
objective and of the steps, and what these import, each without comments, docstrings and layout.
Tables that name objectives and data sets, schemas and bookkeeping are left out, so that adding an
objective or an arm, or editing the report, leaves finished runs fresh.
"""

import ast
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.objectives import method_of
from workflow.runtime.datasets import KINDS

ROOT = Path(__file__).parents[2]
STEPS = ("workflow.steps.train", "workflow.steps.sample", "workflow.steps.evaluate")
FOLLOWED = ("core", "workflow.runtime")
NOT_MATHEMATICS = frozenset(
    {
        "core.objectives",  # the table
        "workflow.runtime.checkpoints",
        "workflow.runtime.cores",
        "workflow.runtime.datasets",  # the table, too
        "workflow.runtime.devices",
        "workflow.runtime.files",
        "workflow.runtime.fingerprint",
        "workflow.runtime.freshness",
        "workflow.runtime.gpus",
        "workflow.runtime.limits",
        "workflow.runtime.measurements",  # and this table
        "workflow.runtime.progress",
        "workflow.runtime.protocol",
        "workflow.runtime.provenance",
        "workflow.runtime.quantities",
        "workflow.runtime.records",
        "workflow.runtime.tensors",
    }
)


def fingerprint(specification: Mapping[str, Any], root: Path = ROOT) -> str:
    """A digest of a run's specification (Study.specification) and of the mathematics that it uses."""
    taught_by = specification["teacher"]
    runs = [specification, *([taught_by] if isinstance(taught_by, Mapping) else [])]
    methods = [method for run in runs if (method := method_of(run["arm"]["objective"]))]
    networks = [network for run in runs if (network := run["size"].get("network"))]
    modules = [path.split(":")[0] for path in (*(method.path for method in methods), *networks)]
    # the table that names methods is left out of the source; what it says of these ones is not
    said = {"run": specification, "methods": [dataclasses.asdict(method) for method in methods]}
    return digest(said, (*STEPS, *modules, _source_of(specification["data"])), root)


def data_fingerprint(specification: Mapping[str, Any], root: Path = ROOT) -> str:
    """A digest of what a prepared data set is made from (Study.data_specification)."""
    return digest(specification, (_source_of(specification["data"]),), root)


def _source_of(data: Mapping[str, Any]) -> str:
    return data.get("module") or KINDS[data["kind"]]


def digest(specification: Any, modules: Iterable[str], root: Path = ROOT) -> str:
    """A digest of plain data and of the source of modules with all that they import."""
    source = source_digest(tuple(modules), str(root), os.getcwd())
    text = json.dumps(specification, sort_keys=True, default=str) + source
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache  # a plan asks for every run; a process computes with the source that it found
def source_digest(modules: tuple[str, ...], root: str, here: str) -> str:
    """A digest of the normalised source of modules and of what they import from the followed packages.

    A module is looked for under the project's `root`, or `here`, where somebody's own are.
    """
    pending, seen = list(modules), dict[str, str | None]()
    own = {module.split(".")[0] for module in pending} - {"core", "workflow"}  # packages outside the project
    while pending:
        module = pending.pop()
        if module in seen or module in NOT_MATHEMATICS:
            continue
        path = _file_of(module, (Path(root), Path(here)))
        if path is None:  # a name out of a module
            seen[module] = None
            continue
        seen[module], imported = syntax_digest(path)
        pending += [name for name in imported if name.startswith(FOLLOWED) or name.split(".")[0] in own]
    digests = sorted((module, found) for module, found in seen.items() if found is not None)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@cache
def syntax_digest(path: Path) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's syntax tree without docstrings, and the names it imports."""
    tree = ast.parse(path.read_text())
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # a string that stands alone does nothing: a docstring, or one under an attribute
            node.body = [line for line in body if not _is_bare_string(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), tuple(imported)


def _is_bare_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _file_of(module: str, folders: Iterable[Path]) -> Path | None:
    bases = [folder.joinpath(*module.split(".")) for folder in folders]
    return next((p for b in bases for p in (b.with_suffix(".py"), b / "__init__.py") if p.is_file()), None)
