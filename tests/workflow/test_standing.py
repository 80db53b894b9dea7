"""What stands in results/ is reported, published and cleaned, whichever studies that are."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT
from tests.workflow.made_up import STUDY
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report import publishing
from trigbench.workflow.report import writing as reporting
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.standing import MADE_BY, made_by, standing


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(STUDY)


def stands(label: str, **record: object) -> None:
    """Data of that label, as `prepare` leaves them."""
    write_json(Path("results") / label / "data" / "blobs.json", record)


def test_studies_of_every_budget_stand_one_s_own_by_what_their_data_say() -> None:
    assert standing() == ([], [])
    for label in ("cifar10-small-cpu", "digits", "oracle-smoke", "published"):
        stands(label)
    mine = load("tiny.yaml", "short")
    stands(mine.label, **{MADE_BY: made_by(mine)})
    (Path("results") / "notes").mkdir()
    found, problems = standing()
    assert [study.label for study in found] == ["digits", "oracle-smoke", "cifar10-small-cpu", "tiny-short"]
    assert found[-1] == mine and not problems


def test_what_is_prepared_says_for_which_study(mixture: Path) -> None:
    said = json.loads((mixture / "mixture.json").read_text())[MADE_BY]
    assert Path(said["study"]).name == "tiny.yaml" and said["budget"] == "laptop"


def test_no_path_of_a_machine_is_said_of_a_study_that_has_a_name() -> None:
    stands("oracle-smoke", **{MADE_BY: made_by(load("oracle", "smoke"))})
    assert json.loads(Path("results/oracle-smoke/data/blobs.json").read_text())[MADE_BY]["study"] == "oracle"
    assert standing() == ([load("oracle", "smoke")], [])


def test_one_s_own_study_of_a_shipped_name_is_one_s_own() -> None:
    Path("oracle.yaml").write_text(STUDY.replace("study: tiny", "study: oracle"))
    stands("oracle", **{MADE_BY: made_by(load("oracle.yaml"))})
    assert [study.file for study in standing()[0]] == [Path("oracle.yaml")]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("what", ["of earlier versions", "file gone", "renamed", "budget gone", "damaged"])
def test_a_folder_whose_study_is_not_to_be_found_is_named_and_hides_no_other(what: str) -> None:
    stands("digits")
    said = {MADE_BY: made_by(load("tiny.yaml", "short"))}
    stands("tiny-short", **({} if what == "of earlier versions" else said))
    if what == "file gone":
        Path("tiny.yaml").unlink()
    elif what == "renamed":
        Path("tiny.yaml").write_text(STUDY.replace("study: tiny", "study: small"))
    elif what == "budget gone":
        Path("tiny.yaml").write_text(STUDY.replace("short: {", "long: {"))
    elif what == "damaged":
        Path("results/tiny-short/data/blobs.json").write_text('["half')
    found, (problem,) = standing()
    assert [study.label for study in found] == ["digits"]
    assert ("tiny.yaml" if what == "budget gone" else "results/tiny-short") in str(problem)


@pytest.mark.slow
def test_the_pages_of_all_are_the_laptop_s_and_whatever_else_stands_there(monkeypatch: pytest.MonkeyPatch) -> None:
    stands("oracle-smoke")
    stands("unknown")
    stands("tiny", **{MADE_BY: made_by(load("tiny.yaml"))})
    made = []

    def report(study, partial: bool):
        made.append(study.label)
        if study.label == "tiny":
            raise BenchError("its records are damaged", remedy="delete them")
        return reporting.StudyPage.__new__(reporting.StudyPage)

    monkeypatch.setattr(reporting, "report", report)
    monkeypatch.setattr(reporting, "_print_missing", lambda page: None)
    with pytest.raises(BenchError, match="damaged"):
        reporting.report_all()
    assert made == ["oracle-smoke", "tiny", "oracle", "digits"] and Path("reports/index.html").is_file()


@pytest.mark.slow
def test_all_that_is_of_a_budget_to_publish_is_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = []
    monkeypatch.setattr(publishing, "publish", lambda study: published.append(study.label))
    for label in ("oracle-smoke", "digits"):  # digits has a longer budget to publish
        stands(label)
    with pytest.raises(BenchError, match=r"no study stands there(.|\n)*remedy: .*--budget full"):
        publishing.publish_all()
    for label in ("oracle-full", "digits-full", "cifar10-small-cpu"):
        stands(label)
    publishing.publish_all()
    assert published == ["digits-full", "oracle-full", "cifar10-small-cpu"]
    assert "left out: oracle-smoke, as the budget 'smoke'" in capsys.readouterr().out
    published.clear()
    stands("cifar10-small")
    with pytest.raises(BenchError, match=r"cifar10-small and cifar10-small-cpu are one study(.|\n)*--budget cpu"):
        publishing.publish_all()
    assert published == ["digits-full", "oracle-full"], "one that cannot be published costs no other"


@pytest.mark.parametrize("study", ["", "mine", "oracle*", "published"])
def test_cleaning_takes_any_study_and_never_what_is_published(study: str, tmp_path: Path) -> None:
    for label in ("mine", "oracle", "oracle-full", "published"):
        stands(label)
    command = ["make", "-n", "-C", str(tmp_path), "-f", str(ROOT / "Makefile"), "clean", f"STUDY={study}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    gone = {part.removeprefix("results/") for part in said.split() if part.startswith("results/")}
    wanted = {"": {"mine", "oracle", "oracle-full"}, "mine": {"mine"}, "oracle*": {"oracle", "oracle-full"}}
    assert gone == wanted.get(study, set()) and "rm -rf .snakemake build reports" in said


def test_cleaning_leaves_what_came_from_outside_which_no_workflow_makes_again(tmp_path: Path) -> None:
    here = tmp_path / "place"
    for place in ("mine/outside/theirs", "mine/runs", "other/runs"):
        (here / "results" / place).mkdir(parents=True)
    subprocess.run(["make", "-C", str(here), "-f", str(ROOT / "Makefile"), "clean"], capture_output=True, check=True)
    left = {path.relative_to(here).as_posix() for path in here.rglob("*")}
    assert left == {"results", "results/mine", "results/mine/outside", "results/mine/outside/theirs"}
