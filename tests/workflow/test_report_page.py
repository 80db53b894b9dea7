"""What stands on the pages of the report, and in which words. How they behave in a browser: test_report_browser.py."""

import json
import math
import re
import shlex
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import yaml

from tests.workflow.made_up import DIVERGED, STUDY, ledger_in_git, make_results, publish, tabulated
from trigbench.workflow.claims.ledger import claims_of, read_claims
from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import compared, read_table
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report import writing as step
from trigbench.workflow.report.pages.charts import in_words, main_chart
from trigbench.workflow.report.pages.claim import claim_pages, decision, withdrawn_pages
from trigbench.workflow.report.pages.common import render
from trigbench.workflow.report.pages.front import NOVEL, front_page, novel_findings, read_entries
from trigbench.workflow.report.pages.gaps import missing
from trigbench.workflow.report.pages.plot import plot_of
from trigbench.workflow.report.pages.rules import ALONE, rule_words
from trigbench.workflow.report.pages.study import entry, study_page
from trigbench.workflow.report.pages.wrong import REASONS, wrong_page
from trigbench.workflow.report.simulating import make_simulations, simulations
from trigbench.workflow.steps.report import command
from trigbench.workflow.study.places import StudyFiles
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import Value, read_record, write_record
from trigbench.workflow.study.study import Run, Study

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Study, "published", property(lambda self: StudyFiles(tmp_path / "published" / self.study)))
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return load(tmp_path / "tiny.yaml")


# --- the context, fast ----------------------------------------------------------------------------


def test_a_study_without_any_result_has_a_page(study: Study):
    page = study_page(study)
    assert page.runs == 0 and page.runs_total == 6 and page.costs is None and not page.copies
    assert [s.main for s in page.experiments] == [None, None]
    assert "runs are missing" in step.render("study.html.j2", page=page, precision_note="")
    assert "runs are missing" in step.render("experiment.html.j2", root="../", page=page.experiments[0], study=page)


def test_missing_runs_are_named_by_experiment(study: Study):
    make_results(study, [Run(arm="continuous", seed=s) for s in (0, 1, 2)] + [Run(arm="discrete-8", seed=1)])
    (gap,) = missing(study)
    assert gap.command == f"trigbench run {study.file} one_and_two" and (gap.runs, gap.total) == (2, 6)
    assert [(g.arm, g.seeds) for g in gap.gaps] == [("discrete-8", [0, 2])]


@pytest.mark.slow
def test_a_diverged_seed_is_shown_as_such_and_why(study: Study):
    make_results(study, study.runs(), (DIVERGED,))
    tabulated(study)
    experiment = study_page(study).experiments[0]
    main = experiment.main
    assert main is not None and experiment.diverged == ["discrete-8 seed 2 (loss is nan)"]
    rows = [[cell.text for cell in row] for row in main.rows]
    assert rows[0] == ["continuous", "1", "0.101", "[0.0985, 0.103]", "3", "0"]
    assert ["discrete-8", "2", "diverged", "–", "3", "1 of 3"] in rows
    assert rows[-1][0] == "real data"


@pytest.mark.slow
def test_published_means_agree_or_do_not(study: Study, tmp_path: Path):
    make_results(study, study.runs())
    tabulated(study)
    publish(study, tmp_path / "published" / "tiny", {"continuous": 1.001, "discrete-8": 2.0})
    page = study_page(study)
    main = page.experiments[0].main
    assert main is not None and [name for name, _ in main.columns][-2:] == ["Published", "Agrees"]
    verdicts = {(row[0].text, row[1].text): row[-1].text for row in main.rows}
    assert verdicts == {
        ("continuous", "1"): "yes", ("continuous", "2"): "yes",
        ("discrete-8", "1"): "no", ("discrete-8", "2"): "no", ("real data", "–"): "–",
    }  # fmt: skip

    assert str(page.agreement) == "3 of 6"  # two arms, three means each; that both experiments show one counts once


@pytest.mark.slow
def test_times_that_differ_in_their_last_angle_are_two_settings_from_record_to_page(study: Study, tmp_path: Path):
    content = yaml.safe_load(STUDY) | {"seeds": [0]}
    content["samplers"] = {"three": {"solver": "few", "times": [[1.1, 0.8], [1.1, 0.05]]}}
    content["arms"]["continuous"]["samplers"] = ["three"]
    content["experiments"]["one_and_two"]["arms"] = ["continuous"]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    study = load(tmp_path / "tiny.yaml")
    run = Run(arm="continuous", seed=0)
    make_results(study, [run])
    record = read_record(study.files(run).metrics)
    ways = [way.columns for way in study.samplings("continuous")]
    values = [Value(metric="sliced_wasserstein", value=v, **way) for v, way in zip((0.3, 0.1), ways, strict=True)]
    write_record(study.files(run).metrics, record.model_copy(update={"metrics": values}))
    tabulated(study)
    main = study_page(study).experiments[0].main
    assert main is not None
    assert [name for name, _ in main.columns[:3]] == ["Arm", "Steps", "All middle angles"]
    found = [[cell.text for cell in row[:6]] for row in main.rows[:2]]
    assert found == [
        ["continuous", "3", "[1.1, 0.8]", "0.300", "–", "1"], ["continuous", "3", "[1.1, 0.05]", "0.100", "–", "1"],
    ]  # fmt: skip

    earlier = [value.model_copy(update={"times": None}) for value in values]  # such records knew the first angle alone
    write_record(study.files(run).metrics, record.model_copy(update={"metrics": earlier}))
    with pytest.raises(BenchError, match=r"'continuous', seed 0, has several values(.|\n)*remedy: .*delete the folder"):
        tabulated(study)


def test_published_tables_of_earlier_versions_are_still_compared_but_for_what_they_do_not_tell_apart():
    new = {"arm": "a", "metric": "map_rms", "steps": 2, "sampler": "few", "mid_time": 1.1, "status": "finished"}
    runs = pd.DataFrame([new | {"seed": s, "value": 1.0 + s, "sampling": "few", "times": "[1.1]"} for s in (0, 1)])
    theirs = pd.DataFrame([new | {"seed": s, "value": 1.1 + s} for s in (0, 1)]).reindex(columns=COLUMNS)
    table = compared(runs, theirs)
    assert (table.published[0], table.agrees[0]) == (pytest.approx(1.6), True)
    twice = pd.concat([runs, runs.assign(sampling="mine")])
    assert compared(twice, theirs).published.isna().all(), "two settings of ours, and one of theirs"
    assert compared(runs, pd.concat([theirs, theirs])).published.isna().all()


@pytest.mark.slow
def test_other_budgets_and_changed_arms_are_not_compared(study: Study, tmp_path: Path):
    make_results(study, study.runs())
    tabulated(study)
    published = tmp_path / "published" / "tiny"
    assert "Nothing is published" in study_page(study).published
    publish(study, published, {}, budget="short")
    page = study_page(study)
    assert "under the budget “short”" in page.published and page.agreement is None
    settings = json.loads((study.made.origin).read_text())["settings"]
    settings["arms"]["discrete-8"]["rate"] = 5.0
    publish(study, published, {}, settings=settings)
    page = study_page(study)
    assert page.published.endswith("not compared: discrete-8.") and page.experiments[0].main is not None
    assert {row[-1].text for row in page.experiments[0].main.rows if row[0].text == "discrete-8"} == {"–"}


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_does_not_cost_the_page(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    make_results(study, [DIVERGED], (DIVERGED,))
    monkeypatch.setattr(step, "plot", mock.Mock(side_effect=ValueError("nothing to scale")))
    page = step.report(study, partial=True)
    assert "no figure of 'one_and_two'" in capsys.readouterr().err and page.experiments[0].figure is None
    assert page.diverged == ["discrete-8 seed 2 (loss is nan)"] and page.experiments[0].main is not None
    assert "There is no figure yet" in (study.report.parent / page.experiments[0].address).read_text()


@pytest.mark.slow
def test_costs_are_means_over_seeds_and_count_no_run_twice(study: Study):
    make_results(study, study.runs())
    tabulated(study)
    page = study_page(study)
    costs = page.tables["tables/tiny/costs.csv"].set_index("arm")
    assert costs.loc["continuous", "train_seconds"] == 3.0 and costs.loc["continuous", "total_seconds"] == 4.0
    assert list(costs.seeds) == [3, 3] and list(costs.parameters) == [1234, 1234]
    assert page.precisions == [("fp32", 1), ("fp16", 1)]


@pytest.mark.slow
def test_a_study_names_what_its_distances_rest_on(study: Study):
    make_results(study, study.runs())
    tabulated(study)
    first, second = study_page(study).experiments
    assert any("n = 20 samples" in note for note in first.notes)
    assert second.main is None and second.others is not None and "curve" in second.notes[0]
    assert first.finding == ["It is so.", "Mostly."]


def test_the_index_takes_the_pages_that_are_there(tmp_path: Path):
    for label in ("a", "b", "gone"):
        write_json(tmp_path / "assets" / f"{label}.json", {"label": label})
    for label in ("a", "b", "index", "foreign"):
        (tmp_path / f"{label}.html").touch()
    assert [entry["label"] for entry in read_entries(tmp_path)] == ["a", "b"]


def test_the_command_needs_a_study_or_all_of_them_or_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        command()

    monkeypatch.chdir(tmp_path)
    for wrong in ((), ("--index", "--all"), ("--study", "oracle", "--all")):
        with pytest.raises(BenchError, match=r"--study(.|\n)*remedy:"):
            run(*wrong)
    run("--index")
    assert capsys.readouterr().out.strip() == "reports/index.html"
    assert "No report yet" in (tmp_path / "reports" / "index.html").read_text()


@pytest.mark.slow
def test_the_page_of_one_s_own_study_prints_commands_that_name_its_file_and_lists_no_claim_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # no top of a checkout
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(STUDY)
    study = load(folder / "tiny.yaml", "short")
    page = study_page(study)
    assert shlex.split(page.commands[0]) == ["trigbench", "run", str(study.file), "--budget", "short"]
    assert shlex.split(page.commands[1])[-3:] == [str(study.file), "--budget", "short"]
    assert shlex.split(page.missing[0].command)[1:4] == ["run", str(study.file), "one_and_two"]
    assert page.counts == [] and list(claims_of(read_claims(), study)) == []
    assert "This study decides no claim" in step.render("study.html.j2", page=page, precision_note="")
    assert load("oracle").command("theory") == "trigbench run oracle theory"
    standing = [name for name, claim in read_claims().claims.items() if claim.withdrawn is None]
    assert list(claims_of(read_claims(), load("oracle"))) == standing


# --- claims ---------------------------------------------------------------------------------------


@pytest.fixture
def judged(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """As if the project had it: with all four verdicts, and a rule that changed after the results."""
    monkeypatch.setattr(Study, "is_shipped", True)
    ledger, before = ledger_in_git(tmp_path / "ledger")
    make_results(study, study.runs(), (DIVERGED,), before)
    tabulated(study, ledger)
    return study


@pytest.mark.slow
def test_every_verdict_names_its_study_and_what_decided(judged: Study):
    pages = {page.claim: page for page in claim_pages([entry(study_page(judged), judged)])}
    said = {name: str(page.decisions[0].badge) for name, page in pages.items()}
    assert said == {
        "holds": "reproduced on tiny", "fails": "opposite on tiny", "unsure": "inconclusive on tiny",
        "moved": "reproduced on tiny", "far": "not run on tiny",
    }  # fmt: skip
    (holds,), (moved,) = pages["holds"].decisions, pages["moved"].decisions
    assert holds.arms == ["continuous"] and holds.linked and not holds.rule_changed and moved.rule_changed
    assert holds.seeds is not None and [row[0].text for row in holds.seeds.rows] == ["0", "1", "2"]
    assert holds.effect is not None and holds.effect.startswith("×0.63")
    assert (holds.seen, pages["far"].decisions[0].seen) == ("no", None) and not holds.exact
    assert pages["far"].decided == [] and pages["far"].decisions[0].note == "needs study imagenet512"
    whole = step.render("study.html.j2", page=study_page(judged), precision_note="")
    assert "survive Holm's adjustment among the 4 rules that were frozen with" in whole


def at(place: float | None) -> float:
    assert place is not None
    return place


@pytest.mark.slow
def test_a_plot_puts_the_effect_on_the_right_side_of_the_bound(judged: Study):
    pages = {page.claim: page for page in claim_pages([entry(study_page(judged), judged)])}
    holds, fails, unsure = (pages[name].decisions[0].plot for name in ("holds", "fails", "unsure"))
    assert holds is not None and fails is not None and unsure is None  # no finite interval
    (row,), (bound,) = holds.rows, holds.bounds
    assert at(row.low) < at(row.mean) < at(row.high) < bound == holds.zero and len(row.seeds) == 3
    assert [(band.verdict, band.left) for band in holds.bands] == [("reproduced", 0.0), ("opposite", bound)]
    low, high = fails.bounds
    assert at(fails.rows[0].mean) < low < fails.zero < high
    assert [band.verdict for band in fails.bands] == ["opposite", "too small to matter", "reproduced"]
    assert sum(band.width for band in fails.bands) == pytest.approx(100)


def test_a_plot_has_a_row_for_each_comparison_and_one_for_what_they_say_together():
    compared = [
        {"name": "dscd-8", "effects": {"0": -0.5, "1": -0.3, "2": None}, "median": -0.4, "low": -0.6, "high": -0.2},
        {"name": "d; fd_train", "effects": {"0": -0.1, "1": 0.1, "2": 0.0}, "median": 0.0, "low": None, "high": None},
    ]
    claim = {
        "smallest_effect": 0.05, "scale": "log_ratio", "direction": "less", "effect": 0.0, "low": -0.6, "high": 0.2,
        "effects": {"0": -0.1, "1": 0.1, "2": 0.0}, "compared": compared, "verdict": "inconclusive",
    }  # fmt: skip
    plot = plot_of(claim)
    assert [(row.name, len(row.seeds)) for row in plot.rows] == [
        ("dscd-8", 2), ("d; Fréchet distance to the training part", 3), ("all together", 0),
    ]  # fmt: skip
    first, second, together = plot.rows
    assert (
        together.low == at(first.low) < at(first.mean) < at(first.high) < at(second.mean) == plot.zero
        and second.low is None
    )
    assert first.top < second.top < together.top < plot.foot < plot.height


@pytest.mark.slow
def test_what_as_many_seeds_would_find_lies_beyond_what_matters(judged: Study):
    known = {"3": 2.0}
    pages = {page.claim: page for page in claim_pages([entry(study_page(judged), judged)], reach=known)}
    (fails,), (unsure,) = pages["fails"].decisions, pages["unsure"].decisions
    assert fails.found_with == "above ×1.05", "the three seeds do not scatter, and 5% is the smallest that matters"
    assert unsure.found_with is None, "of no difference"
    there = entry(study_page(judged), judged)
    (plain,) = [claim for claim in there["claims"] if claim["claim"] == "fails"]
    assert decision(there, plain, known).found_with == fails.found_with
    for other in ({"planned": True}, {"compared": [{"name": "a"}, {"name": "b"}]}):
        found = decision(there, plain | other | {"low": None}, known)
        assert found.found_with is None, "another level than that of the simulations"
    assert claim_pages([entry(study_page(judged), judged)])[0].decisions[0].found_with is None, "nothing was simulated"


def test_every_shipped_rule_can_be_said_in_words():
    for name, claim in read_claims().claims.items():
        for rule in claim.decided_by.values():
            plain = rule.model_dump(exclude_none=True, exclude_defaults=True)
            about = {"direction": rule.direction, "smallest_effect": rule.smallest, "scale": rule.scale}
            words = " ".join(rule_words(plain, about))
            assert "{" not in words and "None" not in words, name
            assert all(arm in words for term in rule.measured for arm in term.arms), name


def test_a_rule_in_words():
    rule = {
        "metric": "fd_train", "scale": "log_ratio",
        "of": [{"arms": ["scd-m"], "steps": 1}], "against": [{"arms": ["dscd-*"], "steps": 1, "take": "each"}],
    }  # fmt: skip
    words = rule_words(rule, {"direction": "less", "smallest_effect": 0.05, "scale": "log_ratio"})
    assert words[0] == (
        "Each seed gives one effect: the ratio of Fréchet distance to the training part of scd-m (1 step) "
        "to each Fréchet distance to the training part of dscd-* (1 step)."
    )
    assert "the interval of every one counts" in words[1]
    assert words[2] == ALONE
    assert "wholly below ×0.951; opposite if wholly above ×1.05; too small to matter if it lies between" in words[3]
    both = rule_words(
        rule | {"also": ["fd_held_out"]}, {"direction": "less", "smallest_effect": 0.05, "scale": "log_ratio"}
    )
    assert ALONE not in both and both[2] == "It must hold in Fréchet distance to the held-out part, too."


# --- the front page -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_front_page_counts_as_the_judge_does(judged: Study, tmp_path: Path):
    entries = [json.loads(json.dumps(entry(study_page(judged), judged)))]
    page = front_page(entries, claim_pages(entries), tmp_path / "timing.json")
    assert page.totals is not None and page.costs is not None
    (row,) = page.totals.rows
    assert page.headline is not None and page.headline.rows[0][1:10] == row[1:10], "no result was published before"
    assert page.headline.columns[10] == ("Not run", True) and (row[10].text, page.headline.rows[0][10].text) == (
        "1",
        "0",
    )
    assert [cell.text for cell in row[:2]] == ["on tiny", "3"] and row[-1].text == "0.15"
    table = read_table(judged.folder / "claims.csv")
    assert row[2].sort == (table.verdict == "reproduced").sum() == 2
    assert page.leads == [] and page.waiting == [], "of a study of one's own"
    squares = [claim.claim for topic in page.topics for cell in topic.cells for claim, _ in cell]
    assert sorted(squares) == sorted(table.claim)
    assert [[claim.claim for claim, _ in cell] for cell in page.topics[0].cells] == [[], ["far"]]


@pytest.mark.slow
def test_the_front_page_lists_what_was_withdrawn_and_counts_it_nowhere(judged: Study, tmp_path: Path):
    entries = [json.loads(json.dumps(entry(study_page(judged), judged)))]
    gone, known = withdrawn_pages(read_claims(), {}), claim_pages(entries)
    page = front_page(entries, known, tmp_path / "timing.json", gone)
    withdrawn = sum(claim.withdrawn is not None for claim in read_claims().claims.values())
    assert len(gone) == withdrawn >= 10 and page.totals == front_page(entries, known, tmp_path / "timing.json").totals
    text = render("index.html.j2", page=page)
    listed = text[text.index('id="withdrawn"') : text.index('class="downloads"')]
    assert all(f'href="{claim.address}"' in listed for claim in gone) and listed.count("<li>") == withdrawn
    assert not any(f'data-claim="{claim.claim}"' in text for claim in gone)


@pytest.mark.slow
def test_clothes_lead_then_digits_then_the_oracle_and_what_was_not_run_is_said(judged: Study, tmp_path: Path):
    there = json.loads(json.dumps(entry(study_page(judged), judged)))
    picture = {"svg": "a.svg", "png": None, "alt": "all", "caption": "so"}

    def of(name: str, **more: object) -> dict:
        leads = None if name == "mine" else load(name).leads
        return there | {"study": name, "label": name, "claims": [], "one_noise": picture, "leads": leads} | more

    quick = of("fashion", label="fashion-smoke", quick=True)
    page = front_page([of("mine"), of("oracle"), quick, of("digits")], [], tmp_path / "timing.json")
    assert [study for study, _ in page.leads] == ["digits", "oracle", "mine", "fashion-smoke"]
    assert page.waiting == []
    alone = front_page([of("oracle")], [], tmp_path / "timing.json")
    assert alone.waiting == ["digits"]
    text = render("index.html.j2", page=alone)
    assert "Not run yet: digits." in text and text.index("a.svg") < text.index('id="studies"')
    assert front_page([of("oracle"), of("digits", runs=0)], [], tmp_path / "timing.json").waiting == ["digits"]


# --- how we could be wrong ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of few draws."""
    return simulations(make_simulations(tmp_path_factory.mktemp("simulated") / "simulations.json", draws=100))


@pytest.mark.slow
def test_simulations_say_their_seed_and_versions_and_the_page_shows_the_worst(
    simulated: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # no top of a checkout
    assert simulated["versions"].keys() == {"python", "numpy", "scipy", "pandas"} and simulated["seed"] == 0
    page = wrong_page([], [], simulated)
    assert (
        page.made.startswith("100 draws each, seed 0, python 3") and page.false is not None and page.power is not None
    )
    worst = max(row["false"] for row in simulated["false"] if (row["residuals"], row["seeds"]) == ("Cauchy", "8"))
    heads = [name for name, _ in page.false.columns]
    (row,) = [row for row in page.false.rows if row[0].text == "Cauchy"]
    assert row[heads.index("8 seeds")].text == f"{worst:.1%}"
    assert page.every_false is not None and len(page.every_false.rows) == len(simulated["false"])
    assert page.power.rows[0][-1].text == f"{simulated['found_with']['5']:.2f}"
    assert render("wrong.html.j2", page=page).count("<table") == 3
    nothing = render("wrong.html.j2", page=wrong_page([], [], {}))
    assert "trigbench run oracle -- results/simulations.json" in nothing and "<table" not in nothing


@pytest.mark.slow
def test_the_page_of_how_we_could_be_wrong_counts_what_the_verdicts_rest_on(judged: Study, simulated: dict):
    there = entry(study_page(judged), judged)
    note = "what a is about was active in 0.10% of steps (clipped_steps), below 1%"
    there["claims"][1] |= {"verdict": "not tested", "note": note}
    pages = claim_pages([there])
    page = wrong_page([there], pages, simulated)
    assert page.redrawn is None, "no claim here has a p of its own"
    assert page.seen is not None and [cell.text for cell in page.seen.rows[0]] == ["on tiny", "3", "0", "0"]
    assert page.bases is not None and page.bases.rows[0][2].text == "2", "by Student's t"
    (reason,) = page.untested
    assert reason.name == "What arms differ in hardly acted" and reason.claims == [
        (pages[1].address, pages[1].says, "tiny", note)
    ]
    assert page.lengths is not None and [[c.text for c in row[:5]] for row in page.lengths.rows] == [
        ["tiny", "sCD", "1", "10", "80"], ["tiny", "dsCD", "1", "10", "80"],
    ]  # fmt: skip
    assert page.floors is not None and [c.text for c in page.floors.rows[0]][-3:] == ["0.0300", "0.0505", "continuous"]


def test_every_reason_for_not_testing_has_its_words():
    said = "".join((ROOT / f"workflow/claims/{name}.py").read_text() for name in ("untested", "edges", "verdicts"))
    for name, pattern, _ in REASONS:
        assert re.search(pattern.replace("(floor|ceiling)", "{word}"), said), name


@pytest.mark.slow
def test_a_finding_is_shown_only_where_its_experiment_says_it(judged: Study, tmp_path: Path):
    table = tmp_path / "novel.yaml"
    rows = [("one_and_two", "^Mostly"), ("one_and_two", "never said"), ("gone", "Mostly")]
    write_json(table, [{"question": "?", "study": "tiny", "experiment": e, "sentences": s} for e, s in rows])
    there = entry(study_page(judged), judged)
    assert novel_findings([there], table) == []  # there is no figure
    there["experiments"][0] |= {"figure": "a.svg", "alt": "a"}
    (found,) = novel_findings([there], table)
    assert found.sentences == ["Mostly."] and found.address == "tiny/one_and_two.html"
    fewer = {**there, "label": "tiny-short", "seeds": [0]}
    assert [n.study for n in novel_findings([fewer, there], table)] == ["tiny"]


@pytest.mark.slow
def test_the_shipped_findings_name_experiments_that_exist():
    for row in yaml.safe_load(NOVEL.read_text()):
        assert row["experiment"] in load(row["study"]).experiments, row["question"]


# --- charts ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_chart_holds_the_numbers_of_the_tables(judged: Study):
    runs = read_table(judged.made.experiment("one_and_two").runs)
    chart = main_chart("one_and_two", judged.experiments["one_and_two"], runs, pd.DataFrame())
    assert chart is not None and chart.kind == "dots" and [s.name for s in chart.series] == ["continuous", "discrete-8"]
    assert [p[0] for p in chart.series[0].points if p[1] == 2] == [0.05, 0.0505, 0.051]
    assert chart.series[1].lost == [2.0]
    along = judged.experiments["one_and_two"].model_copy(update={"figure": "discretisation"})
    lines = main_chart("x", along, runs, pd.DataFrame())
    assert lines is not None
    by_name = {series.name: series for series in lines.series}
    assert by_name["continuous, 2 steps"].flat and by_name["continuous, 2 steps"].points[0][4] == 3
    assert by_name["discrete, 1 step"].lost == [8.0] and not by_name["discrete, 1 step"].points


def test_a_measured_curve_is_told_at_its_ends_and_its_top():
    rows = [
        {"metric": "normalisation_bias", "arm": None, "objective": "sct", "seed": seed, "x": x, "value": value + seed}
        for seed in (0, 1)
        for x, value in ((2.0, 1.0), (8.0, 5.0), (32.0, 2.0))
    ]
    words = in_words("normalisation_bias", pd.DataFrame(rows))
    assert words.endswith(
        "along the dimension: sct: 1.5 [-4.85, 7.85] at 2, 2.5 [-3.85, 8.85] at 32, at most 5.5 [-0.853, 11.9] at 8."
    )
    assert in_words("training_loss", pd.DataFrame(rows).assign(metric="training_loss")) == ""


@pytest.mark.slow
def test_a_curve_is_a_mean_over_seeds(judged: Study):
    (page,) = [page for page in study_page(judged).experiments if page.name == "along"]
    assert page.chart is not None and page.chart.x == "optimiser step" and not page.chart.y_log
    assert page.chart.series[0].points[0] == [2.0, 1.02, 1.02, 1.02, 3]
    assert list(page.charts) == ["training_direction_norm_max", "map_rms"]
    assert not page.charts["training_direction_norm_max"].words
    assert page.charts["map_rms"].words.endswith(
        "angle t: continuous: 0.025 [0.025, 0.025] at 0.5, 0.075 [0.075, 0.075] at 1.5."
    )
    assert all(math.isfinite(number) for point in page.chart.series[0].points for number in point if number is not None)
