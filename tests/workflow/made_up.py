"""A made-up study with results, published results and judged claims, for the tests of its pages."""

import copy
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from trigbench.workflow.claims.deciding import judge_study
from trigbench.workflow.claims.tables import write_table
from trigbench.workflow.machine.files import identity, write_arrays, write_json
from trigbench.workflow.report import writing as step
from trigbench.workflow.study.fingerprint import fingerprint
from trigbench.workflow.study.outside import OfSeed, OutsideRecord, outside_mark, way_of, write_outside
from trigbench.workflow.study.records import RunRecord, Value, write_record
from trigbench.workflow.study.study import Run, Study

STUDY = """
study: tiny
title: Does the page hold?
summary: Two arms & <three> seeds.
sigma_d: 0.5
seeds: [0, 1, 2]
data: {blobs: {kind: mixture, dimension: 2, components: 2, std: 0.5}}
sizes: {s: {width: 8, blocks: 1}}
defaults: {data: blobs, size: s, teacher: exact, iterations: 10, batch: 8, rate: 1.0e-3, ema_half_life: 100}
arms:
  continuous: {objective: scd}
  discrete-{intervals}: {objective: dscd, intervals: [8], precision: fp16}
evaluation: {samples: 20}
experiments:
  one_and_two:
    {title: One and two steps, paper: "arXiv 2410.11081, Table 1", question: "How far?", expectation: Not far.,
     figure: methods, metric: sliced_wasserstein, arms: ["*"]}
  along:
    {title: Along training, paper: none (a control), question: "Does it spike?", expectation: It does not.,
     figure: training, metric: training_direction_norm, arms: [continuous]}
budgets: {short: {seeds: [0, 1]}}
"""
STEPS = {"continuous": 0.05, "discrete-8": 0.10}


def _record(study: Study, run: Run, diverged: bool, commit: str) -> RunRecord:
    def value(base: float) -> float | None:
        return None if diverged else base * (1 + 0.01 * run.seed)

    base = STEPS[run.arm]
    return RunRecord(
        status="diverged" if diverged else "finished",
        reason="loss is nan" if diverged else None,
        fingerprint=fingerprint(study.specification(run)),
        arm=run.arm,
        seed=run.seed,
        step=10,
        parameters=1234,
        metrics=[
            Value(metric="map_rms", value=value(base)),
            Value(metric="sliced_wasserstein", value=value(2 * base), steps=1, sampler="few"),
            Value(metric="sliced_wasserstein", value=value(base), steps=2, sampler="few", mid_time=1.1),
        ],
        curves=[
            Value(metric=f"training_direction_norm{kind}", value=1.0 + x / 100, x=x)
            for kind in ("", "_max")
            for x in (2.0, 4.0, 6.0)
        ]
        + [Value(metric="map_rms", value=base * x, x=x) for x in (0.5, 1.5)],
        seconds={"start": 1.0, "train": 2.0 + run.seed},
        peak_memory_mb=100.0,
        provenance={"commit": commit, "dirty": True, "time": f"2026-01-0{run.seed + 1}T00:00:00Z", "processor": "X"},
    )


def make_results(study: Study, runs: list[Run], diverged: tuple[Run, ...] = (), commit: str = "a" * 40) -> None:
    """Records, samples and data as the rules leave them."""
    draw = np.random.default_rng(0)
    floor = [{"metric": "sliced_wasserstein", "value": 0.03}]
    facts = {"exact_map_error": 1e-8}
    write_json(study.made.facts("blobs"), {"facts": facts, "floors": floor, "provenance": {}})
    write_arrays(study.data_file("blobs"), {"reference": draw.normal(size=(20, 2)), "means": np.zeros((2, 2))})
    for run in runs:
        write_record(study.files(run).metrics, _record(study, run, run in diverged, commit))
        samples = {way.key: draw.normal(size=(20, 2)) for way in study.samplings(run.arm)}
        write_arrays(study.files(run).samples, {} if run in diverged else samples)


def publish(study: Study, folder: Path, factors: dict[str, float], **origin: object) -> None:
    """Publish the study's own runs, each arm's values times its factor."""
    runs = pd.read_csv(study.made.runs)
    write_table(runs.assign(value=runs.value * runs.arm.map(factors).fillna(1.0)), folder / "runs.csv")
    provenance = json.loads((study.made.origin).read_text())
    write_json(folder / "provenance.json", {**provenance, **origin})


DIVERGED = Run(arm="discrete-8", seed=2)


# --- claims ---------------------------------------------------------------------------------------


def _rule(experiment: str, metric: str, of: dict, against: dict, **judged: object) -> dict:
    about = {"experiment": experiment, "metric": metric, "of": of, "against": against}
    return {"decided_by": {"tiny": about | {"scale": "log_ratio", "smallest": 0.05} | judged}}


ONE, TWO = {"arms": "continuous", "steps": 1}, {"arms": "continuous", "steps": 2}
CLAIMS = {
    "holds": {
        "paper": "sCM", "place": "Fig. 1", "topic": "steps", "claim": "The map is <nearly> exact.",
        "published": {"FID": 1.88, "FID of the teacher": 1.73}, "caveat": "It is small.",
        **_rule("one_and_two", "map_rms", {"arms": "continuous"}, {"value": 0.08}, direction="less", smallest=0.0),
    },
    "fails": {
        "paper": "sCM", "place": "Table 1", "topic": "steps", "claim": "Two steps are worse than one.",
        **_rule("one_and_two", "sliced_wasserstein", TWO, ONE, direction="more"),
    },
    "unsure": {
        "paper": "CM", "place": "Table 2", "topic": "tangent", "claim": "Continuous time changes nothing.",
        **_rule("one_and_two", "map_rms", {"arms": "continuous"}, {"arms": "discrete-8"}, direction="same"),
    },
    "moved": {
        "paper": "ECT", "place": "Sec. 3", "topic": "tangent", "claim": "Two steps are enough.",
        **_rule("one_and_two", "sliced_wasserstein", TWO, {"value": 0.2}, direction="less", smallest=0.0),
    },
    "far": {
        "paper": "sCM", "place": "Table 2", "topic": "lineage", "claim": "It is the best there is.",
        "erratum": "The tables contradict each other.", "needs": "imagenet512",
    },
}  # fmt: skip
"""By what becomes of them: `moved` is reproduced, by a rule that changed after the results."""


def ledger_in_git(folder: Path) -> tuple[Path, str]:
    """(the ledger, the commit before the last change of a rule) in a repository of its own."""
    path = folder / "claims.yaml"

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    folder.mkdir(parents=True)
    git("init", "-q")
    before = copy.deepcopy(CLAIMS)
    before["moved"]["decided_by"]["tiny"]["against"] = {"value": 0.01}
    for claims in (before, CLAIMS):
        path.write_text(yaml.safe_dump({"claims": claims}, sort_keys=False))
        git("add", "claims.yaml")
        git("commit", "-qm", "rules")
    return path, git("rev-parse", "HEAD~")


def from_outside(study: Study, name: str, stale: bool = False) -> OutsideRecord:
    """The record of a function that was judged with two seeds, written in its place."""

    def metrics(seed: int) -> list[Value]:
        return [Value(metric="sliced_wasserstein", value=0.1 * (1 + 0.01 * seed), steps=1, sampler="few")]

    ways = [way_of(study, "function", 1)]
    record = OutsideRecord(
        name=name, study=study.label, data="blobs", kind="function", what="theirs.py:sample", by="A & B", note="<b>",
        command=f"trigbench judge tiny.yaml theirs.py:sample --name {name} --replace",
        fingerprint="another" if stale else outside_mark(study, "blobs", "function", ways),
        data_mark=identity(study.data_file("blobs")), ways=ways,
        results=[OfSeed(seed=None, metrics=[Value(metric="map_rms", value=0.05)])]
        + [OfSeed(seed=seed, metrics=metrics(seed)) for seed in (0, 1)],
        files={"theirs.py": "0" * 64}, provenance={"time": "2026-01-01T00:00:00Z", "version": "0"},
    )  # fmt: skip
    write_outside(study, record)
    return record


def tabulated(study: Study, claims: Path | None = None) -> None:
    """What the rules leave, without drawing."""
    for name in study.experiments:
        step.tabulate_experiment(study, name, partial=True)
        folder = study.made.experiment(name).folder
        write_json(folder / "finding.json", {"finding": "It is so. Mostly.", "diverged": []})
    step.tabulate_study(study)
    if claims is not None:
        judge_study(study, claims)
