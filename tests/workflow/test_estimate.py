"""An estimate adds up, counts what is computed, and is held against what a run took."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.workflow.conftest import step
from trigbench.core.networks.edm2 import EDM2
from trigbench.workflow.data.kinds.images.kind import ImagesData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.counts import (
    WIDTHS,
    Counts,
    count,
    counts_of,
    in_width,
    key_of,
    sampling_evaluations,
    shape_of,
    stand_in,
    without_data,
)
from trigbench.workflow.run.estimate_table import JUDGED, check, table
from trigbench.workflow.run.estimates import BESIDE, ENOUGH, Cost, Rates, _rows, costs_of, device_hours, machine_hours
from trigbench.workflow.run.task import Task
from trigbench.workflow.steps.estimate import command
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.reading import load, shipped
from trigbench.workflow.study.records import RunRecord, write_record
from trigbench.workflow.study.study import Run, Sampling, Study

IMAGES = {"kind": "images_folder", "path": "nowhere", "size": 16, "held_out": 0.5, "classes": 3}
SMALL = {"multipliers": [1, 2], "blocks": 1, "attention": [8]}
NETWORKS = {
    "ddpmpp": {"network": "trigbench.core.networks.ddpmpp:DDPMpp", "settings": SMALL},
    "edm2": {"network": "trigbench.core.networks.edm2:EDM2", "settings": SMALL},
}


@pytest.fixture
def study(tiny: dict, write_study: Callable[[dict], Path]) -> Callable[..., Study]:
    """A study of images that are not there, with networks of a width."""

    def make(network: str, width: int, **arm: object) -> Study:
        settings = {**SMALL, "width": width}
        content = tiny | {
            "data": {"mixture": IMAGES}, "sizes": {"small": {**NETWORKS[network], "settings": settings}},
            "arms": {"teacher": {"objective": "diffusion"}, "x": {"objective": "scd", "teacher": "teacher", **arm}},
            "evaluation": {"samples": 100}, "seeds": [0, 1],
        }  # fmt: skip
        content["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"], "metric": "fd_train"}}
        return load(write_study(content))

    return make


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("arm", ["teacher", "x"])
def test_operations_at_a_large_width_follow_exactly_from_small_ones(network: str, arm: str, study, monkeypatch) -> None:
    wide = study(network, 128)
    task = without_data(wide, arm)
    followed = counts_of(task)
    monkeypatch.setattr("trigbench.workflow.run.counts.WIDTHS", (128, 128, 128))  # counted as it is
    counted = counts_of(task)
    assert followed.step == pytest.approx(counted.step, rel=1e-9)
    assert followed.evaluation == pytest.approx(counted.evaluation, rel=1e-9)
    assert round(followed.parameters) == counted.parameters


@pytest.mark.slow
def test_counts_are_torch_s_of_the_same_network(study) -> None:
    made = study("edm2", 32)
    counts = counts_of(without_data(made, "teacher"))
    network = EDM2((3, 16, 16), classes=3, width=32, multipliers=(1, 2), blocks=1, attention=(8,))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 16, 16), torch.ones(1), torch.zeros(1, dtype=torch.long))
    assert counts.evaluation == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert counts.evaluation >= counter.get_total_flops()
    assert 2.8 * counts.evaluation < counts.step < 3.1 * counts.evaluation, "a forward and a backward of two"
    assert counts.parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.slow
def test_a_student_s_step_costs_its_teacher_s_evaluation_and_its_tangent(study) -> None:
    both = study("edm2", 32)
    teacher, student = (counts_of(without_data(both, arm)) for arm in ("teacher", "x"))
    assert 4.5 * teacher.evaluation < student.step < 5.5 * teacher.evaluation


@pytest.mark.slow
def test_an_arm_s_cost_adds_up(study) -> None:
    made = study("edm2", 32, snapshots=2)
    costs = {cost.arm: cost for cost in costs_of(made, judged=10, measure=False)}
    counts, arm = counts_of(without_data(made, "x")), made.arms["x"]
    assert set(costs) == {"teacher", "x"} and costs["x"].runs == 2
    assert costs["x"].train_operations == 2 * arm.iterations * arm.batch * counts.step
    # one step and two: three evaluations a sample; of 100 samples, and of 100 at each of two snapshots; and ten
    assert costs["x"].other_operations == 2 * (3 * 100 * 3 + 10) * counts.evaluation
    samples = 2 * 100 * 3 * 16 * 16
    assert costs["x"].kept_bytes == 2 * 4 * (3 * counts.parameters + samples)
    both = 2 * (4 + 2) * counts.parameters  # checkpoints, each with both snapshots
    assert costs["x"].working_bytes == 4 * (both + samples)
    assert costs["x"].rates is None


@pytest.mark.slow
def test_measured_steps_give_this_machine_s_rate(study) -> None:
    costs = costs_of(study("edm2", 32), judged=0, measure=True)
    rates = [rate for cost in costs if cost.rates for rate in (cost.rates.training, cost.rates.evaluation)]
    assert len(rates) == 2 * len(costs) and all(1e7 < rate < 1e15 for rate in rates)


def test_rows_that_are_compared_are_counted_and_timed_together(tiny: dict, write_study) -> None:
    """Of IMM, which refuses others, more than are counted or timed otherwise; and an image takes what it takes."""
    imm = {"objective": "imm", "particles": 16, "batch": 48, "microbatch": 32}
    experiment = tiny["experiments"]["training"] | {"arms": ["*"]}
    content = tiny | {"arms": {"x": imm, "y": imm | {"particles": 8}}, "experiments": {"training": experiment}}
    made = load(write_study(content))
    of_16, of_8 = (counts_of(without_data(made, arm)) for arm in ("x", "y"))
    assert of_16 == of_8 and of_16.step > 0
    assert [(made.arms[arm].compared, _rows(made.arms[arm], of_16)) for arm in ("x", "y")] == [(16, 32), (8, 32)]
    dear = replace(of_16, step=ENOUGH / 9)
    assert [_rows(made.arms[arm], dear) for arm in ("x", "y")] == [16, 8]
    assert all(cost.rates for cost in costs_of(made, judged=0))


def test_an_optimiser_s_step_is_charged_once_a_batch(tiny: dict, write_study, monkeypatch) -> None:
    imm = {"objective": "imm", "particles": 16, "batch": 48, "microbatch": 32}
    experiment = tiny["experiments"]["training"] | {"arms": ["x"]}
    made = load(write_study(tiny | {"arms": {"x": imm}, "experiments": {"training": experiment}}))
    taken = iter([3.0, 5.0, 7.0])  # 32 rows of 48, the optimiser and the average, and an evaluation
    monkeypatch.setattr("trigbench.workflow.run.estimates._seconds", lambda task, timed: (timed(), next(taken))[1])
    (cost,) = costs_of(made, judged=0)
    assert cost.rates is not None
    assert cost.train_operations / cost.rates.training == pytest.approx(cost.runs * made.arms["x"].iterations * 9.5)


@pytest.mark.slow
def test_every_shipped_study_can_be_estimated() -> None:
    """Of all studies an arm of each kind of step, on small networks and images, and what each arm is timed on."""
    tasks = [
        without_data(study, arm)
        for study in map(load, shipped())
        for arm in dict.fromkeys(run.arm for run in study.runs())
    ]
    kinds: dict[str, Counts] = {}
    for task in sorted(tasks, key=lambda task: math.prod(task.data.shape)):
        kind = json.dumps(json.loads(key_of(task))[0])
        kinds[kind] = kinds.get(kind) or count(in_width(_smaller(task), WIDTHS[0]))
        assert _rows(task.arm, kinds[kind]) % task.arm.compared == 0
    assert all(counts.step > counts.evaluation > 0 < counts.parameters for counts in kinds.values())


def _smaller(task: Task) -> Task:
    """On images of at most 8 by 8."""
    shape = task.data.shape[:1] + tuple(min(side, 8) for side in task.data.shape[1:])
    draw = lambda g, rows: (torch.randn(rows, *shape, generator=g), task.data.draw(g, rows)[1])  # noqa: E731
    return replace(task, data=replace(task.data, shape=shape, draw=draw))


def test_guided_diffusion_is_evaluated_twice() -> None:
    heun, few = (Sampling(sampler=s, solver=s, steps=n, guidance=2.0) for s, n in (("heun", 35), ("few", 2)))
    assert [sampling_evaluations(way) for way in (heun, few, heun.model_copy(update={"guidance": None}))] == [70, 2, 35]


COSTS = [
    Cost("teacher", 3, 10_000_000, 6e18, 1.2e18, Rates(2e10, 4e10), False, 5e9, 1e9),
    Cost("scd", 3, 10_000_000, 3e18, 0.6e18, Rates(2e10, 2e10), True, 7e9, 2e9),
]


def test_hours_and_totals_of_the_table() -> None:
    assert device_hours(COSTS[0], tflops=1000, utilisation=0.5) == 4.0
    assert machine_hours(COSTS[0]) == (6e18 / 2e10 + 1.2e18 / 4e10 + 3 * BESIDE) / 3600
    assert machine_hours(replace(COSTS[0], rates=None)) is None
    lines = [line.split() for line in table(COSTS, tflops=1000, utilisation=0.5).splitlines()]
    assert lines[1] == ["teacher", "3", "10.00", "6000", "1200", "4", "9.17e+04", "5", "1"]
    assert lines[2][:6] == ["scd", "3", "10.00", "3000", "600", "2"] and "about" in lines[2]
    assert lines[3] == ["all", "6", "9000", "1800", "6", "1.42e+05", "12", "2", "a", "run"]


def test_data_need_not_be_there_and_must_be_of_a_known_shape(study, tiny: dict, write_study) -> None:
    made = study("edm2", 32)
    dataset = stand_in(made, "mixture")
    images, condition = dataset.draw(torch.Generator().manual_seed(0), 5)
    assert images.shape == (5, 3, 16, 16) and condition.label is not None and int(condition.label.max()) < 3
    unknown = made.model_copy(update={"data": {"mixture": ImagesData.model_validate(IMAGES | {"classes": None})}})
    with pytest.raises(BenchError, match=r"number of classes[\s\S]*data\.mixture\.classes"):
        shape_of(unknown, "mixture")
    own = load(Path(__file__).parents[2] / "examples" / "own_data.yaml")
    with pytest.raises(BenchError, match="its own module"):
        shape_of(own, "points")


def _finished(study: Study, seconds: float) -> None:
    for run in study.runs():
        record = RunRecord(
            status="finished", fingerprint=fingerprint(study.specification(run)), arm=run.arm, seed=run.seed, step=1,
            seconds={"train": seconds},
        )  # fmt: skip
        write_record(study.files(run).metrics, record)


def test_an_estimate_is_held_against_what_runs_took(study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = study("edm2", 32)
    beside = 2 * BESIDE  # of 60 s for both runs of each arm
    costs = [Cost(arm, 2, 1, 80.0, 60 - 40 - beside, Rates(2.0, 1.0), False, 0, 0) for arm in made.arms]
    with pytest.raises(BenchError, match="no run has finished"):
        check(made, costs)
    _finished(made, 20.0)
    found = check(made, costs)
    assert "teacher: estimated 60 s, took 40 s, ratio 1.50" in found
    assert found.splitlines()[-1] == "all: estimated 120 s, took 80 s, ratio 1.50"
    made.files(Run(arm="x", seed=1)).metrics.unlink()
    assert "x: estimated 30 s, took 20 s" in check(made, costs), "a run that is missing is left out on both sides"


@pytest.mark.slow
def test_the_command_prints_a_line_an_arm(study, tmp_path: Path, monkeypatch, capsys) -> None:
    made = study("ddpmpp", 8)
    done = step("estimate", "--study", made.file, "--device-tflops", "100", "--utilisation", "0.4", cwd=tmp_path)
    assert [line.split()[0] for line in done.stdout.splitlines()[:4]] == ["arm", "teacher", "x", "all"]
    assert "40% of 100 TFLOP/s" in done.stdout and "GFLOP/s" in done.stdout
    monkeypatch.setattr("sys.argv", ["estimate", "--study", str(made.file), "--utilisation", "2"])
    with pytest.raises(BenchError, match="at most 1"):
        command()


def test_what_judging_takes_is_what_it_evaluates() -> None:
    """The norms of the tangent: 25 angles, 128 points, two parts, each a value and a tangent."""
    assert JUDGED == 128 * 25 * 4
