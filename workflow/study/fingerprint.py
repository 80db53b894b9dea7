"""When is a finished run stale? Hashes of what decides its numbers: specification and mathematics.

Three of them, each with those before it: of what decides a run's weights, its samples, and what is measured of it. So
a new metric trains nothing again, nor does a new sampler.

Snakemake does not see imported modules, so the source is hashed here: the modules of the
objective and of the steps, and what these import, each without what computes nothing
(workflow.study.syntax), by the names that an installed package and a checkout share. Own code is
followed through relative imports, packages, siblings, the names of `trigbench` to where these are
defined, and `import_module` of a literal name; not through names that are put together when it runs, compiled
extensions, installed packages of which the study names nothing, and files that it reads.

Tables that name objectives and data sets, schemas and bookkeeping are left out, so that adding an
objective or an arm, or editing the report, leaves finished runs fresh.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from trigbench import homes
from trigbench._places import PACKAGE
from trigbench.core import map_samplers, solvers
from trigbench.core.objectives import hashed, method_of
from trigbench.workflow.study.converted import OPENED_BY
from trigbench.workflow.study.kinds import KINDS, kind_named
from trigbench.workflow.study.syntax import read_syntax

ROOT = PACKAGE.parent
"""Where `trigbench` is imported from."""
TRAINING, SAMPLING, EVALUATION = (f"trigbench.workflow.run.{step}" for step in ("training", "samples", "evaluation"))
FOLLOWED = (
    "trigbench.core",
    "trigbench.workflow.data",
    "trigbench.workflow.run",
    "trigbench.workflow.study.rating",
)
SAID = frozenset(path.split(":")[0] for path in KINDS.values())
"""Where each kind of data is said for plans and pages, so that no other module's imports of it are followed; the maths
of a kind in one file is hashed, as the module that makes the data."""
SHORT = ("core", "workflow")
"""What a checkout also calls trigbench.core and trigbench.workflow."""
TABLES = frozenset({"trigbench", *(f"trigbench.core.{table}" for table in ("map_samplers", "objectives", "solvers"))})
"""Whose entries are hashed one by one, so that a further one leaves finished runs fresh."""


@dataclass(frozen=True)
class Marks:
    """Digests of a run's parts; each is of the ones before it, too."""

    training: str
    """Of what decides the weights."""
    sampling: str
    evaluation: str


def fingerprint(specification: Mapping[str, Any], root: Path = ROOT) -> str:
    """A digest of all that decides a run's numbers: its specification (Study.specification) and the mathematics."""
    return marks(specification, root).evaluation


def marks(specification: Mapping[str, Any], root: Path = ROOT) -> Marks:
    """The digests of what decides each part of a run."""
    trained = {key: value for key, value in specification.items() if key not in ("sampling", "evaluation")}
    training = training_fingerprint(trained, root)
    solving = _solving(way["solver"] for way in specification["sampling"]["ways"])
    steps = [SAMPLING, *(one["path"].split(":")[0] for one in solving)]
    sampling = digest([training, specification["sampling"], solving], steps, root)
    judge = _source_of(specification["data"])
    return Marks(training, sampling, digest([sampling, specification["evaluation"]], [EVALUATION, judge], root))


def training_fingerprint(specification: Mapping[str, Any], root: Path = ROOT) -> str:
    """A digest of what decides a run's weights (Study.training_specification)."""
    runs = list(_with_those_before(specification))
    files = [OPENED_BY.get(run["teacher"].get("kind", "")) for run in runs if isinstance(run["teacher"], Mapping)]
    methods = [method for run in runs if (method := method_of(run["arm"]["objective"]))]
    networks = [network for run in runs if (network := run["size"].get("network"))]
    solving = _solving(run["arm"].get("solver") for run in runs)
    paths = [*(one["path"] for one in (*map(hashed, methods), *solving)), *networks, *filter(None, files)]
    modules = [path.split(":")[0] for path in paths]
    # the tables that name methods and solvers are left out of the source; what they say of these ones is not
    said = {"run": specification, "methods": [hashed(method) for method in methods], "solvers": solving}
    return digest(said, (TRAINING, *modules, _draws_of(specification["data"])), root)


def _solving(named: Iterable[str | None]) -> list[dict[str, Any]]:
    """What the tables of solvers, and of samplers of maps, say of those of them that they have."""
    tables = {**dict.fromkeys(solvers.SOLVERS, solvers), **dict.fromkeys(map_samplers.MAP_SAMPLERS, map_samplers)}
    return [tables[name].hashed(name) for name in sorted({name for name in named if name in tables})]


def _with_those_before(specification: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A run's specification, and those of the runs that teach it and that it starts from, and of theirs."""
    yield specification
    for other in (specification["teacher"], specification.get("weak_teacher"), specification.get("start")):
        if isinstance(other, Mapping) and "arm" in other:  # a converted teacher has its kind
            yield from _with_those_before(other)


def data_fingerprint(specification: Mapping[str, Any], root: Path = ROOT) -> str:
    """A digest of what a prepared data set is made from (Study.data_specification)."""
    return digest(specification, (_source_of(specification["data"]),), root)


def _draws_of(data: Mapping[str, Any]) -> str:
    return kind_named(data["kind"]).draws or _source_of(data)


def _source_of(data: Mapping[str, Any]) -> str:
    return kind_named(data["kind"]).module or data["module"]


def digest(specification: Any, modules: Iterable[str], root: Path = ROOT) -> str:
    """A digest of plain data and of the source of modules with all that they import."""
    source = source_digest(tuple(modules), str(root), os.getcwd())
    text = json.dumps(specification, sort_keys=True, default=str) + source
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache  # a plan asks for every run; a process computes with the source that it found
def source_digest(modules: tuple[str, ...], root: str, here: str) -> str:
    """A digest of what computes in the source of modules, and of what they import of the project and of one's own.

    The project's modules are under its `root`; where somebody's own are, `own_file` says. What an own module imports
    from the same folders, or of a package that is named, is own. The packages that a module is in are imported with it.
    """
    importlib.invalidate_caches()  # files may be new
    named = frozenset(module.partition(".")[0] for module in modules)
    pending = [(name, not _of_project(name)) for module in modules for name in _whole(module, root, here)]
    seen = dict[str, str | None]()
    while pending:
        module, own = pending.pop()
        if module in seen or module in TABLES:
            continue
        path = own_file(module, root, here, named) if own else _file_of_ours(module, root)
        package, _, _ = module.rpartition(".")
        pending += [(package, own)] if package else []
        if path is None:  # a name out of a module, an installed package, or a folder without __init__.py
            seen[module] = None
            continue
        seen[module], imported = syntax_digest(path, module)
        for name in (whole for said in imported for whole in (_whole(said, root, here) if own else [said])):
            only_said = module not in SAID and not SAID.isdisjoint({name, name.rpartition(".")[0]})
            followed = name.startswith(FOLLOWED) and not only_said
            if followed or (own and not _of_project(name)):
                pending.append((name, not _of_project(name)))
    digests = sorted((module, found) for module, found in seen.items() if found is not None)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@cache
def syntax_digest(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
    """The digest of what computes in a module's source, and the names that it imports."""
    found = read_syntax(path, module)
    return hashlib.sha256(found.text.encode("utf-8", errors="surrogatepass")).hexdigest(), found.imported


@cache
def _file_of_ours(module: str, root: str) -> Path | None:
    return file_of(module, [root])


def _of_project(module: str) -> bool:
    return module.partition(".")[0] == "trigbench"


def _whole(name: str, root: str, here: str) -> list[str]:
    """The modules behind a name that own code imports: of the public face, or by a checkout's short name.

    Who imports `trigbench` itself may use all of its names. A `core` of one's own, where Python finds that, stays.
    """
    if name == "trigbench":
        return sorted({*homes().values()})
    top, _, below = name.partition(".")
    if top == "trigbench":
        return [homes().get(below, name)]
    if top in SHORT:
        ours, found = Path(root, "trigbench", top, "__init__.py"), file_of(top, _places_of_own(root, here))
        return [f"trigbench.{name}"] if found is not None and ours.is_file() and found.samefile(ours) else [name]
    return [name]


def _python_path() -> list[str]:
    return [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]


def own_file(module: str, root: str, here: str, named: Collection[str] = ()) -> Path | None:
    """The file of a module of one's own: of those that Python would find, in its order, the first.

    It is looked for `here`, on PYTHONPATH and at the top of a checkout; elsewhere, as of an editable install, only
    what is `named` or is in such a package, as else every library would be one's own.
    """
    top = module.partition(".")[0]
    return file_of(module, _places_of_own(root, here), elsewhere=top in named)


def _places_of_own(root: str, here: str) -> list[str]:
    """Beside an installed trigbench (then `root`) stand libraries."""
    short, whole = Path(root, "core"), Path(root, "trigbench", "core")
    checkout = short.is_dir() and whole.is_dir() and short.samefile(whole)
    return [here, *_python_path(), *([root] if checkout else [])]


def file_of(module: str, folders: Iterable[str], elsewhere: bool = False) -> Path | None:
    """The module's source file in these folders, or `elsewhere`; None where it has none. Imports nothing."""
    places: Iterable[str] | None = folders
    spec = None
    for number, part in enumerate(module.split(".")):
        spec = PathFinder.find_spec(part, list(places or ()))
        if spec is None and number == 0 and elsewhere:
            with contextlib.suppress(ValueError):  # of what was put into sys.modules by hand nothing is known
                spec = importlib.util.find_spec(part)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
