"""The pages of the report as people meet them: in a browser, from disk, on a phone, without JavaScript, by keyboard."""

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal
from unittest import mock
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.workflow.conftest import made_by_one
from tests.workflow.conftest import step as by_hand
from tests.workflow.made_up import CLAIMS, DIVERGED, STUDY, from_outside, ledger_in_git, make_results, publish
from trigbench.workflow.claims.deciding import judge_study
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report import writing as step
from trigbench.workflow.report.pages import front
from trigbench.workflow.report.simulating import make_simulations
from trigbench.workflow.study.places import StudyFiles
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run, Study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PAGES = (
    "index", "wrong", "tiny", "tiny-short", "tiny/one_and_two", "tiny/along", "tiny-short/one_and_two",
    *(f"claims/{name}" for name in CLAIMS),
)  # fmt: skip
DARK = ("index", "tiny", "tiny/along", "claims/moved")
"""Pages that are looked at in the dark, too."""
NOVEL = [
    {"question": "Is it so?", "study": "tiny", "experiment": "along", "sentences": "Norm"},
    {"question": "And along the angle?", "study": "tiny", "experiment": "along", "curve": "map_rms"},
]


@dataclass
class Site:
    """The reports folder, with a finished study and one that lacks runs, and a browser to look at it.

    It has one page with JavaScript and one without, as a new one of each takes longer than most tests; a report stores
    nothing in the browser.
    """

    reports: Path
    browser: Browser
    printed: str
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    pages: dict[bool, Page] = field(default_factory=dict)

    @contextlib.contextmanager
    def open(
        self, name: str, width: int = 1280, scheme: Literal["light", "dark"] = "light", script: bool = True
    ) -> Iterator[Page]:
        """A page; what goes wrong on it and what it asks for is kept."""
        page = self._page(script)
        page.mouse.move(0, 0)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="null", color_scheme=scheme)
        page.goto(self.address(name), wait_until="load")
        yield page

    def _page(self, script: bool) -> Page:
        if script not in self.pages:
            page = self.browser.new_context(java_script_enabled=script).new_page()
            page.on("console", lambda m: self.trouble.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda e: self.trouble.append(str(e)))
            page.on("requestfailed", lambda r: self.trouble.append(f"failed: {r.url}"))
            page.on("request", lambda r: self.requests.append(r.url))
            self.pages[script] = page
        return self.pages[script]

    def address(self, name: str) -> str:
        return (self.reports / f"{name}.html").as_uri()


def _chromium() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        reason = "no chromium on the PATH: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    executable = _chromium()
    root = made_by_one(tmp_path_factory, "site", _make_reports)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=QUIET)
        yield Site(root / "elsewhere" / "reports", browser, (root / "printed").read_text())
        browser.close()


def _make_reports(root: Path) -> None:
    (root / "tiny.yaml").write_text(STUDY)
    full, lacking = load(root / "tiny.yaml"), load(root / "tiny.yaml", "short")
    published = property(lambda self: StudyFiles(root / "published" / self.study))
    ledger, before = ledger_in_git(root / "ledger")
    write_json(root / "novel.yaml", NOVEL)
    novel = partial(front.novel_findings, path=root / "novel.yaml")
    with (
        contextlib.chdir(root),
        mock.patch.object(Study, "published", published),
        mock.patch.object(Study, "is_shipped", True),
        mock.patch.object(front, "novel_findings", novel),
    ):
        make_results(full, full.runs(), (DIVERGED,), before)
        from_outside(full, "theirs")
        from_outside(full, "older", stale=True)
        step.report(full, partial=True)
        publish(full, root / "published" / "tiny", {"continuous": 2.0, "discrete-8": 1.0})
        make_results(lacking, [Run(arm="continuous", seed=0), Run(arm="continuous", seed=1)], commit=before)
        printed = by_hand("report", "--study", "tiny.yaml", "--budget", "short", "--partial", cwd=root).stdout
        (root / "printed").write_text(printed)
        make_simulations(draws=100)
        for study in (lacking, full):
            judge_study(study, ledger)
            step.report(study)
        # Moved away from the results: the folder has to stand alone.
        shutil.copytree(root / "reports", root / "elsewhere" / "reports")


# --- every page -----------------------------------------------------------------------------------


def test_no_page_is_left_out_of_these_tests(site: Site):
    there = {str(path.relative_to(site.reports).with_suffix("")) for path in site.reports.rglob("*.html")}
    assert there == {*PAGES, "tiny-short/along"}


@pytest.fixture(scope="module", params=PAGES)
def visited(site: Site, request: pytest.FixtureRequest) -> Iterator[tuple[str, Page]]:
    """Each page, opened once for all that is asked of every page; who asks leaves it as it was."""
    site.trouble.clear()
    site.requests.clear()
    with site.open(request.param) as page:
        yield request.param, page


def test_pages_open_from_disk_without_error_or_network_and_are_accessible(site: Site, visited: tuple[str, Page]):
    name, page = visited
    assert page.locator("h1").count() == 1 and page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == 1 and page.locator("header nav").count() == 1
    assert _grave(page) == []
    if name in DARK:
        page.emulate_media(color_scheme="dark")
        page.reload(wait_until="load")
        assert _grave(page) == []
        page.emulate_media(color_scheme="light")
    assert site.trouble == []
    folder = site.reports.as_uri()
    assert all(url.startswith((folder, "data:")) for url in site.requests)


def _grave(page: Page) -> list[tuple[str, str]]:
    """What keeps people from reading the page, all of it unfolded: rule and element."""
    _unfold(page)
    found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
    return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


def test_links_and_images_resolve(site: Site, visited: tuple[str, Page]):
    name, page = visited
    links = page.eval_on_selector_all("a", "all => all.map(a => a.href)")
    for link in set(links):
        parts = urlsplit(link)
        assert parts.scheme == "file", link
        target = Path(unquote(parts.path))
        assert target.is_file() and target.is_relative_to(site.reports), link
        if parts.fragment and "=" not in parts.fragment:
            assert f'id="{parts.fragment}"' in target.read_text(), link
    images = page.eval_on_selector_all("img", "all => all.map(i => [i.alt, i.complete && i.naturalWidth > 0])")
    assert all(alt and shown for alt, shown in images)
    expected = {"index": 1, "tiny": 2, "tiny-short": 2, "tiny/one_and_two": 2, "tiny/along": 1}
    assert len(images) == expected.get(name, 2 if name.startswith("tiny-short/") else 0)


def test_a_verdict_never_stands_without_its_study(visited: tuple[str, Page]):
    name, page = visited
    for said in page.locator(".verdict").all_text_contents():
        assert " on tiny" in said, (name, said)
    for square in page.locator(".map a.square").all():
        title = square.get_attribute("title") or ""
        assert " on tiny" in title or "not run: needs study" in title
        assert square.locator("span[aria-hidden]").inner_text() in ("✓", "✕", "≈", "?", "∅", "–")


def test_nothing_spills_over_at_400_px(visited: tuple[str, Page]):
    _, page = visited
    page.set_viewport_size({"width": 400, "height": 900})
    page.reload(wait_until="load")
    _unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    edges = "all => Math.max(...all.map(e => e.getBoundingClientRect().right))"
    assert page.eval_on_selector_all("main > *, header > *", edges) <= 400
    page.set_viewport_size({"width": 1280, "height": 900})  # charts stay narrow: nothing below asks for this page again


def _unfold(page: Page) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")


def test_what_came_from_outside_stands_apart_and_says_when_it_is_stale(site: Site):
    with site.open("tiny") as page:
        section = page.locator("#outside")
        assert section.get_by_role("row").count() == 1 + 2 * 2
        row = section.get_by_role("row").filter(has_text="theirs").filter(has_text="Sliced")
        cells = ["lower", "1", "theirs", "0.101 [0.0941, 0.107]", "0.101 continuous", "0.0300", "2"]
        assert row.get_by_role("cell").or_(row.get_by_role("rowheader")).all_inner_texts()[1:] == cells
        notice = section.get_by_role("note").inner_text()
        assert "older is stale" in notice and "trigbench judge tiny.yaml theirs.py:sample --name older" in notice
        section.get_by_role("link", name="older (stale)").first.click()
        assert page.url.endswith("#outside-older")
    with site.open("tiny/one_and_two") as page:
        assert page.get_by_role("row").filter(has_text="theirs").count() == 1


# --- the front page -------------------------------------------------------------------------------


def _claims(page: Page) -> list[str]:
    rows = page.locator(".ledger tbody tr:visible")
    return sorted(rows.evaluate_all("rows => rows.map(r => r.dataset.claim)"))


def test_filters_choose_claims_and_survive_a_reload(site: Site):
    with site.open("index") as page:
        assert _claims(page) == sorted(CLAIMS)
        page.get_by_label("Paper").select_option("sCM")
        assert _claims(page) == ["fails", "far", "holds"]
        page.get_by_label("Topic").select_option("steps")
        page.get_by_label("Text").fill("TWO worse")
        assert _claims(page) == ["fails"] and page.locator(".filters output").inner_text() == "1 of 5 claims"
        assert (
            page.locator(".map a.square:not(.faded)").evaluate_all("all => all.map(a => a.dataset.claim)")
            == ["fails"] * 2
        )
        page.reload()
        assert _claims(page) == ["fails"] and page.get_by_label("Topic").input_value() == "steps"
        page.get_by_role("button", name="Clear").click()
        page.wait_for_function("location.hash.length < 2")
        assert _claims(page) == sorted(CLAIMS)


def test_a_filter_can_be_linked_to_and_knows_verdicts_by_study(site: Site):
    with site.open("index") as page:
        page.goto(site.address("index") + "#verdict=reproduced&study=tiny")
        assert _claims(page) == ["holds", "moved"]
        page.locator(".filters [name=study]").select_option("tiny-short")
        assert _claims(page) == []
        page.locator(".filters [name=verdict]").select_option("inconclusive")
        assert _claims(page) == ["fails", "holds", "moved"]  # two seeds decide nothing
        page.goto(site.address("index") + "#topic=tangent")
        assert _claims(page) == ["moved", "unsure"]
        page.goto(site.address("index") + "#seen=yes")
        assert _claims(page) == []
        page.goto(site.address("index") + "#seen=no&study=tiny")
        assert _claims(page) == ["fails", "holds", "moved", "unsure"]
        page.goto(site.address("index") + "#topic=tangent")
        page.goto(site.address("index") + "#reading")
        assert _claims(page) == ["moved", "unsure"]  # a place on the page leaves them alone


def test_the_front_page_says_what_there_is(site: Site):
    with site.open("index") as page:
        titles = page.locator(".study h3 a")
        assert titles.evaluate_all("all => all.map(a => a.getAttribute('href'))") == ["tiny-short.html", "tiny.html"]
        assert "2 missing" in page.locator("#tiny-short").inner_text()
        assert "1 diverged" in page.locator("#tiny").inner_text()
        totals = [cell.strip() for cell in page.locator("#totals tbody tr").last.inner_text().split("\t")]
        assert totals == ["on tiny", "3", "2", "2", "0", "0", "1", "1", "1", "0", "1", "0.15"]
        assert "Norm of the direction" in page.locator("#novel").inner_text()
        assert "0.075" in page.locator("#novel").inner_text() and page.locator("#novel .chart circle").count() == 2
        assert "Seeds" in page.locator("#what-it-cost").inner_text()
        assert "rule changed after results" in page.locator(".ledger [data-claim=moved]").inner_text()
        page.locator(".map a.square[data-claim=far]").first.click()
        assert page.locator("h1").inner_text() == CLAIMS["far"]["claim"]


def test_all_of_it_can_be_read_without_javascript(site: Site):
    with site.open("index", script=False) as page:
        assert not page.locator(".filters").is_visible()
        assert page.locator(".ledger tbody tr").count() == len(CLAIMS)
        assert "reproduced on tiny" in page.locator(".ledger").inner_text()
        assert page.locator(".map a.square").count() == 2 * (len(CLAIMS) - 1) + 1
        assert page.locator("#novel img").count() == 2
    with site.open("tiny/one_and_two", script=False) as page:
        assert page.locator("#figure img").is_visible() and page.locator("#one_and_two-means").is_visible()
        assert page.locator(".chart svg").count() == 0 and page.locator("#figure noscript p").is_visible()


def test_the_page_of_how_we_could_be_wrong_has_the_simulations_and_leads_to_claims(site: Site):
    with site.open("wrong") as page:
        assert page.locator("#false tbody tr").count() == 6 and page.locator("#power tbody tr").count() == 6
        page.locator("#not-tested a, #undecided a").first.click()
        assert "/claims/" in page.url


def test_paper_gets_everything_unfolded_and_no_controls(site: Site):
    with site.open("index") as page:
        page.emulate_media(media="print")
        assert not page.locator(".filters").is_visible()
        box = page.locator(".ledger-box").evaluate("box => [box.scrollHeight, box.clientHeight]")
        assert box[0] == box[1]


# --- claims ---------------------------------------------------------------------------------------


def test_a_claims_page_says_how_it_was_decided(site: Site):
    with site.open("claims/holds") as page:
        text = page.locator("main").inner_text()
        assert "trigbench run" in text and "claims/holds" in text and "1.88" in text and "It is small." in text
        assert (
            "Each seed gives one effect: the ratio of RMS error of the map of continuous to the constant 0.08." in text
        )
        assert "Rule came first\nyes" in text and "seeds 0, 1, 2" in text.replace("\n", " ")
        assert page.locator("#tiny .fresh").inner_text() == "fresh: this rule came before its results"
        plot = page.locator("#tiny svg.interval")
        said = plot.get_attribute("aria-label") or ""
        assert said.startswith("Effects of 3 seeds: ×0.63") and "reproduced" in said
        assert plot.locator("circle.seed").count() == 3 and plot.locator("rect.band").count() == 2
        page.locator("#tiny").get_by_role("link", name="tiny/one_and_two").click()
        assert page.locator("#claims a").count() == 4
    with site.open("claims/moved") as page:
        assert "not fixed beforehand" in page.locator("#tiny .notice").inner_text()
        assert "no: rule changed after results" in page.locator("#tiny").inner_text()
    with site.open("claims/far") as page:
        assert "contradict" in page.locator(".notice").inner_text()
        assert "needs study imagenet512" in page.locator("#not-run").inner_text()


# --- experiments and studies ----------------------------------------------------------------------


def test_a_table_sorts_by_click_and_by_key(site: Site):
    with site.open("tiny/one_and_two") as page:
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


def test_arms_can_be_taken_out_of_a_chart(site: Site):
    with site.open("tiny/one_and_two") as page:
        chart = page.locator("#figure .chart")
        marks = chart.locator("svg .ink")
        assert marks.count() == 3 * 2 + 2 * 2 + 1  # seeds times steps, and a cross for the one that diverged
        button = chart.get_by_role("button", name="discrete-8")
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert button.get_attribute("aria-pressed") == "false" and marks.count() == 6
        button.press("Enter")
        assert marks.count() == 11


def test_a_chart_tells_values_on_hover_and_by_key(site: Site):
    with site.open("tiny/along") as page:
        chart = page.locator("#figure .chart")
        point = chart.locator("svg circle.ink").nth(1)
        point.hover()
        assert chart.locator(".tip").inner_text() == "continuous, optimiser step 4: 1.04 (1.04 to 1.04, 3 seeds)"
        chart.locator(".plane").focus()
        page.keyboard.press("ArrowRight")
        assert "step 6: 1.06" in chart.locator(".tip").inner_text()
        page.mouse.move(0, 0)
        assert chart.locator(".ring").count() == 0


def test_a_folded_chart_is_drawn_when_it_is_opened(site: Site):
    with site.open("tiny/along", width=400) as page:
        page.locator("#curves summary").first.click()
        svg = page.locator("#curves .chart svg").first
        page.wait_for_function("document.querySelector('#curves .chart svg')?.getBoundingClientRect().width > 250")
        assert svg.locator("circle.ink").count() == 3


def test_tables_download_as_csv_with_the_numbers_shown(site: Site):
    with site.open("tiny/one_and_two") as page:
        links = page.locator("#numbers .downloads a")
        names = links.evaluate_all("all => all.map(a => [a.textContent, a.getAttribute('href'), a.download !== null])")
        assert [text for text, _, _ in names] == ["means (CSV)", "costs (CSV)", "every run (CSV)", "curves (CSV)"]
        with (site.reports / "tiny" / names[0][1]).open() as handle:
            rows = [row for row in csv.DictReader(handle) if row["metric"] == "sliced_wasserstein"]
        shown = page.locator("#one_and_two-means tbody tr").evaluate_all(
            "rows => rows.map(r => r.cells[2].textContent)"
        )
        means = ["diverged" if row["mean"] == "inf" else f"{float(row['mean']):#.3g}" for row in rows]
        assert means == shown
    with site.open("index") as page:
        page.locator("#tiny summary").click()
        names = page.locator("#tiny .files-list a").all_text_contents()
        assert {"claims.csv", "all-runs.csv", "all-curves.csv", "costs.csv", "one_and_two-table.csv"} <= set(names)


def test_what_diverged_and_what_agrees_is_said(site: Site):
    with site.open("tiny") as page:
        assert "discrete-8 seed 2" in page.locator("#short .notice", has_text="Diverged").inner_text()
        assert "uncommitted changes" in page.locator("#short").inner_text()
        assert "fp16" in page.locator("#precision").inner_text()
        page.locator("#one_and_two h3 a").click()
        assert "discrete-8 seed 2" in page.locator("#short .notice").inner_text()
        rows = page.locator("#one_and_two-means tbody tr").all_inner_texts()
        verdicts = {(cells := row.split("\t"))[0].strip() + cells[1]: cells[-1].strip() for row in rows}
        assert verdicts["continuous1"] == "no" and verdicts["discrete-81"] == "–"


def test_what_is_missing_is_named_with_its_command(site: Site):
    assert "one_and_two --budget short" in site.printed and "discrete-8 seeds 0, 1" in site.printed
    assert "reports/tiny-short.html" in site.printed
    with site.open("tiny-short") as page:
        assert "2 of 4 runs are missing" in page.locator("#short").inner_text()
        page.locator("#missing summary").click()
        text = page.locator("#missing").inner_text()
        assert "one_and_two --budget short" in text and "discrete-8 seeds 0, 1" in text
        page.locator("#short summary").click()
        assert "under the budget “laptop”" in page.locator("#short").inner_text()
    with site.open("tiny-short/one_and_two") as page:
        assert "one_and_two --budget short" in page.locator("#short .notice").inner_text()
