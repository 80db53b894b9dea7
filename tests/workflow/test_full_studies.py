"""The papers' studies say what the papers say, plan without their data, and train for real."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workflow.conftest import snakemake, step
from trigbench.core.networks.edm2 import PRESETS
from trigbench.workflow.claims.ledger import check_claims, read_claims
from trigbench.workflow.data.files.shards import write_shards
from trigbench.workflow.data.kinds.images.kind import ImagesData
from trigbench.workflow.machine.files import write_arrays
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.training import train
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.schema import Optimiser
from trigbench.workflow.study.study import Run, Study

FULL = ("cifar10", "imagenet64", "imagenet512")
SHIPPED = ("cifar10-small", *FULL)

# --- what the paper states (arXiv 2410.11081, App. G, Tables 4 and 5) ------------------------------

IMAGENET64 = {  # width, teacher's iterations, rate, dropout and sigma_rel
    "s": (192, 1_048_000, 1.0e-2, 0.0, 0.075), "m": (256, 1_486_000, 9.0e-3, 0.1, 0.06),
    "l": (320, 761_000, 8.0e-3, 0.1, 0.04), "xl": (384, 540_000, 7.0e-3, 0.1, 0.04),
}  # fmt: skip
IMAGENET512 = {  # the same, and sCT's dropout
    "s": (192, 1_048_000, 1.0e-2, 0.0, 0.025, 0.25), "m": (256, 1_048_000, 9.0e-3, 0.1, 0.03, 0.35),
    "l": (320, 696_000, 8.0e-3, 0.1, 0.015, 0.35), "xl": (384, 598_000, 7.0e-3, 0.1, 0.02, 0.35),
    "xxl": (448, 376_000, 6.5e-3, 0.1, 0.015, 0.35),
}  # fmt: skip


def _network(study: Study, arm: str) -> tuple[int, float]:
    settings = study.sizes[study.arms[arm].size].settings
    return settings["width"], settings.get("dropout", 0.0)


@pytest.mark.slow
def test_cifar10_has_the_paper_s_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load("cifar10")
    data = study.data["cifar10"]
    assert isinstance(data, ImagesData) and not data.conditional and data.extractor.kind == "inception"
    for arm, rate, dropout, proposal in (
        ("teacher", 1e-3, 0.13, (-1.2, 1.2)), ("sct", 1e-4, 0.20, (-1.0, 1.4)), ("scd", 1e-4, 0.0, (-1.0, 1.4)),
    ):  # fmt: skip
        own = study.arms[arm]
        assert (own.batch, own.iterations, own.rate, own.rate_reference) == (512, 400_000, rate, None)
        assert (own.proposal_mean, own.proposal_std) == proposal
        assert _network(study, arm) == (128, dropout) and own.adaptive_weight and own.ema_half_life == 500_000
        assert own.warmup == (0 if arm == "teacher" else 10_000) and own.control_constant == 0.1
        assert own.control == "normalise" and own.precision == "fp32"
        assert own.optimiser == (Optimiser(beta2=0.999) if arm == "teacher" else Optimiser(method="radam"))
    assert study.evaluation.samples == 50_000 and study.samplings("teacher")[0].steps == 35
    for arm in ("sct-plain", "ect"):
        own = study.arms[arm]
        assert (own.batch, own.proposal_mean, own.proposal_std, own.iterations) == (128, -1.0, 1.8, 400_000)
        assert study.sizes[own.size].settings["conditioning"] == "plain" and _network(study, arm)[1] == 0.2
    monkeypatch.setattr("trigbench.workflow.run.task.device_of", lambda *asked: torch.device("meta"))
    with torch.device("meta"):
        network = make_network(without_data(study, "teacher"))
    assert sum(p.numel() for p in network.parameters()) == 60_066_563, "docs/networks.md"


@pytest.mark.parametrize("size", IMAGENET64)
def test_imagenet64_has_the_paper_s_settings(size: str) -> None:
    study, (width, iterations, rate, dropout, std) = load("imagenet64"), IMAGENET64[size]
    teacher, sct, scd = (study.arms[f"{name}-{size}"] for name in ("teacher", "sct", "scd"))
    assert (teacher.iterations, teacher.rate) == (iterations, rate)
    assert (teacher.proposal_mean, teacher.proposal_std) == (-0.8, 1.6)
    assert [_network(study, f"{n}-{size}") for n in ("teacher", "sct", "scd")] == [
        (width, dropout), (width, 0.45), (width, 0.0),
    ]  # fmt: skip
    for student in (sct, scd):
        assert (student.iterations, student.proposal_mean, student.proposal_std) == (400_000, -1.0, 1.6)
        assert student.rate == pytest.approx(rate / 100) and student.teacher == f"teacher-{size}"
        assert student.start == "teacher" and student.warmup == 10_000 and student.guidance_max is None
    for arm in (teacher, sct, scd):
        assert (arm.batch, arm.rate_reference, arm.rampup, arm.precision) == (2048, 35_000, 4883, "fp16")
        assert arm.adaptive_weight and arm.optimiser == Optimiser(epsilon=1e-11)
        assert arm.ema_std == (std if arm is teacher else 0.05)


@pytest.mark.parametrize("size", IMAGENET512)
def test_imagenet512_has_the_paper_s_settings(size: str) -> None:
    study, (width, iterations, rate, dropout, std, sct_dropout) = load("imagenet512"), IMAGENET512[size]
    names = ("teacher", "sct", "scd", "scd-vsd", *(f"ms-scd-{size}-{m}" for m in (2, 4, 8, 16)))
    arms = {name: study.arms[name if name[-1].isdigit() else f"{name}-{size}"] for name in names}
    assert (arms["teacher"].iterations, arms["teacher"].rate) == (iterations, rate)
    assert (arms["teacher"].proposal_mean, arms["teacher"].proposal_std) == (-0.4, 1.0)
    assert arms["teacher"].label_dropout == 0.1
    assert _network(study, f"sct-{size}") == (width, sct_dropout)
    assert arms["sct"].iterations == 100_000 and arms["sct"].guidance_max is None
    assert arms["scd"].iterations == 200_000 and arms["scd"].guidance_max == 2.0
    assert arms["scd-vsd"].iterations == 20_000 and arms["scd-vsd"].fake_rate is None
    for name, arm in arms.items():
        assert (arm.batch, arm.rate_reference, arm.rampup, arm.precision) == (2048, 70_000, 4883, "fp16")
        assert arm.optimiser == Optimiser(epsilon=1e-11) and arm.ema_std == (std if name == "teacher" else 0.05)
        if name != "teacher":
            assert arm.rate == pytest.approx(rate / 100) and arm.teacher == f"teacher-{size}"
            assert (arm.proposal_mean, arm.proposal_std, arm.warmup) == (-0.8, 1.6, 10_000)
        if name != "sct":
            assert study.sizes[arm.size].settings.get("dropout", 0.0) == dropout
            assert study.sizes[arm.size].settings["width"] == width


def test_imagenet512_sweeps_what_the_paper_sweeps() -> None:
    study = load("imagenet512")
    assert [a.intervals for a in study.arms.values() if a.intervals] == [256, 512, 1024, 2048, 4096]
    assert [a.segments for name, a in study.arms.items() if name.startswith("ms-scd-s-")] == [2, 4, 8, 16]
    scales = {way.guidance for way in study.samplings("teacher-m")}
    assert scales == {1.0, 1.2, 1.4, 1.6, 1.8, 2.0}
    through = study.samplings("ms-scd-xl-8")
    assert study.arms["ms-scd-xl-8"].told == ("scale", "target_time") and {way.steps for way in through} == {8}
    assert {1.4, 1.2, 1.15, 2.0, 1.9} <= {way.guidance for way in through}, "Table 6"


def test_cifar10_tells_the_time_as_the_paper_s_fig_4_does() -> None:
    study = load("cifar10")
    settings = {arm: study.sizes[study.arms[arm].size].settings for arm in study.arms_of("stability_of_time")}
    how = {arm: (s.get("embedding"), s.get("coordinate")) for arm, s in settings.items() if "teacher" in arm}
    assert how == {
        "teacher": (None, None), "teacher-log": (None, "log_noise_level"), "teacher-fourier": ("fourier", None),
        "teacher-fourier-log": ("fourier", "log_noise_level"),
    }  # fmt: skip
    changed = {"size", "samplers"}
    plain = study.arms["teacher"].model_dump(exclude=changed)
    assert all(study.arms[arm].model_dump(exclude=changed) == plain for arm in how)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("data, size", [("img64", "s"), ("img64", "xl"), ("img512", "m"), ("img512", "xxl")])
def test_networks_of_the_full_studies_are_the_presets(data: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigbench.workflow.run.task.device_of", lambda *asked: torch.device("meta"))
    study = load("imagenet64" if data == "img64" else "imagenet512")
    with torch.device("meta"):
        network = make_network(without_data(study, f"teacher-{size}"))
        preset = type(network)(**PRESETS[f"{data}-{size}"])
    shapes = {name: p.shape for name, p in network.named_parameters()}
    assert shapes == {name: p.shape for name, p in preset.named_parameters()}


# --- the workflow's view of them -------------------------------------------------------------------


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", SHIPPED)
def test_claims_name_what_the_studies_have(name: str) -> None:
    study, ledger = load(name), read_claims()
    check_claims(ledger, [study])
    rules = [claim.decided_by[name] for claim in ledger.claims.values() if name in claim.decided_by]
    assert len(rules) >= 10 and {rule.experiment for rule in rules} <= set(study.experiments)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_full_study_plans_by_its_name_without_its_data(name: str, tmp_path: Path) -> None:
    plan = snakemake(name, "-n", "--quiet", "rules", cwd=tmp_path).stdout
    study = load(name)
    counts = dict(line.split()[:2] for line in plan.splitlines() if len(line.split()) == 2)
    assert counts["run"] == str(len(study.runs())) and counts["prepare"] == "1"


def test_the_error_about_missing_data_comes_from_the_job_that_prepares_them(tmp_path: Path) -> None:
    small = step("prepare", "--study", "cifar10-small", "--data", "cifar10", cwd=tmp_path, check=False)
    assert small.returncode == 2 and "no CIFAR-10 there" in small.stderr and "data/cifar10" in small.stderr
    full = step("prepare", "--study", "imagenet512", "--data", "imagenet512", cwd=tmp_path, check=False)
    assert full.returncode == 2 and "the weights of the extractor 'inception' are not there" in full.stderr


@pytest.mark.parametrize("budget", ["laptop", "cpu", "smoke"])
def test_the_small_study_has_what_it_promises(budget: str) -> None:
    study = load("cifar10-small", budget)
    assert study.resources.runtime == 8, "pieces of eight minutes"
    if budget != "smoke":
        assert len(study.seeds) == 3
        objectives = [arm.objective for arm in study.arms.values()]
        assert objectives == ["diffusion", "scd", "sct", "dscd", "dscd", "dscd", "vsd", "scd_vsd"]
    assert {arm.precision for arm in study.arms.values()} == ({"bf16"} if budget == "laptop" else {"fp32"})
    assert {arm.tangent_method for arm in study.arms.values()} == {"auto"}
    assert "JPEG" in study.summary and "comparable to no" in study.summary


# --- every arm trains -------------------------------------------------------------------------------


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unchecked: Callable[[], AbstractContextManager[None]]
) -> Iterator[Callable[[Study, list[str]], None]]:
    """Train arms in a folder of the test's own; shapes are checked where networks are, and would take half the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_module, "save", lambda *_: None)  # a gigabyte each; checkpoints are tested elsewhere
    with unchecked():
        yield _train


def _train(study: Study, arms: list[str]) -> None:
    for arm in arms:
        outcome = train(study, Run(arm=arm, seed=0))
        assert (outcome.step, outcome.reason) == (study.arms[arm].iterations, None), f"{arm}: {outcome.reason}"
        losses = study.files(Run(arm=arm, seed=0)).log.read_text().splitlines()[1:]
        assert len(losses) == outcome.step


def _short(study: Study, iterations: int, batch: int = 2) -> Study:
    """So many steps of one or two images; half precision is tested elsewhere, and slow on a CPU."""
    change = {"iterations": iterations, "batch": batch, "precision": "fp32", "snapshots": None}
    return study.model_copy(update={"arms": {n: a.model_copy(update=change) for n, a in study.arms.items()}})


IMAGES = {"cifar10": (3, 32, 32), "imagenet64": (3, 64, 64), "imagenet512": (8, 64, 64)}
"""Shapes of what is drawn."""


def _random(study: Study, cut: int = 1) -> None:
    """Prepared files of twenty random images, their edges cut by so much."""
    name, rng = study.study, np.random.default_rng(0)
    (channels, *edges), pixels = IMAGES[name], name != "imagenet512"
    shape = (channels, *(edge // cut for edge in edges))
    rows = rng.integers(0, 256, (20, *shape), np.uint8) if pixels else rng.standard_normal((20, *shape), np.float32)
    dtype, classes = "uint8" if pixels else "float16", [f"{i:04d}" for i in range(1000)]
    digest = write_shards(
        Path("shards/train"), "s", shape, dtype, np.arange(20), classes, 20, lambda r: rows[list(r)].astype(dtype)
    )
    about = {"folder": "shards", "parts": {"train": digest}, "conditional": name != "cifar10", "flips": False}
    write_arrays(study.data_file(name), {"about": np.array(json.dumps(about)), "sigma_d": np.array(0.5)})


def _narrow(study: Study, cut: int, blocks: int | None = None) -> Study:
    """All networks at a sixth of their width, rounded down to whole heads, and full depth or so many blocks a level.

    Attention stays in the same blocks where edges are cut.
    """
    sizes = {}
    for name, size in study.sizes.items():
        changed = {"width": max(size.settings["width"] // 96 * 16, 32)}
        changed |= {"attention": [edge // cut for edge in size.settings.get("attention", (16, 8))]}
        changed |= {} if blocks is None else {"blocks": blocks}
        sizes[name] = size.model_copy(update={"settings": {**size.settings, **changed}})
    return study.model_copy(update={"sizes": sizes})


WITHIN = {"sct": "scd", "vsd": "scd_vsd"}
"""Of what is computed: sCT is sCD with the data in the teacher's place, and VSD is a term of its sum with sCD."""


def _first_of_each_class(study: Study) -> list[str]:
    """One arm for each class of methods: objectives but those that another of the study's computes as a part."""
    first: dict[str, str] = {}
    for name, arm in study.arms.items():
        first.setdefault(arm.objective, name)
    return [name for objective, name in first.items() if WITHIN.get(objective) not in first]


def _with_teachers(study: Study, arms: Iterable[str]) -> list[str]:
    """Every arm after the one that teaches it."""
    taught_by = [(study.arms[arm].teacher, arm) for arm in arms]
    return list(dict.fromkeys(name for pair in taught_by for name in pair if isinstance(name, str)))


def _but_for_numbers(settings: object) -> object:
    """Settings with every number but 0 and 1, and every teacher's name, the same as every other."""
    match settings:
        case dict():
            return tuple(
                (key, "named" if key == "teacher" and value else _but_for_numbers(value))
                for key, value in settings.items()
            )
        case list() | tuple():
            return tuple(dict.fromkeys(map(_but_for_numbers, settings)))
        case int() | float() if not isinstance(settings, bool):
            return settings if settings in (0, 1) else "a number"
        case _:
            return settings


def _kinds_of_arms(study: Study) -> list[list[str]]:
    """Arms in groups whose members, and whose networks, differ in the numbers of their settings alone."""
    kinds: dict[object, list[str]] = {}
    for name, arm in study.arms.items():
        about = arm.model_dump(exclude={"size", "samplers"}), study.sizes[arm.size].model_dump()
        kinds.setdefault(_but_for_numbers(about), []).append(name)
    return list(kinds.values())


@pytest.mark.slow
def test_cifar10_s_teacher_and_its_student_train_at_full_size(trained: Callable[[Study, list[str]], None]) -> None:
    """sCT's full size is sCD's; with ECT, whose network is smaller, it makes its steps at full depth, below."""
    study = _short(load("cifar10"), 1, batch=1)
    _random(study)
    trained(study, _with_teachers(study, ["scd"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_class_of_methods_trains_at_full_depth(name: str, trained: Callable[[Study, list[str]], None]) -> None:
    """At a sixth of the width and a quarter of the edge; networks at full width are the presets, as is tested above."""
    study = _narrow(_short(load(name), 1), cut := 4)
    _random(study, cut)
    trained(study, _with_teachers(study, _first_of_each_class(study)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_kind_of_arm_trains_at_one_block_a_level(name: str, trained: Callable[[Study, list[str]], None]) -> None:
    """And goes on from its first step. Of arms that differ in numbers alone (a rate, a width, a number of intervals
    or segments) one does; what the numbers are is tested above, and that networks can be made of them below."""
    study = _narrow(_short(load(name), 2), cut := 4, blocks=1)
    _random(study, cut)
    kinds = _kinds_of_arms(study)
    assert {arm for kind in kinds for arm in kind} == set(study.arms)
    trained(study, _with_teachers(study, [kind[0] for kind in kinds]))


def test_arms_of_one_kind_differ_in_numbers_alone() -> None:
    study = load("imagenet512")
    kinds = {arm: number for number, kind in enumerate(_kinds_of_arms(study)) for arm in kind}
    assert kinds["sct-s"] == kinds["sct-xxl"] and kinds["early-dscd-256"] == kinds["early-dscd-4096"]
    assert len({kinds[arm] for arm in ("early", "early-raw", "early-clip", "early-unweighted", "vsd-m", "sct-s")}) == 6
    assert kinds["teacher-s"] != kinds["teacher-m"], "without dropout and with it"
    assert {study.arms[kind[0]].objective for kind in _kinds_of_arms(study)} == {
        arm.objective for arm in study.arms.values()
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_every_network_can_be_made_at_its_full_width(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every size and of whatever an arm tells it, at one block a level, without memory for its weights."""
    monkeypatch.setattr("trigbench.workflow.run.task.device_of", lambda *asked: torch.device("meta"))
    study = load(name)
    sizes = {
        size: settings.model_copy(update={"settings": {**settings.settings, "blocks": 1}})
        for size, settings in study.sizes.items()
    }
    study = study.model_copy(update={"sizes": sizes})
    one_of_each = {(arm.size, arm.told): name for name, arm in study.arms.items()}
    with torch.device("meta"):
        for (size, _), arm in one_of_each.items():
            network = make_network(without_data(study, arm))
            widths = {side for p in network.parameters() for side in p.shape}
            assert sizes[size].settings["width"] in widths, f"{arm}: {size}"
