"""What a finished result was made from, as it records itself, and whether it would be made from the same today.

The plan asks this (workflow/rules/freshness.smk) in place of times of files and of what Snakemake remembers in
`.snakemake`, which neither a copy nor `make clean` leaves. Imports nothing heavy.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import content_of, identity, identity_of_arrays, mark_of
from trigbench.workflow.study.claim import Claim, claims_digest
from trigbench.workflow.study.edits import EDITING
from trigbench.workflow.study.fingerprint import digest, fingerprint, marks, training_fingerprint
from trigbench.workflow.study.kinds import data_kind
from trigbench.workflow.study.measurements import MEASUREMENTS
from trigbench.workflow.study.one_noise import one_noise_runs
from trigbench.workflow.study.outside import standing_outside
from trigbench.workflow.study.places import FRONT, SIMULATIONS, page_record
from trigbench.workflow.study.rating import ratings
from trigbench.workflow.study.records import RunRecord, read_record
from trigbench.workflow.study.sources import same_source
from trigbench.workflow.study.study import Run, Study

FRESH = ""
"""The answer where a result is what would be made; else the answer says why not, and is None where no record is."""
SETTINGS = "settings, mathematics or code changed since"
SAMPLED = "how it is sampled changed since; its weights stay"
JUDGED = "how it is judged changed since; its weights and samples stay"
SOURCE = "the files that it was prepared from changed since"
INPUTS = {
    "data": "its data changed since",
    "teacher": "its teacher changed since",
    "weak_teacher": "its weak teacher changed since",
    "start": "the run that it starts from changed since",
    "candidates": "the runs that choose its rate changed since",
    "judged": "what it is judged by changed since; its weights and samples stay",
}
MADE_FROM = "made_from"
"""Under which tables, figures, pages and measurements record it."""
FILES = "files"
"""Under which a record names what was made beside it and no rule of the workflow does."""
OTHER = "what it is made from changed since"
HEAD = 4096
"""Bytes of a run's record in which fingerprint and inputs stand."""


def inputs_of(study: Study, run: Run) -> dict[str, list[Path]]:
    """The files that a run is made from, by what they are to it."""
    found = {"data": [study.data_file(study.arms[run.arm].data)]}
    teacher = study.teacher_run(run)
    if teacher is not None:
        found["teacher"] = [study.files(teacher).weights]
    if (file := study.teacher_file(run.arm)) is not None:
        found["teacher"] = [file]
    if (weak := study.weak_run(run)) is not None:
        found["weak_teacher"] = [study.files(weak).weights]
    if (start := study.start_run(run)) is not None:
        found["start"] = [study.files(start).weights]
    candidates = study.candidate_runs(run)
    if candidates:  # they choose the run's rate
        found["candidates"] = [study.files(c).metrics for c in candidates]
    return found


def marks_of(study: Study, run: Run) -> dict[str, str]:
    """Digests of what training takes of these files: of data what is drawn, of other runs' records what rates them."""
    drawn = data_kind(study.data[study.arms[run.arm].data]).drawn
    of_file = {
        "data": lambda path: identity_of_arrays(path, drawn),
        "candidates": lambda path: _ratings(study, path, study.arms[run.arm].rate_steps),
    }
    return {
        name: mark_of([of_file.get(name, identity)(path) for path in paths])
        for name, paths in inputs_of(study, run).items()
    }


def made_from(study: Study, run: Run) -> dict[str, Any]:
    """What a run's weights would be made from now, as training notes it before the first step."""
    mark = training_fingerprint(study.training_specification(run))
    return {"fingerprint": mark, "inputs": marks_of(study, run)}


def drawn_from(study: Study, run: Run) -> dict[str, Any]:
    """What a run's samples would be made from now: settings and mathematics, and the weights that are there."""
    mark = marks(study.specification(run)).sampling
    return {"fingerprint": mark, "weights": identity(study.files(run).weights)}


def judged_by(study: Study, run: Run) -> str:
    """A digest of the prepared data, with what judges look at."""
    return mark_of(identity(study.data_file(study.arms[run.arm].data)))


def weights_stand(study: Study, run: Run) -> bool:
    """Whether a run's weights are there, and are those that training would make now."""
    there = all(file.is_file() for file in _left_by_training(study, run))
    return there and _head(study.files(run).training, ("fingerprint", "inputs")) == made_from(study, run)


def weights_stay(study: Study, run: Run, known: dict[Run | str, bool] | None = None) -> bool:
    """Whether a run's weights stand, and what a plan makes before it leaves them as they are: a candidate that is
    sampled or judged again may choose another rate. `known` has what was found of runs, and of arms' candidates,
    each looked at once."""
    known = {} if known is None else known
    if run not in known:
        before = (weights_stay(study, other, known) for other in study.runs_before(run))
        known[run] = weights_stand(study, run) and _rated(study, run.arm, known) and all(before)
    return known[run]


def _rated(study: Study, arm: str, known: dict[Run | str, bool]) -> bool:
    """Whether what chose an arm's rate stays, for all its seeds."""
    if arm not in known:
        known[arm] = all(
            not missing_files(study, candidate)
            and run_verdict(study, candidate, fingerprint(study.specification(candidate))) == FRESH
            for candidate in study.candidate_runs(Run(arm=arm, seed=study.seeds[0]))
        )
    return known[arm]


def samples_stand(study: Study, run: Run) -> bool:
    """Whether a run's samples are there, and are those that sampling its weights would make now."""
    files = study.files(run)
    there = all(file.is_file() for file in files.of_sampling)
    return there and _head(files.samples_record, ("fingerprint", "weights")) == drawn_from(study, run)


def missing_files(study: Study, run: Run) -> list[Path]:
    """What a finished run has left beside its record, and is not there."""
    left = (*_left_by_training(study, run), *study.files(run).of_sampling)
    return [file for file in left if not file.is_file()]


def run_verdict(study: Study, run: Run, fingerprint: str) -> str | None:
    """Whether a run's record is of these settings, this mathematics, and of what it would be made from; where it is
    not, of which of its parts: what comes before stands."""
    record = _head(study.files(run).metrics, ("fingerprint", "parts", "inputs"))
    known = record.get("fingerprint", fingerprint) == fingerprint
    said, now = record.get("parts", {}), None if known else marks(study.specification(run))
    if now is not None and said.get("training") != now.training:
        return SETTINGS
    if known and not record.get("inputs"):  # written before there were any
        return None
    before, inputs = record.get("inputs", {}), marks_of(study, run) | {"judged": judged_by(study, run)}
    changed = [name for name in {**inputs, **before} if inputs.get(name) != before.get(name)]
    if changed and changed != ["judged"]:
        return INPUTS.get(changed[0], OTHER)
    if now is not None:
        return SAMPLED if said.get("sampling") != now.sampling else JUDGED
    return INPUTS["judged"] if changed else FRESH


def data_verdict(study: Study, data: str, fingerprint: str) -> str | None:
    """Whether a prepared data set is of these settings, and its files are those that it was prepared from."""
    path = study.made.facts(data)
    record = content_of(path)
    if "fingerprint" not in record:
        return None
    if record["fingerprint"] != fingerprint:
        return SETTINGS
    return _missing(record) or (FRESH if same_source(record.get("source"), study, data) else SOURCE)


def verdict(record: Path, made_from: Callable[[], str]) -> str | None:
    """Whether a table, figure, page or measurement is made from what it would be made from."""
    said = content_of(record)
    if MADE_FROM not in said:
        return None
    return _missing(said) or (FRESH if said[MADE_FROM] == made_from() else OTHER)


def measurement_mark(study: Study, experiment: str) -> str:
    """What a measurement depends on beside its files: its source, and the experiment's arms."""
    settings = study.experiments[experiment]
    runs = [study.specification(run) for run in study.runs_of(experiment)]
    chosen = settings.model_dump(include={"metric", "samplers", "measurement"})
    modules = [MEASUREMENTS[settings.measurement].path] if settings.measurement else []
    if settings.measurement == EDITING:
        chosen |= study.evaluation.model_dump(include={"edits"}, exclude_none=True)
        kinds = [data_kind(study.data[study.arms[arm].data]) for arm in study.arms_of(experiment)]
        modules += sorted({kind.labelled for kind in kinds if kind.labelled})
    return digest([runs, chosen], modules)


def measured_from(study: Study, experiment: str) -> str:
    """What a measurement is made from, its files included."""
    data = sorted({study.data_file(study.arms[arm].data) for arm in study.arms_of(experiment)})
    files = [*_records(study, experiment), *data]
    return mark_of([measurement_mark(study, experiment), *map(identity, files)])


def experiment_from(study: Study, experiment: str) -> str:
    """What an experiment's tables and figures are made from."""
    settings, arms = study.experiments[experiment], study.arms_of(experiment)
    facts = sorted({study.made.facts(study.arms[arm].data) for arm in arms})
    measured = [study.made.measured(experiment)] if settings.measurement else []
    about = [settings, *(study.arms[arm] for arm in arms), *study.all_samplers.values()]
    said = [study.label, arms, list(study.all_samplers), [model.model_dump(mode="json") for model in about]]
    return mark_of([said, *map(identity, (*_records(study, experiment), *facts, *measured))])


def collected_from(study: Study, claims: Mapping[str, Claim]) -> str:
    """What a study's tables, verdicts and picture of one noise are made from."""
    said = [claims_digest(claims), list(study.experiments), *([list(study.one_noise)] if study.one_noise else [])]
    return mark_of([*said, *map(identity, _tables(study, study.experiments))])


def claim_from(study: Study, name: str, claim: Claim) -> str:
    """What one claim's verdict is made from."""
    rule = claim.decided_by.get(study.study)
    experiments = [rule.experiment] if rule and rule.experiment in study.experiments else []
    return mark_of([claims_digest({name: claim}), *map(identity, _tables(study, experiments))])


def page_from(study: Study) -> str:
    """What a study's pages are made from."""
    files = [study.made.origin, study.made.verdicts, study.made.details]
    findings = [study.made.experiment(experiment).finding for experiment in study.experiments]
    pictured = [study.made.one_noise] if one_noise_runs(study) else []
    said = [study.title, study.summary, list(study.experiments), *map(identity, (*files, *findings, *pictured))]
    outside = standing_outside(study)
    return mark_of([*said, outside] if outside else said)


def index_from(reports: Path) -> str:
    """What the front page is made from: what the pages that are there have left for it, and simulations."""
    pages = sorted({page.stem for page in reports.glob("*.html")} - {FRONT.stem})
    return mark_of([pages, *(identity(page_record(reports, name)) for name in pages), identity(SIMULATIONS)])


def simulations_from() -> str:
    """What simulations of verdicts are made from: the source of the judge."""
    return digest([], ["trigbench.workflow.claims.simulate"])


def claim_record(study: Study, claim: str) -> Path:
    """Where a claim's verdict does."""
    return study.made.verdict(claim)


# --- records -----------------------------------------------------------------------------------------


def _left_by_training(study: Study, run: Run) -> tuple[Path, ...]:
    """With an arm's adapter, and the averages along training where it keeps any; a run that diverged may have none."""
    files, arm = study.files(run), study.arms[run.arm]
    kept = arm.snapshots is not None and _head(files.training, ("reason",)) == {"reason": None}
    return (*files.of_training, *[files.adapter] * (arm.adapter is not None), *[files.snapshots] * kept)


def _records(study: Study, experiment: str) -> list[Path]:
    return [study.files(run).metrics for run in study.runs_of(experiment)]


def _tables(study: Study, experiments: Iterable[str]) -> list[Path]:
    files = [study.made.experiment(experiment) for experiment in experiments]
    return [path for each in files for path in (each.runs, each.curves)]


def _missing(record: Mapping[str, Any]) -> str | None:
    gone = next((file for file in record.get(FILES, ()) if not Path(file).exists()), None)
    return None if gone is None else f"{gone} is missing"


def _ratings(study: Study, path: Path, steps: int | None) -> list[float | None] | str | None:
    """Of a damaged record all counts: the step that reads it will name it."""
    found = identity(path)
    if found is not None:
        with contextlib.suppress(BenchError):
            return ratings(study, _record(path, found), steps)
    return found


@cache
def _record(path: Path, content: str) -> RunRecord:
    return read_record(path)


def _head(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Of a long record what stands at its head."""
    try:
        with path.open("rb") as handle:
            text = handle.read(HEAD).decode("utf-8", errors="replace")
    except OSError:
        return {}
    found, decoder = {}, json.JSONDecoder()
    for name in names:
        key = f'"{name}": '
        with contextlib.suppress(ValueError):
            found[name] = decoder.raw_decode(text, text.index(key) + len(key))[0]
    return found
