"""trigbench list and show: what they say is what the project's own tables hold."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import yaml

from tests.workflow.conftest import ROOT
from trigbench.cli import main
from trigbench.commands import _output
from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.core.objectives import OBJECTIVES
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.report.catalogue import LISTINGS, about, few_words, papers_claims, shipped_studies
from trigbench.workflow.report.shown import shown, verdicts_of
from trigbench.workflow.study.kinds import KINDS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.shipped import shipped
from trigbench.workflow.study.study import Study

OWN = str(ROOT / "examples" / "own_data.yaml")


@pytest.fixture(scope="module")
def studies() -> tuple[Study, ...]:
    return shipped_studies()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints."""

    def run(*words: str) -> str:
        main(words)
        return capsys.readouterr().out

    return run


def refusal(*words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return str(stopped.value)


@pytest.mark.slow
def test_without_a_word_every_kind_is_there_with_its_number(said):
    rows = {line.split()[0]: line.split()[1] for line in said("list").splitlines()[1:] if "trigbench list " in line}
    assert set(rows) == set(LISTINGS)
    by_path = {arm.objective for study in shipped_studies() for arm in study.arms.values()} - set(OBJECTIVES)
    assert rows["objectives"] == str(len(OBJECTIVES) + len(by_path)) and rows["studies"] == str(len(shipped()))
    assert rows["claims"] == str(len(papers_claims().claims))


def test_every_thing_is_one_line_with_what_it_is(studies):
    for kind, listing in LISTINGS.items():
        rows = listing.rows(studies)
        assert rows and all(len(row) == len(listing.columns) and "\n" not in "".join(row) for row in rows), kind
        assert all(row[0] and any(row[1:]) for row in rows), kind
    names = {kind: {row[0] for row in listing.rows(studies)} for kind, listing in LISTINGS.items()}
    assert names["objectives"] >= set(OBJECTIVES) and names["data"] >= set(KINDS)
    assert names["solvers"] == set(SOLVERS)
    assert "order: a whole number of 1 at least and 3 at most, 2 unless told" in [
        text for _, text in shown("unipc", studies)[0]
    ]
    assert names["arms"] == {arm for study in studies for arm in study.arms}
    for name, what, paper in LISTINGS["objectives"].rows(studies):
        assert what and (paper == OBJECTIVES[name].paper != "" if name in OBJECTIVES else ":" in name)


def test_plain_output_cuts_nothing_and_stands_in_columns(said):
    lines = said("list", "claims", "figures", "--study", "oracle").splitlines()
    longest = max((claim.claim for claim in papers_claims().claims.values() if "oracle" in claim.decided_by), key=len)
    assert any(longest in line for line in lines)
    assert "" in lines and lines[lines.index("") + 1].split() == ["figure", "what"]


def test_a_study_by_its_file_lists_its_own_arms_and_data(said):
    assert [line.split()[0] for line in said("list", "arms", "--study", OWN).splitlines()] == [
        "arm",
        "teacher",
        "scd",
        "sct",
    ]
    assert "points" in said("list", "data", "--study", OWN)
    assert "teacher-stays-nearer" in said("list", "claims", "--study", OWN)
    assert "continuous-beats-every-n" not in said("list", "claims", "--study", OWN)


def test_on_a_terminal_the_same_rows_are_a_table(monkeypatch, capsys):
    """Wrapped to its width, and nothing is cut or read as markup."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _output.table(("name", "what"), [("a-name", "[words] " * 20)])
    _output.lines([("label", "word " * 30)])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 60 and len(text.splitlines()) > 6
    assert text.count("[words]") == 20 and "a-name" in text and text.count("word ") + text.count("word\n") == 30


@pytest.mark.slow
def test_names_that_are_not_there_are_refused_with_close_ones():
    assert "did you mean 'networks'?" in refusal("list", "nets")
    assert "name a YAML file, or one of" in refusal("list", "arms", "--study", "orcale")
    assert "did you mean 'continuous-beats-every-n'?" in refusal("show", "continuous-beats-every")
    assert "trigbench list" in refusal("show", "xyzzy")
    assert "key:    NAME" in refusal("show", "xyzzy")


def test_a_claim_says_its_rule_its_published_verdict_and_its_command(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "positional-embedding-helps-students"
    with (ROOT / "results/published/oracle/claims.csv").open() as handle:
        published = next(row for row in csv.DictReader(handle) if row["claim"] == name)
    text = said("show", name, "--study", "oracle")
    assert papers_claims().claims[name].claim in text
    assert "ratio (log) of map_rms_one_step, scd-fp32 against scd-fourier, is less by more than 0.05" in text
    assert f"{published['verdict']} on oracle-full, as published with the project: effect" in text
    made = [line.split(maxsplit=2)[2] for line in text.splitlines() if line.startswith("make it ")]
    assert made == [load("oracle").command(f"claims/{name}")]
    everywhere = said("show", f"claims/{name}")
    assert all(f"on {study}" in everywhere for study in papers_claims().claims[name].decided_by)


def test_a_verdict_of_results_here_comes_before_the_published_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, name = load("oracle"), "positional-embedding-helps-students"
    assert verdicts_of(study)[name]["where"] == "as published with the project"
    row = {
        "claim": name,
        "study": "oracle",
        "verdict": "reproduced",
        "effect": -0.2,
        "low": None,
        "seeds": 3,
        "note": None,
    }
    study.made.verdict(name).parent.mkdir(parents=True)
    study.made.verdict(name).write_text(json.dumps(row))
    lines = dict(shown(name, [study])[0])
    assert lines["verdict"] == "reproduced on oracle, of results here: effect -0.2, 3 seeds"


def test_an_arm_says_all_of_its_settings_what_it_waits_for_and_where_it_is_shown(studies):
    study = load("digits")
    (lines,) = shown("scd-m", [study])
    found = dict(lines)
    assert found["rate"] == "0.002" and found["warmup"] == "200" and found["network"] == "m: width 128, blocks 3"
    assert found["needs"] == "the runs of teacher-m" and "discretisation" in found["shown in"]
    assert found["make it"] == study.command(found["shown in"].split(",")[0])
    assert {key for key in study.arms["scd-m"].said if key not in ("objective", "samplers")} <= found.keys()


def test_what_stands_in_several_studies_is_named_for_each(studies, said):
    (lines,) = shown("discretisation", studies)
    those = {f"of {study.said}" for study in studies if "discretisation" in study.experiments}
    assert those <= {label for label, _ in lines} and len(those) > 2
    (one,) = shown("oracle/discretisation", studies)
    assert dict(one)["experiment"] == "discretisation of oracle"
    assert len(shown("scd", studies)) == 2, "the objective, and arms of that name"


@pytest.mark.slow
def test_everything_that_is_listed_can_be_shown(studies):
    for kind, listing in LISTINGS.items():
        name = listing.rows(studies)[-1][0]
        assert any(text for lines in shown(name, studies) for _, text in lines), (kind, name)


@pytest.mark.parametrize("name", [*SOLVERS, *MAP_SAMPLERS])
def test_a_solver_and_a_sampler_of_maps_say_whose_formula_at_which_cost_and_the_lines_that_use_it(
    name: str, studies, tiny, write_study
):
    lines, way = dict(shown(name, studies)[0]), SOLVERS.get(name) or MAP_SAMPLERS[name]
    assert lines["source"] and lines["what"] and " evaluation" in lines["cost"] and lines["function"] == way.path
    assert ("order" in lines) == (name in SOLVERS)
    told = lines["in a study"].removeprefix("samplers: ").partition(" and, of")[0].replace("...", "1")
    if name == "ddim_even":
        told = told.replace("ddim_even", "ddim_even, evaluations: [4]")  # of an arm that has no segments
    arms: dict[str, dict[str, object]] = {
        "few": {"objective": "sct"}, "segments": {"objective": "ms_scd", "teacher": "exact", "segments": 2},
        "jumps": {"objective": "meanflow"}, "halves": {"objective": "shortcut"},
    }  # fmt: skip
    tiny["arms"] = {"x": arms.get(name, {"objective": "diffusion"}) | {"samplers": ["mine"]}}
    tiny["samplers"] = yaml.safe_load(told)
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
    study = load(write_study(tiny))
    assert {way.solver for way in study.samplings("x")} == {name}
    shows = dict(shown("mine", [study])[0])
    assert shows["arms"] == "x" and shows["solver"].startswith(name) and "evaluations a sample" in shows["cost"]


def test_the_page_of_samplers_has_their_order_and_cost():
    page = (ROOT / "docs/samplers.md").read_text(encoding="utf-8")
    for name, solver in SOLVERS.items():
        (row,) = [line.split("|") for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        order = solver.order.replace("its setting", "`order`").partition(", whatever")[0]
        assert row[4].strip().strip("*") == order and int(row[5]) == solver.evaluations, name


def test_a_study_by_its_file_is_shown(said):
    text = said("show", OWN)
    assert "A spiral of points" in text and f"study={OWN}" in text


def test_docstrings_are_read_and_not_imported():
    assert about("trigbench.core.objectives.continuous:sct").startswith("sCT:")
    assert few_words("As in App. G of it. More.\n\nLess.") == "As in App. G of it"
    assert about("trigbench.core.networks.mlp").startswith("A residual")


@pytest.mark.slow
def test_who_reads_a_few_lines_alone_sees_no_error():
    command = [sys.executable, "-m", "trigbench", "list", "arms"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
