"""The gallery of docs/ is of what is published now."""

import re

from benchmarks import gallery
from tests.workflow.conftest import ROOT


def test_the_gallery_is_of_what_is_published_and_every_picture_is_there() -> None:
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert page == gallery.gallery(), "python benchmarks/gallery.py writes it anew"
    pictures = re.findall(r"\]\(\.\./(.*\.svg)\)", page)
    assert len(pictures) == len(set(pictures)) > 40
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_seeds_in_words() -> None:
    said = {(200, 201, 202): "Seeds 200 to 202", (0, 7): "Seeds 0, 7", (3,): "Seed 3", (1, 2): "Seeds 1, 2"}
    assert {seeds: gallery.seeds_said(seeds) for seeds in said} == said
