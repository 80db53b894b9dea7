"""When a rule came: which commit first held it, and whether that was before its results."""

import dataclasses
import json
from pathlib import Path

import yaml

from trigbench.workflow.claims.ledger import CLAIMS
from trigbench.workflow.claims.verdicts import CLAIM_NEW, RULE_CHANGED
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.git import is_ancestor, versions
from trigbench.workflow.machine.plain import StrictLoader
from trigbench.workflow.machine.provenance import attribution

RULE_FIRST = "yes"
UNKNOWN = "unknown"


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
    for loader in (StrictLoader, yaml.SafeLoader):
        try:
            content = yaml.load(text, Loader=loader)
            return {
                key_of(name, study): json.dumps(rule, sort_keys=True)
                for name, claim in content["claims"].items()
                for study, rule in (claim.get("decided_by") or {}).items()
            }
        except (Mistake, ValueError, yaml.YAMLError):
            continue
        except (AttributeError, KeyError, TypeError):
            break
    return {}


def key_of(claim: str, study: str) -> str:
    """Under which a claim's rule for a study is known."""
    return f"{claim} {study}"
