"""What must hold of an arm that is guided: of what guides it, and of the scales that it is sampled at."""

from trigbench.core.solvers import of_velocities
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study

OF_ITSELF = ("omega", "kappa")
"""Settings of a student that is guided by itself while it is trained, at one scale."""
ROUNDED = 1e-9
"""By less than this a scale is above 1 by rounding alone, as 0.1 / (1 - 0.9) is."""


def check_scales(key: str, sampler: str, scales: tuple[float, ...] | None, arm: Arm) -> None:
    """Raise Mistake where a sampler has scales and the arm is told none, or the other way round; `key` is the arm's
    `samplers`."""
    if scales and any(name in arm.settings for name in OF_ITSELF):
        problem = f"{key}: {sampler!r} guides, and the arm is guided while it is trained: it would be guided twice"
        raise Mistake(problem, "name a sampler without 'guidance': its samples are guided as they are")
    velocity = arm.method.sampler == of_velocities()
    if scales and not (arm.guidance_max or (arm.label_dropout and velocity)):
        lacks = "'label_dropout'" if velocity else "'guidance_max'"
        raise Mistake(f"{key}: {sampler!r} is guided, and the arm is not", f"give the arm {lacks}")
    if arm.guidance_max and not scales:
        raise Mistake(f"{key}: the arm is told its guidance scale", f"give {sampler!r} its 'guidance'")


def check_guidance(study: Study, name: str, arm: Arm) -> None:
    """Raise Mistake where what guides an arm, or its teacher, cannot."""
    _check_weak_teacher(study, name, arm)
    _check_stage(study, name, arm)
    if not arm.method.own and not arm.method.teacher and arm.method.two_times:
        _check_of_itself(name, arm)


def _check_weak_teacher(study: Study, name: str, arm: Arm) -> None:
    """It is a diffusion model of the same data, and another than the teacher, with which it is mixed at the scales that
    the arm is told."""
    if arm.weak_teacher is None:
        return
    key, said, weak = f"arms.{name}.weak_teacher", repr(arm.weak_teacher), study.arms.get(arm.weak_teacher)
    if weak is None:
        raise Mistake(f"{key}: there is no arm {said}", f"name one of: {', '.join(study.arms)}")
    if not weak.method.teaches or weak.data != arm.data:
        problem = f"{key}: {said} must be a diffusion arm on data {arm.data!r}, to be mixed with the teacher"
        raise Mistake(problem, "name such an arm, smaller or trained for less than the teacher")
    if arm.teacher is None:
        raise Mistake(f"{key}: it guides a teacher, and the arm has none", "add 'teacher', or remove it")
    if arm.weak_teacher == arm.teacher:
        problem = f"{key}: {said} is the teacher itself, and guided by itself it is what it was"
        raise Mistake(problem, "name a smaller arm, or one that is trained for less")
    if arm.guidance_max is None:
        problem = f"{key}: the teacher is guided by it at the scales of 'guidance_max', and the arm has none"
        raise Mistake(problem, "add it, as guidance_max: 3, or remove 'weak_teacher'")


def _check_stage(study: Study, name: str, arm: Arm) -> None:
    """A stage whose teacher is the one before is told the scales that this was told, and no others."""
    before = study.arms.get(str(arm.teacher))
    if before is None or not (arm.method.halves and before.objective == arm.objective):
        return
    key, own, its = f"arms.{name}.guidance_max", arm.guidance_max, before.guidance_max
    if its is not None and own is None:
        problem = f"{key}: its teacher {arm.teacher!r} is told its guidance scale, and this arm has none to tell it"
        raise Mistake(problem, f"add it, as guidance_max: {its:g}")
    if own is not None and (its is None or own > its):
        learned = "is told no scale" if its is None else f"is told scales to {its:g}"
        remedy = f"give {arm.teacher!r} its 'guidance_max', too" if its is None else f"write {its:g} or less"
        raise Mistake(f"{key}: its teacher {arm.teacher!r} {learned}, and this arm is to {own:g}", remedy)


def _check_of_itself(name: str, arm: Arm) -> None:
    """Of a method without a teacher: what guides it is itself, where it is told no label."""
    one = [key for key in OF_ITSELF if key in arm.settings]
    said = [*one, *(["guidance_max"] if arm.guidance_max else [])]
    between = [key for key in ("guided_from", "guided_to") if key in arm.settings]
    if said and arm.label_dropout is None:
        problem = f"arms.{name}.{said[0]}: it is guided by what it is without a label, which it does not learn"
        raise Mistake(problem, "add label_dropout: 0.1, on labelled data")
    for key in (between or (["label_dropout"] if arm.label_dropout else [])) if not said else []:
        takes = " or ".join(key for key in (*OF_ITSELF, "guidance_max") if key in arm.method.accepted)
        raise Mistake(f"arms.{name}.{key}: it is of guidance, and the arm has none", f"add {takes}, or remove it")
    low, high = arm.settings.get("guided_from", 0.0), arm.settings.get("guided_to", 1.0)
    if low >= high:
        raise Mistake(
            f"arms.{name}.guided_from: {low:g} is not below {high:g}", "write flow times from 0 to 1 in order"
        )
    omega, kappa = arm.settings.get("omega", 1.0), arm.settings.get("kappa", 0.0)
    if one and (scale := omega / (1 - kappa)) < 1 + ROUNDED:
        about = f"omega {omega:g} and kappa {kappa:g} are the scale omega / (1 - kappa) = {scale:g}"
        raise Mistake(f"arms.{name}.{one[0]}: {about}, which does not guide", "write a scale above 1, or remove both")
