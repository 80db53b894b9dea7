"""Own objectives, networks and data sets: small files outside the project's packages that run in its workflow."""

import json
import math
import re
import runpy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.tracing import trace_faster
from tests.workflow.conftest import ROOT, as_a_new_process, snakemake
from tests.workflow.made_up import tabulated
from trigbench import cli
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.claims.deciding import judge_study
from trigbench.workflow.claims.tables import experiment_tables, read_table
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report.kinds import kind_of
from trigbench.workflow.report.pages.study import study_page
from trigbench.workflow.run.evaluation import evaluate
from trigbench.workflow.run.measuring import measure
from trigbench.workflow.run.own import check_study
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import RunRecord, Value, write_record
from trigbench.workflow.study.study import Run

EXAMPLES = ("own_objective", "own_network", "own_data")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_shorter_than_sixty_lines(name: str) -> None:
    for suffix in (".py", ".yaml"):
        assert len((ROOT / "examples" / f"{name}{suffix}").read_text().splitlines()) < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_from_data_to_report(name: str, tmp_path: Path) -> None:
    study = ROOT / "examples" / f"{name}.yaml"
    snakemake("--cores", "2", "--config", f"study={study}", "budget=smoke", cwd=tmp_path)
    runs = pd.read_csv(tmp_path / "results" / f"{name}-smoke" / "runs.csv")
    assert (runs.status == "finished").all()
    assert set(runs.arm) == {*load(study).arms, "data"}
    page = (tmp_path / "reports" / f"{name}-smoke.html").read_text()
    assert ("decides no claim" in page) == (name != "own_data"), "the papers' claims are tied to none of them"


@pytest.mark.slow
def test_a_flow_map_of_one_s_own_trains_samples_in_one_to_eight_steps_and_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: Callable[[], AbstractContextManager[None]]
) -> None:
    assert len((ROOT / "examples" / "two_times.py").read_text().splitlines()) < 40
    study = load(ROOT / "examples" / "two_times.yaml", "smoke")
    check_study(study)
    arms = {"in_a_row": study.arms["in_a_row"]}
    maps = study.experiments["maps"].model_copy(update={"arms": ("in_a_row",)})
    data = {"points": study.data["points"].model_copy(update={"evaluation_points": 32})}
    study = study.model_copy(update={"arms": arms, "data": data, "experiments": {"maps": maps}})
    monkeypatch.chdir(tmp_path)
    run = Run(arm="in_a_row", seed=0)
    with unchecked():
        prepare(study, "points")
        train(study, run)
        sample(study, run)
        record = evaluate(study, run)
        measure(study, "maps")
    assert record.status == "finished"
    found = {value.steps: value.value for value in record.metrics if value.metric == "sliced_wasserstein"}
    assert set(found) == {1, 2, 4, 8} and all(0 < value < 2 for value in found.values() if value is not None)
    measured = json.loads(study.made.measured("maps").read_text())
    names = {row["value"]["metric"] for row in measured["runs"]}
    assert names == {"segment_rms", "map_rms", "map_rms_one_step", "map_worst"}


@pytest.mark.slow
def test_the_compiled_step_trains_on_graphs_that_run_operation_by_operation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inductor itself is tested elsewhere, and takes a minute."""
    monkeypatch.setattr("trigbench.core.compiled.in_one", lambda graph, backend: graph)
    trace_faster(monkeypatch)
    path = ROOT / "examples/compiled_step.py"
    made = runpy.run_path(str(path))
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["step 0", "step 1", "step 2"]
    assert len(path.read_text().splitlines()) <= 30
    assert all(gradient.isfinite().all() and gradient.any() for gradient in made["gradients"].values())


@pytest.mark.slow
def test_the_plain_loop_learns_and_samples_in_one_step_and_two(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unchecked: Callable[[], AbstractContextManager[None]],
) -> None:
    monkeypatch.setattr("sys.argv", ["own_loop.py", "--steps", "500"])
    with unchecked():
        runpy.run_path(str(ROOT / "examples" / "own_loop.py"), run_name="__main__")
    found = dict(re.findall(r"(\d) steps: (\d+)% of samples", capsys.readouterr().out))
    assert set(found) == {"1", "2"}
    assert min(map(int, found.values())) > 40, "of noise itself a quarter lies there"


@pytest.mark.slow
def test_the_loop_of_the_readme_runs_as_it_stands_but_for_its_length(
    unchecked: Callable[[], AbstractContextManager[None]],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown: dict[str, Any] = {}
    assert code.count("range(500)") == 1
    with unchecked():
        exec(code.replace("range(500)", "range(20)"), shown)
    assert shown["samples"].shape == (1000, 2) and shown["samples"].isfinite().all()


@pytest.mark.slow
def test_the_sampler_from_outside_is_judged_on_the_oracle_and_is_near_the_exact_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    what = f"{ROOT / 'examples' / 'outside.py'}:sample"
    cli.main(["judge", "oracle", what, "--name", "em-heun", "--data", "mixture-2d", "--budget", "smoke"])
    rows = read_table(tmp_path / "results" / "oracle-smoke" / "outside" / "outside.csv").set_index("metric")
    assert 0 < float(rows.value["map_rms"]) < 0.03, "the published sCD of five seeds has 0.02 to 0.03"
    assert "em-heun, from outside, on mixture-2d of oracle-smoke" in capsys.readouterr().out
    assert "em-heun" in (tmp_path / "reports" / "oracle-smoke.html").read_text()


@pytest.mark.slow
def test_a_quantity_that_a_data_set_of_one_s_own_declares_leads_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load(ROOT / "examples" / "own_data.yaml")
    known = quantities_of(study.data.values())
    assert (known["near"].better, known["near"].unit) == ("higher", "%")
    monkeypatch.chdir(tmp_path)
    write_json(study.made.facts("points"), {"facts": {"train": 9}, "floors": []})
    for arm, share in {"teacher": 40.0, "scd": 90.0, "sct": None}.items():
        for seed in study.seeds:
            run = Run(arm=arm, seed=seed)
            way = study.samplings(arm)[0].columns
            metrics = [Value(metric="near", value=None if share is None else share + seed, **way)]
            about = {"status": "finished" if share else "diverged", "arm": arm, "seed": seed, "step": 1}
            about |= {"provenance": {"time": "2026-01-01", "commit": None}}
            mark = fingerprint(study.specification(run))
            record = RunRecord.model_validate(about | {"fingerprint": mark, "metrics": metrics})
            write_record(study.files(run).metrics, record)
    settings = study.experiments["coverage"]
    tabulated(study)
    table = read_table(study.made.experiment("coverage").table).set_index("arm")
    means = dict(zip(table.index, table["mean"], strict=True))
    assert (means["scd"], means["sct"]) == (91.0, -math.inf), "a diverged run is worst"
    kind = kind_of("methods")
    shown = kind.shown(settings, *experiment_tables(study, "coverage", study.runs_of("coverage")), known)
    assert "Samples near the spiral, 1 step, best first: scd 91" in kind.say(settings, *shown, known)
    (ax, *_) = kind.draw(settings, *shown, known).axes
    assert (ax.get_xlabel(), ax.get_xscale()) == ("samples near the spiral, %", "linear")
    page = study_page(study).experiments[1]
    assert page.main is not None and page.main.caption.startswith("Samples near the spiral, % (higher is better)")
    verdict = judge_study(study)
    assert (verdict.verdict[0], verdict.effect[0]) == ("opposite", 50.0)
    assert page.command == f"trigbench run {study.file} coverage"


BAD_QUANTITIES = {
    "undeclared": (
        "METRICS = {'map': (), 'samples': ('mine',)}",
        "'mine' is measured, and nothing says which way is better",
    ),
    "no quantity": ("QUANTITIES = {'mine': 'lower'}", "'mine' is declared as 'lower'"),
    "no mapping": ("QUANTITIES = ['mine']", "is declared as None"),
    "another meaning": ("QUANTITIES = {'fd_train': Quantity('x', 'higher', 'x')}", "'fd_train' means something else"),
    "a curve's name": (
        "QUANTITIES = {'log_weight': Quantity('x', 'higher', 'x')}",
        "'log_weight' means something else",
    ),
}


@pytest.mark.parametrize("case", BAD_QUANTITIES)
def test_a_bad_quantity_of_one_s_own_is_refused_with_how_to_declare_it(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, wanted = BAD_QUANTITIES[case]
    name = f"mine_{list(BAD_QUANTITIES).index(case)}"
    (tmp_path / f"{name}.py").write_text(f"from examples.own_data import *\n{text}\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = yaml.safe_load((ROOT / "examples" / "own_data.yaml").read_text())
    content["data"]["points"]["module"] = name
    (tmp_path / "own_data.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(BenchError) as caught:
        check_study(load(tmp_path / "own_data.yaml"))
    assert wanted in str(caught.value) and "Quantity" in str(caught.value) and name in str(caught.value)


def test_a_metric_that_only_the_data_s_module_can_know_passes_the_plan_for_such_data_alone(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "examples" / "own_data.yaml").read_text())
    content["evaluation"] |= {"snapshot_metrics": ["mine"]}
    content |= {"tuning_metric": "mine"}
    content["experiments"]["comparison"]["metric"] = "mine"
    path = tmp_path / "own_data.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load(path).experiments["comparison"].metric == "mine"
    mixture = {"kind": "mixture", "dimension": 2, "components": 2, "std": 0.5}
    content["data"] = {"points": mixture, "others": content["data"]["points"]}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(BenchError, match=r"'mine' is unknown(.|\n)*experiments.comparison.metric"):
        load(path)


def test_an_objective_of_one_s_own_touches_no_file_of_the_project_and_no_finished_run() -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    assert study.arms["blended"].objective not in OBJECTIVES
    runs = {arm: Run(arm=arm, seed=0) for arm in study.arms}
    marks = {arm: fingerprint(study.specification(run)) for arm, run in runs.items()}
    without = study.model_copy(update={"arms": {n: a for n, a in study.arms.items() if n != "blended"}})
    assert {arm: fingerprint(without.specification(runs[arm])) for arm in without.arms} == {
        arm: mark for arm, mark in marks.items() if arm != "blended"
    }


def test_editing_one_s_own_objective_makes_its_runs_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    (tmp_path / "mine.py").write_text("def f():\n    return 1\n")
    arm = study.arms["blended"].model_copy(update={"objective": "mine:f"})
    own = study.model_copy(update={"arms": {"blended": arm}})
    monkeypatch.chdir(tmp_path)
    before = fingerprint(own.specification(Run(arm="blended", seed=0)))
    (tmp_path / "mine.py").write_text("def f():\n    return 2\n")
    as_a_new_process()
    assert fingerprint(own.specification(Run(arm="blended", seed=0))) != before


def test_editing_what_one_s_own_objective_imports_makes_its_runs_stale(tmp_path: Path, monkeypatch) -> None:
    study = load(ROOT / "examples" / "own_objective.yaml")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rule.py").write_text("from mine.helper import f\n")
    helper = tmp_path / "mine" / "helper.py"
    helper.write_text("def f():\n    return 1\n")
    arm = study.arms["blended"].model_copy(update={"objective": "mine.rule:f"})
    own = study.model_copy(update={"arms": {"blended": arm}})
    monkeypatch.chdir(tmp_path)
    before = fingerprint(own.specification(Run(arm="blended", seed=0)))
    helper.write_text("def f():\n    return 2\n")
    as_a_new_process()
    assert fingerprint(own.specification(Run(arm="blended", seed=0))) != before
