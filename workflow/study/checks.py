"""What must hold between the parts of a study; each check raises a Mistake whose words begin with the key.

Reading makes it a BenchError with the file. What needs somebody's own code is checked by workflow.run.own.
"""

import difflib
import fnmatch
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trigbench.core.constants import SIGMA_D, SIGMA_MAX, SIGMA_MIN
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study import measurements
from trigbench.workflow.study.claim import refuse_one_statistic
from trigbench.workflow.study.converted import header_of
from trigbench.workflow.study.dimensions import DIMENSIONS
from trigbench.workflow.study.kinds import MEASURED
from trigbench.workflow.study.quantities import CURVES, QUANTITIES, Quantity
from trigbench.workflow.study.schema import (
    Arm,
    ConvertedTeacher,
    Data,
    DigitsData,
    ImagesData,
    LatentsData,
    MixtureData,
    OwnData,
    Size,
)

if TYPE_CHECKING:
    from trigbench.workflow.study.study import Study

TAKEN = {"assets", "claims", "figures", "index", "published", "tables"} | {
    "all", "claim", "collect", "experiment", "measure", "page", "prepare", "run",
}  # fmt: skip
"""No study may be called so: folders of results and reports, and rules of the workflow."""
LATENT_CHANNELS, PIXELS_A_LATENT = 4, 8
"""Of the autoencoder of LatentsData."""
SOLVERS = {"heun": ("ddim", "heun", "dpm_2s", "dpm_pp_2m"), "segments": ("segments",)}
"""The solvers that may stand in for a method's own sampler; `few` for any other."""
EVERY_RUN = {
    "direction_spike", "gradient_spike", "training_loss", "training_direction_norm", "training_direction_norm_max",
    "training_gradient_norm", "training_gradient_norm_max",
}  # fmt: skip
DRAWN = {"map_error": "map_rms", "memorisation": "nearest_train", "tangents": "time_tangent"}
"""What kinds of figure show beside the experiment's metric."""
OfData = Mapping[str, Mapping[str, Collection[str]]]
"""By data set its METRICS (workflow.study.kinds)."""


def check(study: "Study") -> None:
    """All checks, in the order in which a reader would mend them."""
    if study.study.lower() in TAKEN:
        raise Mistake(f"study: {study.study!r} is a name of the project's own", "choose another")
    for key, left in (("arms", study.arms), ("experiments", study.experiments)):
        if not left:
            raise Mistake(f"{key}: none is left under budget {study.budget!r}", "add one, or let the budget keep one")
    _check_names(study)
    _check_seeds(study)
    for name, arm in study.arms.items():
        _check_known(f"arms.{name}.data", arm.data, study.data)
        _check_known(f"arms.{name}.size", arm.size, study.sizes)
        if arm.label_dropout and unlabelled(study.data[arm.data]):
            raise Mistake(f"arms.{name}.label_dropout: data {arm.data!r} have no labels to withhold", "remove it")
        _check_teacher(study, name, arm)
        _check_samplers(study, name, arm)
        _check_rate(study, name, arm)
        _check_points(name, arm)
    _check_cycles(study)
    _check_experiments(study)
    _check_claims(study, QUANTITIES, any(isinstance(data, OwnData) for data in study.data.values()))
    check_metrics(study, {name: MEASURED[data.kind] for name, data in study.data.items() if data.kind in MEASURED})
    fewest = min(study.evaluation.samples, study.evaluation.snapshot_samples or study.evaluation.samples)
    for name, data in study.data.items():
        if fewest <= features_of(data):
            problem = f"distances in {features_of(data)} features need more than {features_of(data)} samples"
            raise Mistake(f"evaluation.samples: {problem} (data.{name})", f"set at least {features_of(data) + 1}")


def unlabelled(data: Data) -> bool:
    """Whether networks are told no labels of the data; of one's own that is not known."""
    return isinstance(data, MixtureData) or (isinstance(data, ImagesData) and not (data.labels and data.conditional))


def features_of(data: Data) -> int:
    """Dimensions of the largest feature space in which samples of the data are judged; 0 where there is none."""
    if isinstance(data, LatentsData):
        return max(DIMENSIONS[data.extractor.kind], DIMENSIONS["dinov2"] if data.dinov2 else 0)
    if isinstance(data, ImagesData):
        return DIMENSIONS[data.extractor.kind]
    return DIMENSIONS["classifier"] if isinstance(data, DigitsData) else 0


def measured(study: "Study", name: str, samplers: Collection[str], of_data: OfData) -> set[str]:
    """What is measured of an arm's runs, their samples drawn in these ways; `of_data` has the arm's data."""
    arm, kind = study.arms[name], of_data[study.arms[name].data]
    found = set(EVERY_RUN)
    if not arm.told:
        found |= {"space_tangent", "time_tangent"}
        found |= set(kind["map"]) if arm.method.sampler == "few" else set()
    if arm.adaptive_weight and "log_weight" in arm.method.log_weights:
        found.add("log_weight")
    for sampler in samplers:
        wanted = study.all_samplers[sampler].metrics
        found |= {metric for metric in samples_metrics(study, arm, kind) if wanted is None or metric in wanted}
    return found


def samples_metrics(study: "Study", arm: Arm, kind: Mapping[str, Collection[str]]) -> list[str]:
    """What is measured of samples of the arm's data."""
    data = study.data[arm.data]
    lacks = "fdd_train" if isinstance(data, LatentsData) and data.dinov2 is None else None
    return [metric for metric in kind["samples"] if metric != lacks]


def check_metrics(study: "Study", of_data: OfData) -> None:
    """Raise Mistake for a metric that is asked for and that nothing measures, where the data's METRICS are known."""
    for name in study.experiments:
        _check_metric(study, name, of_data)
    known = {
        name: samples_metrics(study, arm, of_data[arm.data]) for name, arm in study.arms.items() if arm.data in of_data
    }
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


def check_declared(study: "Study", known: Mapping[str, Quantity]) -> None:
    """Raise Mistake for a metric that is not among `known`, once modules of one's own have said what they declare."""
    asked = {"tuning_metric": [study.tuning_metric], "evaluation.snapshot_metrics": study.evaluation.snapshot_metrics}
    asked |= {f"samplers.{name}.metrics": sampler.metrics for name, sampler in study.samplers.items()}
    for key, metrics in asked.items():
        for metric in metrics or ():
            _check_known(key, metric, known)
    for name, experiment in study.experiments.items():
        _check_known(f"experiments.{name}.metric", experiment.metric, [*known, *CURVES])
    _check_claims(study, known)


def _check_use(study: "Study", known: Mapping[str, Collection[str]]) -> None:
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


def _check_metric(study: "Study", name: str, of_data: OfData) -> None:
    """The experiment's metric, and what its figure draws, against its arms: on all their data, and of one at least."""
    experiment, arms = study.experiments[name], study.arms_of(name)
    if not arms or not all(study.arms[arm].data in of_data for arm in arms):
        return
    beside = set(measurements.MEASURED.get(experiment.measurement or "", ()))
    of_arm = {arm: _shown(study, name, arm, of_data) | beside for arm in arms}
    could = [
        set().union(*(found for arm, found in of_arm.items() if study.arms[arm].data == data))
        for data in dict.fromkeys(study.arms[arm].data for arm in arms)
    ]
    everywhere = sorted(set.intersection(*could))
    for key, metric in (("metric", experiment.metric), ("figure", DRAWN.get(experiment.figure, experiment.metric))):
        if metric not in everywhere:
            problem = (
                f"experiments.{name}.{key}: {metric!r} is not measured of its arms, on their data and by its samplers"
            )
            raise Mistake(problem, f"choose of: {', '.join(everywhere)}")
    if experiment.figure == "quality_curves" and not any(study.arms[arm].snapshots for arm in arms):
        raise Mistake(f"experiments.{name}.figure: none of its arms has 'snapshots'", "set 'snapshots' of its arms")


def _shown(study: "Study", experiment: str, arm: str, of_data: OfData) -> set[str]:
    """What is measured of an arm of the samples that the experiment shows."""
    own = study.samplers_of(arm)
    chosen = study.experiments[experiment].samplers
    return measured(study, arm, [name for name in own if name in chosen] if chosen else own[:1], of_data)


def _check_names(study: "Study") -> None:
    for key, names in (("data", study.data), ("arms", study.arms), ("experiments", study.experiments)):
        found: dict[str, str] = {}
        for name in names:
            other = found.setdefault(name.lower(), name)
            if other != name:
                problem = f"{key}.{name}: {other!r} is the same file where small and capital letters are one"
                raise Mistake(problem, "rename one of them")
    if "data" in study.arms:
        raise Mistake("arms.data: tables call the data themselves so, judged as if they were samples", "rename the arm")


def _check_cycles(study: "Study") -> None:
    """No run may have to wait for itself."""

    def before(name: str) -> list[str]:
        teacher = study.arms[name].teacher
        return [*([teacher] if isinstance(teacher, str) and teacher in study.arms else []), *study.candidates(name)]

    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " needs ".join(repr(arm) for arm in (*path[path.index(name) :], name))
            raise Mistake(f"arms.{name}: its run waits for itself: {circle}", "take one 'teacher' or 'rate_of' out")
        if name not in done:
            for other in before(name):
                walk(other, (*path, name))
            done.add(name)

    for name in study.arms:
        walk(name, ())


def _check_known(key: str, name: str, table: Iterable[str]) -> None:
    known = list(table)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise Mistake(f"{key}: {name!r} is unknown", f"{hint}there are {', '.join(known)}")


def _check_seeds(study: "Study") -> None:
    if len(set(study.seeds)) != len(study.seeds):
        raise Mistake("seeds: each seed may stand once", "take the repeated one out")
    if set(study.seeds) & set(study.tuning_seeds):
        raise Mistake("tuning_seeds: a seed that chooses a rate must not be reported", "choose others than 'seeds'")
    _check_quantity("tuning_metric", study.tuning_metric, study.data.values())
    for metric in study.evaluation.snapshot_metrics or ():
        _check_quantity("evaluation.snapshot_metrics", metric, study.data.values())


def _check_quantity(key: str, metric: str, data_sets: Iterable[Data], more: Iterable[str] = ()) -> None:
    """Whether it is measured. Data of one's own may declare it themselves, which their module says."""
    if metric.isidentifier() and any(isinstance(data, OwnData) for data in data_sets):
        return
    _check_known(key, metric, [*QUANTITIES, *more])


def _check_claims(study: "Study", known: Mapping[str, Quantity], own: bool = False) -> None:
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


def _check_experiments(study: "Study") -> None:
    for name, experiment in study.experiments.items():
        if not experiment.arms:
            raise Mistake(f"experiments.{name}.arms: no arm is named", "name some, or '*'")
        for pattern in experiment.arms:
            if study.is_whole and not fnmatch.filter(study.arms, pattern):
                raise Mistake(f"experiments.{name}.arms: no arm is called {pattern!r}", "see 'arms', or remove it")
        of = [study.data[study.arms[arm].data] for arm in study.arms_of(name)]
        _check_quantity(f"experiments.{name}.metric", experiment.metric, of, CURVES)
        for sampler in experiment.samplers:
            _check_known(f"experiments.{name}.samplers", sampler, study.all_samplers)


def _check_samplers(study: "Study", name: str, arm: Arm) -> None:
    key = f"arms.{name}.samplers"
    for sampler in arm.samplers:
        _check_known(key, sampler, study.all_samplers)
    if len(set(arm.samplers)) != len(arm.samplers):
        raise Mistake(f"{key}: each sampler may stand once", "take the repeated one out")
    for sampler in study.samplers_of(name):
        settings = study.all_samplers[sampler]
        for metric in settings.metrics or ():
            _check_quantity(f"samplers.{sampler}.metrics", metric, [study.data[arm.data]])
        if settings.guidance and arm.guidance_max and max(settings.guidance) > arm.guidance_max:
            problem = f"{key}: {sampler!r} guides beyond the arm's 'guidance_max', {arm.guidance_max:g}"
            raise Mistake(problem, "lower its 'guidance', or raise 'guidance_max'")
        of_segments = arm.method.own and arm.segments is not None  # its network is told an edge, which only they know
        allowed = ("segments",) if of_segments else SOLVERS.get(arm.method.sampler, ("few",))
        if settings.solver not in allowed:
            problem = f"{key}: {sampler!r} does not sample objective {arm.objective!r}"
            problem += " with 'segments'" if of_segments else ""
            raise Mistake(problem, f"name a sampler whose solver is {' or '.join(allowed)}")
        if settings.guidance and not (arm.guidance_max or (arm.label_dropout and arm.method.sampler == "heun")):
            lacks = "'label_dropout'" if arm.method.sampler == "heun" else "'guidance_max'"
            raise Mistake(f"{key}: {sampler!r} is guided, and the arm is not", f"give the arm {lacks}")
        if arm.guidance_max and not settings.guidance:
            raise Mistake(f"{key}: the arm is told its guidance scale", f"give {sampler!r} its 'guidance'")
        lowest, highest = (math.atan(level / study.sigma_d) for level in (SIGMA_MIN, SIGMA_MAX))
        lowest = lowest if arm.method.boundary else 0.0
        for time in (time for times in settings.times or () for time in times):
            if not lowest <= time < highest:
                where = f"is not between arms.{name}'s last angle {lowest:.4g} and its first, {highest:.4g}"
                raise Mistake(f"samplers.{sampler}.times: {time:g} {where}", "choose a time between them")


def _check_points(name: str, arm: Arm) -> None:
    if arm.points is None:
        return
    first, last = arm.points
    fewest = 2 if arm.objective == "ct" else 1  # ct's grid has s0 points, ict's one more
    if not fewest <= first <= last:
        problem = f"arms.{name}.points: {arm.objective} cannot grow from {first} to {last} points"
        raise Mistake(problem, f"write [s0, s1] with {fewest} <= s0 <= s1")
    levels = int(math.log2(last // first)) + 1
    if arm.objective == "ict" and arm.iterations < levels:
        problem = f"{arm.iterations} are fewer than the {levels} levels from {first} to {last} of 'points'"
        raise Mistake(f"arms.{name}.iterations: {problem}", "train longer, or grow to fewer points")


def _check_rate(study: "Study", name: str, arm: Arm) -> None:
    if arm.rate_of is None or not study.is_whole:
        return
    candidates = [study.arms[candidate] for candidate in study.candidates(name)]
    if not candidates or not study.tuning_seeds:
        problem = f"arms.{name}.rate_of: needs 'tuning_seeds', and arms with 'tuning' called {arm.rate_of!r}"
        raise Mistake(problem, "add them, or set 'rate' and remove 'rate_of'")
    own = {"rate", "rate_of", "tuning", "samplers", "snapshots"}
    if any(candidate.model_dump(exclude=own) != arm.model_dump(exclude=own) for candidate in candidates):
        raise Mistake(f"arms.{name}.rate_of: candidates may differ in 'rate' alone", "make the others equal")


def _check_teacher(study: "Study", name: str, arm: Arm) -> None:
    key = f"arms.{name}.teacher"
    if arm.teacher is None:
        return
    if isinstance(arm.teacher, ConvertedTeacher):
        _check_converted(study, name, arm, arm.teacher)
        return
    if arm.teacher == "exact":
        if isinstance(study.data[arm.data], DigitsData | ImagesData | LatentsData):
            raise Mistake(f"{key}: only a mixture has an exact velocity, {arm.data!r} has none", "name a diffusion arm")
        if arm.guidance_max:
            raise Mistake(f"{key}: the exact velocity has no labels to be guided by", "remove 'guidance_max'")
        return
    teacher = study.arms.get(arm.teacher)
    if teacher is None:
        raise Mistake(f"{key}: there is no arm {arm.teacher!r}", f"name 'exact', or one of: {', '.join(study.arms)}")
    if teacher.objective != "diffusion" or teacher.data != arm.data:
        raise Mistake(f"{key}: {arm.teacher!r} must be a diffusion arm on data {arm.data!r}", "name such an arm")
    if arm.start == "teacher" and teacher.size in study.sizes and not _alike(study, teacher.size, arm.size):
        raise Mistake(f"arms.{name}.start: the teacher's size {teacher.size!r} is not {arm.size!r}", "start: random")
    if arm.guidance_max and not teacher.label_dropout:
        raise Mistake(f"{key}: {arm.teacher!r} cannot guide itself", "give it 'label_dropout'")


def _check_converted(study: "Study", name: str, arm: Arm, teacher: ConvertedTeacher) -> None:
    def refuse(problem: str, remedy: str, key: str = "teacher.file") -> NoReturn:
        raise Mistake(f"arms.{name}.{key}: {problem}", remedy)

    path = Path(teacher.file)
    if isinstance(study.data[arm.data], LatentsData):
        problem = f"the latents of data {arm.data!r} are normalised as in arXiv 2410.11081, App. G, and EDM2's are not"
        refuse(problem, "let a diffusion arm on these data teach")
    if study.sigma_d != SIGMA_D:
        problem = f"networks of EDM and EDM2 are of data with a standard deviation of {SIGMA_D}, not {study.sigma_d}"
        refuse(problem, f"set sigma_d: {SIGMA_D}, or let a diffusion arm teach")
    convert = "make it by `python -m trigbench.workflow.steps.convert` (docs/teachers.md)"
    try:
        found = header_of(path)
    except OSError as error:
        start = "a path starts where the workflow is started"
        refuse(f"cannot read {path}: {error.strerror or error}", f"{convert}; {start}")
    except ValueError as error:
        refuse(f"{path} is no network of EDM or EDM2: {error}", convert)
    shape, classes = known_shape(study.data[arm.data])
    if shape is not None and shape != found.shape:
        problem = f"{path} is a network of {found.shape}, data {arm.data!r} are of {shape}"
        refuse(problem, "name a network of the data's channels and pixels")
    if classes is not None and classes != found.classes:
        problem = f"{path} is told {found.classes} classes, networks on data {arm.data!r} {classes}"
        refuse(problem, "name a network of as many classes, or let the data be unconditional (or not)")
    if arm.guidance_max:
        problem = f"{path} is not known to have a branch without labels, by which to guide it"
        refuse(problem, "remove it, or let an arm with 'label_dropout' teach", "guidance_max")
    if arm.start == "teacher" and study.sizes[arm.size].network != found.network:
        problem = f"{path} is of {found.network}, size {arm.size!r} of {study.sizes[arm.size].network or 'an MLP'}"
        refuse(problem, f"let the size be 'network: {found.network}' with its settings, or remove it", "start")


def known_shape(data: Data) -> tuple[tuple[int, ...] | None, int | None]:
    """(shape, classes that networks are told) of data that need not be there; None for what they alone know."""
    if isinstance(data, MixtureData):
        return (data.dimension,), 0
    if isinstance(data, DigitsData):
        return (1, 8, 8), 10
    if isinstance(data, ImagesData):
        return (3, data.size, data.size), data.classes if data.labels and data.conditional else 0
    if isinstance(data, LatentsData):
        return (LATENT_CHANNELS, data.size // PIXELS_A_LATENT, data.size // PIXELS_A_LATENT), data.classes
    return None, None


def _alike(study: "Study", size: str, other: str) -> bool:
    """Whether a network of one size can start from the weights of the other: they may differ in dropout."""

    def without_dropout(settings: Size) -> Size:
        kept = {key: value for key, value in settings.settings.items() if key != "dropout"}
        return settings.model_copy(update={"settings": kept})

    one, two = (without_dropout(study.sizes[name]) for name in (size, other))
    return one == two
