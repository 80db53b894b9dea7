"""Reading a study's YAML file: defaults merged, arms expanded, a budget applied, errors with a remedy."""

import contextlib
import fnmatch
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trigbench._nearest import among, nearest
from trigbench._places import place_of
from trigbench.core.objectives import method_of
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.plain import content_of, syntax_said
from trigbench.workflow.study.checks import check
from trigbench.workflow.study.mistakes import PATTERNS, in_budget, key_of, problem_of, remedy_of
from trigbench.workflow.study.models import NAME
from trigbench.workflow.study.places import STUDIES
from trigbench.workflow.study.resources import Budget
from trigbench.workflow.study.schema import METHOD_SETTINGS, Arm, keys_of_arms
from trigbench.workflow.study.shipped import by_default, shipped
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study

EXAMPLE = f"see {place_of(f'workflow/studies/{by_default()[0]}.yaml')}"


LISTS = ("points", "samplers")
"""Settings of an arm that are lists themselves; a list of any other makes one arm of each value."""


def load(study: str | Path, budget: str = DEFAULT_BUDGET) -> Study:
    """The study of that name, or in that file, under that budget.

    Raises BenchError naming file, key and remedy.
    """
    path = Path(study)
    if path.suffix not in (".yaml", ".yml"):
        path = STUDIES / f"{study}.yaml"
    if not path.is_file():
        known = [str(file) for file in path.parent.glob("*.y*ml")] if path == Path(study) else shipped()
        remedy = among(str(study), known, f"name a YAML file, or one of: {', '.join(shipped())}")
        raise BenchError(f"there is no study {study}", file=path, remedy=remedy)
    content = read_mapping(path, "a study", EXAMPLE)
    try:
        found = Study.model_validate({**_under_budget(content, budget, path), "budget": budget, "file": path})
    except ValidationError as error:
        first: Any = min(error.errors(), key=lambda one: one["type"] == "missing")  # or a misspelt key is a missing one
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        key, problem = key_of(first, content), problem_of(first)
        if key is None and ": " in problem:  # of the study's own keys
            key, problem = problem.split(": ", 1)
        key = in_budget(key, content, budget)
        raise BenchError(problem + more, file=path, key=key, remedy=remedy_of(first)) from error
    try:
        check(found)
    except Mistake as error:
        key, problem = str(error).split(": ", 1)
        key = in_budget(key, content, budget)
        raise BenchError(problem, file=path, key=key, remedy=error.remedy) from error
    return found


def studies_said(said: Any) -> list[str]:
    """The names or files in what a command line or a configfile says of `study`: text with commas, or a list."""
    names = said if isinstance(said, list) else [said]
    if not names or not all(isinstance(name, str) and name for name in names):
        remedy = "name a study, or a YAML file by its path, or several: study=oracle,path/to/my.yaml"
        raise BenchError(f"{said!r} names no study", key="study (--config)", remedy=remedy)
    if isinstance(said, list) or Path(said).is_file():  # the name of a file may hold a comma
        return list(names)
    return said.split(",")


def budget_said(said: Any) -> str:
    """The budget in what a command line or a configfile says, which reads a name of digits as a number."""
    if not isinstance(said, str):
        remedy = "name one budget for all studies, by a name that is no number: budget=full"
        raise BenchError(f"{said!r} names no budget", key="budget (--config)", remedy=remedy)
    return said


def budgets_of(study: Path) -> list[str]:
    """The names of a study's budgets beside the default one."""
    return list(read_mapping(study, "a study", EXAMPLE).get("budgets") or {})


def read_mapping(path: Path, what: str, example: str) -> dict[str, Any]:
    """The content of a YAML file that must be a mapping without repeated keys; nothing in it is executed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read {what}: {error}", file=path, remedy="give a text file in UTF-8") from error
    try:
        content = content_of(text)
    except Mistake as error:
        line, problem = str(error).split(": ", 1)
        raise BenchError(problem, file=path, key=line, remedy=error.remedy) from error
    except Exception as error:  # PyYAML also lets through what values raise, such as the 30th of February
        raise BenchError(
            f"not valid YAML: {syntax_said(error)}", file=path, remedy="mend the syntax at that line"
        ) from error
    if not isinstance(content, dict):
        raise BenchError(f"{what} is a mapping of keys", file=path, remedy=example)
    return content


def _under_budget(content: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """The study's content with `defaults` merged, arms expanded and the budget applied."""
    content = dict(content)
    budgets = content.pop("budgets", None) or {}
    defaults = content.pop("defaults", None) or {}
    for key, value in (("budgets", budgets), ("defaults", defaults), ("arms", content.get("arms", {}))):
        if not isinstance(value, dict):
            raise BenchError("must be a mapping", file=file, key=key, remedy=f"write {key} as 'name: settings' lines")
    _check_budget_names(budgets, file)
    if name != DEFAULT_BUDGET and name not in budgets:
        known = [DEFAULT_BUDGET, *map(str, budgets)]
        remedy = among(name, known, f"choose one of: {', '.join(known)}")
        raise BenchError(f"there is no budget {name!r}", file=file, key="budgets", remedy=remedy)
    try:
        budget = Budget.model_validate(budgets.get(name) or {})
    except ValidationError as error:
        first: Any = error.errors()[0]
        key = ".".join(map(str, ("budgets", name, *first["loc"])))
        raise BenchError(first["msg"], file=file, key=key, remedy=remedy_of(first)) from error
    _check_keys(defaults, "defaults", file)
    _check_keys(budget.override, f"budgets.{name}.override", file)
    arms = {}
    for template, settings in (content.get("arms") or {}).items():
        if not isinstance(settings, dict):
            raise BenchError("an arm is a mapping", file=file, key=f"arms.{template}", remedy="give it its settings")
        _check_keys(settings, f"arms.{template}", file)
        made: dict[str, str] = {}
        for arm, expanded in _expand(str(template), {**defaults, **settings}, file):
            _check_twin(arm, _fitting(expanded, defaults.keys() - settings.keys()), made, f"arms.{template}", file)
            if arm in arms:
                remedy = "name each list-valued key in braces in the arm's name, or rename the arm"
                raise BenchError(f"two arms are called {arm!r}", file=file, key=f"arms.{template}", remedy=remedy)
            shared = (defaults.keys() - settings.keys()) | budget.override.keys()
            arms[arm] = _fitting({**_longer(expanded, budget.longer), **budget.override}, shared)
    kept = _kept(arms, budget.arms, f"budgets.{name}.arms", file)
    experiments = content.get("experiments")
    if budget.experiments is not None and isinstance(experiments, dict):
        content["experiments"] = _kept(experiments, budget.experiments, f"budgets.{name}.experiments", file)
    if budget.seeds is not None and isinstance(content.get("experiments"), dict):
        content["experiments"] = {key: _of_all_seeds(value) for key, value in content["experiments"].items()}
    evaluation = content.get("evaluation", {})
    if isinstance(evaluation, dict):
        evaluation = {**evaluation, **budget.evaluation}
    content |= {"arms": kept, "evaluation": evaluation}
    if budget.resources:
        content["resources"] = {**(content.get("resources") or {}), **budget.resources}
    chosen = {"seeds": budget.seeds, "tuning_seeds": budget.tuning_seeds, "quick": budget.quick or None}
    return content | {key: value for key, value in chosen.items() if value is not None}


def _of_all_seeds(experiment: Any) -> Any:
    """An experiment without seeds of its own, which a budget's replace."""
    return (
        {key: value for key, value in experiment.items() if key != "seeds"}
        if isinstance(experiment, dict)
        else experiment
    )


def _check_budget_names(names: Iterable[str], file: Path) -> None:
    """A budget is part of a path, and is named on the command line, where Snakemake reads numbers and truth values."""
    for name in names:
        key = f"budgets.{name}"
        if not re.fullmatch(NAME, name):
            raise BenchError(f"{name!r} cannot be part of a path", file=file, key=key, remedy=PATTERNS[NAME])
        read = "a truth value" if name in ("True", "False") else None
        with contextlib.suppress(ValueError):
            float(name)
            read = "a number"
        if read:
            problem = f"--config budget={name} is read as {read}"
            raise BenchError(problem, file=file, key=key, remedy=f"give its name a letter more, as b{name}")


def _kept(there: Mapping[str, Any], patterns: Iterable[str], key: str, file: Path) -> dict[str, Any]:
    """What a budget keeps, by names or patterns; each must name something, or a misspelt one would leave it out."""
    if not there:
        what = key.rpartition(".")[2]
        raise BenchError(f"the study has no {what}", file=file, key=what, remedy=f"write one at least; {EXAMPLE}")
    wanted: set[str] = set()
    for pattern in patterns:
        found = {name for name in there if fnmatch.fnmatchcase(name, pattern)}
        if not found:
            remedy = nearest(pattern, there) or f"choose of: {', '.join(there)}"
            raise BenchError(f"nothing is called {pattern!r}", file=file, key=key, remedy=remedy)
        wanted |= found
    return {name: value for name, value in there.items() if name in wanted}


def _longer(settings: dict[str, Any], factor: float) -> dict[str, Any]:
    """Settings with more iterations; a value that is no finite number is left to the schema, which says so."""
    iterations = settings.get("iterations")
    if factor == 1.0 or not isinstance(iterations, int | float):
        return settings
    try:
        return {**settings, "iterations": round(factor * iterations)}
    except (OverflowError, ValueError):
        return settings


def _check_keys(settings: Mapping[str, Any], key: str, file: Path) -> None:
    """Refuse an arm's unknown key where it stands, not in every arm that it reaches."""
    known = keys_of_arms()
    for unknown in settings.keys() - set(known):
        remedy = nearest(str(unknown), known) or f"known keys: {', '.join(known)}"
        raise BenchError(f"unknown key {unknown!r}", file=file, key=f"{key}.{unknown}", remedy=remedy)


def _fitting(settings: Mapping[str, Any], shared: Collection[str]) -> dict[str, Any]:
    """An arm's settings without those of the shared ones (defaults, overrides) that its method has no use for."""
    objective = settings.get("objective")
    method = method_of(str(objective.get("path") if isinstance(objective, dict) else objective))
    if method is None:  # which is said where the arm is read
        return dict(settings)
    without = set(keys_of_arms()) - Arm.model_fields.keys()
    without |= set() if method.own else set(METHOD_SETTINGS)
    without &= set(shared) - set(method.accepted)
    return {key: value for key, value in settings.items() if key not in without}


def _check_twin(arm: str, settings: dict[str, Any], made: dict[str, str], key: str, file: Path) -> None:
    """Refuse two arms of one list that are one setting, as 1e-3 and 0.001 are one rate; `made` are those before."""
    with contextlib.suppress(ValidationError):  # which is said where the arm is read
        other = made.setdefault(Arm.model_validate(settings).model_dump_json(), arm)
        if other != arm:
            remedy = "take one of the two values out of its list"
            raise BenchError(f"{other!r} and {arm!r} are one setting", file=file, key=key, remedy=remedy)


def _expand(template: str, settings: Mapping[str, Any], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """One arm for each combination of list-valued settings; `{key}` in strings takes the value."""
    place = f"arms.{template}"
    lists = [key for key, value in settings.items() if isinstance(value, list) and key not in LISTS]
    for key in lists:
        if not settings[key]:
            remedy = f"give {key!r} a value, or remove the arm"
            raise BenchError("an empty list makes no arm", file=file, key=f"{place}.{key}", remedy=remedy)
    for values in itertools.product(*(settings[key] for key in lists)):
        chosen = {**settings, **dict(zip(lists, values, strict=True))}
        try:
            filled = {key: _fill(value, chosen) if isinstance(value, str) else value for key, value in chosen.items()}
            name = _fill(template, chosen)
        except KeyError as error:
            remedy = f"braces take the arm's own keys: {', '.join(chosen)}"
            problem = f"cannot fill the braces of {template!r}: there is no key {error}"
            raise BenchError(problem, file=file, key=place, remedy=remedy) from error
        yield name, filled


def _fill(text: str, values: Mapping[str, Any]) -> str:
    """`{key}` replaced by its value; nothing else that str.format knows, such as attributes and widths."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), text)
