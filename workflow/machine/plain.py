"""YAML without surprises: what a plain (unquoted) word is where versions 1.1 and 1.2 differ, 010, 1e3, yes or 12:30."""

import copy
import re
from collections.abc import Hashable
from functools import cache
from typing import Any, ClassVar

import yaml

from trigbench.workflow.errors import Mistake

INT = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
BOOL, NULL = re.compile("true|True|TRUE|false|False|FALSE"), re.compile("~|null|Null|NULL|")
POWER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
"""A number in YAML 1.2, text in 1.1."""
ZERO = re.compile(r"[-+]?0[0-9_]+")
"""Eight or ten to the place: a number of either base."""
OTHER = re.compile(
    r"([yY]es|YES|[nN]o|NO|[oO]n|ON|[oO]ff|OFF)"
    r"|[-+]?(0o[0-7]+|0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"
)
"""Words that one version reads as something else than text."""


class Written(str):
    """A plain word as it is written, of which the place where it stands decides what it is.

    Where a name or text belongs it is text; a number or a truth value is read from it by the schema; and where
    the schema does not know what belongs there, `meaning` is what both versions take it for, or an error.
    """

    def meaning(self) -> Any:
        """Raises Mistake where the versions of YAML disagree. `1e3`, which 1.1 calls text, is a number."""
        if INT.fullmatch(self):
            return int(self, 0)
        if FLOAT.fullmatch(self):
            return float(re.sub(r"\.(?=inf|nan)", "", self.lower()))
        if POWER.fullmatch(self):
            return float(self)
        if BOOL.fullmatch(self):
            return self.lower() == "true"
        if NULL.fullmatch(self):
            return None
        raise disputed(self)


def syntax_said(error: Exception) -> str:
    """PyYAML's error of a text in one line; of the text, which it calls <unicode string>, the message names the file.

    >>> syntax_said(ValueError("bad\\n  in \\"<unicode string>\\", line 1, column 4"))
    'bad at line 1, column 4'
    """
    return " ".join(str(error).replace('in "<unicode string>", line', "at line").split())


def disputed(word: str) -> Mistake:
    """The error of a word that could be two things."""
    return Mistake(f"{word} is one thing in one version of YAML and another in the next", remedy=how_to_write(word))


def how_to_write(word: str) -> str:
    """The same word beyond doubt."""
    lower = word.lower()
    if lower in ("yes", "no", "on", "off"):
        return f"write {'true' if lower in ('yes', 'on') else 'false'}, or '{word}' in quotes where text is meant"
    digits = word.replace("_", "")
    if re.fullmatch(r"[-+]?[0-9]+", digits):
        return f"write {int(digits)}, or '{word}' in quotes where a name is meant"
    return f"write it in quotes, '{word}', where text is meant, or as a plain number"


def number(word: str) -> int | None:
    """The whole number that somebody meant by 1e3, 0o10 or 1_000; None for other words."""
    try:
        return int(word, 0)
    except ValueError:
        return int(float(word)) if POWER.fullmatch(word) and float(word).is_integer() else None


def resolved(value: Any) -> Any:
    """Nested settings of somebody else's code with every Written word replaced by its meaning."""
    if isinstance(value, Written):
        return value.meaning()
    if isinstance(value, dict):
        return {resolved(key): resolved(inner) for key, inner in value.items()}
    return [resolved(inner) for inner in value] if isinstance(value, list) else value


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it
_TAG = "tag:yaml.org,2002:"
_DISPUTED = "!disputed"


class StrictLoader(_SafeLoader):
    """Refuses a key that stands twice, which plain YAML would let win silently, and reads nothing into a name.

    A plain word is a number, a truth value or empty where both versions of YAML say so, and else as it is written
    (Written): no number of minutes in 12:30, no truth in `off`. A key is always as it is written.
    """

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_TAG}merge":  # `<<: *anchor`, which what stands beside it overrides
                continue
            key.tag = _KEYS.get(key.tag, key.tag)
            name = self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                continue  # refused below
            if not isinstance(name, str):  # of a tag, as !!timestamp
                problem = f"line {key.start_mark.line + 1}: the key {key.value!r} is {name!r}, no word"
                raise Mistake(problem, remedy="take its tag out: a key is as it is written")
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts in what `<<` merges."""
        super().flatten_mapping(node)
        for key, _ in node.value:
            key.tag = _KEYS.get(key.tag, key.tag)

    def construct_disputed(self, node: yaml.ScalarNode) -> Written:
        """A number of base eight or ten is neither here; any other word is decided by where it stands."""
        if ZERO.fullmatch(node.value):
            error = disputed(node.value)
            raise Mistake(f"line {node.start_mark.line + 1}: {error}", remedy=error.remedy)
        return Written(node.value)

    def construct_key(self, node: yaml.ScalarNode) -> Written:
        """As it is written."""
        return Written(node.value)


_KEYS = dict.fromkeys([_DISPUTED, *(f"{_TAG}{kind}" for kind in ("int", "float", "bool", "null"))], "!key")
for _kind, _pattern in (
    (f"{_TAG}null", NULL), (f"{_TAG}bool", BOOL), (f"{_TAG}int", INT),
    (f"{_TAG}float", FLOAT), (f"{_TAG}merge", re.compile("<<")), (_DISPUTED, POWER),
    (_DISPUTED, ZERO), (_DISPUTED, OTHER),
):  # fmt: skip
    StrictLoader.add_implicit_resolver(_kind, re.compile(f"(?:{_pattern.pattern})\\Z"), None)
StrictLoader.add_constructor(_DISPUTED, StrictLoader.construct_disputed)
StrictLoader.add_constructor("!key", StrictLoader.construct_key)


def content_of(text: str) -> Any:
    """What a text of YAML holds, as StrictLoader reads it; whoever asks may change it."""
    return copy.deepcopy(_read(text))


@cache  # the ledger takes a quarter of a second, and a plan, a report or a list reads it more than once
def _read(text: str) -> Any:
    return yaml.load(text, Loader=StrictLoader)
