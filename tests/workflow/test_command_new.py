"""trigbench new: what it writes passes its checks and runs, under any name, and nothing is overwritten."""

import ast
import re
from pathlib import Path

import pytest

from tests.workflow.conftest import snakemake
from trigbench.cli import main
from trigbench.commands.new import KINDS, TEMPLATES, filled
from trigbench.workflow.claims.ledger import check_claims, read_claims
from trigbench.workflow.study.reading import budgets_of, load


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(*words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["new", *words])
    return str(stopped.value.code)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", ["first", "my_own", "try-2", "mine_too"])
def test_a_new_study_is_right_under_every_budget(name, capsys):
    main(["new", "study", name])
    assert capsys.readouterr().out == f"wrote {name}.yaml\nnext: trigbench run {name}.yaml --budget smoke\n"
    study = load(f"{name}.yaml")
    check_claims(read_claims(), [study])
    assert study.study == name and all(claim.decided_by.keys() == {name} for claim in study.claims.values())
    for budget in budgets_of(study.file):
        assert load(study.file, budget).runs()
    assert name == "mine_too" or "mine" not in re.findall(r"\w+", Path(f"{name}.yaml").read_text())


def test_every_key_of_a_new_study_is_explained():
    """A comment stands beside every key of the first two levels, or above it."""
    lines = (TEMPLATES / "study.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+:", line) and not line.startswith(("title", "summary", "study")):
            assert "#" in line or lines[number - 1].startswith("#"), line
    text = "\n".join(lines)
    for key in ("iterations", "rate", "warmup", "teacher", "samples", "figure", "metric", "smallest", "smoke"):
        assert re.search(rf"\b{key}\b", text)


def test_what_its_comments_name_is_there():
    """A kind of data, a network or a command that moved would make the file wrong in silence."""
    text = (TEMPLATES / "study.yaml").read_text()
    uncommented = re.sub(r"(?m)^  # (\w)", r"  \1", text)
    uncommented = re.sub(r"(?m)^ .*(my_\w+|data/photos|kind: own).*\n", "", uncommented)
    Path("more.yaml").write_text(uncommented)
    study = load("more.yaml")
    assert {"digits", "points"} <= study.data.keys() and "dit" in study.sizes and "teacher" in study.arms
    assert {kind for kind in KINDS if f"trigbench new {kind} my_{kind}" in text} == {"objective", "network", "data"}


@pytest.mark.parametrize("kind", ["objective", "network", "data"])
def test_a_new_part_is_a_module_of_its_name(kind, capsys):
    """That the templates conform, test_conformance.py says; they are modules themselves."""
    main(["new", kind, "sub.py"])
    text = Path("sub.py").read_text()
    assert (
        "mine" not in re.findall(r"\w+", text)
        and filled(KINDS[kind][0], "mine") == (TEMPLATES / KINDS[kind][0]).read_text()
    )
    defined = {part.name for part in ast.parse(text).body if isinstance(part, ast.FunctionDef | ast.ClassDef)}
    following = capsys.readouterr().out.split("next: trigbench check ")[1].strip()
    assert following.partition(":")[0] == "sub.py"
    assert kind == "data" or following.partition(":")[2] in defined


def test_nothing_is_overwritten():
    for kind, (template, _) in KINDS.items():
        file = Path(f"there{Path(template).suffix}")
        file.write_text("mine own")
        assert "there already" in refusal(kind, "there")
        assert file.read_text() == "mine own"
        file.unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("study", "oracle"), "a name of the project's own"),
        (("study", "all"), "a name of the project's own"),
        (("study", "a b"), "no name of a study"),
        (("study", "Big"), "no name of a study"),
        (("data", "1st"), "cannot be imported"),
        (("objective", "class"), "cannot be imported"),
        (("network", "no/folder"), "no such folder"),
    ],
)
def test_a_bad_name_is_refused(words, said, tmp_path):
    text = refusal(*words)
    assert said in text and "remedy: " in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_new_study_runs_at_its_smoke_budget_to_a_report(tmp_path):
    main(["new", "study", "first"])
    snakemake("--cores", "2", "--config", "study=first.yaml", "budget=smoke", cwd=tmp_path)
    reports = tmp_path / "reports"
    assert "What does it take to learn a map that is known?" in (reports / "first-smoke.html").read_text()
    assert "first-continuous-beats-coarse" in (reports / "index.html").read_text()
    assert (reports / "claims" / "first-continuous-beats-coarse.html").is_file()


@pytest.mark.parametrize("name", ["torch", "argparse"])
def test_no_module_takes_the_name_of_another(name):
    """From this folder every command would import it in place of the other."""
    assert "is installed" in refusal("network", name) and not Path(f"{name}.py").exists()
