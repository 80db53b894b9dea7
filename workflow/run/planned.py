"""What a study would make, once all that can be known before it has been checked."""

from pathlib import Path

from trigbench.workflow.claims.ledger import check_claims, claims_of, read_claims
from trigbench.workflow.run.own import check_own
from trigbench.workflow.study.kinds import is_own, known_of
from trigbench.workflow.study.reading import budgets_of, load
from trigbench.workflow.study.sources import places_named
from trigbench.workflow.study.study import DEFAULT_BUDGET, Study


def planned(said: str | Path) -> list[tuple[str, str]]:
    """(what, its text), a line each, of the study of that name or in that file, under every budget.

    Raises BenchError with file, key and remedy for the first thing that is wrong: in what the file says, in how it goes
    with the claims, and in how it calls code of one's own, which is imported in another process.
    """
    study = load(said)
    every = [study, *(load(said, budget) for budget in budgets_of(study.file))]
    check_claims(read_claims(), [study])
    check_own(every)
    decided = [name for name, claim in claims_of(read_claims(), study).items() if study.study in claim.decided_by]
    lines = [("study", f"{study.study}: {study.title}"), ("file", str(study.file))]
    lines += [(f"budget {one.budget}", _makes(one)) for one in every]
    lines += [("experiment", f"{name}: {len(study.arms_of(name))} arms") for name in study.experiments]
    lines.append(("claims", f"it decides {len(decided)}"))
    lines += [("own part", f"{path}; its own checks: trigbench check {path}") for path in own_parts(study)]
    lines += [("note", said) for said in _notes(study)]
    lines.append(("make it", study.command()))
    if all(known_of(data).shape is not None for data in study.data.values()):  # of one's own only its module knows
        lines.append(("its cost", f"trigbench estimate {study.said}"))
    return lines


def _notes(study: Study) -> list[str]:
    """What is allowed, and seldom meant."""
    arms = {run.arm: study.arms[run.arm] for run in study.runs()}
    long = [
        f"{name} ({arm.warmup} of {arm.iterations} steps)" for name, arm in arms.items() if arm.warmup >= arm.iterations
    ]
    said = [f"the warm-up ends with training, or never: {', '.join(long)}"] if long else []
    for name, data in study.data.items():
        absent = [str(path) for path in places_named(data.model_dump()) if not path.exists()]
        said += [f"the files of data {name} are not there yet: {', '.join(absent)}"] if absent else []
    return said


def _makes(study: Study) -> str:
    runs = study.runs()
    arms = dict.fromkeys(run.arm for run in runs)
    steps = sum(study.arms[run.arm].iterations for run in runs)
    idle = [name for name in study.arms if name not in arms]
    left = f"; in no experiment: {', '.join(idle)}" if idle and study.budget == DEFAULT_BUDGET else ""
    return f"{len(runs)} runs of {len(arms)} arms, {steps:,} steps of training in all{left}"


def own_parts(study: Study) -> list[str]:
    """Paths of objectives, networks and modules of data that are not the project's."""
    paths = [arm.objective for arm in study.arms.values() if arm.method.own]
    paths += [size.network for size in study.sizes.values() if size.network]
    paths += [getattr(data, "module", "") for data in study.data.values() if is_own(data)]
    return [path for path in dict.fromkeys(paths) if not path.startswith("trigbench.")]
