# What the engine is told that no profile can say.

import atexit
import contextlib
import functools
import gc
import time

import snakemake.common
import snakemake.jobs
import snakemake.rules

from trigbench.workflow.machine import warm
from trigbench.workflow.machine.engine import most_urgent, said_of, strange_insides

STRANGE = strange_insides()

def plan_faster():
    """Spare a plan of thousands of jobs two things that take much of its time.

    The collector of cycles looks through all jobs and modules again and again, and hardly any can be freed.
    Snakemake asks for the parameters of the same few functions thirty times a job.
    """
    gc.freeze()
    gc.set_threshold(1_000_000)
    found = functools.cache(snakemake.common.get_function_params)

    def parameters(function):
        return found(getattr(function, "__func__", function))  # a bound method may not be hashable

    snakemake.common.get_function_params = snakemake.rules.get_function_params = parameters


def try_again_only_what_may_end_otherwise():
    """No second try for a job whose log ends in an error that would come again; deaths, hangs and limits have theirs."""
    tries, started = snakemake.jobs.Job.restart_times.fget, time.time()
    snakemake.jobs.Job.restart_times = property(
        lambda job: 0 if any(is_final(Path(str(log)), started) for log in job.log) else tries(job)
    )


if STRANGE:
    logger.warning(said_of(STRANGE))
else:
    plan_faster()
    try_again_only_what_may_end_otherwise()


def is_here():
    """Whether jobs run on this machine."""
    return workflow.executor_plugin is None or workflow.executor_plugin.name == "local"


def start_warm():
    """Let runs on this machine be forked by a process that has imported what they need; it ends with this one."""
    elsewhere = not is_here() or workflow.remote_exec or workflow.deployment_settings.deployment_method
    if elsewhere or not warm.possible():
        return
    preload, started = ["trigbench.workflow.steps.run", "trigbench.workflow.run.job:get_ready"], contextlib.ExitStack()
    try:
        folder = started.enter_context(warm.serving(preload))
    except OSError as error:  # no room for it, say
        logger.info(f"runs start cold: {error}")
        return
    atexit.register(started.close)
    warm.put_first(folder)


def lift_default_limit():
    """Lift Snakemake's default limit of 100 jobs a second on this machine; one that somebody asks for stays.

    While there is one, every look at the ready jobs sets a timer whose end is another look. They add
    up: after some hundred jobs the looking costs as much as half a core, beside the runs.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if is_here() and limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def weigh_the_most_urgent():
    """Of many ready jobs Snakemake weighs some, which it draws by lot (`scheduler-subsample`): take those with the
    greatest priority, or a finished study waits for its report."""
    if STRANGE:  # what is asked for below may be what is gone
        return
    scheduler = workflow.scheduler
    most, select = getattr(scheduler, "subsample", None), scheduler.job_selector
    if most:
        scheduler.subsample = None
        scheduler.job_selector = lambda jobs: select(most_urgent(jobs, most))


def refuse_a_second_submission():
    """Stop before the first job where jobs of a workflow that was killed are still in Slurm's queue."""
    submits = workflow.executor_plugin is not None and workflow.executor_plugin.name == "slurm"
    try:
        refuse_orphans(Path.cwd(), submits)
    except BenchError as error:
        refuse(error)
