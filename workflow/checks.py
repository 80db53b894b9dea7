"""What must hold between the parts of a study; each check raises ValueError that names the key.

Pydantic makes these errors a BenchError with file and remedy (workflow.reading).
"""

import difflib
import fnmatch
from collections.abc import Iterable
from typing import TYPE_CHECKING

from workflow.claim import refuse_one_statistic
from workflow.runtime.named import named, takes
from workflow.runtime.quantities import CURVES, QUANTITIES
from workflow.schema import Arm, Data, DigitsData, ImagesData, LatentsData, OwnData, Size

if TYPE_CHECKING:
    from workflow.study import Study

FEATURES = {"classifier": 64, "inception": 2048, "dinov2": 1024}
"""Dimensions of the feature spaces; a covariance of as many needs more samples. The digits have a classifier, too."""
TAKEN = {"assets", "claims", "figures", "index", "published", "tables"} | {
    "all", "claim", "collect", "experiment", "measure", "page", "prepare", "run",
}  # fmt: skip
"""No study may be called so: folders of results and reports, and rules of the workflow."""
SOLVERS = {"heun": ("ddim", "heun", "dpm_2s", "dpm_pp_2m"), "segments": ("segments",)}
"""The solvers that may stand in for a method's own sampler; `few` for any other."""


def check(study: "Study") -> None:
    """All checks, in the order in which a reader would mend them."""
    if study.study in TAKEN:
        raise ValueError(f"study: {study.study!r} is a name of the project's own; choose another")
    if not study.arms:
        raise ValueError(f"budgets.{study.budget}.arms: no arm is left")
    _check_seeds(study)
    for name, arm in study.arms.items():
        _check_known(f"arms.{name}.data", arm.data, study.data)
        _check_known(f"arms.{name}.size", arm.size, study.sizes)
        _check_teacher(study, name, arm)
        _check_network(study, name, arm)
        _check_samplers(study, name, arm)
        _check_rate(study, name, arm)
    _check_experiments(study)
    _check_claims(study)
    fewest = min(study.evaluation.samples, study.evaluation.snapshot_samples or study.evaluation.samples)
    for name, data in study.data.items():
        if fewest <= features_of(data):
            problem = f"distances in {features_of(data)} features need more than {features_of(data)} samples"
            raise ValueError(f"evaluation.samples: {problem} (data.{name})")


def features_of(data: Data) -> int:
    """Dimensions of the largest feature space in which samples of the data are judged; 0 where there is none."""
    if isinstance(data, LatentsData):
        return max(FEATURES[data.extractor.kind], FEATURES["dinov2"] if data.dinov2 else 0)
    if isinstance(data, ImagesData):
        return FEATURES[data.extractor.kind]
    return FEATURES["classifier"] if isinstance(data, DigitsData) else 0


def _check_network(study: "Study", name: str, arm: Arm) -> None:
    network = study.sizes[arm.size].network
    if not arm.told or not network:
        return
    try:
        told = takes(named(network), "told")
    except Exception as error:  # importing what somebody else wrote may raise anything
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"sizes.{arm.size}.network: {problem}") from error
    if not told:
        raise ValueError(f"arms.{name}.size: {network} takes no 'told', the count of numbers that it is told")


def _check_known(key: str, name: str, table: Iterable[str]) -> None:
    known = list(table)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"{key}: {name!r} is unknown; {hint}there are {', '.join(known)}")


def _check_seeds(study: "Study") -> None:
    if len(set(study.seeds)) != len(study.seeds):
        raise ValueError("seeds: each seed may stand once")
    if set(study.seeds) & set(study.tuning_seeds):
        raise ValueError("tuning_seeds: a seed that chooses a rate must not be reported")
    _check_metric("tuning_metric", study.tuning_metric, study.data.values())
    for metric in study.evaluation.snapshot_metrics or ():
        _check_metric("evaluation.snapshot_metrics", metric, study.data.values())


def _check_metric(key: str, metric: str, data_sets: Iterable[Data], more: Iterable[str] = ()) -> None:
    """Whether it is measured. Data of one's own may declare it themselves, which their module says."""
    if metric.isidentifier() and any(isinstance(data, OwnData) for data in data_sets):
        return
    _check_known(key, metric, [*QUANTITIES, *more])


def _check_claims(study: "Study") -> None:
    own = any(isinstance(data, OwnData) for data in study.data.values())
    for name, claim in study.claims.items():
        if list(claim.decided_by) != [study.study]:
            told = f"a study's own claims are decided by it: give one rule, under {study.study!r}"
            raise ValueError(f"claims.{name}.decided_by: {told}")
        try:
            claim.decided_by[study.study].check_metrics(QUANTITIES, own)
        except ValueError as error:
            raise ValueError(f"claims.{name}.decided_by.{study.study}: {error}") from None
    refuse_one_statistic(study.claims)


def _check_experiments(study: "Study") -> None:
    for name, experiment in study.experiments.items():
        for pattern in experiment.arms:
            if study.is_whole and not fnmatch.filter(study.arms, pattern):
                raise ValueError(f"experiments.{name}.arms: no arm is called {pattern!r}; see 'arms'")
        of = [study.data[study.arms[arm].data] for arm in study.arms_of(name)]
        _check_metric(f"experiments.{name}.metric", experiment.metric, of, CURVES)
        for sampler in experiment.samplers:
            _check_known(f"experiments.{name}.samplers", sampler, study.all_samplers)


def _check_samplers(study: "Study", name: str, arm: Arm) -> None:
    key = f"arms.{name}.samplers"
    for sampler in arm.samplers:
        _check_known(key, sampler, study.all_samplers)
    if len(set(arm.samplers)) != len(arm.samplers):
        raise ValueError(f"{key}: each sampler may stand once")
    for sampler in study.samplers_of(name):
        settings = study.all_samplers[sampler]
        for metric in settings.metrics or ():
            _check_metric(f"samplers.{sampler}.metrics", metric, [study.data[arm.data]])
        if settings.guidance and arm.guidance_max and max(settings.guidance) > arm.guidance_max:
            raise ValueError(f"{key}: {sampler!r} guides beyond the arm's 'guidance_max', {arm.guidance_max:g}")
        if settings.solver not in SOLVERS.get(arm.method.sampler, ("few",)):
            raise ValueError(f"{key}: {sampler!r} does not sample objective {arm.objective!r}")
        if settings.guidance and not (arm.guidance_max or arm.label_dropout):
            raise ValueError(f"{key}: {sampler!r} is guided; the arm needs 'guidance_max' or 'label_dropout'")
        if arm.guidance_max and not settings.guidance:
            raise ValueError(f"{key}: the arm is told its guidance scale; {sampler!r} needs 'guidance'")


def _check_rate(study: "Study", name: str, arm: Arm) -> None:
    if arm.rate_of is None or not study.is_whole:
        return
    candidates = [study.arms[candidate] for candidate in study.candidates(name)]
    if not candidates or not study.tuning_seeds:
        raise ValueError(f"arms.{name}.rate_of: needs 'tuning_seeds', and arms with 'tuning' called {arm.rate_of!r}")
    own = {"rate", "rate_of", "tuning", "samplers", "snapshots"}
    if any(candidate.model_dump(exclude=own) != arm.model_dump(exclude=own) for candidate in candidates):
        raise ValueError(f"arms.{name}.rate_of: candidates may differ in 'rate' alone")


def _check_teacher(study: "Study", name: str, arm: Arm) -> None:
    key = f"arms.{name}.teacher"
    if arm.teacher is None:
        return
    if arm.teacher == "exact":
        if isinstance(study.data[arm.data], DigitsData | ImagesData | LatentsData):
            raise ValueError(f"{key}: only a mixture has an exact velocity, {arm.data!r} has none")
        if arm.guidance_max:
            raise ValueError(f"{key}: the exact velocity has no labels to be guided by; remove 'guidance_max'")
        return
    teacher = study.arms.get(arm.teacher)
    if teacher is None:
        raise ValueError(f"{key}: there is no arm {arm.teacher!r}")
    if teacher.objective != "diffusion" or teacher.data != arm.data:
        raise ValueError(f"{key}: {arm.teacher!r} must be a diffusion arm on data {arm.data!r}")
    if arm.start == "teacher" and teacher.size in study.sizes and not _alike(study, teacher.size, arm.size):
        raise ValueError(f"arms.{name}.start: the teacher's size {teacher.size!r} is not {arm.size!r}")
    if arm.guidance_max and not teacher.label_dropout:
        raise ValueError(f"{key}: {arm.teacher!r} cannot guide itself; give it 'label_dropout'")


def _alike(study: "Study", size: str, other: str) -> bool:
    """Whether a network of one size can start from the weights of the other: they may differ in dropout."""

    def without_dropout(settings: Size) -> Size:
        kept = {key: value for key, value in settings.settings.items() if key != "dropout"}
        return settings.model_copy(update={"settings": kept})

    one, two = (without_dropout(study.sizes[name]) for name in (size, other))
    return one == two
