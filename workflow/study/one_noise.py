"""What a study's report leads with: arms whose samples from one noise stand side by side."""

import fnmatch

from trigbench.workflow.study.study import Run, Study


def one_noise_arms(study: Study) -> list[str]:
    """The arms that it draws, in the study's order of them."""
    reported = [name for name, arm in study.arms.items() if not arm.tuning]
    return list(dict.fromkeys(arm for pattern in study.one_noise for arm in fnmatch.filter(reported, pattern)))


def one_noise_runs(study: Study) -> list[Run]:
    """Their runs, teachers first: of the study's first seed, where it makes them."""
    wanted = [Run(arm=arm, seed=study.seeds[0]) for arm in one_noise_arms(study)]
    teachers = [teacher for run in wanted if (teacher := study.teacher_run(run)) is not None]
    made = set(study.runs()) if wanted else set()
    return [run for run in dict.fromkeys([*teachers, *wanted]) if run in made]
