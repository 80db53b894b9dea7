# Runs: an arm with a seed is trained, sampled and judged in one job, and once.


rule run:
    message: "{wildcards.label}: {wildcards.arm}, seed {wildcards.seed}"
    input:
        unpack(run_inputs),
    output:  # alone: weights and samples beside it, which no failed job may cost, are gone on with (run/make.py)
        metrics=ensure(str(RUN.metrics), non_empty=True),
    log:
        str(RUN.printed),
    params:
        # specification and mathematics: the plan makes the run again when either changes
        fingerprint=lambda wc: fingerprint(study_of(wc).specification(run_of(wc))),
        where=where,
    priority: urgency
    resources:
        study=select_study,
        gpu=(lambda wc: study_of(wc).resources.gpu) if GPUS else 0,
        gpu_model=(lambda wc: study_of(wc).resources.gpu_model) if GPUS else None,
        mem_mb=lambda wc, attempt: SITE.mem_mb(asked(wc, attempt).mem_mb),
        runtime=lambda wc, attempt: SITE.runtime(asked(wc, attempt).runtime),
    threads: cores_of if GPUS else 1
    group:
        group_of if SITE.runs_per_job > 1 else None
    shell:  # exec: a signal of the scheduler reaches the run itself, which then writes a checkpoint
        "exec python -m trigbench.workflow.steps.run {resources.study} --arm {wildcards.arm} --seed {wildcards.seed}"
        " --fingerprint {params.fingerprint} {params.where} > {log} 2>&1"
