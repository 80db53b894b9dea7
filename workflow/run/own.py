"""What studies name by its path is imported, and held against their settings, before any job: in one process.

The plan itself imports no torch, and nobody else's code. A network of the project's own is made without memory and
called once; of somebody's, which may load weights as it is made, only the signature is held against the settings.
"""

import contextlib
import inspect
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from trigbench.workflow.claims.ledger import check_rule, in_full
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.named import check_call, named, problem_of, takes
from trigbench.workflow.study.checks import check_declared
from trigbench.workflow.study.kinds import Metrics, is_own, kind_module, known_of, metrics_of, settings_of
from trigbench.workflow.study.metrics import OfData, check_metrics
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study

JUDGES = {
    "open_dataset": "arrays, sigma_d",
    "judge_map": "dataset, field",
    "judge_samples": "dataset, samples, wanted",
    "floors": "dataset",
}
"""Functions of a data set of one's own beside `prepare`, and what each is given."""
ABOUT = ("shape", "classes", "sigma_d", "told", "observed")
"""What a network is given where it takes it, as in workflow.run.assembly."""
ALIKE = ("blocks", "depth")
"""Settings of the project's networks that say how often the same block comes: one of them is called."""


def names_own(study: Study) -> bool:
    """Whether anything of the study is named by its path."""
    return (
        any(is_own(data) for data in study.data.values())
        or any(size.network for size in study.sizes.values())
        or any(arm.method.own for arm in study.arms.values())
    )


def check_own(studies: Iterable[Study]) -> None:
    """`check_study` of all that name anything by its path, in one process; none starts where nothing is named."""
    asked = json.dumps([(str(study.file), study.budget) for study in studies if names_own(study)])
    if asked == "[]":
        return
    command = [sys.executable, "-m", "trigbench.workflow.run.own"]
    done = subprocess.run(command, input=asked, capture_output=True, check=False, encoding="utf-8", errors="replace")
    if done.returncode == 0:
        return
    try:
        said = json.loads(done.stdout)
    except ValueError:  # somebody's code ended the process
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        problem = f"importing what studies name by its path ended with status {done.returncode}: {words[-1]}"
        raise BenchError(
            problem, remedy=f"mend it; again by: echo {shlex.quote(asked)} | python -m trigbench.workflow.run.own"
        ) from None
    raise BenchError(**said)


def check_study(study: Study) -> None:
    """Raise BenchError for what is named by its path and is not there, or does not go with the study's settings."""
    tables = metrics_of(study.data)
    for name, data in study.data.items():
        if is_own(data):
            with _at(study, f"data.{name}.module"):
                tables[name] = metrics_in(data, f"data.{name}.settings")
    _check_metrics(study, tables)
    tried, called = set(), set[str]()
    for name, arm in study.arms.items():
        if arm.method.own:
            with _at(study, f"arms.{name}.objective"):
                _check_places(arm.objective, named(arm.objective), "fields, x0, draws, settings")
                _check_settings(study, name, arm)
        if study.sizes[arm.size].network is not None and (arm.size, arm.data, arm.told) not in tried:
            tried.add((arm.size, arm.data, arm.told))
            with _at(study, f"sizes.{arm.size}.network"):
                _check_network(study, arm, called)


@contextlib.contextmanager
def _at(study: Study, key: str) -> Iterator[None]:
    """Errors within name the study's file, and this key unless they name one beside it."""
    try:
        yield
    except BenchError as error:
        nearer = str(error.said["key"]).startswith(key.rsplit(".", 1)[0] + ".")
        said: dict[str, Any] = error.said | {"file": str(study.file)} | ({} if nearer else {"key": key})
        raise BenchError(**said) from error


def _check_metrics(study: Study, tables: OfData) -> None:
    """Everything that names a metric, against what the data's modules measure and declare."""
    try:
        check_declared(study, quantities_of(study.data.values()))
        check_metrics(study, tables)
    except Mistake as error:
        key, problem = str(error).split(": ", 1)
        raise BenchError(problem, file=study.file, key=key, remedy=error.remedy) from error
    whole = in_full(study)
    for name, claim in study.claims.items():
        check_rule(claim.decided_by[study.study], whole, study.file, f"claims.{name}.decided_by.{study.study}", tables)


def metrics_in(data: Any, key: str) -> Metrics:
    """METRICS of a module, once all of its functions are there and take what they are given."""
    module = kind_module(data)
    for name in ("prepare", *JUDGES):
        if not callable(getattr(module, name, None)):
            remedy = "add it, as `trigbench new data mine` writes it"
            raise BenchError(f"{data.module} has no function {name!r}", remedy=remedy)
    check_call(data.module, module.prepare, [], settings_of(data, module.prepare), key, first=3)
    for name, given in JUDGES.items():
        _check_places(f"{data.module}:{name}", getattr(module, name), given)
    metrics = getattr(module, "METRICS", None)
    named_ones = [metrics.get(judge) for judge in ("map", "samples")] if isinstance(metrics, Mapping) else [None]
    if metrics is None or not all(isinstance(names, tuple | list) for names in named_ones):
        problem = f"{data.module} has no METRICS, the names of what 'map' and 'samples' are judged by"
        raise BenchError(problem, remedy='add METRICS = {"map": (), "samples": ("sliced_wasserstein",)}')
    return metrics


def _check_places(path: str, function: Callable[..., Any], given: str) -> None:
    """Raise BenchError unless it can be called with these arguments, in this order."""
    if not callable(function):
        raise BenchError(f"{path} is no function", remedy="name a function")
    with contextlib.suppress(ValueError):  # of some built-in functions nothing is known
        try:
            inspect.signature(function).bind(*given.split(", "))
        except TypeError as error:
            raise BenchError(f"{path} cannot be called: {error}", remedy=f"let it take ({given})") from error


def _check_settings(study: Study, name: str, arm: Arm) -> None:
    """Raise BenchError for a setting that the objective's dataclass lacks, of another type, or that nothing gives."""
    from trigbench.core.objectives.regression import settings_class  # noqa: PLC0415 - with torch, which the objective has brought
    from trigbench.workflow.run.settings import MADE, settings_at  # noqa: PLC0415

    function, key = named(arm.objective), f"arms.{name}.objective.settings"
    check_call(f"the settings of {arm.objective}", settings_class(function), MADE, arm.settings, key)
    try:
        settings_at(arm, study.sigma_d)(1)
    except ValueError as error:
        raise BenchError(str(error), key=f"arms.{name}", remedy="add it there") from error


def _check_network(study: Study, arm: Arm, called: set[str]) -> None:
    """`called` are those that need no call any more: to call one takes a second, to make it a tenth."""
    size, key = study.sizes[arm.size], f"sizes.{arm.size}.settings"
    path = str(size.network)
    make = named(path)
    if not callable(make):
        raise BenchError(f"{path} is no class or function", remedy="name what makes a network")
    if arm.told and not takes(make, "told"):
        problem = f"{path} takes no 'told', the names of what it is told beside labels"
        raise BenchError(problem, remedy="let it take 'told', or train another size by guidance or in segments")
    if arm.told and isinstance(make, type) and not _takes_condition(make):
        problem = f"{path} takes labels alone, and an arm of it is told its {' and '.join(arm.told)}"
        remedy = "annotate the third parameter of its forward: condition: trigbench.Condition (docs/networks.md)"
        raise BenchError(problem, remedy=remedy)
    check_call(path, make, ABOUT, size.settings, key)
    data = known_of(study.data[arm.data])
    if data.observed is not None and not takes(make, "observed"):
        problem = f"{path} takes no 'observed', the shape of the observations that {arm.data!r} tells it"
        raise BenchError(
            problem, remedy="let it take 'observed', or leave the network out for the project's perceptron"
        )
    shape, classes = data.shape, data.classes
    if path.startswith("trigbench.core.") and shape is not None:
        classes = 1 if classes is None else classes
        about: dict[str, Any] = dict(zip(ABOUT, (shape, classes, study.sigma_d, arm.told, data.observed), strict=True))
        given = {key: value for key, value in about.items() if takes(make, key)} | size.settings
        short = {key: min(1, size.settings.get(key, 1)) for key in inspect.signature(make).parameters if key in ALIKE}
        settings = size.settings | short
        shape_of_it = json.dumps(
            [path, shape, classes, data.observed, {k: v for k, v in settings.items() if k != "dropout"}]
        )
        try:
            _made(make, given)
            if shape_of_it not in called:
                _call(_made(make, given | short), **about)
        except Exception as error:
            problem = f"{path} cannot be made with these settings for points of shape {shape}: {problem_of(error)}"
            raise BenchError(problem, key=key, remedy="change the settings, or the size of the data") from error
        called.add(shape_of_it)


def _takes_condition(make: type) -> bool:
    from trigbench.core.condition import takes_condition  # noqa: PLC0415 - with torch, which a network has brought

    return takes_condition(make)


def _made(make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """A network whose tensors have shapes and no memory."""
    import torch  # noqa: PLC0415 - heavy, and for networks alone

    with torch.device("meta"):
        return make(**settings)


def _call(
    network: Any,
    shape: Sequence[int],
    classes: int,
    sigma_d: float,
    told: Sequence[str],
    observed: Sequence[int] | None,
) -> None:
    import torch  # noqa: PLC0415

    from trigbench.core.condition import Condition  # noqa: PLC0415

    with torch.device("meta"):
        x, t, labels = torch.ones(2, *shape), torch.ones(2), torch.ones(2, dtype=torch.long) if classes else None
        seen = None if observed is None else torch.ones(2, *observed)
    with torch.no_grad():
        network(x, t, Condition(labels, observation=seen, **dict.fromkeys(told, t)))


def command() -> None:
    """Read [[study, budget], ...] from stdin; print the first error as JSON and end with status 2, or say nothing."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is imported may print
    try:
        for study, budget in json.load(sys.stdin):
            check_study(load(study, budget))
    except BenchError as error:
        print(json.dumps(error.said), file=answer, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    command()
