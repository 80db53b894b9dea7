"""docs/gallery.md: what was published, to look at, with study, seeds and commits beside each picture.

  python benchmarks/gallery.py       writes it anew from results/published; `make publish` does, too

Sentences on results are those of the published tables, computed from their rows, as is what they say of their rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trigbench.workflow.claims.dating import RULE_FIRST
from trigbench.workflow.claims.tables import read_table
from trigbench.workflow.machine.files import read_json, write_text
from trigbench.workflow.study.places import StudyFiles

ROOT = Path(__file__).parents[1]
PUBLISHED, PAGE = ROOT / "results/published", ROOT / "docs/gallery.md"
AGAIN = "publish the study again"
INTRODUCTION = """# Gallery

What the published studies made, with the sentence that was computed from their rows. Samples are of the final averaged
weights, from a noise that was fixed beforehand; none is chosen. What stands behind a picture is in its study's folder
of [results/published](../results/published), and how to read it in [results](results.md). This page is made by
`python benchmarks/gallery.py`.

![Verdicts of all published studies, claim by claim](../results/published/claims.svg)"""
BEFORE = "Described and not confirmed: its table does not say which seeds had been seen before their rules."


def gallery(published: Path = PUBLISHED) -> str:
    """The page of all studies that are there, those first that are judged by today's rules."""
    studies = [StudyFiles(path.parent) for path in sorted(published.glob("*/provenance.json"))]
    tables = {files.folder.name: read_table(files.verdicts) for files in studies}
    parts = [INTRODUCTION]
    for files in sorted(studies, key=lambda files: ("basis" not in tables[files.folder.name], files.folder.name)):
        parts += _study(files, rules_said(tables[files.folder.name]))
    return "\n\n".join(parts) + "\n"


def rules_said(verdicts: pd.DataFrame) -> str:
    """Of a study's verdicts, which are of no rule that stood before its results."""
    if "basis" not in verdicts:
        return BEFORE
    dated = verdicts.rule_first.dropna()
    others = dated[dated != RULE_FIRST].value_counts()
    return " ".join(f"Of {count} of {len(dated)} verdicts: {said}." for said, count in others.items())


def _study(files: StudyFiles, note: str) -> Iterator[str]:
    origin = read_json(files.origin, AGAIN)
    name, figures = files.folder.name, files.folder / "figures"
    commits = ", ".join(commit[:7] for commit in origin["commits"])
    drawn = origin["tabulated_by"]["commit"][:7]
    yield f"## {name}\n\n{origin['settings']['title']}"
    yield " ".join([f"{origin['runs']} runs of {commits}; tables and figures of {drawn}.", note]).strip()
    if (figures / f"{files.one_noise.stem}.svg").is_file():
        (about,) = [path for path in (files.one_noise, figures / files.one_noise.name) if path.is_file()]
        said = read_json(about, AGAIN)
        yield _picture(name, files.one_noise.stem, said["alt"], said["caption"])
    for experiment, settings in origin["settings"]["experiments"].items():
        seeds = (origin.get("seeds_of") or {}).get(experiment, origin["seeds"])
        yield from _experiment(files, experiment, settings, seeds)


def _experiment(files: StudyFiles, experiment: str, settings: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[str]:
    name, finding = files.folder.name, files.folder / "tables" / f"{experiment}.json"
    if not (files.folder / "figures" / f"{experiment}.svg").is_file():
        return
    yield f"### {name}: {settings['title']}"
    if (files.folder / "figures" / f"{experiment}-pictures.svg").is_file():
        said = f"What each makes, of the first seed, {seeds[0]}."
        yield _picture(name, f"{experiment}-pictures", f"Samples: {settings['title']}", said)
    said = read_json(finding, AGAIN)["finding"]
    yield _picture(name, experiment, settings["title"], f"{settings['question']} {said} {seeds_said(seeds)}.")


def seeds_said(seeds: Sequence[int]) -> str:
    """In words: those in a row by the first and the last."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    said = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
    return f"Seed{'s' * (len(seeds) > 1)} {said}"


def _picture(study: str, figure: str, alt: str, caption: str) -> str:
    return f"![{alt}](../results/published/{study}/figures/{figure}.svg)\n\n{caption}"


if __name__ == "__main__":
    write_text(PAGE, gallery())
    print(f"{PAGE.relative_to(ROOT)}: {gallery().count('![')} pictures")
