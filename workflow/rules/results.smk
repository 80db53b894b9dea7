# Results: tables and figures of each experiment, the study's tables, and its pages.


rule measure:
    message: "measuring what {wildcards.label}/{wildcards.experiment} asks for beside its runs"
    input:
        records_of,
        data_of,
    output:
        str(MADE.measured("{experiment}")),
    log:
        str(MADE.log("measurements/{experiment}")),
    params:
        fingerprint=lambda wc: measurement_mark(study_of(wc), wc.experiment),
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.measure {resources.study} --experiment {wildcards.experiment} > {log} 2>&1"


rule experiment:
    message: "tables and figures of {wildcards.label}/{wildcards.experiment}"
    input:
        records_of,
        measured_of,
    output:
        runs=str(EXPERIMENT.runs),
        curves=str(EXPERIMENT.curves),
        table=report(
            str(EXPERIMENT.table),
            caption="../report/captions/table.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "table", "format": "csv"},
        ),
        svg=report(
            str(forms(EXPERIMENT.figure)[0]),
            caption="../report/captions/figure.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "figure", "format": "svg"},
        ),
        png=report(
            str(forms(EXPERIMENT.figure)[1]),
            caption="../report/captions/figure.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "figure", "format": "png"},
        ),
        finding=str(EXPERIMENT.finding),
    log:
        str(MADE.log("experiments/{experiment}")),
    params:
        experiment=lambda wc: study_of(wc).experiments[wc.experiment].model_dump(mode="json"),
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.experiment {resources.study} --experiment {wildcards.experiment} > {log} 2>&1"


rule collect:
    message: "tables and claims of {wildcards.label}"
    input:
        lambda wc: paths(study_of(wc).made.experiment(e).runs for e in study_of(wc).experiments),
    output:
        paths([MADE.runs, MADE.curves, MADE.origin, MADE.verdicts, MADE.details, MADE.redrawn]),
    log:
        str(MADE.log("collect")),
    params:
        claims=claims_mark,
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.collect {resources.study} > {log} 2>&1"


rule page:
    message: "report of {wildcards.label}"
    input:
        paths([MADE.origin, MADE.verdicts, MADE.details]),
        lambda wc: paths(study_of(wc).made.experiment(e).finding for e in study_of(wc).experiments),
    output:
        str(REPORTS / "{label}.html"),
    log:
        str(MADE.log("report")),
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.report {resources.study} > {log} 2>&1"


rule simulate:
    message: "how often verdicts are false, by simulation"
    output:
        str(SIMULATIONS),
    log:
        str(SIMULATIONS.with_suffix(".log")),
    priority: 1000  # before any run: every report has it
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.simulate > {log} 2>&1"


rule index:
    message: "front page of the reports"
    input:
        paths(study.report for study in CHOSEN.values()),
        # what says how often verdicts are false, where some are said
        paths([SIMULATIONS] if any(claims_of(LEDGER, study) for study in CHOSEN.values()) else []),
    output:
        str(FRONT),
    log:
        str(RESULTS / "index.log"),
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.report --index > {log} 2>&1"
