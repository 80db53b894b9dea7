"""The workflow: which studies, and what of them is asked for. See workflow/rules for how it is made.

snakemake                      everything, on all cores that it may use
snakemake oracle               one study; those without `by_default` are made when they are named
snakemake oracle/dimension     one experiment of it
snakemake claims/two-steps-beat-one-scd    what one claim needs, and its verdict
snakemake --config study=path/to/my.yaml
snakemake --config budget=smoke
"""

from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"
include: "workflow/rules/engine.smk"


report: "workflow/report/captions/workflow.rst"


wildcard_constraints:
    label="|".join(map(re.escape, STUDIES)),
    seed=r"\d+",
    arm=r"[^/]+",
    data=r"[^/]+",
    experiment=r"[^/]+",
    claim=r"[^/]+",


rule all:
    input:
        str(FRONT),


include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/freshness.smk"


onstart:
    needed = list(workflow.dag.needrun_jobs())
    refuse_a_second_submission()
    check_places(needed)
    lift_default_limit()
    weigh_the_most_urgent()
    runs = [Path(str(job.output.metrics)) for job in needed if job.rule.name == "run"]
    if runs:
        start_warm()
    watch(runs)
