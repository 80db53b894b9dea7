"""A bad study ends in one error that names file, key and remedy, before any job starts."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.cluster import SITE, read_site
from trigbench.workflow.machine.plain import StrictLoader, resolved
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.kinds import KINDS
from trigbench.workflow.study.reading import budget_said, load, read_mapping, studies_said
from trigbench.workflow.study.shipped import by_default, shipped
from trigbench.workflow.study.study import Run


def _set(path: str, value: object) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        *parents, last = path.split("/")
        for key in parents:
            content = content[key]
        content[last] = value

    return change


def _delete(path: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        *parents, last = path.split("/")
        for key in parents:
            content = content[key]
        del content[last]

    return change


BAD = {
    "unknown key at the top": (_set("colour", "red"), ["colour", "no such key"]),
    "a misspelt key that is missing, too": (
        lambda c: c.update(seed=c.pop("seeds")),
        ["there is no such key (and 1 more)", "key:    seed\n", "did you mean 'seeds'"],
    ),
    "a default that is no number": (_set("defaults/rate", "fast"), ["key:    defaults.rate\n"]),
    "a kind in a value of data": (_set("data/mixture/dimension", "two"), ["key:    data.mixture.dimension\n"]),
    "no item of a list": (_set("experiments/training/samplers", 3), ["Input should be a valid list", "write a list"]),
    "a truth value for a number": (_set("defaults/iterations", True), ["'iterations' cannot be true"]),
    "a truth value among numbers": (_set("seeds", [0, True]), ["'seeds' cannot be true", "write a number"]),
    "a seed that other programs round": (_set("seeds", [2**53 + 1]), ["seeds.0", "write at most 9007199254740992"]),
    "a number for text": (_set("title", 12), ["title", "write it in quotes"]),
    "a name too long for a file": (_set("study", "x" * 201), ["study", "at most 200"]),
    "text for a list": (_set("experiments/training/arms", "scd"), ["experiments.training.arms", "write a list"]),
    "no kind of data": (_delete("data/mixture/kind"), ["data.mixture", "add the key 'kind'"]),
    "unknown key of an arm": (_set("arms/scd/itertions", 5), ["itertions", "did you mean 'iterations'"]),
    "unknown objective": (_set("arms/scd/objective", "sdc"), ["unknown objective 'sdc'", "did you mean"]),
    "wrong type": (_set("defaults/batch", "many"), ["batch", "valid integer", "write a whole number"]),
    "negative number": (_set("defaults/rate", -1.0), ["rate", "greater than 0", "write more than 0"]),
    "no length of the average": (_delete("defaults/ema_half_life"), ["either 'ema_half_life' or 'ema_std'"]),
    "two lengths of the average": (_set("defaults/ema_std", 0.05), ["either 'ema_half_life' or 'ema_std'"]),
    "unknown optimiser": (_set("defaults/optimiser", {"method": "sgd"}), ["optimiser", "choose of: 'adam', 'radam'"]),
    "no iterations": (_set("defaults/iterations", 0), ["iterations", "greater than 0"]),
    "missing key": (_delete("sigma_d"), ["sigma_d", "add the key 'sigma_d'"]),
    "discrete objective without intervals": (_set("arms/scd/objective", "dscd"), ["needs 'intervals'"]),
    "continuous objective with intervals": (_set("arms/scd/intervals", 8), ["takes no 'intervals'"]),
    "distillation without a teacher": (_delete("arms/scd/teacher"), ["needs a 'teacher'"]),
    "unknown teacher": (_set("arms/scd/teacher", "nobody"), ["no arm 'nobody'", "arms.scd.teacher"]),
    "teacher that is no diffusion arm": (_set("arms/scd/teacher", "dscd-4"), ["must be a diffusion arm"]),
    "start from an exact teacher": (_set("arms/scd/start", "teacher"), ["start: teacher"]),
    "unknown data": (_set("arms/scd/data", "mnist"), ["arms.scd.data", "'mnist'"]),
    "unknown kind of data": (_set("data/mixture/kind", "images"), ["kind", "images"]),
    "unknown size": (_set("defaults/size", "huge"), ["'huge'"]),
    "experiment of an unknown arm": (_set("experiments/training/arms", ["ctm"]), ["experiments.training", "'ctm'"]),
    "unknown figure": (_set("experiments/training/figure", "pie"), ["training.figure", "there are discretisation"]),
    "a seed twice": (_set("seeds", [0, 0]), ["each seed may stand once"]),
    "no seed": (_set("seeds", []), ["seeds", "at least 1"]),
    "a list that the arm's name leaves out": (_set("arms/scd/rate", [1e-3, 1e-2]), ["two arms", "'scd'", "braces"]),
    "braces of an unknown key": (_set("arms/x-{speed}", {"objective": "sct"}), ["cannot fill the braces", "speed"]),
    "middle times that ascend": (_set("samplers", {"odd": {"solver": "few", "times": [[0.5, 0.9]]}}), ["must descend"]),
    "a sampler without its numbers": (_set("samplers", {"odd": {"solver": "heun"}}), ["samplers.odd", "needs 'eval"]),
    "Heun at an even number": (_set("samplers", {"odd": {"solver": "heun", "evaluations": [4]}}), ["odd number"]),
    "unknown sampler": (_set("arms/scd/samplers", ["fwe"]), ["arms.scd.samplers", "did you mean 'few'"]),
    "a sampler of another kind": (_set("arms/scd/samplers", ["heun"]), ["does not sample objective 'scd'"]),
    "guidance of an exact teacher": (_set("arms/scd/guidance_max", 2.0), ["arms.scd", "guidance"]),
    "segments of a method without": (_set("arms/scd/segments", 4), ["takes no 'segments'"]),
    "segments that do not divide the grid": (
        lambda c: c["arms"].update(
            p={"objective": "pcm", "teacher": "exact", "segments": 4, "grid": "uniform", "intervals": 50}
        ),
        ["arms.p.intervals", "no point at the ends of 4 segments", "intervals: 52"],
    ),
    "segments of a grid that is not even": (
        lambda c: c["arms"].update(m={"objective": "mscm", "teacher": "exact", "segments": 4, "intervals": 64}),
        ["arms.m.intervals", "the karras grid of 64", "set grid: uniform"],
    ),
    "more segments than intervals": (
        lambda c: c["arms"].update(
            m={"objective": "mscm", "teacher": "exact", "segments": 8, "grid": "uniform", "intervals": 4}
        ),
        ["arms.m.intervals", "uniform grid of 4", "intervals: 8"],
    ),
    "a setting of another method": (
        _set("arms/scd/reverse_weight", 1.0), ["arms.scd.reverse_weight", "a setting of another objective"]
    ),
    "stages of a method without": (_set("arms/scd/stages", 4), ["takes no 'stages'"]),
    "a rate of no candidates": (_set("arms/scd/rate_of", "x-*"), ["arms.scd.rate_of", "tuning"]),
    "steps to rate no candidates by": (_set("arms/scd/rate_steps", 2), ["arms.scd.rate_steps", "add 'rate_of'"]),
    "steps in which no candidate is sampled": (
        lambda c: c.update(tuning_seeds=[9], tuning_metric="map_rms") or c["arms"].update(
            scd={**c["arms"]["scd"], "rate_of": "try", "rate_steps": 3},
            **{"try": {**c["arms"]["scd"], "tuning": True}},
        ),
        ["arms.scd.rate_steps", "not sampled in 3 steps", "has 1, 2"],
    ),
    "candidates that are rated by another sampler": (
        lambda c: c.update(tuning_seeds=[9], tuning_metric="map_rms") or c["arms"].update(
            scd={**c["arms"]["scd"], "rate_of": "try", "samplers": ["one", "few"]},
            **{"try": {**c["arms"]["scd"], "tuning": True, "rate": 1e-2, "samplers": ["few", "one"]}},
        ),
        ["arms.scd.rate_of", "try is rated by 'few'", "the 'samplers' of both begin with 'one'"],
    ),
    "a tuning seed that is reported": (_set("tuning_seeds", [0]), ["tuning_seeds", "must not be reported"]),
    "a bound on a weight that is not there": (_set("arms/scd/weight_max", 5.0), ["adaptive_weight"]),
    "a component too narrow for the oracle": (_set("data/mixture/std", 0.01), ["std", "0.2"]),
    "arms that are a list": (_set("arms", ["scd"]), ["arms", "mapping"]),
    "an arm that is no mapping": (_set("arms/scd", 3), ["arms.scd"]),
    "unknown key of the defaults": (_set("defaults/itertions", 5), ["defaults.itertions", "'iterations'"]),
    "unknown key of a data set": (_set("data/mixture/dimensions", 5), ["data.mixture", "did you mean 'dimension'"]),
    "a metric that the data never measure": (
        _set("experiments/discretisation/metric", "fd_train"), ["experiments.discretisation.metric", "map_rms"],
    ),
    "a metric of another kind of curve": (
        _set("experiments/training/metric", "ct_minus_cd_loss"), ["experiments.training.metric", "choose of"],
    ),
    "the weight of arms that learn none": (
        _set("experiments/training/metric", "log_weight"), ["experiments.training.metric", "training_loss"],
    ),
    "the map of teachers alone": (
        lambda c: c["arms"].update(scd={"objective": "diffusion"}) or c["experiments"].update(
            training=c["experiments"]["training"] | {"metric": "map_rms"}
        ),
        ["experiments.training.metric", "sliced_wasserstein"],
    ),
    "a figure of what the data never measure": (
        _set("experiments/discretisation/figure", "memorisation"),
        ["experiments.discretisation.figure", "'nearest_train'"],
    ),
    "quality along training of arms that keep none": (
        _set("experiments/discretisation/figure", "quality_curves"), ["figure", "'snapshots'"],
    ),
    "a metric of samples that are not shown": (
        lambda c: c.update(samplers={"other": {"solver": "few", "times": [[]]}}) or c["experiments"].update(
            training=c["experiments"]["training"] | {"metric": "sliced_wasserstein", "samplers": ["other"]}
        ),
        ["experiments.training.metric", "'sliced_wasserstein' is not measured"],
    ),
    "a sampler's metric that the data never measure": (
        lambda c: c.update(samplers={"odd": {"solver": "few", "times": [[]], "metrics": ["fd_train"]}})
        or c["arms"]["scd"].update(samplers=["few", "odd"]),
        ["samplers.odd.metrics", "choose of: sliced_wasserstein"],
    ),
    "a snapshots' metric that the data never measure": (
        lambda c: c["evaluation"].update(snapshot_metrics=["fd_train"]) or c["arms"]["scd"].update(snapshots=2),
        ["evaluation.snapshot_metrics", "'fd_train' is measured of none of scd"],
    ),
    "a tuning metric that the data never measure": (
        lambda c: c.update(tuning_seeds=[9]) or c["arms"].update(
            scd={**c["arms"]["scd"], "rate_of": "try"}, **{"try": {**c["arms"]["scd"], "tuning": True, "rate": 1e-2}}
        ),
        ["tuning_metric", "'fd_train' is not measured of arm 'try'", "map_rms"],
    ),
    "an arm that teaches itself": (
        lambda c: c["arms"].update(t={"objective": "diffusion", "teacher": "t", "start": "teacher"}),
        ["arms.t", "waits for itself: 't' needs 't'", "take one 'teacher'"],
    ),
    "teachers in a circle": (
        lambda c: c["arms"].update(
            t={"objective": "diffusion", "teacher": "u"}, u={"objective": "diffusion", "teacher": "t"}
        ),
        ["arms.t", "'t' needs 'u' needs 't'"],
    ),
    "candidates that wait for their own": (
        lambda c: c.update(tuning_seeds=[9], tuning_metric="map_rms") or c["arms"].update(
            scd={**c["arms"]["scd"], "rate_of": "try"},
            **{"try": {**c["arms"]["scd"], "tuning": True, "rate_of": "try"}},
        ),
        ["arms.try", "'try' needs 'try'"],
    ),
    "a network told its edge, sampled without": (
        lambda c: c["arms"].update(mine={"objective": "my.module:mine", "segments": 2, "samplers": ["few"]}),
        ["arms.mine.samplers", "'few' does not sample", "solver is segments"],
    ),
    "guidance of a network that is not told it": (
        lambda c: c.update(samplers={"odd": {"solver": "few", "times": [[]], "guidance": [1.0, 2.0]}})
        or c["data"].update(own={"kind": "own", "module": "my.data"})
        or c["arms"].update(
            mine={"objective": "my.module:mine", "data": "own", "label_dropout": 0.1, "samplers": ["odd"]}
        ),
        ["arms.mine.samplers", "'odd' is guided", "'guidance_max'"],
    ),
    "labels withheld where there are none": (
        lambda c: c["arms"].update(t={"objective": "diffusion", "label_dropout": 0.1}),
        ["arms.t.label_dropout", "no labels to withhold", "remove it"],
    ),
    "names that differ by capitals alone": (
        lambda c: c["arms"].update(SCD=c["arms"]["scd"]), ["arms.SCD", "'scd' is the same file", "rename"],
    ),
    "a name that is taken, in capitals": (_set("study", "Index"), ["'Index'", "choose another"]),
    "an arm called as the data are": (lambda c: c["arms"].update(data=c["arms"]["scd"]), ["arms.data", "rename"]),
    "a budget that the command line reads as a number": (
        _set("budgets", {"007": {}}), ["budgets.007", "--config budget=007", "as b007"],
    ),
    "a budget that it reads as a float": (_set("budgets", {"1e3": {}}), ["budgets.1e3", "as b1e3"]),
    "a budget that it reads without its dashes": (_set("budgets", {"10_000": {}}), ["budgets.10_000", "as b10_000"]),
    "a budget that is no name": (_set("budgets", {"a/b": {}}), ["budgets.a/b", "letters, digits"]),
    "unknown metric": (_set("experiments/training/metric", "map_rmse"), ["metric", "did you mean 'map_rms'"]),
    "a name that is taken": (_set("study", "index"), ["'index'", "choose another"]),
    "a negative seed": (_set("seeds", [-1]), ["seeds.0", "greater than or equal to 0"]),
    "a budget that the command line reads as a truth value": (
        _set("budgets", {"True": {}}), ["budgets.True", "read as a truth value", "as bTrue"],
    ),
    "a budget of an arm that there is not": (
        _set("budgets", {"laptop": {"arms": ["scd", "dcsd-*"]}}), ["budgets.laptop.arms", "nothing is called 'dcsd-*'"],
    ),
    "a budget of an experiment that there is not": (
        _set("budgets", {"laptop": {"experiments": ["trainin"]}}),
        ["budgets.laptop.experiments", "nothing is called 'trainin'", "did you mean 'training'?"],
    ),
    "a budget that leaves no arm": (_set("budgets", {"laptop": {"arms": []}}), ["arms", "none is left"]),
    "a budget that leaves no experiment": (
        _set("budgets", {"laptop": {"experiments": []}}), ["experiments", "none is left under budget 'laptop'"],
    ),
    "no experiment": (_set("experiments", {}), ["experiments", "none is left", "add one"]),
    "two values of a list that are one": (
        _set("arms/x-{rate}", {"objective": "sct", "rate": [1e-3, "1.0e-3"]}),
        ["arms.x-{rate}", "'x-0.001' and 'x-1.0e-3' are one setting", "take one"],
    ),
    "a key of one's own data that is none": (
        _set("data/own", {"kind": "own", "module": "my.data", "modul": 3}),
        ["data.own.modul", "did you mean 'module'?"],
    ),
    "a budget with an unknown key": (_set("budgets", {"laptop": {"speed": 1}}), ["budgets.laptop.speed"]),
}  # fmt: skip


def test_what_a_budget_says_wrong_is_named_there(tiny: dict, write_study) -> None:
    tiny["budgets"] = {"small": {"seeds": [0, 0]}}
    with pytest.raises(BenchError, match=r"each seed may stand once\n.*\n +key: +budgets\.small\.seeds\n"):
        load(write_study(tiny), "small")


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_is_refused_naming_file_key_and_remedy(case: str, tiny: dict, write_study) -> None:
    change, wanted = BAD[case]
    change(tiny)
    path = write_study(tiny)
    with pytest.raises(BenchError) as caught:
        load(path)
    message = str(caught.value)
    for part in (*wanted, str(path), "remedy:"):
        assert part in message, message


PLAIN = {
    "minutes by colons": ("iterations: 30", "iterations: 12:00:00", ["iterations", "whole number in digits"]),
    "a power of ten": ("iterations: 30", "iterations: 1e3", ["iterations", "write 1000"]),
    "an octal seed": ("- 0\n", "- 010\n", ["line 6", "010 is one thing", "write 10, or '010' in quotes"]),
    "another octal seed": ("- 0\n", "- 0o10\n", ["seeds.0", "write 8"]),
    "zeros before a name": ("study: tiny", "study: 007", ["line 1", "007 is one", "'007' in quotes"]),
    "a number for a name": ("study: tiny", "study: 1.50", ["study", "in quotes"]),
    "a name by colons": ("  scd:", "  12:30:", ["arms.12:30", "letters, digits"]),
    "a truth value for a number": ("batch: 16", "batch: yes", ["batch", "whole number"]),
    "a truth value in settings": (
        "width: 16", "{network: a:b, settings: {x: [off]}}", ["sizes.small.settings", "write false, or 'off' in"],
    ),
    "a key of a tag": ("evaluation:", "? !!timestamp 2001-01-01\n: 1\nevaluation:", ["2001-01-01", "take its tag out"]),
    "a number by underscores in settings": (
        "width: 16", "{network: a:b, settings: {x: 1_000}}", ["sizes.small.settings", "write 1000"],
    ),
}  # fmt: skip


def _plain(tmp_path: Path, tiny: dict, *changes: tuple[str, str]) -> Path:
    """The tiny study with changes of its text."""
    text = yaml.safe_dump(tiny, sort_keys=False)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_word_that_reads_otherwise_is_refused_with_how_to_write_it(
    case: str, tiny: dict, tmp_path: Path
) -> None:
    old, new, wanted = PLAIN[case]
    if new.startswith("{"):
        old, new = "\n    width: 16\n    blocks: 1", f" {new}"
    with pytest.raises(BenchError) as caught:
        load(_plain(tmp_path, tiny, (old, new)))
    for part in (*wanted, str(tmp_path), "remedy:"):
        assert part in str(caught.value)


NAMES = [
    "off",
    "no",
    "y",
    "On",
    "NA",
    "null",
    "nan",
    "1.50",
    "007",
    "1e3",
    "1_000",
    "0o10",
    "2024-01-30",
    "1.5",
    "True",
]


def test_a_name_is_as_it_is_written(tiny: dict, tmp_path: Path) -> None:
    arms = "".join(f"  {name}: {{objective: sct}}\n" for name in NAMES)
    path = _plain(tmp_path, tiny, ("arms:\n  scd:", f"arms:\n{arms}  scd:"), ("study: tiny", "study: 2024-01-30"))
    study = load(path)
    assert list(study.arms)[: len(NAMES)] == NAMES
    assert study.study == "2024-01-30"


def test_a_name_merged_from_elsewhere_is_as_it_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text("first: &a {010: 1, off: 2}\nthen: {<<: *a, no: 3}\n")
    assert read_mapping(path, "a study", "") == {"first": {"010": 1, "off": 2}, "then": {"010": 1, "off": 2, "no": 3}}


def test_numbers_truth_values_and_nothing_are_what_both_versions_of_yaml_say(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("a: [1, -2, +3, 0x1F, 0, 1.50, 1.0e-3, .5, -.inf, true, False, ~, null, NULL]\nb:\nc: 1e-3\n")
    assert read_mapping(path, "words", "") == {
        "a": [1, -2, 3, 31, 0, 1.5, 0.001, 0.5, -math.inf, True, False, None, None, None], "b": None, "c": "1e-3",
    }  # fmt: skip
    words = yaml.load("{a: 1e-3, 1: [1e3, .NaN], b: {true: 2}}", Loader=StrictLoader)
    found = resolved(words)
    assert (found["a"], found[1][0], found["b"]) == (0.001, 1000.0, {True: 2})
    assert math.isnan(found[1][1])


def test_a_cluster_s_settings_read_no_minutes_into_colons(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    SITE.parent.mkdir(parents=True)
    SITE.write_text("max_runtime: 24:00:00\n")
    with pytest.raises(BenchError, match=r"key: +max_runtime"):
        read_site()
    SITE.write_text("max_runtime: 0100\n")
    with pytest.raises(BenchError, match="write 100"):
        read_site()
    SITE.write_text("{qos: on, account: 007a, max_runtime: 100}\n")
    assert read_site().qos == "on"


def test_unreadable_yaml_and_repeated_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    for text, wanted in (
        ("study: [", "at line 2, column 1"),
        ("study: a\nstudy: b\n", "stands twice"),
        ("- 1\n", "mapping"),
    ):
        path.write_text(text)
        with pytest.raises(BenchError, match=wanted):
            load(path)


def test_an_unknown_study_or_budget_lists_the_known_ones(tiny: dict, write_study) -> None:
    known = sorted(file.stem for file in (Path(__file__).parents[2] / "workflow/studies").glob("*.yaml"))
    assert {"digits", "oracle"} < set(known)
    with pytest.raises(BenchError, match=", ".join(known)):
        load("orakle")
    with pytest.raises(BenchError, match="laptop"):
        load(write_study(tiny), "huge")


def test_what_the_command_line_says_is_names_or_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.yaml").touch()
    assert studies_said("oracle,x.yaml") == ["oracle", "x.yaml"]
    assert studies_said("a,b.yaml") == ["a,b.yaml"]
    assert studies_said(["oracle", "a,b.yaml"]) == ["oracle", "a,b.yaml"], "a list of a configfile"
    for said in (None, 7, 1000.0, True, "", [], [7], ["oracle", None], {"oracle": None}):
        with pytest.raises(BenchError, match=r"names no study\n.*\n  remedy: name a study, or a YAML file"):
            studies_said(said)
    assert budget_said("full") == "full"
    for said in (None, 7, 1000.0, True, ["full"]):
        with pytest.raises(BenchError, match=r"names no budget\n.*\n  remedy: .*budget=full"):
            budget_said(said)


def test_lists_expand_to_one_arm_each_in_order(tiny: dict, write_study) -> None:
    study = load(write_study(tiny))
    assert list(study.arms) == ["scd", "dscd-4", "dscd-8"]
    assert [study.arms[a].intervals for a in study.arms] == [None, 4, 8]


def test_a_run_asked_for_by_two_experiments_stands_once(tiny: dict, write_study) -> None:
    study = load(write_study(tiny))
    assert study.runs().count(Run(arm="scd", seed=0)) == 1
    assert len(study.runs()) == 3


def test_a_teacher_is_run_though_no_experiment_names_it(tiny: dict, write_study) -> None:
    tiny["arms"] |= {"teacher": {"objective": "diffusion"}}
    tiny["arms"]["scd"] |= {"teacher": "teacher", "start": "teacher"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"]}
    study = load(write_study(tiny))
    assert {run.arm for run in study.runs()} == {"teacher", "scd"}
    assert study.teacher_run(Run(arm="scd", seed=0)) == Run(arm="teacher", seed=0)


def test_a_run_s_specification_changes_with_its_own_settings_and_its_teacher_s_only(tiny: dict, write_study) -> None:
    tiny["arms"] |= {"teacher": {"objective": "diffusion"}}
    tiny["arms"]["scd"] |= {"teacher": "teacher"}
    scd, dscd = Run(arm="scd", seed=0), Run(arm="dscd-4", seed=0)
    before = load(write_study(tiny))
    changed = copy.deepcopy(tiny)
    changed["arms"]["teacher"]["rate"] = 5e-3
    changed["experiments"]["training"]["title"] = "another"
    after = load(write_study(changed))
    assert before.specification(scd) != after.specification(scd)
    assert before.specification(dscd) == after.specification(dscd)


@pytest.mark.parametrize("name", ["oracle", "digits"])
def test_shipped_studies_hold_what_they_promise(name: str) -> None:
    study, smoke = load(name), load(name, "smoke")
    assert len(study.seeds) >= 3
    precisions = {"fp32", "fp16", "bf16"} if name == "oracle" else {"fp32"}
    assert {arm.precision for arm in study.arms.values()} == precisions
    assert len(smoke.seeds) == 1
    assert study.folder != smoke.folder


def test_the_project_s_studies_are_known_from_their_files_alone() -> None:
    """Those of the name of a kind of data are looked for in test_kinds_of_data.py; kinds of figures have theirs."""
    others = {*shipped()} - {*KINDS, *FIGURES}
    named = re.compile(rf"""["']({"|".join(map(re.escape, others))})["']""")
    for place in ("workflow/**/*.py", "workflow/**/*.smk", "trigbench/*.py", "trigbench/commands/*.py", "Snakefile"):
        for file in ROOT.glob(place):
            found = named.search(file.read_text(encoding="utf-8"))
            assert not found, f"{file} names the study {found}"


@pytest.mark.parametrize("name", ["oracle", "digits"])
def test_the_full_budget_has_more_seeds_and_longer_training_of_the_same_arms(name: str) -> None:
    study, full = load(name), load(name, "full")
    assert list(full.arms) == list(study.arms)
    assert len(full.seeds) >= 5
    for arm, settings in study.arms.items():
        assert full.arms[arm].iterations > settings.iterations


def test_the_smoke_budget_has_an_arm_of_every_objective_and_two_numbers_of_intervals() -> None:
    """Of those that a shipped study has an arm of; test_devices.py trains every one of the table."""
    smokes = ("oracle", "digits", "flow_maps", "oracle-seeds")
    arms = [arm for study in smokes for arm in load(study, "smoke").arms.values()]
    studies = [load(study) for study in shipped()]
    studied = {arm.objective for study in studies for arm in study.arms.values()}
    assert {arm.objective for arm in arms} == studied
    assert studied == {*OBJECTIVES, "trigbench.core.objectives.ict_parts:ict_without"}
    places = {study.study: study.by_default for study in studies if study.by_default}
    assert by_default() == tuple(sorted(places, key=places.__getitem__)) == ("oracle", "digits")
    of_both = [arm for study in by_default() for arm in load(study, "smoke").arms.values()]
    assert len({arm.intervals for arm in of_both} - {None}) == 2
