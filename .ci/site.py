"""What the site needs beside mkdocs: files that pages link to outside docs/, and doctests shown as code."""

import re
from pathlib import Path
from typing import Any

from griffe import Docstring, Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?:\.\./)+((?:benchmarks|core|examples|results|tests|workflow)(?:/[^)#]*)?)\)")
METHODS = "results/published/flow_maps/figures/method-{}.svg"
"""Drawn where the study is published (trigbench.workflow.report.methods)."""
SHOWN = """

## What it reaches

![Distance of samples from the data by steps, beside sCD](../files/{})

The study `flow_maps` in two dimensions: distance of samples from the data, sCD beside; samples of the exact map are at
the floor. Lines are means over seeds, bars span them; each method has the best of its learning rates.
"""
DOCTEST = re.compile(r"(?:^[ \t]*>>> .*\n?(?:^[ \t]*(?!>>> )\S.*\n?)*)+", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every page of docs/methods is in the navigation."""
    pages = sorted(path.name for path in (ROOT / "docs/methods").glob("*.md"))
    config.nav = [*(config.nav or []), *([{"Methods": [f"methods/{name}" for name in pages]}] if pages else [])]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files that pages link to are copied, as `files/PATH`, so that no link leaves the site."""
    pages = [file.content_string for file in files.documentation_pages()]
    for name in sorted({path for page in pages for _, _, path in LINK.findall(page)}):
        if (ROOT / name).is_file():
            copy = File.generated(config, f"files/{name}", abs_src_path=str(ROOT / name))
            files.append(copy)
    for page in (ROOT / "docs/methods").glob("*.md"):
        if (ROOT / (name := METHODS.format(page.stem))).is_file():
            files.append(File.generated(config, f"files/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links out of docs/ lead to the copies; to a folder of the checkout there is none, and its name stands instead.

    A method's page shows its figure once that is published.
    """
    source = Path(page.file.src_uri)
    up = "../" * (len(source.parts) - 1)
    figure = METHODS.format(source.stem)
    shown = SHOWN.format(figure) if source.parent.name == "methods" and (ROOT / figure).is_file() else ""

    def inside(link: re.Match[str]) -> str:
        mark, words, path = link.groups()
        return f"{mark}[{words}]({up}files/{path})" if (ROOT / path).is_file() else f"{words} (`{path}`)"

    return LINK.sub(inside, markdown) + shown


class Doctests(Extension):
    """Of docstrings, which else would be taken for quotations."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Put fences around examples."""
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = DOCTEST.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )
