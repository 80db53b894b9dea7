"""What must hold of an arm beside what its own keys say: of its samplers, its grid, its rate and its teacher."""

import math
from pathlib import Path
from typing import NoReturn

from trigbench._places import to_step
from trigbench.core.constants import PROPOSAL_MEAN, PROPOSAL_STD, SIGMA_MAX, SIGMA_MIN
from trigbench.core.map_samplers import MAP_SAMPLERS, usual, whole_of
from trigbench.core.networks.families import DDPMPP, PUBLISHED, NoVelocity
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.converted import header_of
from trigbench.workflow.study.guided import check_guidance, check_scales
from trigbench.workflow.study.kinds import data_kind, known_of
from trigbench.workflow.study.metrics import check_quantity
from trigbench.workflow.study.models import check_known
from trigbench.workflow.study.schema import Arm, ConvertedTeacher, Size
from trigbench.workflow.study.study import Study

HALVINGS = 7
"""Of `shortcut` unless told: core.objectives.shortcut's own default, without torch."""


LARGEST_LOG = 85.0
"""e to it is about the largest number of float32."""
LEAST_SHARE = 1e-9
"""Of a proposal, on the grid whose intervals it draws: of less, float64 tells too few parts apart."""
MOST_INTERVALS = 2**20
"""Of a grid, which every process holds."""


def check_arm(study: Study, name: str, arm: Arm) -> None:
    """Raise Mistake for the first that does not hold."""
    check_known(f"arms.{name}.data", arm.data, study.data)
    check_known(f"arms.{name}.size", arm.size, study.sizes)
    data = study.data[arm.data]
    if arm.label_dropout and known_of(data).classes == 0:
        raise Mistake(f"arms.{name}.label_dropout: data {arm.data!r} have no labels to withhold", "remove it")
    if study.is_whole and arm.snapshots is not None and arm.snapshots > arm.iterations:
        problem = f"arms.{name}.snapshots: {arm.snapshots} are more than its {arm.iterations} steps"
        raise Mistake(problem, f"write {arm.iterations} or fewer, or train longer")
    data_kind(data).check_arm(data, name, arm)
    _check_teacher(study, name, arm)
    check_guidance(study, name, arm)
    _check_start(study, name, arm)
    _check_samplers(study, name, arm)
    _check_rate(study, name, arm)
    _check_points(name, arm)
    _check_edges(name, arm)
    _check_two_angles(name, arm)
    _check_proposal(name, arm)
    _check_stages(name, arm)
    _check_group(name, arm)
    _check_precision(study, name, arm)


def _check_precision(study: Study, name: str, arm: Arm) -> None:
    """Torch's own forward mode leaves the tangent of DDPM++'s normalisations in float32, which its convolutions refuse
    in less."""
    half = (arm.tangent_precision or arm.precision) != "fp32"
    own = arm.method.forward_mode or arm.tangent_method in ("func", "two_pass")
    if half and own and study.sizes[arm.size].network == DDPMPP:
        problem = f"arms.{name}.precision: torch's own forward mode cannot take DDPM++ in {arm.precision}"
        takes = "remove 'tangent_method', or write tangent_precision: fp32"
        raise Mistake(problem, "write fp32, or name another network" if arm.method.forward_mode else takes)


def _check_samplers(study: Study, name: str, arm: Arm) -> None:
    key = f"arms.{name}.samplers"
    for sampler in arm.samplers:
        check_known(key, sampler, study.all_samplers)
    if len(set(arm.samplers)) != len(arm.samplers):
        raise Mistake(f"{key}: each sampler may stand once", "take the repeated one out")
    for sampler in study.samplers_of(name):
        settings = study.all_samplers[sampler]
        for metric in settings.metrics or ():
            check_quantity(f"samplers.{sampler}.metrics", metric, [study.data[arm.data]])
        if settings.guidance and arm.guidance_max and max(settings.guidance) > arm.guidance_max:
            problem = f"{key}: {sampler!r} guides beyond the arm's 'guidance_max', {arm.guidance_max:g}"
            raise Mistake(problem, "lower its 'guidance', or raise 'guidance_max'")
        allowed = _ways_of(arm)
        if settings.solver not in allowed:
            problem = f"{key}: {sampler!r} does not sample objective {arm.objective!r}"
            problem += " with 'segments'" if arm.method.own and arm.segments else ""
            raise Mistake(problem, f"name a sampler whose solver is {' or '.join(allowed)}")
        if settings.solver in SOLVERS and SOLVERS[settings.solver].own_steps:
            _check_own_steps(f"samplers.{sampler}.evaluations", name, arm, settings.evaluations)
        if (own := MAP_SAMPLERS.get(arm.method.sampler)) and own.finest:
            _check_halves(f"samplers.{sampler}.evaluations", name, arm, settings.evaluations or ())
        check_scales(key, sampler, settings.guidance, arm)
        lowest, highest = (math.atan(level / study.sigma_d) for level in (SIGMA_MIN, SIGMA_MAX))
        lowest = lowest if arm.method.boundary else 0.0
        for time in (time for times in settings.times or () for time in times):
            if not lowest <= time < highest:
                where = f"is not between arms.{name}'s last angle {lowest:.4g} and its first, {highest:.4g}"
                raise Mistake(f"samplers.{sampler}.times: {time:g} {where}", "choose a time between them")


def _ways_of(arm: Arm) -> tuple[str, ...]:
    """The solvers that can sample it, its own among them."""
    own = whole_of(arm.method.sampler)  # the same map, at its start alone
    if arm.method.halves:
        return (own,)
    if own in SOLVERS:
        return tuple(SOLVERS)
    if own == usual() and arm.method.two_times:
        own = usual(two_times=True)
    return (own, *(name for name, way in MAP_SAMPLERS.items() if own in way.others))


def _check_own_steps(key: str, name: str, arm: Arm, evaluations: tuple[int, ...] | None) -> None:
    """A student of so many steps is sampled in these; a diffusion arm, in those that are said."""
    if evaluations is None and arm.segments is None:
        raise Mistake(f"{key}: arms.{name} has no number of steps of its own", "add it: [8] are eight steps")
    if arm.method.halves and evaluations not in (None, (arm.segments,)):
        problem = f"{key}: arms.{name} is trained for {arm.segments} steps, not for {list(evaluations or ())}"
        raise Mistake(problem, "remove it, or give the arm another sampler")


def _check_halves(key: str, name: str, arm: Arm, evaluations: tuple[int, ...]) -> None:
    """Its maps are of lengths that it was trained for."""
    finest = 2 ** arm.settings.get("halvings", HALVINGS)
    if evaluations and max(evaluations) > finest:
        problem = f"{key}: arms.{name} is trained in {finest} steps at most, not in {max(evaluations)}"
        raise Mistake(problem, f"write {finest} or fewer, or give the arm more 'halvings'")


def _check_points(name: str, arm: Arm) -> None:
    curriculum = arm.method.points
    for key, most in (("intervals", arm.intervals), ("segments", arm.segments), ("points", max(arm.points or (0,)))):
        if (most or 0) > MOST_INTERVALS:
            raise Mistake(f"arms.{name}.{key}: a grid of {most} does not fit into memory", "write fewer")
    if arm.points is None or curriculum is None:
        return
    (first, last), fewest = arm.points, curriculum.fewest
    if not fewest <= first <= last:
        problem = f"arms.{name}.points: {arm.objective} cannot grow from {first} to {last} points"
        raise Mistake(problem, f"write [s0, s1] with {fewest} <= s0 <= s1")
    levels = int(math.log2(last // first)) + 1
    if curriculum.doubles and arm.iterations < levels:
        problem = f"{arm.iterations} are fewer than the {levels} levels from {first} to {last} of 'points'"
        raise Mistake(f"arms.{name}.iterations: {problem}", "train longer, or grow to fewer points")


def _check_edges(name: str, arm: Arm) -> None:
    """Segments begin and end at points of the grid, or maps are sampled that are never trained."""
    if arm.method.own or arm.intervals is None or arm.segments in (None, 1):
        return
    if arm.grid == "uniform" and arm.intervals % arm.segments == 0:
        return
    problem = f"the {arm.grid} grid of {arm.intervals} has no point at the ends of {arm.segments} segments"
    next_one = -(-arm.intervals // arm.segments) * arm.segments
    remedy = f"set grid: uniform and a multiple of the segments, as intervals: {next_one}, or remove 'intervals'"
    raise Mistake(f"arms.{name}.intervals: {problem}, so their maps would not be trained", remedy)


def _check_two_angles(name: str, arm: Arm) -> None:
    """Of a method that leaves its law to the arm (core.two_angles)."""
    if arm.settings.get("law") == "edges" and arm.segments is None:
        problem = f"arms.{name}.law: 'edges' are those of segments, and the arm has none"
        raise Mistake(problem, "add them, as segments: 4, or choose another law")
    shares = [arm.settings.get(key, 0.0) for key in ("share_same", "share_zero")]
    if sum(shares) > 1:
        problem = f"arms.{name}.share_same: {shares[0]:g} and the {shares[1]:g} of 'share_zero' are more than all"
        raise Mistake(problem, "write two shares that are 1 at most together")


def _check_proposal(name: str, arm: Arm) -> None:
    """It draws noise levels, or of a grid the intervals, most of which it must reach to be computed with."""
    key, mean, std = f"arms.{name}.proposal_mean", arm.proposal_mean, arm.proposal_std
    drawn = f"ln sigma ~ N({mean:g}, {std:g}^2)"
    if abs(mean) + 5 * std > LARGEST_LOG:
        problem = f"{key}: {drawn} draws noise levels that float32 does not hold"
        raise Mistake(problem, f"write numbers about those of the papers, {PROPOSAL_MEAN:g} and {PROPOSAL_STD:g}")
    of_points = arm.points is not None and arm.method.points is not None
    if arm.method.own or arm.method.even or not (of_points or arm.intervals):
        return
    ends = math.log(SIGMA_MIN) if of_points else -math.inf, math.log(SIGMA_MAX)
    below, above = (math.erfc((mean - end) / (std * math.sqrt(2))) / 2 for end in ends)
    if above - below < LEAST_SHARE:
        problem = f"{key}: {drawn} draws no noise level from {SIGMA_MIN if of_points else 0:g} to {SIGMA_MAX:g}"
        raise Mistake(problem, f"name the logarithm of one of them, as {PROPOSAL_MEAN:g}")


def _check_stages(name: str, arm: Arm) -> None:
    """A curriculum that would break off before its end, or not end."""
    fewest = arm.method.stages
    if arm.stages is None:
        return
    if "intervals" in arm.method.accepts and arm.intervals is None and 2**arm.stages > MOST_INTERVALS:
        problem = f"arms.{name}.stages: a grid that doubles in each of {arm.stages} does not fit into memory"
        raise Mistake(problem, "write 10 or fewer, or give it 'intervals', which stay the same")
    if fewest == 1:
        return
    if arm.stages < fewest:
        problem = f"arms.{name}.stages: {arm.objective} does not come to its end in {arm.stages}"
        raise Mistake(problem, f"write {fewest} at least, or remove it")
    if arm.iterations < arm.stages:
        problem = f"arms.{name}.iterations: {arm.iterations} are fewer than the {arm.stages} of 'stages'"
        raise Mistake(problem, "train longer, or in fewer stages")


def _check_group(name: str, arm: Arm) -> None:
    """Rows that are compared with each other stand in one part of the batch."""
    group = arm.method.group
    if group is None:
        return
    count = arm.compared
    for key, rows in (("batch", arm.batch), ("microbatch", arm.microbatch)):
        if rows is not None and rows % count:
            problem = f"arms.{name}.{key}: {rows} rows are no multiple of the {count} {group.setting} that are compared"
            remedy = f"write {max(rows // count, 1) * count}, or other {group.setting!r}"
            raise Mistake(problem, f"{remedy}; each process's share of a batch is such a multiple, too")


def _check_rate(study: Study, name: str, arm: Arm) -> None:
    if arm.rate_steps and arm.rate_of is None:
        raise Mistake(f"arms.{name}.rate_steps: no 'rate_of' that would be rated by it", "add 'rate_of', or remove it")
    if arm.rate_of is None or not study.is_whole:
        return
    candidates = [study.arms[candidate] for candidate in study.candidates(name)]
    if not candidates or not study.tuning_seeds:
        problem = f"arms.{name}.rate_of: needs 'tuning_seeds', and arms with 'tuning' called {arm.rate_of!r}"
        raise Mistake(problem, "add them, or set 'rate' and remove 'rate_of'")
    own = {"rate", "rate_of", "rate_steps", "tuning", "samplers", "snapshots"}
    if any(candidate.model_dump(exclude=own) != arm.model_dump(exclude=own) for candidate in candidates):
        raise Mistake(f"arms.{name}.rate_of: candidates may differ in 'rate' alone", "make the others equal")
    main = study.samplers_of(name)[0]
    for candidate in study.candidates(name):
        if (other := study.samplers_of(candidate)[0]) != main:  # what it is rated by would not be what it is used for
            problem = (
                f"arms.{name}.rate_of: {candidate} is rated by {other!r}, and the arm is sampled by {main!r} first"
            )
            raise Mistake(problem, f"let the 'samplers' of both begin with {main!r}")
    for candidate in study.candidates(name) if arm.rate_steps else ():
        sampled = [way.steps for way in study.main_samplings(candidate)]
        if arm.rate_steps not in sampled:
            problem = f"arms.{name}.rate_steps: {candidate} is not sampled in {arm.rate_steps} steps"
            raise Mistake(problem, f"its main sampler has {', '.join(map(str, dict.fromkeys(sampled)))}")


def _check_teacher(study: Study, name: str, arm: Arm) -> None:
    key = f"arms.{name}.teacher"
    if arm.teacher is None:
        return
    if isinstance(arm.teacher, ConvertedTeacher):
        _check_converted(study, name, arm, arm.teacher)
        return
    if arm.teacher == "exact":
        if not data_kind(study.data[arm.data]).exact:
            raise Mistake(f"{key}: the exact velocity of {arm.data!r} is not known", "name a diffusion arm")
        if arm.guidance_max and not arm.weak_teacher:
            raise Mistake(f"{key}: the exact velocity has no labels to be guided by", "remove 'guidance_max'")
        return
    teacher = study.arms.get(arm.teacher)
    if teacher is None:
        raise Mistake(f"{key}: there is no arm {arm.teacher!r}", f"name 'exact', or one of: {', '.join(study.arms)}")
    halves = arm.method.halves and arm.settings.get("teacher_steps") != 1  # else it is what its teacher is
    stage = halves and teacher.objective == arm.objective
    if not (stage or teacher.method.teaches) or teacher.data != arm.data:
        before = f" or an arm of {arm.objective!r}" if halves else ""
        problem = f"{key}: {arm.teacher!r} must be a diffusion arm{before} on data {arm.data!r}"
        raise Mistake(problem, "name such an arm")
    if stage and teacher.segments != 2 * (arm.segments or 1):
        problem = f"arms.{name}.segments: {arm.segments} are not half of its teacher's, {teacher.segments}"
        raise Mistake(problem, f"a step is two of the teacher's: halve {teacher.segments}, or name another teacher")
    if arm.start == "teacher" and teacher.size in study.sizes and not _alike(study, teacher.size, arm.size):
        raise Mistake(f"arms.{name}.start: the teacher's size {teacher.size!r} is not {arm.size!r}", "start: random")
    if arm.guidance_max and not arm.weak_teacher and not stage and not teacher.label_dropout:
        raise Mistake(f"{key}: {arm.teacher!r} cannot guide itself", "give it 'label_dropout'")


def _check_start(study: Study, name: str, arm: Arm) -> None:
    """Of an arm that starts from another's weights."""
    if arm.starts_from is None:
        return
    key, start = f"arms.{name}.start", study.arms.get(arm.starts_from)
    if start is None:
        known = ", ".join(["random", "teacher", *study.arms])
        raise Mistake(f"{key}: there is no arm {arm.start!r}", f"choose of: {known}")
    if start.tuning or not _data_of_start(study, start, arm):
        problem = "only chooses a rate" if start.tuning else f"is on data {start.data!r}, not {arm.data!r}"
        remedy = "name an arm on data of that shape and classes" if arm.adapter else "name an arm on the same data"
        raise Mistake(f"{key}: {arm.start!r} {problem}", remedy if arm.adapter else f"{remedy}, or set start: random")
    if start.size in study.sizes and not _alike(study, start.size, arm.size):
        problem = f"{key}: {arm.start!r} is of size {start.size!r}, this arm of {arm.size!r}"
        raise Mistake(problem, "give both one size, or set start: random")
    if more := [part for part in start.told if part not in arm.told]:
        problem = f"{key}: the network of {arm.start!r} is told its {' and '.join(more)}, and this arm's is not"
        raise Mistake(problem, "start from an arm that is told no more, or set start: random")


def _data_of_start(study: Study, start: Arm, arm: Arm) -> bool:
    """Whether an arm may start from another's data: they are its own, or of one shape and classes where it is adapted
    to data of another style."""
    if start.data == arm.data or start.data not in study.data:
        return True
    known = [known_of(study.data[data]) for data in (arm.data, start.data)]
    here, there = ((data.shape, data.classes) for data in known)
    return arm.adapter is not None and known[0].shape is not None and here == there


def _check_converted(study: Study, name: str, arm: Arm, teacher: ConvertedTeacher) -> None:
    def refuse(problem: str, remedy: str, key: str = "teacher.file") -> NoReturn:
        raise Mistake(f"arms.{name}.{key}: {problem}", remedy)

    path, family = Path(teacher.file), PUBLISHED[teacher.kind]
    if family.sigma_d not in (None, study.sigma_d):
        problem = f"data of {family.said} have a standard deviation of {family.sigma_d}, not {study.sigma_d}"
        refuse(problem, f"set sigma_d: {family.sigma_d}, or let a diffusion arm teach")
    convert = f"make it by `{to_step('convert')}` (docs/teachers.md)"
    try:
        found = header_of(path)
    except OSError as error:
        remedy = f"{convert}; a path starts where the workflow is started"
        refuse(f"cannot read {path}: {error.strerror or error}", remedy)
    except NoVelocity as error:
        refuse(f"{path} is {error}", "let the diffusion model teach that it came from (--family cm_edm), and judge it")
    except ValueError as error:
        refuse(f"{path} is no network that is known here: {error}", convert)
    if found.kind != teacher.kind:
        refuse(f"{path} is of the kind {found.kind!r}", f"write kind: {found.kind}", "teacher.kind")
    shape, classes = (known := known_of(study.data[arm.data])).shape, known.classes
    if shape is not None and shape != found.shape:
        problem = f"{path} is a network of {found.shape}, data {arm.data!r} are of {shape}"
        refuse(problem, "name a network of the data's channels and pixels")
    if classes is not None and classes != found.classes:
        problem = f"{path} is told {found.classes} classes, networks on data {arm.data!r} {classes}"
        refuse(problem, "name a network of as many classes, or let the data be unconditional (or not)")
    if arm.guidance_max and not arm.weak_teacher:
        problem = f"{path} is not known to have a branch without labels, by which to guide it"
        refuse(problem, "remove it, or let an arm with 'label_dropout' teach", "guidance_max")
    if arm.start == "teacher" and study.sizes[arm.size].network != found.network:
        problem = f"{path} is of {found.network}, size {arm.size!r} of {study.sizes[arm.size].network or 'an MLP'}"
        refuse(problem, f"let the size be 'network: {found.network}' with its settings, or remove it", "start")
    if arm.start == "teacher" and PUBLISHED[found.kind].map and arm.told != ("target_time",):
        problem = f"{path} is a map of two times, and the network of {arm.objective!r} is told another thing than these"
        refuse(problem, "take a method of two times without 'guidance_max', or set start: random", "start")


def _alike(study: Study, size: str, other: str) -> bool:
    """Whether one size can start from the other's weights: they may differ in dropout, and in what is trained."""

    def of_weights(settings: Size) -> Size:
        kept = {key: value for key, value in settings.settings.items() if key not in ("dropout", "trained")}
        return settings.model_copy(update={"settings": kept})

    return of_weights(study.sizes[size]) == of_weights(study.sizes[other])
