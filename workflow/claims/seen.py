"""Whether results were published before the rule that judges them, from all that git ever held of them."""

import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import pandas as pd

from trigbench.workflow.claims.dating import Dated
from trigbench.workflow.machine.git import git, is_ancestor
from trigbench.workflow.study.places import CURVES, RUNS

TABLES = (f":(top,glob)**/{RUNS}", f":(top,glob)**/{CURVES}")
"""Wherever results were published: a study's table stands in a folder of its name."""
NO_ARM = ""
"""What is measured without an arm; seen as soon as anything of the study at that seed was."""
Seen = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Published:
    """The results that were ever published in a repository."""

    folder: Path
    shallow: bool
    """Whether the clone lacks its history, so that nothing can be told."""
    commits: Mapping[tuple[str, str, int], Collection[str]]
    """By study, arm and seed: those that changed a table which held a result of it."""


def published_results(folder: Path) -> Published | None:
    """What the repository around a folder holds and held, on all branches and under all paths; None outside of one."""
    if git(folder, "rev-parse", "--git-dir") is None:
        return None
    if (git(folder, "rev-parse", "--is-shallow-repository") or "").strip() != "false":
        return Published(folder, True, {})
    said = ("-m", "--diff-filter=ACMR", "--name-only", "--format=%x00%H")
    listed = git(folder, "-c", "core.quotepath=false", "log", "--all", *said, "--", *TABLES)
    found: dict[tuple[str, str, int], set[str]] = {}
    for part in (listed or "").split("\0"):
        commit, *paths = part.split("\n")
        for path in dict.fromkeys(filter(None, paths)):
            for arm, seed in _held(folder, commit, path):
                found.setdefault((Path(path).parent.name, arm, seed), set()).add(commit)
    return Published(folder, False, found)


@cache
def _held(folder: Path, commit: str, path: str) -> frozenset[tuple[str, int]]:
    """(arm, seed) of every result of a table that a commit holds; none where it is no such table."""
    text = git(folder, "show", f"{commit}:{path}")
    try:
        table = pd.read_csv(io.StringIO(text or ""), usecols=["arm", "seed"], dtype={"arm": str}, keep_default_na=False)
    except ValueError:  # it is empty, or another table
        return frozenset()
    seeds = pd.to_numeric(table.seed, errors="coerce")
    pairs = table.assign(seed=seeds)[seeds.notna()].drop_duplicates()
    own = {(arm, int(seed)) for arm, seed in pairs.itertuples(index=False)}
    return frozenset(own | {(NO_ARM, seed) for _, seed in own})


def seen(rule: Dated, study: str, arms: Collection[str], seeds: Iterable[int], results: Published | None) -> Seen:
    """Whether any result of these arms (none: what is measured without one) and seeds was published before the rule.

    What was published in the rule's own commit, or on a branch that does not hold the rule, was.
    """
    if results is None or results.shallow:
        return "unknown"
    of_arms = [(study, arm, seed) for seed in set(seeds) for arm in arms or (NO_ARM,)]
    commits = {commit for key in of_arms for commit in results.commits.get(key, ())}
    if rule.rule is None:  # no commit holds it as it is
        return "yes" if commits else "unknown"
    first = [rule.rule != commit and _ancestor(results.folder, rule.rule, commit) for commit in commits]
    return "yes" if False in first else "unknown" if None in first else "no"


@cache
def _ancestor(folder: Path, commit: str, of: str) -> bool | None:
    return is_ancestor(folder, commit, of)
