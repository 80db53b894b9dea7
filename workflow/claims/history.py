"""What git knows of the rules that a claim had, and of the verdicts that were published by them."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from trigbench.workflow.claims.dating import rules_of
from trigbench.workflow.claims.ledger import CLAIMS
from trigbench.workflow.machine.git import contents, git, is_whole, listed
from trigbench.workflow.machine.provenance import attribution
from trigbench.workflow.study.places import VERDICTS

VERDICT_TABLES = f":(top,glob)**/{VERDICTS}"
"""Wherever verdicts were published."""
SAID = ("verdict", "effect", "low", "high", "scale", "seeds")


@dataclass(frozen=True)
class Event:
    """A commit that gave a claim another rule on a study, took its rule away, or published another verdict on it."""

    commit: str
    date: str
    study: str
    """Of a verdict, its label."""
    rule: Mapping[str, Any] | None = None
    """As it was written then, which may be nothing that is read today."""
    verdict: Mapping[str, Any] | None = None
    """Of SAID, what the table had. Without rule and verdict the rule was taken away."""


def histories(path: Path = CLAIMS) -> dict[str, tuple[Event, ...]]:
    """By claim of a ledger, its events, ancestors first; nothing outside a checkout and in a shallow clone.

    What a merge took over from one of its sides is of the commit that made it.
    """
    folder = path.parent
    if not is_whole(folder) or (path == CLAIMS and attribution()["commit"] is None):
        return {}
    own = (git(folder, "rev-parse", "--show-prefix") or "").strip() + path.name
    tables = dict.fromkeys((git(folder, "log", "--format=", "--name-only", "--", VERDICT_TABLES) or "").split("\n"))
    order = [commit for commit, _, _ in listed(folder, f":(top,literal){own}", VERDICT_TABLES)]
    events = _changes(folder, own, rules_of, _rule)
    for table in filter(None, tables):
        events += _changes(folder, table, _verdicts, _verdict)
    found: dict[str, list[Event]] = {}
    for claim, event in sorted(events, key=lambda pair: order.index(pair[1].commit)):
        found.setdefault(claim, []).append(event)
    return {claim: tuple(of_claim) for claim, of_claim in found.items()}


Make = Callable[[str, str, str, str | None], Event | None]


def _changes(folder: Path, file: str, read: Callable[[str], Mapping[str, str]], make: Make) -> list[tuple[str, Event]]:
    """(claim, event) of every entry that a commit holds otherwise than each of its parents."""
    held: dict[str, Mapping[str, str]] = {}
    events = []
    commits = listed(folder, f":(top,literal){file}")
    texts = contents(folder, [f"{commit}:{file}" for commit, _, _ in commits])
    for (commit, date, parents), text in zip(commits, texts, strict=True):
        held[commit] = read(text or "")
        before = [held.get(parent, {}) for parent in parents] or [{}]
        for key in dict.fromkeys(key for entries in (held[commit], *before) for key in entries):
            claim, _, study = key.partition(" ")
            now = held[commit].get(key)
            if all(now != entries.get(key) for entries in before) and (event := make(commit, date, study, now)):
                events.append((claim, event))
    return events


def _rule(commit: str, date: str, study: str, text: str | None) -> Event:
    return Event(commit, date, study, rule=_plain(json.loads(text)) if text else None)


def _verdict(commit: str, date: str, study: str, text: str | None) -> Event | None:
    """None where the table has no row any more: its rule says why."""
    return Event(commit, date, study, verdict=json.loads(text)) if text else None


def _verdicts(text: str) -> dict[str, str]:
    """The decided rows of a published table; none where it is no such table."""
    try:
        rows = pd.read_csv(io.StringIO(text)).dropna(subset=["experiment"]).to_dict("records")
        return {
            f"{row['claim']} {row['study']}": json.dumps({k: None if pd.isna(row[k]) else row[k] for k in SAID})
            for row in rows
        }
    except (ValueError, KeyError, AttributeError):
        return {}


def _plain(value: Any) -> Any:
    """Numbers and truth values of what was kept as it was written."""
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, list):
        return [_plain(of) for of in value]
    return _meaning(value) if isinstance(value, str) else value


@cache
def _meaning(word: str) -> Any:
    try:
        found = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    return found if isinstance(found, bool | int | float) else word
