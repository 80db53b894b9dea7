# Targets by name: every study, and every experiment of it.


localrules:
    all,


for label, study in STUDIES.items():

    rule:
        name: label
        input:
            str(study.report),

    for experiment in study.experiments:

        rule:
            name: f"{label}/{experiment}"
            input:
                str(study.experiment_folder(experiment) / "finding.json"),
                str(study.experiment_folder(experiment) / "table.csv"),
