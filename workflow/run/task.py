"""One run, resolved once: what is trained, on what, taught by what, on which device, and where its files are."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from trigbench._places import to_step
from trigbench.workflow.data.dataset import Dataset, checked
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.devices import device_of, on
from trigbench.workflow.machine.files import read_arrays
from trigbench.workflow.machine.named import named
from trigbench.workflow.machine.tensors import read_tensors
from trigbench.workflow.run.weights import Tensors
from trigbench.workflow.study.converted import OPENED_BY
from trigbench.workflow.study.kinds import draws_module, is_own
from trigbench.workflow.study.places import RunFiles
from trigbench.workflow.study.schema import Arm, ConvertedTeacher
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Task:
    """What all parts of training, sampling and judging a run ask for."""

    study: Study
    run: Run
    arm: Arm
    """The run's; where it is trained, at the rate that its candidates chose."""
    data: Dataset
    teacher: Any = None
    """As `open_teacher` opens it, where the run is trained: weights, a network from a file, or none."""
    weak: Tensors | None = None
    """Of the arm's weak teacher, where the run is trained and has one."""

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def label(self) -> str:
        """For whoever watches."""
        return f"{self.study.label} {self.run.arm} seed {self.seed}"

    @property
    def files(self) -> RunFiles:
        return self.study.files(self.run)

    @property
    def device(self) -> torch.device:
        return device_of(self.study.device, self.study.file)

    @property
    def network_key(self) -> str:
        """What an error about the network names in the study's file."""
        return f"sizes.{self.arm.size}.network"

    def of_arm(self, name: str) -> "Task":
        """The same seed of another arm on the same data, without a teacher of its own."""
        return Task(self.study, Run(arm=name, seed=self.seed), self.study.arms[name], self.data)


def opened(study: Study, run: Run, arm: Arm | None = None) -> Task:
    """The run with its data; training gives the arm with its chosen rate, and asks for the teacher beside."""
    arm = arm or study.arms[run.arm]
    return Task(study, run, arm, open_data(study, arm.data))


def open_data(study: Study, data: str) -> Dataset:
    """A prepared data set of the study, whose draws are checked."""
    path = study.data_file(data)
    made_by = to_step("prepare", "--study", study.file, "--budget", study.budget, "--data", data)
    arrays = read_arrays(path, f"delete the file if it is there, and make it with: {made_by}")
    made = draws_module(study.data[data]).open_dataset(arrays, study.sigma_d)
    dataset = checked(made, f"data.{data}", study.file)
    if is_own(study.data[data]):
        return dataclasses.replace(dataset, draw=_from_its_generator(study, data, dataset.draw))
    return dataset


def _from_its_generator(study: Study, data: str, draw: Callable[..., Any]) -> Callable[..., Any]:
    """The draw; the first one is made twice, and raises BenchError unless one state of the generator makes one draw."""
    unseen = [True]

    def drawn(g: torch.Generator, batch: int) -> Any:
        other = draw(g.clone_state(), batch) if unseen else None
        found = draw(g, batch)
        if other and not all(map(torch.equal, tree_leaves(found), tree_leaves(other))):
            problem = "the data are drawn from another generator than the one that `draw` is given: no draw comes again"
            remedy = "draw from that one, or from one that is seeded by it; hold nothing from draw to draw"
            raise BenchError(problem, file=study.file, key=f"data.{data}.module", remedy=remedy)
        unseen.clear()
        return found

    return drawn


def open_teacher(task: Task) -> Any:
    """The averaged weights of the run's teacher, if it has a trained one; one of a file as OPENED_BY says; else None.

    Raises BenchError where a file's is of other data than the arm's.
    """
    if isinstance(task.arm.teacher, ConvertedTeacher):
        return _open_converted(task, task.arm.teacher)
    teacher = task.study.teacher_run(task.run)
    return None if teacher is None else weights_of(task, teacher)


def with_teachers(task: Task) -> Task:
    """The task with what teaches its run."""
    weak = task.study.weak_run(task.run)
    return dataclasses.replace(task, teacher=open_teacher(task), weak=None if weak is None else weights_of(task, weak))


def weights_of(task: Task, other: Run) -> Tensors:
    """The averaged weights of another run of the study, that is there, on the task's device."""
    remedy = f"delete its folder; the workflow trains {other.arm} seed {other.seed} again"
    return on(task.device, read_tensors(task.study.files(other).weights, remedy))


def _open_converted(task: Task, teacher: ConvertedTeacher) -> Any:
    made = named(OPENED_BY[teacher.kind])(Path(teacher.file), task.study.sigma_d, task.device)
    about, data = ((network.shape, network.classes) for network in (made.network, task.data))
    if about != data:
        problem = f"the teacher is a network of (shape, classes) {about}, the data {task.arm.data!r} are of {data}"
        remedy = "name a network of the data's own shape and classes"
        raise BenchError(problem, file=Path(teacher.file), key=f"data.{task.arm.data}", remedy=remedy)
    return made
