"""Whether results were published before the rule that judges them, from all that git ever held of them."""

import io
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from trigbench.workflow.claims.alike import described, is_alike
from trigbench.workflow.claims.dating import Dated
from trigbench.workflow.machine.git import git, is_ancestor
from trigbench.workflow.study.places import CURVES, ORIGIN, RUNS
from trigbench.workflow.study.study import Study

TABLES = (f":(top,glob)**/{RUNS}", f":(top,glob)**/{CURVES}")
"""Wherever results were published: a study's table stands in a folder of its name."""
NO_ARM = ""
"""What is measured without an arm; seen as soon as anything of the study at that seed was."""
Seen = Literal["yes", "no", "unknown"]
Described = Mapping[str, Any]


@dataclass(frozen=True)
class Used:
    """The results that a verdict rests on."""

    study: str
    results: frozenset[tuple[str, int]]
    """Each an arm and a seed."""
    arms: Mapping[str, Described] = field(default_factory=dict)
    """What these arms are."""


@dataclass(frozen=True)
class Published:
    """The results that were ever published in a repository."""

    folder: Path
    shallow: bool
    """Whether the clone lacks its history, so that nothing can be told."""
    commits: Mapping[tuple[str, str, int], Collection[str]]
    """By study, arm and seed: those that changed a table which held a result of it."""
    arms: Mapping[str, Described] = field(default_factory=dict)
    """What was published of studies whose settings stood beside their tables: all arms that differ, by a key."""
    by_arm: Mapping[tuple[str, int], Collection[str]] = field(default_factory=dict)
    """By the key of an arm and a seed: commits, too."""

    def of(self, used: Used) -> set[str]:
        """All commits that published a result which is used, or the same arm's at that seed under any name."""
        found = {commit for result in used.results for commit in self.commits.get((used.study, *result), ())}
        for arm, said in used.arms.items():
            seeds = [seed for name, seed in used.results if name == arm]
            same = [key for key, other in self.arms.items() if is_alike(said, other)]
            found |= {commit for key in same for seed in seeds for commit in self.by_arm.get((key, seed), ())}
        return found


def used_by(study: Study, arms: Collection[str], seeds: Iterable[int]) -> Used:
    """What a verdict on these arms (none: what is measured without one) and seeds rests on: their runs, those that
    taught and started them, and those of the tuning seeds that chose a rate."""
    results, pending = set[tuple[str, int]](), [(arm, seed) for seed in seeds for arm in arms or (NO_ARM,)]
    while pending:
        arm, seed = result = pending.pop()
        if result in results:
            continue
        results.add(result)
        if arm in study.arms:
            own = study.arms[arm]
            before = [name for name in (own.teacher, own.start) if isinstance(name, str) and name in study.arms]
            pending += [(name, seed) for name in before]
            pending += [(name, other) for name in study.candidates(arm) for other in study.tuning_seeds]
    own = {arm: study.arms[arm] for arm, _ in results if arm in study.arms}
    parts = {"arms": own, "data": study.data, "sizes": study.sizes}
    settings = {part: {name: of.model_dump(mode="json") for name, of in each.items()} for part, each in parts.items()}
    said = {"sigma_d": study.sigma_d, **settings}
    return Used(study.study, frozenset(results), {arm: described(said, arm) for arm in own})


def published_results(folder: Path) -> Published | None:
    """What the repository around a folder holds and held, on all branches and under all paths; None outside of one."""
    if git(folder, "rev-parse", "--git-dir") is None:
        return None
    if (git(folder, "rev-parse", "--is-shallow-repository") or "").strip() != "false":
        return Published(folder, True, {})
    said = ("-m", "--diff-filter=ACMR", "--name-only", "--format=%x00%H")
    listed = git(folder, "-c", "core.quotepath=false", "log", "--all", *said, "--", *TABLES)
    found: dict[tuple[str, str, int], set[str]] = {}
    arms, by_arm = dict[str, Described](), dict[tuple[str, int], set[str]]()
    for part in (listed or "").split("\0"):
        commit, *paths = part.split("\n")
        for path in dict.fromkeys(filter(None, paths)):
            known = _described(folder, commit, str(Path(path).with_name(ORIGIN)))
            for arm, seed in _held(folder, commit, path):
                found.setdefault((Path(path).parent.name, arm, seed), set()).add(commit)
                if arm in known:
                    key, arms[key] = known[arm]
                    by_arm.setdefault((key, seed), set()).add(commit)
    return Published(folder, False, found, arms, by_arm)


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


@cache
def _described(folder: Path, commit: str, path: str) -> Mapping[str, tuple[str, Described]]:
    """(key, what it is) of every arm by a study's provenance that a commit holds; none where it says no settings."""
    try:
        settings = json.loads(git(folder, "show", f"{commit}:{path}") or "{}")["settings"]
        said = {arm: described(settings, arm) for arm in settings["arms"]}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {arm: (json.dumps(of, sort_keys=True), of) for arm, of in said.items()}


def seen(rule: Dated, used: Used, results: Published | None) -> Seen:
    """Whether any of these results was published before the rule, under the study's name or another.

    What was published in the rule's own commit, or on a branch that does not hold the rule, was.
    """
    if results is None or results.shallow:
        return "unknown"
    commits = results.of(used)
    if rule.rule is None:  # no commit holds it as it is
        return "yes" if commits else "unknown"
    first = [rule.rule != commit and _ancestor(results.folder, rule.rule, commit) for commit in commits]
    return "yes" if False in first else "unknown" if None in first else "no"


@cache
def _ancestor(folder: Path, commit: str, of: str) -> bool | None:
    return is_ancestor(folder, commit, of)
