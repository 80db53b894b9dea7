"""What is measured of an arm, and whether a study asks for what is."""

from collections.abc import Collection, Iterable, Mapping

from trigbench.core.map_samplers import is_everywhere
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.figures import FIGURES
from trigbench.workflow.study.kinds import Metrics, is_own
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.models import DataSettings, check_known
from trigbench.workflow.study.quantities import QUANTITIES
from trigbench.workflow.study.study import Study

EVERY_RUN = {
    "direction_spike", "gradient_spike", "training_loss", "training_direction_norm", "training_direction_norm_max",
    "training_gradient_norm", "training_gradient_norm_max",
}  # fmt: skip
OfData = Mapping[str, Metrics]
"""By data set its METRICS (workflow.study.kinds)."""


def measured(study: Study, name: str, samplers: Collection[str], of_data: OfData) -> set[str]:
    """What is measured of an arm's runs, their samples drawn in these ways; `of_data` has the arm's data."""
    arm, kind = study.arms[name], of_data[study.arms[name].data]
    found = set(EVERY_RUN) | ({"collapse"} if is_everywhere(arm.method.sampler) else set())
    if not arm.told:
        found |= {"space_tangent", "time_tangent"}
        found |= set(kind["map"]) if arm.is_map else set()
    if arm.adaptive_weight and "log_weight" in arm.method.log_weights:
        found.add("log_weight")
    for sampler in samplers:
        wanted = study.all_samplers[sampler].metrics
        found |= {metric for metric in kind["samples"] if wanted is None or metric in wanted}
    return found


def check_metrics(study: Study, of_data: OfData) -> None:
    """Raise Mistake for a metric that is asked for and that nothing measures, where the data's METRICS are known."""
    for name in study.experiments:
        _check_metric(study, name, of_data)
    known = {name: of_data[arm.data]["samples"] for name, arm in study.arms.items() if arm.data in of_data}
    for name, measures in known.items():
        for sampler in study.samplers_of(name):
            wanted = study.all_samplers[sampler].metrics
            if wanted is not None and not set(wanted) & set(measures):
                problem = f"samplers.{sampler}.metrics: nothing of it is measured of arm {name!r}"
                raise Mistake(problem, f"choose of: {', '.join(measures)}")
        for candidate in study.candidates(name):
            kind = of_data[study.arms[candidate].data]
            judged = {*QUANTITIES, *kind["map"], *kind["samples"]}
            there = measured(study, candidate, study.samplers_of(candidate)[:1], of_data) & judged
            if study.tuning_metric not in there:
                problem = f"tuning_metric: {study.tuning_metric!r} is not measured of arm {candidate!r}"
                raise Mistake(problem, f"choose of: {', '.join(sorted(there))}")
    if study.is_whole:  # what a smaller budget leaves out may have needed it
        _check_use(study, known)


def _check_use(study: Study, known: Mapping[str, Collection[str]]) -> None:
    """Of every metric that a sampler or the snapshots ask for, some arm must have it."""
    kept = [name for name, arm in study.arms.items() if arm.snapshots]
    asked = {"evaluation.snapshot_metrics": (study.evaluation.snapshot_metrics, kept)}
    for sampler, settings in study.samplers.items():
        users = [name for name in study.arms if sampler in study.samplers_of(name)]
        asked[f"samplers.{sampler}.metrics"] = settings.metrics, users
    for key, (metrics, arms) in asked.items():
        for metric in metrics or () if arms and set(arms) <= known.keys() else ():
            if not any(metric in known[name] for name in arms):
                problem = f"{key}: {metric!r} is measured of none of {', '.join(arms)}"
                raise Mistake(problem, f"choose of: {', '.join(known[arms[0]])}")


def _check_metric(study: Study, name: str, of_data: OfData) -> None:
    """The experiment's metric, and what its figure draws, against its arms: on all their data, and of one at least."""
    experiment, arms = study.experiments[name], study.arms_of(name)
    if not arms or not all(study.arms[arm].data in of_data for arm in arms):
        return
    beside = set(MEASUREMENTS[experiment.measurement].measures) if experiment.measurement else set[str]()
    of_arm = {arm: _shown(study, name, arm, of_data) | beside for arm in arms}
    could = [
        set().union(*(found for arm, found in of_arm.items() if study.arms[arm].data == data))
        for data in dict.fromkeys(study.arms[arm].data for arm in arms)
    ]
    everywhere = sorted(set.intersection(*could))
    kind = FIGURES[experiment.figure]
    for key, metric in (("metric", experiment.metric), ("figure", kind.metric or experiment.metric)):
        if metric not in everywhere:
            problem = (
                f"experiments.{name}.{key}: {metric!r} is not measured of its arms, on their data and by its samplers"
            )
            raise Mistake(problem, f"choose of: {', '.join(everywhere)}")
    if kind.snapshots and not any(study.arms[arm].snapshots for arm in arms):
        raise Mistake(f"experiments.{name}.figure: none of its arms has 'snapshots'", "set 'snapshots' of its arms")


def _shown(study: Study, experiment: str, arm: str, of_data: OfData) -> set[str]:
    """What is measured of an arm of the samples that the experiment shows."""
    own = study.samplers_of(arm)
    chosen = study.experiments[experiment].samplers
    return measured(study, arm, [name for name in own if name in chosen] if chosen else own[:1], of_data)


def check_quantity(key: str, metric: str, data_sets: Iterable[DataSettings], more: Iterable[str] = ()) -> None:
    """Whether it is measured. Data of one's own may declare it themselves, which their module says."""
    if metric.isidentifier() and any(is_own(data) for data in data_sets):
        return
    check_known(key, metric, [*QUANTITIES, *more])
