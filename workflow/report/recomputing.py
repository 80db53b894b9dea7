"""Recompute every published verdict from the published tables, apart from what judged them, and say where they differ.

This is a second reading of docs/verdicts.md, in plain pandas and scipy: it takes claims.yaml and, of each study,
runs.csv, curves.csv, provenance.json and claims.csv, and nothing of trigbench that judges. second_numbers.py makes
effects by seed of them, second_bars.py says which test nothing, and second_reading.py what the others say.
"""

import fnmatch
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from trigbench._places import ROOT
from trigbench.workflow.machine.git import git
from trigbench.workflow.report.second_bars import bars, chose_an_edge, is_untested
from trigbench.workflow.report.second_numbers import EXACT, SAMPLED, Compared, LacksError, Table, compare, listed
from trigbench.workflow.report.second_reading import NUMBERS, Reread, after_holm, among, found, word
from trigbench.workflow.study.claim import Rule
from trigbench.workflow.study.places import CURVES, ORIGIN, RUNS, VERDICTS

COLUMNS = ["study", "claim", "published", "recomputed", "holm", "scale", "beyond", *NUMBERS, "off", "why"]
"""Of what comes out."""
NO_RULE, EARLIER, NO_CURVES = "without a rule in claims.yaml now", "judged by earlier rules", "without their curves.csv"
"""Why a published verdict is not comparable."""


# --- verdicts ------------------------------------------------------------------------------------


def recomputed(rule: Mapping[str, Any], runs: Table, curves: Table, origin: Mapping[str, Any]) -> Reread:
    """The verdict of one rule, its patterns resolved: of all seeds, or the first that a plan's looks give."""
    runs, curves = (t[t.experiment == rule["experiment"]].reset_index(drop=True) for t in (runs, curves))
    try:
        compared = list(compare(rule, runs, curves))
        if not compared or np.isnan(bars(rule, runs, origin["settings"]["arms"])[0]).any():
            return Reread("not run")
    except LacksError:
        return Reread("not run")
    metrics = {name for _, parts in compared for _, name, _ in parts} | {rule["metric"], *listed(rule.get("also"))}
    exact, count = rule.get("exact", metrics <= EXACT), min(len(one) for one, _ in compared)
    if origin.get("quick"):
        return Reread("not tested", seeds=count)
    settings = origin["settings"]
    plan, edge = settings["experiments"][rule["experiment"]].get("seeds"), chose_an_edge(rule, runs, curves, settings)

    def untested(parts: list, own: Table) -> bool:
        return edge or is_untested(rule, parts, own, settings["arms"])

    if not isinstance(plan, dict):
        return at_once(rule, compared, untested(terms_of(compared), runs), exact, 1.0)
    spent = {s for t in listed(rule["of"]) + listed(rule["against"]) for s in t.get("choose_on", ())}
    said, before = Reread("inconclusive", seeds=count), 0.0
    for many in range(plan["first"], plan["most"] + 1, plan["batch"]):
        seeds, now = range(plan["start"], plan["start"] + many), math.log(1 + (math.e - 1) * many / plan["most"])
        there = [(among(e, seeds), [(s, n, among(v, seeds)) for s, n, v in parts]) for e, parts in compared]
        if any(not e or (not exact and set(seeds) - spent - e.keys()) for e, _ in there):
            break
        own = runs[runs.seed.isna() | runs.seed.isin(seeds)]
        said, before = at_once(rule, there, untested(terms_of(there), own), exact, now - before), now
        if exact or said.verdict != "inconclusive":
            break
    return said


def terms_of(compared: list[Compared]) -> list:
    """Of each comparison its terms."""
    return [parts for _, parts in compared]


def at_once(rule: Mapping[str, Any], compared: list[Compared], untested: bool, exact: bool, share: float) -> Reread:
    """What these seeds say, with a look's share of alpha."""
    sign = -1.0 if rule["direction"] == "less" else 1.0
    effects = [[sign * value for value in one.values()] for one, _ in compared]
    differ = exact and any(max(v) - min(v) > 1e-6 * max(1, abs(v[0])) for v in effects)
    if differ or untested:
        return Reread("not tested", seeds=min(map(len, effects)))
    if not exact:
        return found([np.array(e) for e in effects], rule, share)
    same, ends = rule["direction"] == "same", [e[0] for e in effects]
    end = max(ends, key=abs) if same else min(ends)
    own = sign * end
    return Reread(word(end, end, same, float(rule["smallest"])), own, own, own, None, len(effects[0]))


# --- published tables ----------------------------------------------------------------------------


def resolve(term: Mapping[str, Any], arms: list[str]) -> dict[str, Any]:
    """The term with names in place of patterns."""
    if "arms" not in term:
        return dict(term)
    patterns = listed(term["arms"])
    return {**term, "arms": [a for a in arms if any(fnmatch.fnmatchcase(a, p) for p in patterns)]}


def read(path: Path) -> Table:
    """A table as it was written, with the columns that earlier ones lack."""
    table = pd.read_csv(path, low_memory=False)
    return table.reindex(columns=list(dict.fromkeys([*table.columns, *SAMPLED])))


def study(folder: Path, claims: Mapping[str, Any]) -> Table:
    """One row for each verdict that is published and each rule that these claims have on the study: what its table says
    (None where the rule is newer), and what comes out with its NUMBERS (None where its curves are not published, or no
    rule is there); `why` says why the two are not comparable."""
    origin, published = json.loads((folder / ORIGIN).read_text(encoding="utf-8")), read(folder / VERDICTS)
    name, settings, there = origin["settings"]["study"], origin["settings"], (folder / CURVES).is_file()
    runs = read(folder / RUNS)
    curves = read(folder / CURVES) if there else runs[:0].assign(x=pd.Series(dtype=float))
    rows, newer = [], [{"claim": claim, "verdict": None} for claim in claims if claim not in set(published.claim)]
    for row in (*published.to_dict("records"), *newer):
        rule = (claims.get(row["claim"], {}).get("decided_by") or {}).get(name)
        if rule is None:
            if isinstance(row.get("experiment"), str):
                rows.append({"row": row, "scale": row["scale"], "said": None, "why": NO_RULE})
            continue
        patterns = settings["experiments"].get(rule["experiment"], {}).get("arms", ())
        shown = [a for a in settings["arms"] if not settings["arms"][a]["tuning"]]
        arms = [a for a in shown if any(fnmatch.fnmatchcase(a, p) for p in patterns)]
        earlier = row["verdict"] is not None and is_earlier(row, name, rule, origin)
        rule = {**rule, **{side: [resolve(t, arms) for t in listed(rule[side])] for side in ("of", "against")}}
        on_curve = any("x" in t for side in ("of", "against") for t in rule[side])
        said = None if on_curve and not there else recomputed(rule, runs, curves, origin)
        why = EARLIER if earlier else NO_CURVES if said is None else ""
        rows.append({"row": row, "scale": rule["scale"], "said": said, "why": why, "beyond": beyond(rule)})
    adjust(rows, origin.get("family"), origin.get("rules", {}))
    return pd.DataFrame([as_row(name, **{"holm": None, **each}) for each in rows], columns=COLUMNS)


def adjust(rows: list[dict[str, Any]], family: Mapping[str, Any] | None, rules: Mapping[str, str]) -> None:
    """Say of each published verdict what Holm's adjustment leaves of it: among all, or among the rules of a family that
    was frozen. Newer ones are outside of it, what it has lost counts with the level that it had, and what is not
    comparable with the one that is published."""
    told = {each["row"]["claim"]: each for each in rows if each["row"]["verdict"] is not None}
    frozen = family["claims"] if family else {}
    inside = [name for name in told if not family or frozen.get(name, {}).get("rule") == rules.get(name)]
    words = [told[name]["said"].verdict if told[name]["said"] else "" for name in inside]
    levels = [level_of(told[name]) for name in inside]
    lost = [one["p"] for name, one in frozen.items() if name not in inside]
    last = after_holm([*words, *[""] * len(lost)], [*levels, *lost])
    left = dict(zip(inside, last, strict=False))
    for name, each in told.items():
        if not each["why"]:
            each["holm"] = left.get(name, each["said"].verdict if each["said"].p is None else "outside its family")


def level_of(row: Mapping[str, Any]) -> float | None:
    """The p of a row, which of one that is not comparable is the published one."""
    if not row["why"]:
        return row["said"].p
    published = row["row"].get("p")
    return None if pd.isna(published) else published


def is_earlier(row: Mapping[str, Any], study: str, rule: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    """Whether a published verdict was judged by another rule than this: by what its provenance says of its rule, or
    else by the commit that its table names. What neither tells is held against the rule of now."""
    if "basis" not in row:  # of the words and statistics that were before
        return True
    if (digest := origin.get("rules", {}).get(row["claim"])) is not None:
        return digest != Rule.model_validate(rule).digest
    then = ledger_at(commit) if isinstance(commit := row.get("rule_commit"), str) else {}
    was = (then.get(row["claim"], {}).get("decided_by") or {}).get(study)
    return was is not None and was != rule


@cache
def ledger_at(commit: str) -> Mapping[str, Any]:
    """The claims of a commit; nothing where git cannot say."""
    text = git(ROOT, "show", f"{commit}:workflow/claims.yaml")
    return parsed(text) if text else {}


def beyond(rule: Mapping[str, Any]) -> float:
    """The number by which a rule multiplies what it compares with."""
    against, of = (math.prod(t["value"] for t in rule[side] if "value" in t) for side in ("against", "of"))
    return against / of


def as_row(
    name: str,
    row: Mapping[str, Any],
    scale: str,
    said: Reread | None,
    holm: str | None,
    why: str,
    beyond: float = 1.0,
) -> dict[str, Any]:
    """Of a claim on the study of that name what was published, and what comes out."""
    about = {
        "study": name,
        "claim": row["claim"],
        "published": row["verdict"],
        "scale": scale,
        "beyond": beyond,
        "holm": holm,
        "why": why,
    }
    about |= {"recomputed": said and said.verdict, "off": said and off(row, said, holm)}
    return about | {key: said and getattr(said, key) for key in NUMBERS}


def off(row: Mapping[str, Any], said: Reread, holm: str | None) -> str:
    """Which published numbers are not those that come out, in words."""
    was = row.get("holm_verdict")
    agrees = holm is None or not isinstance(was, str) or was == holm
    wrong = [] if agrees else [f"{was} after Holm's adjustment, recomputed as {holm}"]
    for key in NUMBERS:
        now, was = getattr(said, key), row.get(key, math.nan)
        now = math.nan if now is None else now
        if key in row and not np.isclose(now, was, rtol=1e-5, atol=1e-8, equal_nan=True):
            wrong.append(f"{key} {was:.6g}, recomputed as {now:.6g}")
    return "; ".join(wrong)


def read_claims(path: Path) -> dict[str, Any]:
    """The claims of a ledger, as its file has them."""
    return parsed(path.read_text(encoding="utf-8"))


def parsed(text: str) -> dict[str, Any]:
    """As a ledger's text has them."""
    quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=quick)["claims"]


def report(folder: Path, claims: Mapping[str, Any]) -> tuple[int, Table]:
    """Print how many verdicts of a study agree, which differ, and why others are not comparable; return how many
    differ, and the table."""
    whole = study(folder, claims)
    table = whole[whole.published.notna()]
    wrong = table[(table.why == "") & ~agree(table)]
    print(f"{folder}: {counted(table)}")
    earlier = table[table.why == EARLIER].recomputed
    if len(earlier):
        counts = ", ".join(f"{count} {word}" for word, count in earlier.value_counts().items())
        lack = earlier.isna().sum()
        print(f"  by the rules of now: {counts}" + (f"; {lack} {NO_CURVES}" if lack else ""))
    if newer := len(whole) - len(table):
        print(f"  rules of now that are newer than its table: {newer}; --table shows what they say")
    for row in wrong.itertuples():
        said = row.off if row.published == row.recomputed else f"as {row.published}, recomputed as {row.recomputed}"
        print(f"  {row.claim}: published {said}")
    return len(wrong), whole.assign(reads=[reads(row) for row in whole.to_dict("records")])


def agree(table: Table) -> Any:
    """Which published verdicts come out again, with their numbers."""
    return (table.why == "") & (table.published == table.recomputed) & (table.off == "")


def counted(table: Table) -> str:
    """How many published verdicts agree, differ and are not comparable, and why."""
    same, apart = int(agree(table).sum()), table.why[table.why != ""].value_counts()
    differ = len(table) - same - int(apart.sum())
    said = f"of {len(table)} published verdicts {same} agree, {differ or 'none'} differ{'s' * (differ < 2)}"
    if not len(apart):
        return said
    reasons = "; ".join(f"{count} {why}" for why, count in apart.items())
    return f"{said}, and {apart.sum()} not comparable ({reasons})"


def reads(row: Mapping[str, Any]) -> str:
    """Effect and interval to read: of a logarithm the factor that it stands for, beside one that the rule allows."""
    ends = [row[key] for key in ("effect", "low", "high")]
    if any(end is None or math.isnan(end) for end in ends[:1]):
        return ""
    shown = [f"{math.exp(end) if row['scale'] == 'log_ratio' else end:.3g}" for end in ends if not pd.isna(end)]
    times = "times " if row["scale"] == "log_ratio" else ""
    allowed = f" of {row['beyond']:.3g} times" if times and row["beyond"] != 1 else ""
    return f"{times}{shown[0]}" + (f" ({shown[1]} to {shown[2]})" if len(shown) == 3 else "") + allowed


def show(found: list[tuple[int, Table]], printed: bool, file: Path | None) -> int:
    """Print what holds of all studies; print and write the tables of `report`, if asked to; return how many verdicts
    differ in all."""
    table = pd.concat([one for _, one in found], ignore_index=True)
    if len(found) > 1:
        print(f"in all: {counted(table[table.published.notna()])}")
    if file is not None:
        table.drop(columns="off").to_csv(file, index=False, float_format="%.9g")
    if printed:
        levels = ["" if pd.isna(p) else f"{p:.3g}" for p in table.p]
        shown = table.assign(p=levels)[["study", "claim", "recomputed", "holm", "reads", "p", "seeds"]]
        print(f"\n{shown[table.recomputed.notna()].to_string(index=False, na_rep='')}")
    return sum(wrong for wrong, _ in found)
