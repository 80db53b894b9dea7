"""What must hold of an arm that is guided: of the scales that it is sampled at, and of what guides its teacher."""

from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.schema import Arm
from trigbench.workflow.study.study import Study


def check_scales(key: str, sampler: str, scales: tuple[float, ...] | None, arm: Arm) -> None:
    """Raise Mistake where a sampler's scales are not those of the arm; `key` is the arm's `samplers`."""
    if scales and arm.guidance_max and max(scales) > arm.guidance_max:
        problem = f"{key}: {sampler!r} guides beyond the arm's 'guidance_max', {arm.guidance_max:g}"
        raise Mistake(problem, "lower its 'guidance', or raise 'guidance_max'")
    if scales and not (arm.guidance_max or (arm.label_dropout and arm.method.sampler == "heun")):
        lacks = "'label_dropout'" if arm.method.sampler == "heun" else "'guidance_max'"
        raise Mistake(f"{key}: {sampler!r} is guided, and the arm is not", f"give the arm {lacks}")
    if arm.guidance_max and not scales:
        raise Mistake(f"{key}: the arm is told its guidance scale", f"give {sampler!r} its 'guidance'")


def check_weak_teacher(study: Study, name: str, arm: Arm) -> None:
    """Raise Mistake unless it is a diffusion model of the same data, and another than the teacher, with which it is
    mixed at the scales that the arm is told."""
    if arm.weak_teacher is None:
        return
    key, said, weak = f"arms.{name}.weak_teacher", repr(arm.weak_teacher), study.arms.get(arm.weak_teacher)
    if weak is None:
        raise Mistake(f"{key}: there is no arm {said}", f"name one of: {', '.join(study.arms)}")
    if weak.objective != "diffusion" or weak.data != arm.data:
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
