# What the engine is told that no profile can say.


def lift_default_limit():
    """Lift Snakemake's default limit of 100 jobs a second; one that somebody asks for stays.

    While there is one, every look at the ready jobs sets a timer whose end is another look. They add
    up: after some hundred jobs the looking costs as much as half a core, beside the runs.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def refuse_a_second_submission():
    """Stop before the first job where jobs of a workflow that was killed are still in Slurm's queue."""
    submits = workflow.executor_plugin is not None and workflow.executor_plugin.name == "slurm"
    try:
        refuse_orphans(Path.cwd(), submits)
    except BenchError as error:
        raise WorkflowError(str(error)) from None
