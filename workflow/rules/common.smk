# What the rules share: the chosen studies, the study and run of a wildcard, how a step is called.

import re
import shlex
import sys
from pathlib import Path

from snakemake.logging import logger

from trigbench.workflow.claims.ledger import all_claims, check_claims, claims_of, read_claims
from trigbench.workflow.study.claim import claims_digest
from trigbench.workflow.errors import BenchError, is_final
from trigbench.workflow.run.own import check_own
from trigbench.workflow.machine.cluster import refuse_orphans, site
from trigbench.workflow.study.fingerprint import data_fingerprint, fingerprint
from trigbench.workflow.machine.files import check_writable
from trigbench.workflow.study.freshness import inputs_of, measurement_mark, weights_stay
from trigbench.workflow.study.kinds import data_kind
from trigbench.workflow.machine.progress import watch
from trigbench.workflow.study.places import FRONT, REPORTS, RESULTS, SIMULATIONS, forms, study_files
from trigbench.workflow.study.reading import budget_said, load, studies_said
from trigbench.workflow.study.shipped import by_default, shipped
from trigbench.workflow.study.study import DEFAULT_BUDGET, Run


CORES_PER_GPU = 4
DECODING = 8  # cores that read images where data are prepared
MADE = study_files("{label}")
RUN, EXPERIMENT = MADE.run("{arm}", "{seed}"), MADE.experiment("{experiment}")


def refuse(error):
    """End with the message alone: around an exception Snakemake puts the place in these rules."""
    logger.error(f"Error: {error}")
    sys.exit(1)


def read_studies(names):
    """The studies of these names or files, by label."""
    studies = {}
    for study in (load(name, BUDGET) for name in names):
        for other in studies.values():  # small and capital letters make no other folder everywhere
            if other.label.lower() == study.label.lower():
                remedy = "give one of them another name"
                problem = f"{other.file} is called {other.study!r} too"
                raise BenchError(problem, file=study.file, key="study", remedy=remedy)
        studies[study.label] = study
    return studies


def names_chosen():
    """What --config or a configfile names, or both studies of the laptop."""
    return studies_said(config.get("study", ",".join(by_default())))


def names_asked():
    """The other shipped studies that a target names, or a job that was sent to a cluster.

    Read off the command line, as Snakemake knows no targets yet while it reads this.
    """
    said = set(re.split(r"[\s/=,:.]", " ".join(sys.argv[1:])))
    chosen = shipped() if "study" in config else names_chosen()
    return [name for name in shipped() if {name, f"{name}-{BUDGET}"} & said and name not in chosen]


def check_targets():
    """Targets are named by a study's label, which says its budget: `fashion-full/pilot`."""
    for before, word in zip(sys.argv, sys.argv[1:]):
        name, slash, rest = word.partition("/")
        study = next((study for study in STUDIES.values() if study.study == name), None)
        if study and name not in STUDIES and (before == "--" or not before.startswith("-")):  # an option's word is none
            remedy = f"name {study.label}{slash}{rest}"
            raise BenchError(f"with the budget {BUDGET} there is no {word}", key=word, remedy=remedy)


try:
    unknown = set(config) - {"study", "budget"}
    if unknown:
        known = "--config takes study=... and budget=..."
        raise BenchError(f"unknown configuration {', '.join(sorted(unknown))}", key="--config", remedy=known)
    BUDGET = budget_said(config.get("budget", DEFAULT_BUDGET))
    CHOSEN = read_studies(names_chosen())
    STUDIES = CHOSEN | read_studies(names_asked())
    check_targets()
    LEDGER, SITE = read_claims(), site()
    check_claims(LEDGER, STUDIES.values())
    ALL_CLAIMS = all_claims(LEDGER, STUDIES.values())
    if not workflow.remote_exec:  # of a job the plan has been checked
        check_own(STUDIES.values())
    GPUS = any(study.resources.gpu for study in STUDIES.values())  # else no job need be asked
except BenchError as error:
    refuse(error)
except KeyboardInterrupt:
    sys.exit(130)  # while it plans; Snakemake itself answers what comes later


def check_places(jobs):
    """Say before the first of these jobs where nothing can be written."""
    outputs = [Path(str(file)) for job in jobs for file in job.output]
    try:
        for folder in sorted({Path(*path.parent.parts[:2]) for path in outputs}):  # results/<label>, reports
            check_writable(folder)
    except BenchError as error:
        refuse(error)


def study_of(wildcards):
    return STUDIES[wildcards.label]


def run_of(wildcards):
    return Run(arm=wildcards.arm, seed=int(wildcards.seed))


def select_study(wildcards):
    """The arguments by which a step finds its study.

    A resource and not a parameter: where the file lies must not make a run stale.
    """
    study = study_of(wildcards)
    return f"--study {shlex.quote(str(study.file))} --budget {study.budget}"


def urgency(wildcards):
    """Of a job: that of its study, the first of all the greatest. So each study's report is there as soon as the study
    is, and cores that one leaves idle go on with the next."""
    return len(STUDIES) - list(STUDIES).index(wildcards.label)


def asked(wildcards, attempt):
    """What a job of the study asks a scheduler for."""
    return study_of(wildcards).resources.of_attempt(attempt)


def group_of(wildcards):
    """Of runs that share a job of a cluster, where its settings ask for it: a study's of one generation.

    How many share one is said of `runs`, the name that Snakemake looks up for all of these.
    """
    study = study_of(wildcards)
    if study.resources.gpu:
        return None
    name = f"runs-{study.label}-{study.generation(run_of(wildcards))}"
    workflow.parent_groupids[name] = "runs"
    return name


def cores_of(wildcards):
    """Of a run: some for each GPU that it gets, to draw its batches; one on the CPU."""
    asked_for, there = study_of(wildcards).resources.gpu, getattr(workflow.global_resources.get("gpu"), "value", None)
    return max(1, CORES_PER_GPU * (asked_for if there is None else min(asked_for, there)))


def where(wildcards, resources):
    """What a run is told of the place where it runs; decides no number.

    On a cluster: when to stop, and to see no GPU that it was not given. On this machine: how many of
    its GPUs to take. On both: to train by one process a GPU. As it depends on `resources`, Snakemake
    does not call a run stale for it.
    """
    gpus = resources.get("gpu", 0)
    processes = f" --processes {gpus}" if gpus > 1 else ""
    if not workflow.remote_exec:
        return f"--gpus {gpus}{processes}"
    return f"--time-limit {resources.runtime}" + (processes if gpus else " --gpus 0")


def paths(values):
    return [str(value) for value in values]


STAYING = {study.label: {} for study in STUDIES.values()}
"""Whether a run's weights stay, as they were when the plan was made."""


def run_inputs(wildcards):
    """The data, a converted teacher's file, and the records of the runs that it waits for.

    A run whose weights stay as they are is waited for, and is no reason to make those anew that are taught by it.
    """
    study, run = study_of(wildcards), run_of(wildcards)
    if run.arm not in study.arms:
        return []
    found = {name: paths(files) for name, files in inputs_of(study, run).items()}
    before = {"teacher": study.teacher_run(run), "weak_teacher": study.weak_run(run), "start": study.start_run(run)}
    for name, other in before.items():
        if other is not None:
            record = str(study.files(other).metrics)
            found[name] = [ancient(record) if weights_stay(study, other, STAYING[study.label]) else record]
    return found


def records_of(wildcards):
    study = study_of(wildcards)
    return paths(study.files(run).metrics for run in study.runs_of(wildcards.experiment))


def small_data(wildcards):
    """Whether a data set is made in seconds; images are decoded, and seen by an extractor."""
    return data_kind(study_of(wildcards).data[wildcards.data]).small


def data_of(wildcards):
    study = study_of(wildcards)
    return paths({study.data_file(study.arms[arm].data) for arm in study.arms_of(wildcards.experiment)})


def measured_of(wildcards):
    study = study_of(wildcards)
    measures = study.experiments[wildcards.experiment].measurement is not None
    return paths([study.made.measured(wildcards.experiment)] if measures else [])


def claims_mark(wildcards):
    """What verdicts depend on beside tables: the claims that a study is judged by, or the one that is asked for."""
    name, study = getattr(wildcards, "claim", None), study_of(wildcards)
    return claims_digest(claims_of(LEDGER, study) if name is None else {name: ALL_CLAIMS[name]})


def deciding_studies(claim):
    return [s for s in CHOSEN.values() if s.study in claim.decided_by] or list(CHOSEN.values())


def tables_of_claim(wildcards):
    """What the one experiment that decides a claim has measured; nothing where the study has none."""
    study = study_of(wildcards)
    decides = ALL_CLAIMS[wildcards.claim].decided_by.get(study.study)
    if decides is None or decides.experiment not in study.experiments:
        return []
    files = study.made.experiment(decides.experiment)
    return paths([files.runs, files.curves])
