# What is made again: what is missing, and what its own record says is of something else (workflow.study.freshness).

import collections
import math
import os

import snakemake.dag
import snakemake.jobs
import snakemake.persistence
from snakemake.logging import logger
from trigbench.workflow.study.freshness import (FRESH, claim_from, claim_record, collected_from, data_verdict, experiment_from, index_from, measured_from, missing_files, page_from, run_verdict, simulations_from, verdict)
from trigbench.workflow.study.places import REPORTS, page_record

COSTLY = {"run": "run", "prepare": "data set", "measure": "measurement"}
RECORDED = {
    "measure": lambda wc, study: (
        study.made.measured(wc.experiment),
        lambda: measured_from(study, wc.experiment),
    ),
    "experiment": lambda wc, study: (
        study.made.experiment(wc.experiment).finding,
        lambda: experiment_from(study, wc.experiment),
    ),
    "collect": lambda wc, study: (
        study.made.origin,
        lambda: collected_from(study, claims_of(LEDGER, study)),
    ),
    "claim": lambda wc, study: (claim_record(study, wc.claim), lambda: claim_from(study, wc.claim, ALL_CLAIMS[wc.claim])),
    "page": lambda wc, study: (page_record(REPORTS, study.label), lambda: page_from(study)),
}


def judged(job):
    """FRESH, why the files of a job whose files are all there are made again, or None: left to Snakemake."""
    wildcards, name = job.wildcards, job.rule.name
    if name == "index":
        return verdict(page_record(REPORTS, name), lambda: index_from(REPORTS))
    if name == "simulate":
        return verdict(SIMULATIONS, simulations_from)
    if name == "prepare":
        return data_verdict(study_of(wildcards), wildcards.data, job.params.fingerprint)
    if name == "run":
        study, run = study_of(wildcards), run_of(wildcards)
        gone = missing_files(study, run)
        return f"{gone[0]} is missing" if gone else run_verdict(study, run, job.params.fingerprint)
    if name not in RECORDED:
        return None
    record, made_from = RECORDED[name](wildcards, study_of(wildcards))
    return verdict(record, made_from)


def plan_by_records():
    """Let records decide in place of times and of Snakemake's memory, and make what is missing be made.

    Snakemake leaves out what is missing where nothing that it is needed for is; it can be told before it
    looks, where it would look for what was left incomplete.
    """
    fresh = set()
    oldest, check = snakemake.jobs.Job.output_mintime.fget, snakemake.dag.DAG.check_incomplete

    async def oldest_output(job):
        return math.inf if job in fresh else await oldest(job)

    async def check_and_judge(dag):
        await check(dag)
        if not dag.workflow.is_main_process:
            return
        stale = collections.Counter()
        for job in list(dag.jobs):
            missing = [file for file in job.output if not os.path.exists(file)]
            if missing:
                dag.reason(job).missing_output.update(missing)
                continue
            try:
                why = judged(job)
            except (BenchError, OSError) as error:
                raise WorkflowError(str(error)) from None
            if why == FRESH:
                fresh.add(job)
            elif why is not None:
                dag.reason(job).params_changed = why
                if job.rule.name in COSTLY:
                    stale[job.wildcards.label, COSTLY[job.rule.name], why] += 1
        trust_records(dag.workflow.persistence)
        for (label, what, why), count in stale.items():
            said = f"1 {what} is" if count == 1 else f"{count} {what}s are"
            logger.info(f"{label}: {said} stale, by the record: {why}")

    def trust_records(persistence):
        answers = {"params_changed": snakemake.persistence.NO_PARAMS_CHANGE, "input_changed": (), "has_outdated_metadata": False}
        for name, nothing in answers.items():
            asked = getattr(persistence, name)
            setattr(persistence, name, lambda job, asked=asked, nothing=nothing: nothing if job in fresh else asked(job))
        known = persistence.has_metadata
        persistence.has_metadata = lambda job: job in fresh or known(job)

    snakemake.jobs.Job.output_mintime = property(oldest_output)
    snakemake.dag.DAG.check_incomplete = check_and_judge


if not STRANGE:
    plan_by_records()
