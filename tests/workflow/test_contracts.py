"""What later methods build on: settings of a method's own, own objectives of two times, seeds and starts."""

import ast
import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tests.workflow.conftest import ROOT
from trigbench.core import objectives
from trigbench.core.fields import Draws, Fields
from trigbench.core.objectives import OBJECTIVES, Look, Method, Setting
from trigbench.core.objectives.continuous import ContinuousSettings, scd
from trigbench.core.objectives.regression import Regression, regress
from trigbench.core.tangents import segment_direction
from trigbench.core.trigflow import interpolate, lognormal_angle, velocity
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.report import style
from trigbench.workflow.run.assembly import make_modules, step_function
from trigbench.workflow.run.batches import draw_batch
from trigbench.workflow.run.own import check_study
from trigbench.workflow.run.sampling import draw_samples
from trigbench.workflow.run.task import opened
from trigbench.workflow.run.training import train
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.freshness import inputs_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run
from trigbench.workflow.study.syntax import syntax_of

X = Run(arm="x", seed=0)
SEEN: list[tuple[Fields, Draws, "GapSettings"]] = []


@dataclasses.dataclass(frozen=True)
class GapSettings:
    gap: float
    sigma_d: float = 0.5
    proposal_mean: float = -1.0
    proposal_std: float = 1.4


def to_below(fields: Fields, x0: Tensor, draws: Draws, settings: GapSettings) -> Regression:
    """sCT of the map down to a share of each angle."""
    SEEN.append((fields, draws, settings))
    assert fields.student_to is not None and draws.lower is not None and draws.middle is not None
    t = lognormal_angle(draws.uniform, settings.proposal_mean, settings.proposal_std, settings.sigma_d)
    u = draws.lower * settings.gap * t
    x = interpolate(x0, draws.noise, t)
    direction = segment_direction(fields.student_to(u), x, t, u, velocity(x0, draws.noise, t))
    return regress(direction, t)


OWN = f"{__name__}:to_below"


def own_study(tiny: dict, with_data, **arm):
    objective = {"path": OWN, "two_times": True, "teacher": False, "settings": {"gap": 0.5}}
    tiny["arms"] = {"x": {"objective": objective, **arm}}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
    return with_data(tiny)


@pytest.mark.slow
def test_an_own_objective_of_two_times_trains_and_is_sampled_by_jumps(tiny, with_data) -> None:
    tiny["samplers"] = {"half": {"solver": "jumps", "times": [[], [1.1], [1.3, 0.5]], "gamma": 0.5}}
    study = own_study(tiny, with_data, samplers=["jumps", "half", "few"], target_decay=0.5)
    arm = study.arms["x"]
    assert arm.objective == OWN and arm.told == ("target_time",) and arm.method.sampler == "jumps"
    SEEN.clear()
    train(study, X)
    fields, draws, settings = SEEN[0]
    assert settings == GapSettings(0.5) and fields.teacher is None and fields.student_to and fields.target_to
    x, t, zero = torch.randn(4, 2), torch.full((4,), 1.0), torch.zeros(4)
    assert torch.equal(fields.student(x, t), fields.student_to(zero)(x, t))
    assert fields.target is not None and torch.equal(fields.target(x, t), fields.target_to(zero)(x, t))
    streams = torch.stack([part for part in (draws.uniform, draws.lower, draws.middle) if part is not None])
    assert len(streams) == 3 and streams.corrcoef().fill_diagonal_(0).abs().max() < 0.9
    weights = read_tensors(study.files(X).weights, "")
    assert weights["tell.lifts.target_time.weight"].any()
    drawn = draw_samples(opened(study, X), weights, study.samplings("x"), 10)
    assert sorted(drawn) == sorted(["jumps-1", "jumps-2-t1.1", "half-1", "half-2-t1.1", "half-3-t1.3-t0.5",
                                    "few-1", "few-2-t1.1"])  # fmt: skip
    assert torch.equal(drawn["jumps-1"], drawn["few-1"]) and not torch.equal(drawn["jumps-2-t1.1"], drawn["few-2-t1.1"])


def test_further_uniforms_are_of_their_own_streams_and_cost_others_nothing(one_arm) -> None:
    plain, both = one_arm("scd"), one_arm("ms_scd")
    one, two = (draw_batch(opened(s, X), 3).draws for s in (plain, both))
    assert one.lower is one.middle is None and two.lower is not None and two.middle is not None
    assert torch.equal(one.uniform, two.uniform) and torch.equal(one.noise, two.noise)
    assert not torch.equal(two.lower, two.uniform) and not torch.equal(two.lower, two.middle)
    rows = draw_batch(opened(both, X), 3, range(4, 9)).draws
    assert rows.middle is not None and torch.equal(rows.middle, two.middle[4:9])


DECLARED = {
    "a key that there is not": ({"path": OWN, "two_tmes": True}, "objective.two_tmes: "),
    "no path": ({"two_times": True}, "objective.path: "),
    "jumps of one time": ({"path": OWN, "sampler": "jumps"}, "'jumps' ask a network for its target time"),
    "segments without any": ({"path": OWN, "two_times": True, "sampler": "segments"}, "needs 'segments'"),
    "a teacher that is missing": ({"path": OWN, "teacher": True}, "needs a 'teacher'"),
    "a sampler that is none": ({"path": OWN, "sampler": "leaps"}, "objective.sampler: "),
}


@pytest.mark.parametrize("case", DECLARED)
def test_what_an_own_objective_declares_is_held_against_its_arm(case: str, tiny, write_study) -> None:
    objective, words = DECLARED[case]
    tiny["arms"]["scd"] |= {"objective": objective, "teacher": None}
    with pytest.raises(BenchError) as refused:
        load(write_study(tiny))
    assert words in str(refused.value) and "arms.scd" in str(refused.value) and "remedy" in str(refused.value)


def test_a_teacher_that_an_own_objective_does_not_use_is_refused(tiny, write_study) -> None:
    tiny["arms"]["scd"] |= {"objective": {"path": OWN, "teacher": False}, "teacher": "exact"}
    with pytest.raises(BenchError, match="uses no teacher"):
        load(write_study(tiny))


def test_a_setting_that_the_objective_is_told_and_nothing_gives_is_named(tiny, with_data) -> None:
    tiny["arms"] = {"x": {"objective": {"path": OWN, "two_times": True}}}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["x"]}}
    study = with_data(tiny)
    with pytest.raises(BenchError, match=r"told 'gap' in its GapSettings[\s\S]*arms\.x"):
        train(study, X)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gapp": 0.5}, "takes no 'gapp'"), ({"gap": "wide"}, "wants 'gap' to be float"), ({}, "needs 'gap'"),
        ({"gap": 0.5, "sigma_d": 1.0}, "is given 'sigma_d' by the workflow"),
    ],
)  # fmt: skip
def test_settings_of_an_own_objective_are_held_against_its_dataclass_before_any_job(settings, words, tiny, write_study):
    tiny["arms"]["scd"] |= {"objective": {"path": OWN, "two_times": True, "settings": settings}, "teacher": None}
    with pytest.raises(BenchError) as refused:
        check_study(load(write_study(tiny)))
    assert words in str(refused.value) and "arms.scd.objective.settings" in str(refused.value)


# --- a method from outside is one function and its table line ------------------------------------------


@dataclasses.dataclass(frozen=True)
class HalfSettings:
    share: float = 1.0


def half(fields: Fields, x0: Tensor, draws: Draws, settings: HalfSettings) -> Regression:
    found = scd(fields, x0, draws, ContinuousSettings())
    WHOLE.append(found.loss)
    return dataclasses.replace(found, loss=settings.share * found.loss)


WHOLE: list[Tensor] = []
LOOK = Look("half of sCD", None, "#123456", "8")


@pytest.fixture
def half_method(monkeypatch) -> None:
    share = Setting(float, least=0, most=1, needed=True)
    monkeypatch.setitem(
        OBJECTIVES, "half", Method(f"{__name__}:half", ("warmup",), settings={"share": share}, teacher=True, look=LOOK)
    )


def half_arm(tiny: dict, **more) -> dict:
    tiny["arms"] = {"x-{share}": {"objective": "half", "teacher": "exact", "share": [0.25, 0.5], **more}}
    tiny["defaults"] |= {"warmup": 5, "control": "clip"}
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    return tiny


def test_a_method_from_outside_is_one_function_and_its_table_line(half_method, tiny, with_data) -> None:
    """Nothing else knows of it: settings, refusals, training, specification, look."""
    study = with_data(half_arm(tiny))
    assert [study.arms[f"x-{share}"].settings for share in (0.25, 0.5)] == [{"share": 0.25}, {"share": 0.5}]
    run = Run(arm="x-0.5", seed=0)
    task = opened(study, run)
    found = step_function(task, make_modules(task, None))(1, {})
    assert found.loss.item() == 0.5 * WHOLE[-1].item() > 0
    said = study.specification(run)["arm"]
    assert said["settings"] == {"share": 0.5} and said["warmup"] == 5 and "control" not in said
    assert (style.name("half"), style.colour("half"), style.marker("half")) == (LOOK.name, LOOK.colour, LOOK.marker)
    assert len({fingerprint(study.specification(Run(arm=name, seed=0))) for name in study.arms}) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"share": 1.5}, "write a number of 0 at least and 1 at most"), ({"share": "much"}, "write a number"),
        ({"share": None}, "needs 'share'"), ({"control": "raw"}, "takes no 'control'"),
        ({"intervals": 8}, "it takes warmup, share"),
    ],
)  # fmt: skip
def test_what_a_method_does_not_accept_is_refused_with_what_it_does(more, words, half_method, tiny, write_study):
    content = half_arm(tiny)
    content["arms"] = {"x": {"objective": "half", "teacher": "exact", "share": 0.5} | more}
    with pytest.raises(BenchError) as refused:
        load(write_study(content))
    assert words in str(refused.value) and "arms.x" in str(refused.value)


def test_the_table_of_methods_and_a_study_s_schema_need_no_torch() -> None:
    code = (
        "import workflow.study.reading, sys; assert 'torch' not in sys.modules; workflow.study.reading.load('oracle')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("one", "other"), [("settings: A", "settings: B"), ("c: Tensor", "c: Condition"), ("c: T", "c: 'Condition | None'")]
)
def test_an_annotation_that_decides_what_is_told_is_hashed(one: str, other: str) -> None:
    first, second, third = (
        syntax_of(ast.parse(f"def f(x, {said}): pass"), "m").text for said in (one, other, f"{other}, y: int")
    )
    assert first != second != third
    assert (
        syntax_of(ast.parse("def f(x: int, c: float): pass"), "m").text
        == syntax_of(ast.parse("def f(x, c): pass"), "m").text
    )


def test_a_look_is_no_part_of_what_is_hashed() -> None:
    assert "look" not in objectives.hashed(OBJECTIVES["scd"]) and "path" in objectives.hashed(OBJECTIVES["scd"])


# --- seeds of an experiment ------------------------------------------------------------------------------


def test_an_experiment_has_seeds_of_its_own(tiny, write_study) -> None:
    tiny["seeds"] = [0, 1]
    tiny["budgets"] = {"short": {"seeds": [5]}}
    tiny["experiments"]["training"]["seeds"] = list(range(4, 10))
    study = load(write_study(tiny))
    assert study.seeds_of("discretisation") == (0, 1) and study.seeds_of("training") == tuple(range(4, 10))
    assert [run.seed for run in study.runs_of("training")] == list(range(4, 10))
    assert len(study.runs()) == 3 * 2 + 6
    short = load(write_study(tiny), "short")
    assert short.seeds_of("training") == short.seeds == (5,)


@pytest.mark.parametrize(("seeds", "words"), [([1, 1], "may stand once"), ([7], "must not be reported"), ([], "seeds")])
def test_seeds_of_an_experiment_are_held_against_the_study_s(seeds, words, tiny, write_study) -> None:
    tiny["tuning_seeds"] = [7]
    tiny["experiments"]["training"]["seeds"] = seeds
    with pytest.raises(BenchError, match=words):
        load(write_study(tiny))


# --- starts ----------------------------------------------------------------------------------------------


def chain(tiny: dict) -> dict:
    tiny["arms"] = {
        "x": {"objective": "diffusion"},
        "then": {"objective": "scd", "teacher": "exact", "start": "x"},
        "last": {"objective": "ms_scd", "teacher": "exact", "segments": 2, "start": "then"},
    }
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["last"]}}
    return tiny


@pytest.mark.slow
def test_an_arm_starts_from_another_s_weights_of_the_same_seed(tiny, with_data) -> None:
    study = with_data(chain(tiny))
    runs = study.runs()
    assert [run.arm for run in runs] == ["x", "then", "last"] and study.generation(runs[2]) == 2
    assert inputs_of(study, runs[1])["start"] == [study.files(X).weights]
    for run in runs:
        train(study, run)
    weights = [read_tensors(study.files(run).weights, "") for run in runs]
    still = study.arms["then"].model_copy(update={"rate": 1e-30})
    train(study.model_copy(update={"arms": study.arms | {"then": still}}), runs[1])
    again = read_tensors(study.files(runs[1]).weights, "")
    assert all(torch.equal(again[name], weights[0][name]) for name in again)
    assert not torch.equal(weights[1]["project.weight"], weights[0]["project.weight"])
    spec = study.specification(runs[2])
    assert spec["start"]["arm"]["objective"] == "scd" and spec["start"]["start"]["arm"]["objective"] == "diffusion"
    assert spec["arm"]["start"] == "arm", "whatever it is called"
    tiny["arms"]["x"]["rate"] = 2e-3
    other = with_data(tiny)
    assert fingerprint(other.specification(runs[2])) != fingerprint(spec)


def test_a_run_that_starts_from_a_diverged_one_says_so(tiny, with_data) -> None:
    content = chain(tiny)
    content["arms"]["x"]["rate"] = 1e30
    study = with_data(content)
    for run in study.runs()[:2]:
        outcome = train(study, run)
    assert outcome.reason is not None and outcome.reason.startswith("it starts from x seed 0, which diverged: ")


STARTS = {
    "an arm that is not there": ({"start": "y"}, "there is no arm 'y'", "arms.then.start"),
    "itself": ({"start": "then"}, "waits for itself", "arms.then"),
    "another size": ({"size": "wide"}, "is of size 'small', this arm of 'wide'", "arms.then.start"),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_start_that_cannot_be_is_refused_before_any_job(case: str, tiny, write_study) -> None:
    change, words, key = STARTS[case]
    content = chain(tiny)
    content["sizes"]["wide"] = {"width": 32, "blocks": 1}
    content["arms"]["then"] |= change
    with pytest.raises(BenchError) as refused:
        load(write_study(content))
    assert words in str(refused.value) and key in str(refused.value)


def test_a_circle_of_starts_is_refused(tiny, write_study) -> None:
    content = chain(tiny)
    content["arms"]["x"]["start"] = "then"
    with pytest.raises(BenchError, match=r"waits for itself: 'x' needs 'then' needs 'x'[\s\S]*'start'"):
        load(write_study(content))


def test_a_start_that_is_told_more_than_the_arm_is_refused(tiny, write_study) -> None:
    content = chain(tiny)
    content["arms"]["x"] = {"objective": "scd", "teacher": "exact", "start": "last"}
    del content["arms"]["then"]
    content["arms"]["last"].pop("start")
    with pytest.raises(BenchError, match="is told its target_time, and this arm's is not"):
        load(write_study(content))
