"""The gallery of docs/ is of what is published now."""

import re

import pandas as pd

from benchmarks import gallery
from tests.workflow.conftest import ROOT


def test_the_gallery_is_of_what_is_published_and_every_picture_is_there() -> None:
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert page == gallery.gallery(), "python benchmarks/gallery.py writes it anew"
    pictures = re.findall(r"\]\(\.\./(.*\.svg)\)", page)
    assert len(pictures) == len(set(pictures)) > 40
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_verdicts_whose_rule_is_newer_are_told() -> None:
    verdicts = pd.DataFrame({"basis": 1, "rule_first": ["yes", "claim newer than results", None, "yes"]})
    assert gallery.rules_said(verdicts) == "Of 1 of 3 verdicts: claim newer than results."
    assert gallery.rules_said(verdicts.iloc[[0, 3]]) == ""
    assert "not confirmed" in gallery.rules_said(verdicts.drop(columns="basis"))


def test_seeds_in_words() -> None:
    said = {(200, 201, 202): "Seeds 200 to 202", (0, 7): "Seeds 0, 7", (3,): "Seed 3", (1, 2): "Seeds 1, 2"}
    assert {seeds: gallery.seeds_said(seeds) for seeds in said} == said
