"""What a run of each method trains, keeps, is told and is sampled by."""

import contextlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from tests.workflow.conftest import ROOT, hasty_classifier, made_by_one, saved_every
from trigbench.core.condition import Condition
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.checkpoints import remove_all
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run import training as train_module
from trigbench.workflow.run.assembly import (
    Tensors,
    guided_field,
    make_modules,
    make_network,
    step_function,
    student_field,
)
from trigbench.workflow.run.measurements import costs, normalisation_bias, search, theory
from trigbench.workflow.run.operations import Operations
from trigbench.workflow.run.own import check_study
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.settings import segment_edges
from trigbench.workflow.run.task import Task, opened
from trigbench.workflow.run.training import target_decay, train
from trigbench.workflow.run.tuning import tuned
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.samplers import Sampler
from trigbench.workflow.study.schema import Size
from trigbench.workflow.study.study import Run, Study

X = Run(arm="x", seed=0)


def _weights(study: Study, name: str = "weights") -> dict[str, torch.Tensor]:
    return read_tensors(study.files(X).folder / f"{name}.safetensors", "")


STATES = {
    "vsd": {"adaptive_weight": True, "fake_rate": 1e-2},
    "scd_vsd": {"adaptive_weight": True},
    "ct": {"target_decay": 0.9},
    "cd": {"target_decay": 0.5},
    "ict": {},
    "ect": {"snapshots": 3},
    "ms_scd": {"adaptive_weight": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("objective", STATES)
def test_a_run_of_every_method_that_breaks_off_ends_with_the_same_bits(objective: str, one_arm) -> None:
    study = one_arm(objective, **STATES[objective])
    train(study, X)
    names = ["weights", *(["snapshots"] if "snapshots" in STATES[objective] else [])]
    whole = [_weights(study, name) for name in names]
    remove_all(study.files(X).checkpoints)
    real, calls = train_module._update, iter(range(1, 10**6))

    def stopping(*arguments):
        if next(calls) > 17:
            raise KeyboardInterrupt
        return real(*arguments)

    train_module._update = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            train(saved_every(study, 8), X)
    finally:
        train_module._update = real
    train(saved_every(study, 8), X)
    for name, expected in zip(names, whole, strict=True):
        found = _weights(study, name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_an_average_gives_the_targets_and_moves_with_the_student(one_arm) -> None:
    """A target that stood still, or that was the student itself, would train to other weights."""
    weights = {}
    for decay in (None, 0.5, 0.999999):
        study = one_arm("ct", points=[8, 8], target_decay=decay)
        train(study, X)
        weights[decay] = torch.cat([w.flatten() for w in _weights(study).values()])
    assert not torch.equal(weights[None], weights[0.5])
    assert not torch.equal(weights[0.5], weights[0.999999])


def test_the_decay_of_the_targets_follows_cm_s_schedule(one_arm) -> None:
    study = one_arm("ct", points=[2, 150], target_decay=0.9)
    arm = study.arms["x"]
    assert target_decay(arm, 1) == pytest.approx(math.exp(2 * math.log(0.9) / 2))
    assert target_decay(arm, arm.iterations) > 0.998
    constant = one_arm("cd", target_decay=0.95).arms["x"]
    assert {target_decay(constant, s) for s in (1, 15, 30)} == {0.95}


@pytest.mark.slow
def test_the_fake_is_trained_beside_the_student_and_is_no_part_of_its_weights(one_arm) -> None:
    study = one_arm("scd_vsd", adaptive_weight=True)
    task = opened(study, X)
    modules = make_modules(task, None)
    assert set(modules.extras) == {"fake", "log_weight", "score_log_weight", "fake_log_weight"}
    evaluate = step_function(task, modules)
    parameters = modules.parameters()
    gradients = torch.autograd.grad(evaluate(1, {}).loss, list(parameters.values()), materialize_grads=True)
    moved = {name.split(".")[0] for name, g in zip(parameters, gradients, strict=True) if g.abs().max() > 0}
    assert {"fake", "project"} <= moved  # last layers start at zero, and hide the rest from the first gradient
    train(study, X)
    assert set(_weights(study)) == set(dict(modules.student.named_parameters()))


@pytest.mark.slow
def test_a_faster_fake_changes_the_fake_s_steps_and_so_the_student_s(one_arm) -> None:
    weights = []
    for rate in (None, 1e-2):
        study = one_arm("vsd", fake_rate=rate)
        train(study, X)
        weights.append(torch.cat([w.flatten() for w in _weights(study).values()]))
    assert not torch.equal(*weights)


# --- sampling ----------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("objective", "settings", "sampler"),
    [
        ("diffusion", {}, {"solver": "heun", "evaluations": [3, 35]}),
        ("diffusion", {}, {"solver": "dpm_2s", "evaluations": [3, 7]}),
        ("diffusion", {}, {"solver": "ddim", "evaluations": [1, 4]}),
        ("diffusion", {}, {"solver": "dpm_pp_2m", "evaluations": [2, 5]}),
        ("diffusion", {}, {"solver": "dpm_3s", "evaluations": [1, 4, 7]}),
        ("diffusion", {}, {"solver": "dpm_pp_3m", "evaluations": [1, 2, 5]}),
        ("diffusion", {}, {"solver": "unipc", "order": 3, "variant": "bh1", "evaluations": [1, 2, 5]}),
        ("diffusion", {}, {"solver": "ddim_eta", "eta": 1, "evaluations": [1, 5]}),
        ("diffusion", {}, {"solver": "heun_churn", "churn": 10.0, "evaluations": [1, 5]}),
        ("scd", {}, {"solver": "few", "times": [[], [1.1], [1.3, 0.7]]}),
        ("ms_scd", {"segments": 4}, {"solver": "segments"}),
        ("shortcut", {}, {"solver": "halves", "evaluations": [1, 4]}),
    ],
)
def test_a_sampling_evaluates_its_network_as_often_as_it_says(
    objective, settings, sampler, one_arm, monkeypatch
) -> None:
    study = one_arm(objective, **settings)
    arm = study.arms["x"].model_copy(update={"samplers": ("odd",)})
    study = study.model_copy(update={"arms": {"x": arm}, "samplers": {"odd": Sampler(**sampler)}})
    task = opened(study, X)
    network = make_network(task)
    calls = []
    real = type(network).forward

    def forward(self, x, t, c: Condition):
        calls.append(1)
        return real(self, x, t, c)

    monkeypatch.setattr(type(network), "forward", forward)
    for way in study.samplings("x"):
        calls.clear()
        drawn = draw_samples(task, dict(network.named_parameters()), [way], 5)
        assert len(calls) == way.steps
        assert drawn[way.key].shape == (5, 2)


def test_every_sampling_starts_from_the_same_noise(one_arm) -> None:
    """One step of `few`, one segment and one DDIM step of the same untrained field are the same map."""
    study = one_arm("ms_scd", segments=1)
    task = opened(study, X)
    network = make_network(task)
    weights = {name: torch.randn_like(p) / 4 for name, p in network.named_parameters()}
    (segment,) = draw_samples(task, weights, study.samplings("x"), 6).values()
    few = one_arm("scd")
    own = {name: w for name, w in weights.items() if not name.startswith("tell.")}
    one, two = draw_samples(opened(few, X), own, few.samplings("x"), 6).values()
    torch.testing.assert_close(segment, one)
    assert not torch.allclose(one, two)


# --- guidance, on labelled data ----------------------------------------------------------------------


GUIDED = {
    "study": "guided", "title": "t", "summary": "s", "sigma_d": 0.5, "seeds": [0],
    "data": {"digits": {"kind": "digits"}}, "sizes": {"net": {"width": 16, "blocks": 1}},
    "defaults": {
        "data": "digits", "size": "net", "iterations": 4, "batch": 8, "rate": 1e-3, "ema_half_life": 1000,
    },
    "arms": {
        "teacher": {"objective": "diffusion", "label_dropout": 0.2, "samplers": ["both"]},
        "scd": {
            "objective": "scd", "teacher": "teacher", "start": "teacher", "guidance_max": 2.0, "samplers": ["told"],
        },
        "ms-scd": {
            "objective": "ms_scd", "teacher": "teacher", "start": "teacher", "guidance_max": 2.0, "segments": 2,
            "samplers": ["through"],
        },
    },
    "samplers": {
        "both": {"solver": "heun", "evaluations": [3], "guidance": [1.0, 2.0]},
        "told": {"solver": "few", "times": [[], [1.1]], "guidance": [1.0, 2.0]},
        "through": {"solver": "segments", "guidance": [1.0, 2.0]},
    },
    "evaluation": {"samples": 80},
    "experiments": {
        "guidance": {
            "title": "g", "paper": "Fig. 7", "question": "q", "expectation": "e", "figure": "guidance",
            "metric": "fd_train", "arms": ["*"],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that study with its data and its teacher, made once."""

    def make(folder: Path) -> None:
        (folder / "guided.yaml").write_text(yaml.safe_dump(GUIDED, sort_keys=False))
        study = load(folder / "guided.yaml")
        with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
            hasty_classifier(patch)
            prepare(study, "digits")
            train(study, Run(arm="teacher", seed=0))

    return made_by_one(tmp_path_factory, "guided", make)


@pytest.fixture
def guided(taught: Path, tmp_path: Path, monkeypatch) -> Study:
    """Digits with a teacher that can guide itself and a student that is told the scale."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    return load(tmp_path / "guided.yaml")


@pytest.mark.slow
def test_a_guided_student_starts_as_its_teacher_at_every_scale_and_learns_to_tell_them_apart(guided: Study) -> None:
    task = opened(guided, Run(arm="scd", seed=0))
    teacher = task.of_arm("teacher")
    taught = read_tensors(guided.files(Run(arm="teacher", seed=0)).weights, "")
    student = make_modules(task, start=taught).student
    x, t, labels = torch.randn(10, 1, 8, 8), torch.full((10,), 0.9), torch.arange(10)
    told = [student_field(task, student, None, Condition(labels, torch.full((10,), s)))(x, t) for s in (1.0, 2.0)]
    plain = student_field(teacher, make_network(teacher), taught, Condition(labels))(x, t)
    assert torch.equal(told[0], told[1])
    assert torch.equal(told[0], plain)
    train(guided, Run(arm="scd", seed=0))
    weights = read_tensors(guided.files(Run(arm="scd", seed=0)).weights, "")
    ways = guided.samplings("scd")
    assert [(w.steps, w.guidance) for w in ways] == [(1, 1.0), (1, 2.0), (2, 1.0), (2, 2.0)]
    drawn = draw_samples(task, weights, ways, 80)
    assert {values.shape for values in drawn.values()} == {(80, 1, 8, 8)}
    assert not torch.equal(drawn[ways[0].key], drawn[ways[1].key])


@pytest.mark.slow
def test_a_guided_student_of_segments_is_told_its_scale_and_its_edge(guided: Study, monkeypatch) -> None:
    run = Run(arm="ms-scd", seed=0)
    arm = guided.arms["ms-scd"]
    assert arm.told == ("scale", "target_time")
    train(guided, run)
    weights = read_tensors(guided.files(run).weights, "")
    learned = {name: w for name, w in weights.items() if name.startswith("tell.")}
    assert len(learned) == 2 and all(w.any() for w in learned.values()), "both are learned, and apart"
    task = opened(guided, run)
    network = make_network(task)
    told, real = [], type(network).forward

    def forward(self, x, t, c: Condition):
        told.append((t, c))
        return real(self, x, t, c)

    monkeypatch.setattr(type(network), "forward", forward)
    ways = guided.samplings("ms-scd")
    assert [(way.steps, way.guidance) for way in ways] == [(2, 1.0), (2, 2.0)]
    weak, strong = draw_samples(task, weights, ways, 10).values()
    assert not torch.equal(weak, strong)
    edges = segment_edges(arm, guided.sigma_d)
    for (t, c), (place, expected) in zip(told, [(2, 1.0), (1, 1.0), (2, 2.0), (1, 2.0)], strict=True):
        assert (t == edges[place]).all() and (c.target_time == edges[place - 1]).all() and (c.scale == expected).all()


@pytest.mark.slow
def test_a_scale_of_one_is_no_guidance_and_labels_matter_beyond_it(guided: Study) -> None:
    network = make_network(opened(guided, Run(arm="teacher", seed=0)))
    taught = read_tensors(guided.files(Run(arm="teacher", seed=0)).weights, "")
    x, t, labels = torch.randn(6, 1, 8, 8), torch.full((6,), 0.9), torch.arange(6)
    plain, one, two = (
        guided_field(network, taught, Condition(labels, s))(x, t) for s in (None, torch.ones(6), torch.full((6,), 2.0))
    )
    torch.testing.assert_close(one, plain)
    assert not torch.allclose(two, plain)


# --- a rate chosen on seeds that are not reported ----------------------------------------------------


@pytest.fixture
def tuning(tiny: dict, write_study, tmp_path: Path, monkeypatch) -> Study:
    monkeypatch.chdir(tmp_path)
    own = {"objective": "scd", "teacher": "exact"}
    tiny["arms"] = {"x-{rate}": own | {"rate": [1e-3, 2e-3, 4e-3], "tuning": True}, "x": own | {"rate_of": "x-*"}}
    tiny |= {"tuning_seeds": [7, 8], "tuning_metric": "sliced_wasserstein"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x*"]}}
    return load(write_study(tiny))


def _record(study: Study, arm: str, seed: int, value: float | None, of_two: float = 0.0) -> None:
    metric = {"metric": "sliced_wasserstein", "value": value, "steps": 1, "sampler": "few"}
    other = metric | {"value": of_two, "steps": 2, "mid_time": 1.1, "times": (1.1,)}
    content = {"status": "finished", "fingerprint": "f", "arm": arm, "seed": seed, "step": 1}
    content |= {"metrics": [other, metric]}
    write_json(study.files(Run(arm=arm, seed=seed)).metrics, content)


def test_the_best_candidate_s_rate_is_taken_by_the_mean_over_tuning_seeds(tuning: Study) -> None:
    for arm, values in {"x-0.001": (3.0, 3.0), "x-0.002": (1.0, 4.0), "x-0.004": (0.1, None)}.items():
        for seed, value in zip((7, 8), values, strict=True):
            _record(tuning, arm, seed, value)
    assert tuned(tuning, X).rate == 2e-3


def test_a_rate_is_chosen_by_as_many_steps_as_are_judged(tuning: Study) -> None:
    for arm, (one, two) in {"x-0.001": (1.0, 3.0), "x-0.002": (2.0, 2.0), "x-0.004": (3.0, 1.0)}.items():
        for seed in (7, 8):
            _record(tuning, arm, seed, one, of_two=two)
    in_two = tuning.arms["x"].model_copy(update={"rate_steps": 2})
    assert tuned(tuning, X).rate == 1e-3
    assert tuned(tuning.model_copy(update={"arms": tuning.arms | {"x": in_two}}), X).rate == 4e-3


def test_the_arm_keeps_its_own_rate_when_every_candidate_diverged(tuning: Study) -> None:
    for arm in tuning.candidates("x"):
        for seed in (7, 8):
            _record(tuning, arm, seed, None)
    assert tuned(tuning, X).rate == tuning.arms["x"].rate
    other = tuning.model_copy(update={"tuning_metric": "map_rms"})
    with pytest.raises(BenchError, match="no map_rms to choose a rate by"):
        tuned(other, X)


def test_candidates_run_at_tuning_seeds_alone_and_stand_in_no_experiment(tuning: Study) -> None:
    runs = tuning.runs()
    assert {r.seed for r in runs if r.arm != "x"} == {7, 8}
    assert {r.seed for r in runs if r.arm == "x"} == set(tuning.seeds)
    assert tuning.arms_of("training") == ["x"]
    assert len(tuning.specification(X)["rate_from"]) == 6


# --- measurements beside runs ------------------------------------------------------------------------


def test_a_distillation_step_costs_five_thirds_of_a_diffusion_step(tiny: dict, with_data) -> None:
    """Teacher, student with its tangent, and backward are 1 + 2 + 2 forwards, against 1 + 2."""
    tiny["arms"] = {"teacher": {"objective": "diffusion"}, "scd": {"objective": "scd", "teacher": "teacher"}}
    tiny["sizes"]["small"] = {"width": 64, "blocks": 3}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    rows = costs.measure(with_data(tiny), "training").runs
    train_flops = {row.arm: float(row.value.value or 0) for row in rows if row.value.metric == "train_flops"}
    assert train_flops["scd"] / train_flops["teacher"] == pytest.approx(5 / 3, rel=0.03)
    sampling = {
        (row.arm, row.value.steps): float(row.value.value or 0) for row in rows if row.value.metric == "sample_flops"
    }
    assert sampling["scd", 2] == 2 * sampling["scd", 1]
    assert sampling["teacher", 35] == 35 * sampling["scd", 1]


@pytest.mark.slow
def test_counted_costs_of_samples_are_those_of_what_is_drawn(guided: Study) -> None:
    """A guided diffusion model is evaluated twice, a guided student once."""
    rows = [row for row in costs.measure(guided, "guidance").runs if row.value.metric == "sample_flops"]
    assert {row.arm for row in rows} == {"teacher", "scd", "ms-scd"}
    for arm in guided.arms:
        task = opened(guided, Run(arm=arm, seed=0))
        network = make_network(task)
        weights: Tensors = dict(network.named_parameters())
        for way in guided.samplings(arm):
            with Operations() as counted, torch.no_grad():
                draw_samples(task, weights, [way], 10)
            (row,) = (r for r in rows if r.arm == arm and way.columns.items() <= r.value.model_dump().items())
            assert row.value.value == counted.total / 10


@pytest.fixture
def measured(one_arm, monkeypatch) -> Study:
    monkeypatch.setattr(theory, "BATCH", 512)
    return one_arm("cd").model_copy(update={"seeds": (0,)})


@pytest.mark.slow
def test_the_fixed_point_errs_at_the_order_of_its_solver_and_lagging_targets_bias_the_gradient(measured: Study) -> None:
    rows = theory.measure(measured, "training").curves
    found = {(r.value.metric, r.objective, r.value.x): float(r.value.value or 0) for r in rows}
    for solver, order in (("euler", 1), ("heun", 2)):
        coarse, fine = (found[f"fixed_point_error_{solver}", "cd", n] for n in (128.0, 256.0))
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert found["gradient_bias", "ct", 256.0] < found["gradient_bias", "ct", 8.0] / 10
    assert found["gradient_bias", "ct_ema", 256.0] > 3 * found["gradient_bias", "ct_ema", 32.0]
    # both losses are of second order in the step, and their ratio is not one in the limit
    assert found["ct_minus_cd_loss", "ct", 512.0] == pytest.approx(found["ct_minus_cd_loss", "ct", 256.0], rel=0.1)
    assert found["ct_minus_cd_loss", "ct", 512.0] > 0.05


@pytest.mark.slow
def test_normalising_biases_the_direction_of_sct_at_the_exact_map(measured: Study, monkeypatch) -> None:
    for name, value in {"DIMENSIONS": (4,), "POINTS": 4, "DRAWS": 5000, "STEPS": 32}.items():
        monkeypatch.setattr(normalisation_bias, name, value)
    rows = normalisation_bias.measure(measured, "training").curves
    found = {row.value.metric: float(row.value.value or 0) for row in rows}
    assert 0.01 < found["normalisation_bias"] < 0.5
    assert found["critical_batch"] > 1
    monkeypatch.setattr(normalisation_bias, "normalise", lambda g, constant: g)  # unnormalised: mean zero
    raw = {r.value.metric: float(r.value.value or 0) for r in normalisation_bias.measure(measured, "training").curves}
    assert raw["normalisation_bias"] < 0.02


@pytest.fixture
def searchable(one_arm) -> Study:
    study = one_arm("scd")
    experiment = study.experiments["training"].model_copy(update={"metric": "sliced_wasserstein"})
    study = study.model_copy(update={"experiments": {"training": experiment}})
    train(study, X)
    return study


@pytest.mark.slow
def test_the_search_s_times_are_judged_on_as_many_samples_of_other_noise(searchable: Study, monkeypatch) -> None:
    study = searchable
    counts = []
    real = search.noise_of_samples
    monkeypatch.setattr(search, "noise_of_samples", lambda g, *rest: counts.append(len(g)) or real(g, *rest))
    rows = search.measure(study, "training").runs
    assert set(counts) == {study.evaluation.samples}
    found = [row.value for row in rows if row.seed == 0]
    assert [v.metric for v in found] == ["found_mid_time", "sliced_wasserstein"] * search.MIDDLE_TIMES
    times = [float(v.value or 0) for v in found if v.metric == "found_mid_time"]
    assert search.LOW < times[1] < times[0] < search.HIGH
    assert {v.steps for v in found} == {2, 3}


@pytest.mark.slow
def test_what_is_no_number_steers_no_search_and_publishes_no_time(searchable: Study, monkeypatch) -> None:
    monkeypatch.setattr(search, "sample_consistency", lambda field, z, times, boundary: torch.full((2, 2), times[-1]))

    def found(distance: Callable[[float], float | None]) -> list[Value]:
        kind = SimpleNamespace(judge_samples=lambda data, drawn, wanted: {wanted[0]: distance(float(drawn[0, 0]))})
        monkeypatch.setattr(search, "kind_module", lambda data: kind)
        return [row.value for row in search.measure(searchable, "training").runs]

    best = found(lambda time: abs(time - 0.5) if time < 0.8 else math.nan)[0]
    assert best.metric == "found_mid_time" and best.value == pytest.approx(0.5, abs=search.WIDTH)
    for nothing in (math.nan, math.inf, None):
        values = found(lambda time, nothing=nothing: nothing)
        assert values and all((v.value, v.mid_time, v.times) == (None, None, None) for v in values)


IMAGE_NETWORKS = {
    "trigbench.core.networks.dit:DiT": {"width": 24, "depth": 1, "heads": 2},
    "trigbench.core.networks.ddpmpp:DDPMpp": {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4]},
    "trigbench.core.networks.edm2:EDM2": {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4]},
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("path", IMAGE_NETWORKS)
@pytest.mark.parametrize("arm", ["scd-m", "ms-scd-2", "vsd-guided"])
def test_a_study_names_the_papers_networks_by_their_path(path: str, arm: str) -> None:
    digits = load("digits", "smoke").model_copy(update={"arms": load("digits").arms})
    size = Size(network=path, settings=IMAGE_NETWORKS[path])
    study = digits.model_copy(update={"sizes": {**digits.sizes, "m": size}})
    dataset = SimpleNamespace(shape=(1, 8, 8), classes=10, observed_shape=None)
    network = make_network(Task(study, Run(arm=arm, seed=0), study.arms[arm], dataset))  # type: ignore
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 1.2]), torch.tensor([1, 10])
    told = dict.fromkeys(study.arms[arm].told, torch.ones(2))
    assert network(x, t, Condition(labels, **told)).shape == x.shape


def test_a_network_that_cannot_be_told_is_refused_by_name(tmp_path: Path) -> None:
    text = (ROOT / "examples/own_network.yaml").read_text()
    told = "scd-waves: {objective: ms_scd, segments: 2, teacher: exact, size: waves}"
    (tmp_path / "told.yaml").write_text(text.replace("scd-waves: {objective: scd, teacher: exact, size: waves}", told))
    with pytest.raises(BenchError, match="Waves takes no 'told'"):
        check_study(load(str(tmp_path / "told.yaml")))
