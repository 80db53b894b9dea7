"""What a study has wrong, of errors of pydantic: the key as its file has it, the problem in words of YAML, a remedy."""

import re
from collections.abc import Mapping
from typing import Any, get_args

from trigbench._nearest import nearest
from trigbench._places import place_of
from trigbench.workflow.machine.plain import number
from trigbench.workflow.study.claim import Claim, Rule, Term
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.kinds import kind_named
from trigbench.workflow.study.models import NAME, PATH
from trigbench.workflow.study.resources import Resources
from trigbench.workflow.study.samplers import EvaluationSettings, Sampler, keys_of_samplers
from trigbench.workflow.study.schema import Arm, ConvertedTeacher, Size, keys_of_arms
from trigbench.workflow.study.study import Study

DESCRIBED = {
    "claims": "study/claim.py",
    "data": "data/kinds",
    "samplers": "study/samplers.py",
    "evaluation": "study/samplers.py",
    "resources": "study/resources.py",
    "budgets": "study/resources.py",
}
"""Where what may stand under a key of a study is described; study/schema.py for the others."""
TRIED = re.compile(r"(constrained|function|literal|tuple|list|dict|lax)[-\[].*|int|float|str|bool|none")
"""Pydantic's words for the type that it tried a value as."""
BOUNDS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
    "multiple_of": "a multiple of",
}
PATTERNS = {
    NAME: "use letters, digits, '.', '_' and '-' (at most 200), a letter or digit first",
    PATH: "write package.module:name",
}
WRITE = {
    "int": "write a whole number in digits, as 720",
    "float": "write a number, as 0.5",
    "finite": "write a finite number",
    "bool": "write true or false",
    "string": "write it in quotes, since text belongs here",
    "dict": "write it as 'name: settings' lines",
    "model": "write it as 'key: value' lines",
    "tuple": "write a list, as [a, b]",
    "too": "write a list of the right length",
    "union": "add the key 'kind', which says what it is",
}
"""By the first word of the type of an error of pydantic."""


def key_of(error: Any, content: Mapping[str, Any]) -> str | None:
    """Where an error of pydantic stands in the file: a default is merged into arms."""
    place = [str(part) or "''" for part in error["loc"] if part != "[key]"]
    if place[:1] == ["data"]:  # a kind, and which of several types was tried, are no keys
        place = [part for part in (*place[:2], *place[3:]) if not TRIED.fullmatch(part)]
    defaults = content.get("defaults") or {}
    if place[:1] == ["arms"] and place[2:] and place[2] in defaults and error["input"] == defaults[place[2]]:
        place = ["defaults", *place[2:]]
    return ".".join(place) or None


def in_budget(key: str | None, content: Mapping[str, Any], budget: str) -> str | None:
    """The key, in the budget that says it in the study's place."""
    own = (content.get("budgets") or {}).get(budget) or {}
    said = key is not None and key.partition(".")[0] in own.keys() - {"arms", "experiments"}  # these are patterns
    return f"budgets.{budget}.{key}" if said else key


def problem_of(error: Any) -> str:
    """What is wrong, of an error of pydantic, in words of YAML."""
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "union_tag_invalid":
        return f"there is no kind {error['ctx']['tag']!r}"
    return re.sub(
        r"\b[Tt]uple\b",
        lambda found: "List" if found[0] == "Tuple" else "list",
        error["msg"].removeprefix("Value error, "),
    )


def remedy_of(error: Any) -> str:
    """What to write instead, of an error of pydantic."""
    kind, place = error["type"], [str(part) for part in error["loc"]]
    if kind == "missing" and place[-1] == "kind" and "teacher" in place:
        kinds = get_args(ConvertedTeacher.model_fields["kind"].annotation)
        return f"add the key 'kind', one of {', '.join(kinds)} (docs/teachers.md)"
    if kind == "missing":
        return f"add the key {place[-1]!r}"
    if kind != "extra_forbidden":
        described = DESCRIBED.get(place[0] if place else "", "study/schema.py")
        return remedy_of_value(error, place_of(f"workflow/{described}"))
    models = {"arms": Arm, "sizes": Size, "samplers": Sampler, "experiments": Experiment, "resources": Resources}
    models["evaluation"] = EvaluationSettings
    if place[0] == "data" and len(place) > 2:
        models["data"] = kind_named(place[2]).schema
    if place[0] == "arms" and place[2:3] == ["teacher"]:
        models["arms"] = ConvertedTeacher
    known = list(models.get(place[0], Study).model_fields)
    own = {"arms": keys_of_arms, "samplers": keys_of_samplers}
    known = own[place[0]]() if models.get(place[0]) in (Arm, Sampler) else known
    if place[0] in own and place[-1] in known:
        return f"remove it: it is a setting of another {'objective' if place[0] == 'arms' else 'solver'}"
    if place[0] == "claims":
        known = [*Claim.model_fields, *Rule.model_fields, *Term.model_fields]
    return nearest(place[-1], known) or f"remove it; known keys: {', '.join(known)}"


def remedy_of_value(error: Any, described: str) -> str:
    """What to write instead of a value that pydantic refuses, or the file that describes what may stand there."""
    kind, given, about = error["type"], error["input"], error.get("ctx", {})
    see = f"see what may stand there in {described}"
    if kind == "value_error":
        return getattr(about["error"], "remedy", see)
    if kind in ("literal_error", "union_tag_invalid"):
        return "choose of: " + str(about.get("expected") or about["expected_tags"]).replace(" or ", ", ")
    if kind in BOUNDS:
        return f"write {BOUNDS[kind]} {next(iter(about.values()))}"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(about["pattern"], f"write what matches {about['pattern']}")
    if kind == "int_parsing" and isinstance(given, str) and (meant := number(given)) is not None:
        return f"write {meant}"
    return WRITE.get(kind.split("_", maxsplit=1)[0], see)
