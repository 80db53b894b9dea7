# One claim by its experiment's tables alone; rule `collect` judges all of them.


rule claim:
    message: "claim {wildcards.claim} on {wildcards.label}"
    input:
        tables_of_claim,
    output:
        str(MADE.verdict("{claim}")),
    log:
        str(MADE.log("claims/{claim}")),
    params:
        claims=claims_mark,
    priority: urgency
    resources:
        study=select_study,
    threads: 1
    shell:
        "python -m trigbench.workflow.steps.verdicts {resources.study} --claim {wildcards.claim} 2>&1 | tee {log}"


# claims/<id>: the studies that decide it, or, where none does, what says so
for name, claim in ALL_CLAIMS.items():

    rule:
        name: f"claims/{name}"
        input:
            paths(study.made.verdict(name) for study in deciding_studies(claim)),
