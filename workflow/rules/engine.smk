# What the engine is told that no profile can say.

from snakemake.settings.types import MaxJobsPerTimespan

# Snakemake's default limit of 100 jobs a second sets a timer each time jobs are looked through, whose end makes them
# be looked through again: the timers add up, and after some hundred jobs they cost half a core. A limit
# that somebody asks for stays.
_limit = getattr(workflow.scheduling_settings, "max_jobs_per_timespan", None)
if _limit is not None and vars(_limit) == vars(MaxJobsPerTimespan.parse_choice("100/1s")):
    workflow.scheduling_settings.max_jobs_per_timespan = None
