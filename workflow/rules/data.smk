# Data sets: arrays, a feature extractor where one is needed, and the floors of every metric.


rule prepare:
    message: "preparing {wildcards.data} of {wildcards.label}"
    output:
        arrays=str(MADE.arrays("{data}")),
        facts=str(MADE.facts("{data}")),
    log:
        str(MADE.log("prepare/{data}")),
    params:
        fingerprint=lambda wc: data_fingerprint(study_of(wc).data_specification(wc.data)),
    priority: urgency
    resources:
        study=select_study,
        gpu=lambda wc: 0 if small_data(wc) else min(1, study_of(wc).resources.gpu),
        mem_mb=lambda wc, attempt: SITE.mem_mb(1000 if small_data(wc) else attempt * 16000),
        runtime=lambda wc: SITE.runtime(10 if small_data(wc) else 24 * 60),
    threads: lambda wc: 1 if small_data(wc) else DECODING
    shell:
        "python -m trigbench.workflow.steps.prepare {resources.study} --data {wildcards.data} > {log} 2>&1"
