"""What a study names by its path is held against its settings before any job."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.workflow.conftest import ROOT, environment, snakemake
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import FINAL, BenchError, is_final
from trigbench.workflow.machine.named import fits
from trigbench.workflow.run import own
from trigbench.workflow.run.own import check_own, check_study
from trigbench.workflow.study.reading import load

MODULE = """
from examples.own_data import *
from examples.own_objective import blended

def mute(fields, x0): ...
def network(shape, width: int, sigma_d, heads: int = 2, kind: Literal["a", "b"] = "a"): ...
def positional(shape, /): ...
nothing = None
"""


@pytest.fixture
def study_of(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> Callable[..., Path]:
    """The tiny study with data, objective and network of one's own, and changes of them; its module is `parts_here`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "parts_here", raising=False)

    def write(change: Callable[[dict], object] = lambda content: None, module: str = MODULE) -> Path:
        (tmp_path / "parts_here.py").write_text("from typing import Literal\n" + module)
        tiny["data"] = {"points": {"kind": "own", "module": "parts_here", "settings": {"turns": 2}}}
        tiny["sizes"]["waves"] = {"network": "examples.own_network:Waves", "settings": {"waves": 8}}
        tiny["sizes"]["theirs"] = {"network": "parts_here:network", "settings": {"width": 8, "kind": "b"}}
        tiny["defaults"] |= {"data": "points", "teacher": "teacher"}
        tiny["arms"] = {
            "teacher": {"objective": "diffusion", "teacher": None},
            "scd": {"objective": "scd", "size": "theirs"},
            "mine": {"objective": "parts_here:blended", "size": "waves"},
        }
        tiny["experiments"]["discretisation"]["metric"] = "sliced_wasserstein"
        change(tiny)
        return write_study(tiny)

    return write


def _claims(content: dict, **changes: object) -> None:
    rule = {"experiment": "discretisation", "metric": "sliced_wasserstein", "of": {"arms": "scd", "steps": 1}}
    rule |= {"against": {"value": 1}, "scale": "log_ratio", "direction": "less", "smallest": 0.1} | changes
    about = {"paper": "none", "place": "here", "topic": "mine", "claim": "It is near."}
    content["claims"] = {"mine": about | {"decided_by": {"tiny": rule}}}


def _on_images(content: dict, network: str, **settings: object) -> None:
    content["data"] = {"points": {"kind": "digits"}}
    content["sizes"]["waves"] = {"network": network, "settings": settings}
    content["experiments"]["discretisation"]["metric"] = "fd_train"
    content["evaluation"]["samples"] = 200


BAD = {
    "no module of data": (
        lambda c: c["data"]["points"].update(module="nowhere.at_all"), ["data.points.module", "nowhere", "install it"],
    ),
    "a wrong setting of data": (
        lambda c: c["data"]["points"].update(settings={"turnz": 2}),
        ["data.points.settings.turnz", "takes no 'turnz'", "did you mean 'turns'?"],
    ),
    "a setting of data of another type": (
        lambda c: c["data"]["points"].update(settings={"turns": "many"}),
        ["data.points.settings.turns", "wants 'turns' to be float, got 'many'", "write float"],
    ),
    "no such objective": (
        lambda c: c["arms"]["mine"].update(objective="parts_here:blendid"),
        ["arms.mine.objective", "no 'blendid' in parts_here", "did you mean 'blended'?"],
    ),
    "an objective that cannot be called": (
        lambda c: c["arms"]["mine"].update(objective="parts_here:mute"),
        ["arms.mine.objective", "cannot be called: too many positional", "let it take (fields, x0, draws, settings)"],
    ),
    "an objective that is none": (
        lambda c: c["arms"]["mine"].update(objective="parts_here:nothing"), ["arms.mine.objective", "no function"],
    ),
    "no such network": (
        lambda c: c["sizes"]["waves"].update(network="examples.own_network:Wave"),
        ["sizes.waves.network", "did you mean 'Waves'?"],
    ),
    "a wrong setting of a network": (
        lambda c: c["sizes"]["theirs"].update(settings={"widht": 8}),
        ["sizes.theirs.settings.widht", "takes no 'widht'", "did you mean 'width'?"],
    ),
    "a setting that a network needs": (
        lambda c: c["sizes"]["theirs"].update(settings={}), ["sizes.theirs.settings", "needs 'width'", "add 'width'"],
    ),
    "a setting that is given already": (
        lambda c: c["sizes"]["theirs"].update(settings={"width": 8, "sigma_d": 1}),
        ["sizes.theirs.settings.sigma_d", "given 'sigma_d' by the workflow", "remove it"],
    ),
    "a setting of another type": (
        lambda c: c["sizes"]["theirs"].update(settings={"width": 8.5}),
        ["sizes.theirs.settings.width", "to be int, got 8.5"],
    ),
    "a choice that there is not": (
        lambda c: c["sizes"]["theirs"].update(settings={"width": 8, "kind": "c"}),
        ["sizes.theirs.settings.kind", "Literal['a', 'b'], got 'c'"],
    ),
    "a network that takes no name": (
        lambda c: c["sizes"]["theirs"].update(network="parts_here:positional", settings={}),
        ["sizes.theirs.settings", "cannot be called"],
    ),
    "a metric that own data never measure": (
        lambda c: c["experiments"]["discretisation"].update(metric="map_rms"),
        ["experiments.discretisation.metric", "'map_rms' is not measured", "sliced_wasserstein"],
    ),
    "a metric of an experiment that is misspelt": (
        lambda c: c["experiments"]["discretisation"].update(metric="nearr"),
        ["experiments.discretisation.metric", "did you mean 'near'?"],
    ),
    "a sampler's metric that is misspelt": (
        lambda c: c.update(samplers={"odd": {"solver": "few", "times": [[]], "metrics": ["nearr"]}})
        or c["arms"]["mine"].update(samplers=["odd"]),
        ["samplers.odd.metrics", "did you mean 'near'?"],
    ),
    "a tuning metric that is misspelt": (
        lambda c: c.update(tuning_metric="nearr"), ["tuning_metric", "'nearr' is unknown", "did you mean 'near'?"],
    ),
    "a claim's metric that is misspelt": (
        lambda c: _claims(c, metric="nearr"), ["claims.mine.decided_by.tiny", "'nearr'", "did you mean 'near'?"],
    ),
    "a ratio of what may be zero": (
        lambda c: _claims(c, metric="near"), ["claims.mine.decided_by.tiny", "'near' may be zero", "difference"],
    ),
    "a claim on what own data never measure": (
        lambda c: _claims(c, metric="map_rms"), ["claims.mine.decided_by.tiny", "'map_rms' is not measured of 'scd'"],
    ),
    "a claim on a way in which no samples are drawn": (
        lambda c: _claims(c, of={"arms": "scd", "steps": 7}),
        ["claims.mine.decided_by.tiny", "no way that fits", "{steps: 1, sampling: few}, {steps: 2, "],
    ),
    "patches that do not divide the image": (
        lambda c: _on_images(c, "trigbench.core.networks.dit:DiT", width=64, depth=1, heads=2, patch=3),
        ["sizes.waves.settings", "points of shape (1, 8, 8)", "patch must divide the side", "change the settings"],
    ),
    "levels that do not divide the image": (
        lambda c: _on_images(c, "trigbench.core.networks.ddpmpp:DDPMpp", width=16, multipliers=[1] * 5, blocks=1),
        ["sizes.waves.settings", "5 levels need a resolution divisible by 16"],
    ),
    "a setting of the project's own network": (
        lambda c: _on_images(c, "trigbench.core.networks.dit:DiT", widht=64),
        ["sizes.waves.settings.widht", "did you mean 'width'?"],
    ),
}  # fmt: skip


@pytest.mark.one_in(2)
@pytest.mark.parametrize("case", BAD)
def test_own_parts_that_do_not_go_with_their_settings_are_refused_before_any_job(case: str, study_of) -> None:
    change, wanted = BAD[case]
    path = study_of(change)
    with pytest.raises(BenchError) as caught:
        check_study(load(path))
    for part in (*wanted, str(path), "key:", "remedy:"):
        assert part in str(caught.value), str(caught.value)


MODULES = {
    "a module that ends": ("raise SystemExit(3)", ["SystemExit: 3", "line 2", "mend that module"]),
    "a module with a mistake": ("import json\njson.loads('{')\n", ["JSONDecodeError", "mend that module"]),
    "a module that needs another": ("import nowhere_at_all", ["No module named 'nowhere_at_all'", "mend that module"]),
    "a module without a judge": (
        f"{MODULE}\ndel judge_samples",
        ["no function 'judge_samples'", "trigbench new data mine"],
    ),
    "a judge that is given more": (
        f"{MODULE}\ndef judge_samples(dataset, samples): ...",
        ["judge_samples cannot be called", "samples, wanted)"],
    ),
    "a module without its metrics": (f"{MODULE}\nMETRICS = ['a']", ["has no METRICS", "add METRICS"]),
    "one name in place of several": (f"{MODULE}\nMETRICS = {{'map': (), 'samples': 'fd'}}", ["has no METRICS"]),
}


@pytest.mark.parametrize("case", MODULES)
def test_a_data_module_that_would_fail_its_jobs_is_refused_before_any_job(case: str, study_of) -> None:
    module, wanted = MODULES[case]
    path = study_of(module=module)
    with pytest.raises(BenchError) as caught:
        check_study(load(path))
    for part in (*wanted, str(path), "data.points.module", "remedy:"):
        assert part in str(caught.value), str(caught.value)


def test_own_parts_that_go_with_their_settings_pass_and_are_given_them(study_of, tmp_path: Path, monkeypatch) -> None:
    study = load(study_of())
    check_study(study)
    monkeypatch.chdir(tmp_path)
    prepare(study, "points")  # turns: 2 by name
    assert study.data_file("points").is_file()
    old_way = "\nfrom examples import own_data\ndef prepare(data, evaluation, sigma_d):\n"
    old_way += "    return own_data.prepare(data, evaluation, sigma_d, **data.settings)\n"
    monkeypatch.delitem(sys.modules, "parts_here")
    study = load(study_of(module=MODULE + old_way))
    check_study(study)
    prepare(study, "points")


@pytest.mark.parametrize("name", ["own_data", "own_network", "own_objective"])
def test_the_examples_pass(name: str) -> None:
    check_study(load(ROOT / "examples" / f"{name}.yaml"))


@pytest.mark.slow
def test_a_plan_imports_neither_torch_nor_somebody_s_code_and_starts_no_process_for_what_names_none(
    monkeypatch,
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a process"))
    check_own([load("oracle"), load("digits")])
    code = "import sys, trigbench.workflow.run.own; assert not {'torch', 'numpy', 'pandas', 'scipy'} & set(sys.modules)"
    done = subprocess.Popen([sys.executable, "-c", code], env=environment(), cwd=ROOT)
    assert done.wait() == 0


@pytest.mark.slow
def test_what_own_code_prints_or_how_it_ends_does_not_hide_the_error(study_of, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    loud = study_of(lambda c: c["data"]["points"].update(settings={"turnz": 2}), "print('loud')\n" + MODULE)
    with pytest.raises(BenchError) as caught:
        check_own([load(loud)])
    assert "did you mean 'turns'?" in str(caught.value) and str(loud) in str(caught.value)
    dead = study_of(module="import os, sys\nprint('my last words', file=sys.stderr, flush=True)\nos._exit(5)\n")
    with pytest.raises(BenchError, match="status 5: my last words"):
        check_own([load(dead)])
    garbled = study_of(module="import os\nos.write(2, b'no text: \\xff')\nos._exit(5)\n")
    with pytest.raises(BenchError, match="status 5: no text: \N{REPLACEMENT CHARACTER}"):
        check_own([load(garbled)])


def test_a_value_is_held_against_the_types_that_yaml_has() -> None:
    for value, hint in (
        (1, int), (1, float), (0.5, float), ("a", str), (True, bool), (None, int | None),
        ([1, 2], list[int]), ([1, 2], tuple[int, int]), ([1, 2, 3], tuple[int, ...]), ([], list), ({}, dict),
        ("b", Literal["a", "b"]), ("anything", Path), ([1, "a"], list), (3, "unknown"), ({}, dict[str, int]),
    ):  # fmt: skip
        assert fits(value, hint), (value, hint)
    for value, hint in (
        (True, int), (1.0, int), ("1", int), (True, float), (1, str), (1, bool), ("x", int | None), (1, list[int]),
        (["a"], list[int]), ([1], tuple[int, int]), ([1, "a"], tuple[int, ...]), ("c", Literal["a", "b"]),
        (1, Literal[True]), ([], dict),
    ):  # fmt: skip
        assert not fits(value, hint), (value, hint)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["cifar10-small", "imagenet64"])
def test_shipped_studies_name_networks_that_can_be_made(name: str, monkeypatch) -> None:
    """Each is made; that they can be called is test_full_studies' to say."""
    monkeypatch.setattr(own, "_call", lambda network, **about: None)
    check_study(load(name))


# --- in the workflow --------------------------------------------------------------------------------


def test_the_log_of_a_job_says_whether_it_would_end_in_the_same_way(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert not is_final(log, 0)
    log.write_text(f"error: a mistake\n  remedy: mend it\n{FINAL}\n")
    written = log.stat().st_mtime
    assert is_final(log, written)
    assert not is_final(log, written + 1), "what an earlier workflow has left says nothing of this one's jobs"
    log.write_text("x" * 200_000 + f"\n{FINAL}\nthe last words of torchrun\n")
    assert is_final(log, written)
    log.write_text("error: out of memory\n")
    assert not is_final(log, written)


@pytest.mark.slow
def test_a_mistake_in_the_plan_stands_plainly_and_one_that_a_job_finds_is_not_tried_again(
    study_of, tmp_path: Path
) -> None:
    path = study_of(lambda c: c["data"]["points"].update(settings={"turnz": 2}))
    plan = snakemake("-n", "--config", f"study={path}", cwd=tmp_path, check=False)
    assert plan.returncode == 1
    assert "did you mean 'turns'?" in plan.stdout
    assert "WorkflowError" not in plan.stdout and "common.smk" not in plan.stdout and "Traceback" not in plan.stdout
    late = "\nfrom trigbench.workflow.errors import BenchError\ndef prepare(data, evaluation, sigma_d):\n"
    late += "    raise BenchError('labels from 1 to 10', remedy='count from 0', again={})\n"
    for again in (False, True):
        study = load(study_of(module=MODULE + late.format(again)))
        target = study.data_file("points")
        done = snakemake(target, "--cores", "1", "--config", f"study={study.file}", cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert "labels from 1 to 10" in done.stdout and "count from 0" in done.stdout
        assert ("Trying to restart job" in done.stdout) == again
