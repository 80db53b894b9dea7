# Results: tables and figures of each experiment, the study's tables, and its pages.


rule measure:
    message: "measuring what {wildcards.label}/{wildcards.experiment} asks for beside its runs"
    input:
        records_of,
        data_of,
    output:
        "results/{label}/measurements/{experiment}.json",
    log:
        "results/{label}/logs/measurements/{experiment}.log",
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
        runs="results/{label}/experiments/{experiment}/runs.csv",
        curves="results/{label}/experiments/{experiment}/curves.csv",
        table=report(
            "results/{label}/experiments/{experiment}/table.csv",
            caption="../report/captions/table.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "table", "format": "csv"},
        ),
        svg=report(
            "results/{label}/experiments/{experiment}/figure.svg",
            caption="../report/captions/figure.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "figure", "format": "svg"},
        ),
        png=report(
            "results/{label}/experiments/{experiment}/figure.png",
            caption="../report/captions/figure.rst",
            category="{label}",
            subcategory="{experiment}",
            labels={"kind": "figure", "format": "png"},
        ),
        finding="results/{label}/experiments/{experiment}/finding.json",
    log:
        "results/{label}/logs/experiments/{experiment}.log",
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
        lambda wc: paths(study_of(wc).experiment_folder(e) / "runs.csv" for e in study_of(wc).experiments),
    output:
        "results/{label}/runs.csv",
        "results/{label}/curves.csv",
        "results/{label}/provenance.json",
        "results/{label}/claims.csv",
        "results/{label}/claims.json",
        "results/{label}/redrawn.csv",
    log:
        "results/{label}/logs/collect.log",
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
        "results/{label}/provenance.json",
        "results/{label}/claims.csv",
        "results/{label}/claims.json",
        lambda wc: paths(study_of(wc).experiment_folder(e) / "finding.json" for e in study_of(wc).experiments),
    output:
        "reports/{label}.html",
    log:
        "results/{label}/logs/report.log",
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.report {resources.study} > {log} 2>&1"


rule simulate:
    message: "how often verdicts are false, by simulation"
    output:
        "results/simulations.json",
    log:
        "results/simulations.log",
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
        "reports/index.html",
    log:
        "results/index.log",
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.report --index > {log} 2>&1"
