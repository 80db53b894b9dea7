"""The pages of the report: what stands on them (fast), and how they behave in a browser (slow)."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from unittest import mock
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from workflow.reading import load
from workflow.report.pages import index_entries, missing, study_page
from workflow.report.tables import write_table
from workflow.runtime.files import write_arrays, write_json
from workflow.runtime.fingerprint import fingerprint
from workflow.runtime.records import RunRecord, Value, write_record
from workflow.steps import report as step
from workflow.study import Run, Study

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
STUDY = """
study: tiny
title: Does the page hold?
summary: Two arms & <three> seeds.
sigma_d: 0.5
seeds: [0, 1, 2]
data: {blobs: {kind: mixture, dimension: 2, components: 2, std: 0.5}}
sizes: {s: {width: 8, blocks: 1}}
defaults: {data: blobs, size: s, teacher: exact, iterations: 10, batch: 8, rate: 1.0e-3, ema_half_life: 100}
arms:
  continuous: {objective: scd}
  discrete-{intervals}: {objective: dscd, intervals: [8], precision: fp16}
evaluation: {samples: 20}
experiments:
  one_and_two:
    {title: One and two steps, paper: "arXiv 2410.11081, Table 1", question: "How far?", expectation: Not far.,
     figure: methods, metric: sliced_wasserstein, arms: ["*"]}
  along:
    {title: Along training, paper: none (a control), question: "Does it spike?", expectation: It does not.,
     figure: training, metric: training_direction_norm, arms: [continuous]}
budgets: {short: {seeds: [0, 1]}}
"""
STEPS = {"continuous": 0.05, "discrete-8": 0.10}


def _record(study: Study, run: Run, diverged: bool) -> RunRecord:
    def value(base: float) -> float | None:
        return None if diverged else base * (1 + 0.01 * run.seed)

    base = STEPS[run.arm]
    return RunRecord(
        status="diverged" if diverged else "finished",
        reason="loss is nan" if diverged else None,
        fingerprint=fingerprint(study.specification(run)),
        arm=run.arm,
        seed=run.seed,
        step=10,
        parameters=1234,
        metrics=[
            Value(metric="map_rms", value=value(base)),
            Value(metric="sliced_wasserstein", value=value(2 * base), steps=1),
            Value(metric="sliced_wasserstein", value=value(base), steps=2),
        ],
        curves=[
            Value(metric=f"training_direction_norm{kind}", value=1.0 + x / 100, x=x)
            for kind in ("", "_max")
            for x in (2.0, 4.0, 6.0)
        ],
        seconds={"start": 1.0, "train": 2.0 + run.seed},
        peak_memory_mb=100.0,
        provenance={"commit": "a" * 40, "dirty": True, "time": f"2026-01-0{run.seed + 1}T00:00:00Z", "processor": "X"},
    )


def _make_results(study: Study, runs: list[Run], diverged: tuple[Run, ...] = ()) -> None:
    draw = np.random.default_rng(0)
    floor = [{"metric": "sliced_wasserstein", "value": 0.03}]
    facts = {"exact_map_error": 1e-8}
    write_json(study.data_file("blobs").with_suffix(".json"), {"facts": facts, "floors": floor, "provenance": {}})
    write_arrays(study.data_file("blobs"), {"reference": draw.normal(size=(20, 2)), "means": np.zeros((2, 2))})
    for run in runs:
        write_record(study.run_folder(run) / "metrics.json", _record(study, run, run in diverged))
        samples = {f"steps-{k}": draw.normal(size=(20, 2)) for k in (1, 2)}
        write_arrays(study.run_folder(run) / "samples.npz", {} if run in diverged else samples)


def _publish(study: Study, folder: Path, factors: dict[str, float], **origin: object) -> None:
    """Publish the study's own runs, each arm's values times its factor."""
    runs = pd.read_csv(study.folder / "runs.csv")
    write_table(runs.assign(value=runs.value * runs.arm.map(factors).fillna(1.0)), folder / "runs.csv")
    provenance = json.loads((study.folder / "provenance.json").read_text())
    write_json(folder / "provenance.json", {**provenance, **origin})


DIVERGED = Run(arm="discrete-8", seed=2)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Study, "published", property(lambda self: tmp_path / "published" / self.study))
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return load(tmp_path / "tiny.yaml")


# --- the context, fast ----------------------------------------------------------------------------


def _tabulated(study: Study) -> None:
    """What the rules leave, without drawing."""
    for name in study.experiments:
        step.tabulate_experiment(study, name, partial=True)
        folder = study.experiment_folder(name)
        write_json(folder / "finding.json", {"finding": "It is so. Mostly.", "diverged": []})
    step.tabulate_study(study)


def test_a_study_without_any_result_has_a_page(study: Study):
    page = study_page(study)
    assert page.runs == 0 and page.runs_total == 6 and page.costs is None and not page.copies
    assert [s.main for s in page.experiments] == [None, None]
    assert "runs are missing" in step.render("study.html.j2", page=page, precision_note="")


def test_missing_runs_are_named_by_experiment(study: Study):
    _make_results(study, [Run(arm="continuous", seed=s) for s in (0, 1, 2)] + [Run(arm="discrete-8", seed=1)])
    (gap,) = missing(study)
    assert gap.command == "snakemake tiny/one_and_two" and (gap.runs, gap.total) == (2, 6)
    assert [(g.arm, g.seeds) for g in gap.gaps] == [("discrete-8", [0, 2])]


def test_a_diverged_seed_is_shown_as_such(study: Study):
    _make_results(study, study.runs(), (DIVERGED,))
    _tabulated(study)
    main = study_page(study).experiments[0].main
    assert main is not None
    rows = [[cell.text for cell in row] for row in main.rows]
    assert rows[0] == ["continuous", "1", "0.101", "[0.0985, 0.103]", "3", "0"]
    assert ["discrete-8", "2", "diverged", "–", "3", "1 of 3"] in rows
    assert rows[-1][0] == "real data"


def test_published_means_agree_or_do_not(study: Study, tmp_path: Path):
    _make_results(study, study.runs())
    _tabulated(study)
    _publish(study, tmp_path / "published" / "tiny", {"continuous": 1.001, "discrete-8": 2.0})
    page = study_page(study)
    main = page.experiments[0].main
    assert main is not None and [name for name, _ in main.columns][-2:] == ["Published", "Agrees"]
    verdicts = {(row[0].text, row[1].text): row[-1].text for row in main.rows}
    assert verdicts == {
        ("continuous", "1"): "yes", ("continuous", "2"): "yes",
        ("discrete-8", "1"): "no", ("discrete-8", "2"): "no", ("real data", "–"): "–",
    }  # fmt: skip

    assert str(page.agreement) == "3 of 6"  # two arms, three means each; that both experiments show one counts once


def test_other_budgets_and_changed_arms_are_not_compared(study: Study, tmp_path: Path):
    _make_results(study, study.runs())
    _tabulated(study)
    published = tmp_path / "published" / "tiny"
    assert "Nothing is published" in study_page(study).published
    _publish(study, published, {}, budget="short")
    page = study_page(study)
    assert "under the budget “short”" in page.published and page.agreement is None
    settings = json.loads((study.folder / "provenance.json").read_text())["settings"]
    settings["arms"]["discrete-8"]["rate"] = 5.0
    _publish(study, published, {}, settings=settings)
    page = study_page(study)
    assert page.published.endswith("not compared: discrete-8.") and page.experiments[0].main is not None
    assert {row[-1].text for row in page.experiments[0].main.rows if row[0].text == "discrete-8"} == {"–"}


def test_a_figure_that_cannot_be_drawn_does_not_cost_the_page(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    _make_results(study, [DIVERGED], (DIVERGED,))
    monkeypatch.setattr(step, "plot", mock.Mock(side_effect=ValueError("nothing to scale")))
    page = step.report(study, partial=True)
    assert "no figure of 'one_and_two'" in capsys.readouterr().err and page.experiments[0].figure is None
    assert page.diverged == ["discrete-8 seed 2"] and page.experiments[0].main is not None
    assert "There is no figure yet" in study.report.read_text()


def test_costs_are_means_over_seeds_and_count_no_run_twice(study: Study):
    _make_results(study, study.runs())
    _tabulated(study)
    page = study_page(study)
    costs = page.tables["tables/tiny/costs.csv"].set_index("arm")
    assert costs.loc["continuous", "train_seconds"] == 3.0 and costs.loc["continuous", "total_seconds"] == 4.0
    assert list(costs.seeds) == [3, 3] and list(costs.parameters) == [1234, 1234]
    assert page.precisions == [("fp32", 1), ("fp16", 1)]


def test_a_study_names_what_its_distances_rest_on(study: Study):
    _make_results(study, study.runs())
    _tabulated(study)
    first, second = study_page(study).experiments
    assert any("n = 20 samples" in note for note in first.notes)
    assert second.main is None and second.others is not None and "curve" in second.notes[0]
    assert first.finding == ["It is so.", "Mostly."]


def test_the_index_takes_the_pages_that_are_there(tmp_path: Path):
    for label in ("a", "b", "gone"):
        write_json(tmp_path / "assets" / f"{label}.json", {"label": label})
    for label in ("a", "b", "index", "foreign"):
        (tmp_path / f"{label}.html").touch()
    assert [entry["label"] for entry in index_entries(tmp_path)] == ["a", "b"]


def test_the_command_needs_a_study_or_the_index(tmp_path: Path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "workflow.steps.report", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    refused, made = run(), run("--index")
    assert refused.returncode == 2 and "remedy:" in refused.stderr and "Traceback" not in refused.stderr
    assert made.returncode == 0 and made.stdout.strip() == "reports/index.html"
    assert "No report yet" in (tmp_path / "reports" / "index.html").read_text()


# --- in a browser, slow ---------------------------------------------------------------------------


@dataclass
class Site:
    """The reports folder, with a finished study and one that lacks runs, and a browser to look at it."""

    reports: Path
    browser: Browser
    printed: str
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def open(self, name: str, width: int = 1280, scheme: Literal["light", "dark"] = "light") -> Iterator[Page]:
        """A page; what goes wrong on it and what it asks for is kept."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda m: self.trouble.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.trouble.append(str(e)))
        page.on("requestfailed", lambda r: self.trouble.append(f"failed: {r.url}"))
        page.on("request", lambda r: self.requests.append(r.url))
        page.goto((self.reports / f"{name}.html").as_uri(), wait_until="load")
        yield page
        context.close()


def _chromium() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        reason = "no chromium on the PATH: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    executable = _chromium()
    root = tmp_path_factory.mktemp("site")
    (root / "tiny.yaml").write_text(STUDY)
    full, lacking = load(root / "tiny.yaml"), load(root / "tiny.yaml", "short")
    published = property(lambda self: root / "published" / self.study)
    with contextlib.chdir(root), mock.patch.object(Study, "published", published):
        _make_results(full, full.runs(), (DIVERGED,))
        step.report(full, partial=True)
        _publish(full, root / "published" / "tiny", {"continuous": 2.0, "discrete-8": 1.0})
        step.report(full)
        _make_results(lacking, [Run(arm="continuous", seed=0), Run(arm="continuous", seed=1)])
        printed = subprocess.run(
            [sys.executable, "-m", "workflow.steps.report", "--study", "tiny.yaml", "--budget", "short", "--partial"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        # Moved away from the results: the folder has to stand alone.
        moved = root / "elsewhere" / "reports"
        shutil.copytree(root / "reports", moved)
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=executable, args=QUIET)
            yield Site(moved, browser, printed)
            browser.close()


PAGES = ("index", "tiny", "tiny-short")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_open_from_disk_without_error_or_network(site: Site, name: str, scheme: Literal["light", "dark"]):
    site.trouble.clear()
    site.requests.clear()
    with site.open(name, scheme=scheme) as page:
        assert page.locator("h1").count() == 1 and page.locator("html").get_attribute("lang") == "en"
        assert page.locator("main").count() == 1 and page.locator("header nav").count() == 1
    assert site.trouble == []
    assert {urlsplit(url).scheme for url in site.requests} <= {"file", "data"}
    folder = site.reports.as_uri()
    assert all(url.startswith((folder, "data:")) for url in site.requests)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_links_and_images_resolve(site: Site, name: str):
    with site.open(name) as page:
        links = page.eval_on_selector_all("a", "all => all.map(a => a.href)")
        for link in links:
            parts = urlsplit(link)
            assert parts.scheme == "file", link
            target = Path(unquote(parts.path))
            assert target.is_file() and target.is_relative_to(site.reports), link
            if parts.fragment:
                assert f'id="{parts.fragment}"' in target.read_text(), link
        images = page.eval_on_selector_all("img", "all => all.map(i => [i.alt, i.complete && i.naturalWidth > 0])")
        assert all(alt and shown for alt, shown in images)
        assert len(images) == {"index": 0, "tiny": 3, "tiny-short": 3}[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_nothing_spills_over_at_400_px(site: Site, name: str):
    with site.open(name, width=400) as page:
        page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        edges = "all => Math.max(...all.map(e => e.getBoundingClientRect().right))"
        assert page.eval_on_selector_all("main > *, header > *", edges) <= 400


@pytest.mark.slow
def test_a_table_sorts_by_click_and_by_key(site: Site):
    with site.open("tiny") as page:
        table = page.locator("#one_and_two-means")
        mean = table.locator("thead th", has_text="Mean")

        def column() -> list[str]:
            return table.locator("tbody tr").evaluate_all("rows => rows.map(r => r.cells[2].textContent)")

        assert table.locator("[aria-sort]").count() == 0
        mean.locator("button").click()
        assert mean.get_attribute("aria-sort") == "ascending"
        assert column() == ["0.0300", "0.0505", "0.101", "diverged", "diverged"]
        mean.locator("button").press("Enter")
        assert mean.get_attribute("aria-sort") == "descending" and column()[0] == "diverged"
        table.locator("thead th", has_text="Arm").locator("button").click()
        assert mean.get_attribute("aria-sort") is None and table.locator("[aria-sort]").count() == 1
        assert table.locator("tbody tr").first.inner_text().startswith("continuous")


@pytest.mark.slow
def test_what_diverged_and_what_agrees_is_said(site: Site):
    with site.open("tiny") as page:
        assert "discrete-8 seed 2" in page.locator("#short .notice", has_text="Diverged").inner_text()
        assert "discrete-8 seed 2" in page.locator("#one_and_two .notice").inner_text()
        assert "uncommitted changes" in page.locator("#short").inner_text()
        rows = page.locator("#one_and_two-means tbody tr").all_inner_texts()
        verdicts = {(cells := row.split("\t"))[0].strip() + cells[1]: cells[-1].strip() for row in rows}
        assert verdicts["continuous1"] == "no" and verdicts["discrete-81"] == "–"
        page.locator("#along details summary").click()
        assert page.locator("#along-others").is_visible()
        assert "fp16" in page.locator("#precision").inner_text()


@pytest.mark.slow
def test_what_is_missing_is_named_with_its_command(site: Site):
    assert "snakemake tiny-short/one_and_two" in site.printed and "discrete-8 seeds 0, 1" in site.printed
    assert "reports/tiny-short.html" in site.printed
    with site.open("tiny-short") as page:
        assert "2 of 4 runs are missing" in page.locator("#short").inner_text()
        page.locator("#missing summary").click()
        text = page.locator("#missing").inner_text()
        assert "snakemake tiny-short/one_and_two" in text and "discrete-8 seeds 0, 1" in text
        assert "Nothing is published" in page.locator("#short").inner_text()


@pytest.mark.slow
def test_the_index_leads_to_every_study(site: Site):
    with site.open("index") as page:
        titles = page.locator(".study h2 a")
        assert titles.evaluate_all("all => all.map(a => a.getAttribute('href'))") == ["tiny-short.html", "tiny.html"]
        assert "2 missing" in page.locator("#tiny-short").inner_text()
        assert "1 diverged" in page.locator("#tiny").inner_text()
        titles.last.click()
        assert page.locator("h1").inner_text() == "Does the page hold?"
