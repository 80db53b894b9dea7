# Targets by name: every study, and every experiment of it.


# what takes seconds is made where snakemake runs, also when the rest is sent to a cluster
localrules:
    all,
    claim,
    collect,
    experiment,
    index,
    page,
    simulate,


for label, study in STUDIES.items():

    rule:
        name: label
        input:
            str(study.report),

    for experiment in study.experiments:

        rule:
            name: f"{label}/{experiment}"
            input:
                str(study.made.experiment(experiment).finding),
                str(study.made.experiment(experiment).table),
