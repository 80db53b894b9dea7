"""Licences of what leaves: of the data as their kind says them; of the rest who exports says them."""

from dataclasses import dataclass

from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.converted import ConvertedTeacher
from trigbench.workflow.study.kinds import data_kind
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class Said:
    """Licences in the words of who exports; None for those that are not said."""

    data: str | None = None
    weights: str | None = None
    """Of the published network whose weights the run started from."""


def licence_of_data(study: Study, name: str, said: str | None) -> str:
    """Raises BenchError for one that is said though it is known, said in no words, or neither known nor said."""
    kind, key = study.data[name].kind, "--licence"
    known = data_kind(study.data[name]).licences.get(kind)
    if known is None:
        problem = f"nothing here says under which licence the data {name!r} of kind {kind!r} stand"
        return _in_words(study, said, key, problem)
    if said is not None:
        problem = f"the licence of data of kind {kind!r} is known: {known}"
        raise BenchError(problem, file=study.file, key=key, remedy="leave it out")
    return known


def licence_of_weights(study: Study, run: Run, said: str | None) -> str | None:
    """None for a run that did not start from a published network's weights.

    Raises BenchError for one that did where nobody says their licence, and for a licence of a run that did not.
    """
    start, key = published_start(study, run), "--weights-licence"
    if start is not None:
        problem = f"{run.arm} started from {start}, the weights of others, whose licence nothing here says"
        return _in_words(study, said, key, problem)
    if said is not None:
        problem = f"{run.arm} started from no published network's weights"
        raise BenchError(problem, file=study.file, key=key, remedy="leave it out")
    return None


def published_start(study: Study, run: Run) -> ConvertedTeacher | None:
    """The published network from whose weights a run started, itself or by the runs that it started from."""
    arm = study.arms[run.arm]
    if arm.start == "random":
        return None
    if arm.start == "teacher" and isinstance(arm.teacher, ConvertedTeacher):
        return arm.teacher
    before = study.start_run(run) or study.teacher_run(run)
    return None if before is None else published_start(study, before)


def _in_words(study: Study, said: str | None, key: str, problem: str) -> str:
    if said is None or not said.strip():
        raise BenchError(problem, file=study.file, key=key, remedy=f"say it, as {key} 'CC BY 4.0'")
    return said
