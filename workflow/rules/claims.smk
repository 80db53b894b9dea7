# Claims: all of them by a study's tables, and one of them by its experiment's tables alone.


rule judge:
    message: "claims of {wildcards.label}"
    input:
        "results/{label}/runs.csv",
        "results/{label}/curves.csv",
        "results/{label}/provenance.json",
    output:
        "results/{label}/claims.csv",
        "results/{label}/claims.json",
    log:
        "results/{label}/logs/judge.log",
    params:
        ledger=ledger_digest(LEDGER),
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m workflow.steps.judge {resources.study} > {log} 2>&1"


rule claim:
    message: "claim {wildcards.claim} on {wildcards.label}"
    input:
        tables_of_claim,
    output:
        "results/{label}/claims/{claim}.json",
    log:
        "results/{label}/logs/claims/{claim}.log",
    params:
        ledger=ledger_digest(LEDGER),
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m workflow.steps.judge {resources.study} --claim {wildcards.claim} 2>&1 | tee {log}"


# claims/<id>: the studies that decide it, or, where none does, what says so
for name, claim in LEDGER.claims.items():

    rule:
        name: f"claims/{name}"
        input:
            paths(verdict_file(study, name) for study in deciding_studies(claim)),
