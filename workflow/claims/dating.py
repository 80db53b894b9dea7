"""When a rule came: which commit first held it, and whether that was before its results."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from trigbench.workflow.claims.ledger import CLAIMS
from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.git import is_ancestor, versions
from trigbench.workflow.machine.plain import StrictLoader
from trigbench.workflow.machine.provenance import attribution

RULE_FIRST = "yes"
UNKNOWN = "unknown"
CLAIM = re.compile(r"^  (?=[^\s#])", re.MULTILINE)
"""Where a claim begins in the ledger; a quoted text over several lines that looks so ends nowhere, and is refused."""
OUTSIDE = re.compile(r"^[^\s#]", re.MULTILINE)
"""What is no claim."""
SHARED = re.compile(r"(?<=[\s\[{,])[&*](\w[^\s\[\]{},]*)")
"""Where YAML gives a part of the file a name, or takes what has one: that name, or a word of a text that looks so."""


@dataclasses.dataclass(frozen=True)
class Dated:
    """When a rule came: the commits since which it stands as it is, and that first held any for its claim and study."""

    rule: str | None = None
    claim: str | None = None
    """None where no commit holds it."""


def rule_commits(path: Path = CLAIMS) -> dict[str, Dated] | None:
    """By `claim study`, of a ledger or a study with claims of its own. None where git knows nothing of the file."""
    if path == CLAIMS and attribution()["commit"] is None:  # the commits around a copy are somebody else's
        return None
    present = rules_of(path.read_text(encoding="utf-8"))
    rules, firsts, claims = dict[str, str](), dict[str, str](), dict[str, str]()
    past = list(versions(path))
    for commit, text in past:
        held = rules_of(text)
        for key in present.keys() & held.keys():
            claims.setdefault(key, commit)
            if held[key] != present[key]:  # what was another one in between dates from its return
                rules.pop(key, None)
                continue
            rules.setdefault(key, commit)
            firsts.setdefault(key, commit)
    # of a file whose last version, by git's order, is that of a branch which was merged since
    return {key: Dated(rules.get(key) or firsts.get(key), claims.get(key)) for key in present} if past else None


def rule_first(dated: Dated, results: tuple[str, ...], folder: Path, tracked: bool) -> str | None:
    """Whether the rule's commit came before all results, or is theirs; None without results.

    A rule that came after them is either the first of a claim that is new, or was another one before.
    """
    if not tracked:
        return UNKNOWN
    if not results:
        return None
    if dated.claim is None:  # no commit speaks of it yet
        return UNKNOWN
    if dated.rule is None:  # it is another one since the last commit
        return RULE_CHANGED
    answers = [is_ancestor(folder, dated.rule, result) for result in results]
    if False in answers:
        return CLAIM_NEW if dated.rule == dated.claim else RULE_CHANGED
    return UNKNOWN if None in answers else RULE_FIRST


def rules_of(text: str) -> dict[str, str]:
    """Every rule of a version of a file with claims, as it is written but for layout; none where it had none.

    Read as today's are, and where that refuses an old version, as it was read then.
    """
    apart = _claim_by_claim(text)
    if apart is not None:
        return apart
    for loader in (StrictLoader, yaml.SafeLoader):
        try:
            return dict(_written(yaml.load(text, Loader=loader)["claims"]))
        except (Mistake, ValueError, yaml.YAMLError):
            continue
        except (AttributeError, KeyError, TypeError):
            break
    return {}


def _claim_by_claim(text: str) -> dict[str, str] | None:
    """The same of a ledger: most of a version's claims stand as in the one before, and are known.

    None where the text is more than claims, they cannot be told apart, or something is wrong with one.
    """
    starts = [found.start() for found in CLAIM.finditer(text)]
    lines = text[: starts[0]].splitlines() if starts else []
    if [line for line in lines if line.strip() and not line.lstrip().startswith("#")] != ["claims:"]:
        return None
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    if any(OUTSIDE.search(part) for part in parts):
        return None
    try:
        known = [_read(part) for part in _together(parts)]
    except (Mistake, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return None
    if len({name for names, _ in known for name in names}) != len(parts):
        return None
    return {key: rule for _, rules in known for key, rule in rules}


def _together(claims: Sequence[str]) -> Iterator[str]:
    """Each claim alone, or in their order with those that share a named part with it, directly or by others."""
    groups: list[tuple[frozenset[str], list[int]]] = []
    for place, claim in enumerate(claims):
        names, members = _shared(claim), [place]
        joined = [group for group in groups if names & group[0]]
        groups = [group for group in groups if group not in joined]
        groups.append((names.union(*(of for of, _ in joined)), sorted(sum((of for _, of in joined), members))))
    yield from ("".join(claims[place] for place in members) for _, members in groups)


@cache
def _shared(claim: str) -> frozenset[str]:
    """The names that it gives to a part of itself, or takes."""
    return frozenset(SHARED.findall(claim))


@cache
def _read(claims: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of some claims, and their rules."""
    content = yaml.load(claims, Loader=StrictLoader)
    return list(content), list(_written(content))


def _written(claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, claim in claims.items():
        for study, rule in (claim.get("decided_by") or {}).items():
            yield key_of(name, study), json.dumps(rule, sort_keys=True)


def key_of(claim: str, study: str) -> str:
    """Under which a claim's rule for a study is known."""
    return f"{claim} {study}"
