"""The family of a study's verdicts, among which Holm's adjustment is made: frozen once its results are whole.

It stands in the provenance, which is published. The same results judged again keep it, whatever the ledger then says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from trigbench.workflow.claims.verdicts import Judgement, holm_verdicts
from trigbench.workflow.machine.files import mark_of, read_json, write_json
from trigbench.workflow.machine.provenance import attribution
from trigbench.workflow.study.claim import Rule
from trigbench.workflow.study.study import Study

KEY, RULES = "family", "rules"
"""Of provenance.json: the family, and the digest of every rule that judges now."""
LATE = "outside its family"
"""In place of a verdict after Holm's adjustment: of a rule that came, or became what it is, when the family stood."""


@dataclass(frozen=True)
class Family:
    """The rules that judged results first, at a release of the project."""

    results: str
    """The mark of these."""
    release: str | None
    commit: str | None
    claims: Mapping[str, Mapping[str, Any]]
    """By id: `rule`, its digest, and `p`, empty where none was tested."""

    @classmethod
    def of(cls, results: str, rules: Mapping[str, Rule], found: Mapping[str, Judgement]) -> Self:
        """What judges now."""
        code = attribution()
        claims = {name: {"rule": rule.digest, "p": found[name].p} for name, rule in rules.items()}
        return cls(results, code["version"], code["commit"], claims)

    def holds(self, name: str, rule: Rule) -> bool:
        return self.claims.get(name, {}).get("rule") == rule.digest

    @property
    def words(self) -> str:
        """Which it is."""
        at = f", commit {self.commit[:7]}" if self.commit else ""
        return f"the family of {len(self.claims)} rules of release {self.release or 'unknown'}{at}"


def results_mark(origin: Mapping[str, Any]) -> str | None:
    """Changes when any run of a study's results does, or the commit that made it; None before all are there."""
    if origin.get("runs_missing") or not origin.get("fingerprints") or origin.get("quick"):
        return None
    return mark_of({key: origin.get(key) for key in ("fingerprints", "commit_of")})


def family_of(study: Study, rules: Mapping[str, Rule], found: Mapping[str, Judgement]) -> Family | None:
    """The family that the study's results have, or get now; None before these are whole, and where no rule judges.

    Asked for are the last one here, and the one that is published.
    """
    remedy = f"make the study first: {study.command()}"
    mark = results_mark(read_json(study.made.origin, remedy))
    if mark is None or not rules:
        return None
    kept = [read_json(study.made.family, "delete it; the study is judged anew")] if study.made.family.is_file() else []
    if study.published.origin.is_file():
        kept.append(read_json(study.published.origin, "take it from the repository again").get(KEY))
    same = (Family(**one) for one in kept if one and one["results"] == mark)
    return next(same, None) or Family.of(mark, rules, found)


def keep(study: Study, family: Family | None, rules: Mapping[str, Rule]) -> None:
    """Write it beside the results, where nothing clears it, and to their provenance, with the rules of now."""
    origin = read_json(study.made.origin, f"make the study first: {study.command()}")
    about = {RULES: {name: rule.digest for name, rule in rules.items()}} | ({KEY: asdict(family)} if family else {})
    if origin | about != origin:
        write_json(study.made.origin, origin | about)
    if family:
        write_json(study.made.family, asdict(family))


def told(study: Study) -> str:
    """Among which verdicts Holm's adjustment was made; nothing where no rule judges."""
    origin = read_json(study.made.origin, f"make the study first: {study.command()}")
    if not origin.get(RULES):
        return ""
    kept = origin.get(KEY)
    among = Family(**kept).words if kept else "all verdicts with a p, as these results are not whole, or quick"
    return f"Holm's adjustment is made among {among}"


def late_notes(rules: Mapping[str, Rule], family: Family | None) -> dict[str, str]:
    """Of each rule that is outside the family what is said of it."""
    if family is None:
        return {}
    said = f"its rule is newer than {family.words}, and outside Holm's adjustment"
    return {name: said for name, rule in rules.items() if not family.holds(name, rule)}


def after_holm(found: Mapping[str, Judgement], rules: Mapping[str, Rule], family: Family | None) -> dict[str, str]:
    """What is left of each verdict by Holm's adjustment within the family; without one, among all that were tested.

    A rule that the family has and the ledger has no more, or has otherwise, counts with the p that it had.
    """
    late, members = late_notes(rules, family), family.claims if family else {}
    own = [name for name in found if name not in late]
    gone = [member["p"] for name, member in members.items() if name not in own and member["p"] is not None]
    said = dict(zip(own, holm_verdicts([found[name] for name in own], gone), strict=True))
    return {n: said.get(n, each.verdict if each.p is None else LATE) for n, each in found.items()}
