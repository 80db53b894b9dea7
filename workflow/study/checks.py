"""What must hold between the parts of a study; each check raises a Mistake whose words begin with the key.

Reading makes it a BenchError with the file. What needs somebody's own code is checked by workflow.run.own.
"""

import fnmatch
from collections.abc import Mapping

from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.arms import check_arm
from trigbench.workflow.study.claim import refuse_one_statistic
from trigbench.workflow.study.combined import COMBINED, style_and_acceleration
from trigbench.workflow.study.edits import EACH, EDITING
from trigbench.workflow.study.kinds import is_own, known_of, metrics_of
from trigbench.workflow.study.metrics import check_metrics, check_quantity
from trigbench.workflow.study.models import check_known
from trigbench.workflow.study.one_noise import one_noise_arms
from trigbench.workflow.study.quantities import CURVES, QUANTITIES, Quantity
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study

TAKEN = {"assets", "claims", "figures", "index", "published", "tables", "wrong"} | {
    "all", "claim", "collect", "experiment", "measure", "page", "prepare", "run", "simulate",
}  # fmt: skip
"""No study may be called so: folders of results and reports, and rules of the workflow."""


def check(study: Study) -> None:
    """All checks, in the order in which a reader would mend them."""
    if study.study.lower() in TAKEN:
        raise Mistake(f"study: {study.study!r} is a name of the project's own", "choose another")
    for key, left in (("arms", study.arms), ("experiments", study.experiments)):
        if not left:
            raise Mistake(f"{key}: none is left under budget {study.budget!r}", "add one, or let the budget keep one")
    _check_names(study)
    _check_seeds(study)
    for name, arm in study.arms.items():
        check_arm(study, name, arm)
        _check_trained(study, name, arm)
    _check_cycles(study)
    _check_experiments(study)
    _check_one_noise(study)
    _check_claims(study, QUANTITIES, any(is_own(data) for data in study.data.values()))
    check_metrics(study, metrics_of(study.data))
    fewest = min(study.evaluation.samples, study.evaluation.snapshot_samples or study.evaluation.samples)
    for name, data in study.data.items():
        features = known_of(data).features
        if fewest <= features:
            problem = f"distances in {features} features need more than {features} samples"
            raise Mistake(f"evaluation.samples: {problem} (data.{name})", f"set at least {features + 1}")
    _check_edits(study)


def _check_trained(study: Study, name: str, arm: Arm) -> None:
    """Motion of images that nothing has trained is none."""
    trained = study.sizes[arm.size].settings.get("trained") if arm.size in study.sizes else None
    if trained == "motion" and arm.start == "random":
        problem = f"arms.{name}.start: size {arm.size!r} trains motion alone, of images that are drawn at random"
        raise Mistake(problem, "start from an arm that trains images")


def _check_edits(study: Study) -> None:
    """One edit of each image must fix a covariance."""
    key = "samples" if study.evaluation.edits is None else "edits"
    edits: int = getattr(study.evaluation, key)
    edited = {name for name, experiment in study.experiments.items() if experiment.measurement == EDITING}
    for name in {study.arms[arm].data for experiment in edited for arm in study.arms_of(experiment)}:
        features = known_of(study.data[name]).features
        if features and edits // EACH <= features:
            problem = f"{edits} edits, {EACH} of an image, are too few for distances in {features} features"
            raise Mistake(f"evaluation.{key}: {problem} (data.{name})", f"set at least {EACH * (features + 1)}")


def check_declared(study: Study, known: Mapping[str, Quantity]) -> None:
    """Raise Mistake for a metric that is not among `known`, once modules of one's own have said what they declare."""
    asked = {"tuning_metric": [study.tuning_metric], "evaluation.snapshot_metrics": study.evaluation.snapshot_metrics}
    asked |= {f"samplers.{name}.metrics": sampler.metrics for name, sampler in study.samplers.items()}
    for key, metrics in asked.items():
        for metric in metrics or ():
            check_known(key, metric, known)
    for name, experiment in study.experiments.items():
        check_known(f"experiments.{name}.metric", experiment.metric, [*known, *CURVES])
    _check_claims(study, known)


def _check_names(study: Study) -> None:
    for key, names in (("data", study.data), ("arms", study.arms), ("experiments", study.experiments)):
        found: dict[str, str] = {}
        for name in names:
            other = found.setdefault(name.lower(), name)
            if other != name:
                problem = f"{key}.{name}: {other!r} is the same file where small and capital letters are one"
                raise Mistake(problem, "rename one of them")
    if "data" in study.arms:
        raise Mistake("arms.data: tables call the data themselves so, judged as if they were samples", "rename the arm")


def _check_cycles(study: Study) -> None:
    """No run may have to wait for itself."""

    def before(name: str) -> list[str]:
        named = (study.arms[name].teacher, study.arms[name].weak_teacher, study.arms[name].starts_from)
        return [*(arm for arm in named if isinstance(arm, str) and arm in study.arms), *study.candidates(name)]

    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " needs ".join(repr(arm) for arm in (*path[path.index(name) :], name))
            raise Mistake(
                f"arms.{name}: its run waits for itself: {circle}", "take one 'teacher', 'start' or 'rate_of' out"
            )
        if name not in done:
            for other in before(name):
                walk(other, (*path, name))
            done.add(name)

    for name in study.arms:
        walk(name, ())


def _check_seeds(study: Study) -> None:
    if len(set(study.seeds)) != len(study.seeds):
        raise Mistake("seeds: each seed may stand once", "take the repeated one out")
    for name, experiment in study.experiments.items():
        if isinstance(experiment.seeds, tuple) and len(set(experiment.seeds)) != len(experiment.seeds):
            raise Mistake(f"experiments.{name}.seeds: each seed may stand once", "take the repeated one out")
    if set(study.tuning_seeds) & set(study.seeds).union(*_reported(study)):
        problem = "tuning_seeds: a seed that chooses a rate must not be reported"
        raise Mistake(problem, "choose others than 'seeds', of the study and of its experiments")
    check_quantity("tuning_metric", study.tuning_metric, study.data.values())
    for metric in study.evaluation.snapshot_metrics or ():
        check_quantity("evaluation.snapshot_metrics", metric, study.data.values())


def _check_one_noise(study: Study) -> None:
    for pattern in study.one_noise:
        if study.is_whole and not fnmatch.filter(study.arms, pattern):
            raise Mistake(f"one_noise: no arm is called {pattern!r}", "see 'arms', or remove it")
    data = {study.arms[arm].data for arm in one_noise_arms(study)}
    if len(data) > 1:
        raise Mistake(f"one_noise: arms of {' and '.join(sorted(data))} share no noise", "name arms of one data set")
    for name in data:
        if not known_of(study.data[name]).seen:
            raise Mistake(f"one_noise: samples of {name!r} have no picture", "name arms of other data, or remove it")


def _reported(study: Study) -> list[tuple[int, ...]]:
    """The seeds of every experiment, of a plan all that it may come to."""
    return [(study.looks_of(name) or (study.seeds_of(name),))[-1] for name in study.experiments]


def _check_claims(study: Study, known: Mapping[str, Quantity], own: bool = False) -> None:
    """With `own`, a metric may be one that the module of own data declares, which is not known yet."""
    for name, claim in study.claims.items():
        if list(claim.decided_by) != [study.study]:
            problem = f"claims.{name}.decided_by: a study's own claims are decided by it alone"
            raise Mistake(problem, f"give one rule, under {study.study!r}")
        try:
            claim.decided_by[study.study].check_metrics(known, own)
        except Mistake as error:
            raise Mistake(f"claims.{name}.decided_by.{study.study}: {error}", error.remedy) from None
    refuse_one_statistic(study.claims)


def _check_experiments(study: Study) -> None:
    for name, experiment in study.experiments.items():
        if not experiment.arms:
            raise Mistake(f"experiments.{name}.arms: no arm is named", "name some, or '*'")
        for pattern in experiment.arms:
            if study.is_whole and not fnmatch.filter(study.arms, pattern):
                raise Mistake(f"experiments.{name}.arms: no arm is called {pattern!r}", "see 'arms', or remove it")
        of = [study.data[study.arms[arm].data] for arm in study.arms_of(name)]
        check_quantity(f"experiments.{name}.metric", experiment.metric, of, CURVES)
        for sampler in experiment.samplers:
            check_known(f"experiments.{name}.samplers", sampler, study.all_samplers)
        if experiment.measurement == COMBINED:
            style_and_acceleration(study, name)
