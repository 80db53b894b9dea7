"""Seeds that are added in batches: looks at an experiment, one after the other, until all that it decides is decided.

A look is taken where all of its runs are there and in the tables, and never between two. Which batch is being made is
written down before it is, so that what was stopped, at any moment, goes on with the same look.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trigbench.workflow.claims.deciding import experiment_tables, judge
from trigbench.workflow.claims.effects import Effects
from trigbench.workflow.claims.ledger import CLAIMS, all_claims, check_claims, claims_of, in_full, read_claims, unknown
from trigbench.workflow.claims.tables import finished_runs
from trigbench.workflow.claims.verdicts import Judgement
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.machine.progress import duration
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.study.claim import Claim
from trigbench.workflow.study.records import read_record
from trigbench.workflow.study.seeds import Looked, LooksRecord, SeedPlan, read_looks
from trigbench.workflow.study.study import Run, Study


@dataclass(frozen=True)
class OneLook:
    """What one look at an experiment says."""

    experiment: str
    number: int
    """From 1."""
    looks: tuple[tuple[int, ...], ...]
    """The seeds of every look of the plan."""
    verdicts: Mapping[str, Judgement]
    """By claim."""
    runs: int = 0
    """Of the next batch, those that are not there."""
    seconds: float | None = None
    """What these take, one after the other; None where no run of an arm tells."""

    @property
    def open(self) -> list[str]:
        """Claims that more seeds may decide."""
        return [name for name, j in self.verdicts.items() if j.verdict == "inconclusive" and j.basis != "exact"]

    @property
    def goes_on(self) -> bool:
        return bool(self.open) and self.number < len(self.looks)


def planned(study: Study) -> list[str]:
    """The experiments whose seeds are added in batches."""
    return [name for name in study.experiments if study.looks_of(name)]


def decided_claims(study: Study, experiment: str, path: Path = CLAIMS) -> dict[str, Claim]:
    """The claims that an experiment with a plan decides. Raises BenchError where looks could decide none of them."""
    key = f"experiments.{experiment}"
    if experiment not in study.experiments:
        raise unknown("experiment", experiment, study.experiments, study.file, "experiments")
    if not study.looks_of(experiment):
        remedy = "give it a plan, as seeds: {first: 8, batch: 4, most: 24}, before its first run"
        problem = f"no seeds are added to {study.label}/{experiment}: all of its own are there from the start"
        raise BenchError(problem, file=study.file, key=f"{key}.seeds", remedy=remedy)
    if study.quick:
        problem = f"the budget {study.budget} is a quick one, of which no claim is tested"
        raise BenchError(problem, file=study.file, key="quick", remedy="choose another budget")
    ledger = read_claims(path)
    check_claims(ledger, [study], path)
    rules = {n: c for n, c in claims_of(ledger, study).items() if study.study in c.decided_by}
    found = {n: c for n, c in rules.items() if c.decided_by[study.study].experiment == experiment}
    if not found:
        remedy = f"give a claim a rule on it, in {path.name} or under 'claims' of the study"
        raise BenchError(f"no claim is decided by {study.label}/{experiment}", file=study.file, key=key, remedy=remedy)
    return found


def take_looks(study: Study, experiment: str, make: Callable[[], None], path: Path = CLAIMS) -> Iterator[OneLook]:
    """Let `make` make what the experiment has come to, look, and open the next batch, until nothing goes on.

    Yields each look once it is taken, before it is written down. Raises BenchError as `decided_claims` and `look_at`.
    """
    decided_claims(study, experiment, path)
    while True:
        make()
        look = look_at(study, experiment, path)
        yield look
        _write_down(study, experiment, look)
        if not look.goes_on:
            return


def look_at(study: Study, experiment: str, path: Path = CLAIMS) -> OneLook:
    """Judge what the experiment decides by the look that it has come to. Raises BenchError where runs are missing, or
    numbers without which no look is ever whole."""
    claims, seeds = decided_claims(study, experiment, path), study.seeds_of(experiment)
    tables, (_, missing) = experiment_tables(study, experiment), finished_runs(study, experiment)
    if missing or not set(seeds) <= set(tables.runs.seed.dropna()):
        problem = f"runs of the look at {len(seeds)} seeds are not there, and nothing is looked at before they are"
        raise BenchError(problem, file=study.made.experiment(experiment).folder, remedy=study.command(experiment))
    whole, looks = in_full(study), study.looks_of(experiment)
    sources = dict.fromkeys(all_claims(read_claims(path), [study]), path) | dict.fromkeys(study.claims, study.file)
    found = {n: judge(claim, study, tables, sources[n], whole) for n, claim in claims.items()}
    verdicts = {n: judgement for n, (judgement, _) in found.items()}
    look = OneLook(
        f"{study.label}/{experiment}", [len(seeds) for seeds in looks].index(len(seeds)) + 1, looks, verdicts
    )
    for name in look.open:
        if gaps := _gaps(found[name][1], seeds):
            problem = f"{name} is never judged at {len(seeds)} seeds, as there is no {'; no '.join(gaps)}"
            remedy = "find out why these runs lack it, or let the rule be on what every seed has"
            raise BenchError(problem, file=sources[name], key=f"claims.{name}", remedy=remedy)
    return _with_next_batch(look, study, experiment) if look.goes_on else look


def _gaps(found: Sequence[Effects], seeds: Sequence[int]) -> list[str]:
    """Numbers of a look's seeds that are not there, though their runs are."""
    terms = [(term, {*seeds} - term.having - {*effects.spent}) for effects in found for term in effects.terms]
    return list(dict.fromkeys(f"{t.metric} of {t.label}, seed {n}" for t, lacking in terms for n in sorted(lacking)))


def _with_next_batch(look: OneLook, study: Study, experiment: str) -> OneLook:
    pending = [Run(arm=arm, seed=s) for arm in study.arms_of(experiment) for s in look.looks[look.number]]
    wanted: set[Run] = set()
    while pending:
        run = pending.pop()
        if run not in wanted and not study.files(run).metrics.is_file():
            wanted.add(run)
            pending += study.runs_before(run)
    means = {arm: _mean_seconds(study, arm, look.looks[look.number - 1]) for arm in {run.arm for run in wanted}}
    known = [seconds for run in wanted if (seconds := means[run.arm]) is not None]
    seconds = sum(known) if len(known) == len(wanted) else None
    return OneLook(look.experiment, look.number, look.looks, look.verdicts, len(wanted), seconds)


def _mean_seconds(study: Study, arm: str, seeds: Iterable[int]) -> float | None:
    records = [study.files(Run(arm=arm, seed=seed)).metrics for seed in seeds]
    found = [sum(read_record(record).seconds.values()) for record in records if record.is_file()]
    return sum(found) / len(found) if found else None


def _write_down(study: Study, experiment: str, look: OneLook) -> None:
    plan, file = study.experiments[experiment].seeds, study.made.looks(experiment)
    assert isinstance(plan, SeedPlan)
    before, now = read_looks(plan, file), len(look.looks[look.number - 1])
    origin, words = provenance(), {name: judgement.verdict for name, judgement in look.verdicts.items()}
    looked = Looked(seeds=now, verdicts=words, commit=origin["commit"], time=origin["time"])
    said = [each.verdicts for each in before.looks if each.seeds == now]
    looks = before.looks if said[-1:] == [words] else (*before.looks, looked)  # what a look has said stays as it is
    seeds = len(look.looks[look.number]) if look.goes_on else now
    write_json(file, LooksRecord(plan=plan, seeds=seeds, looks=looks).model_dump(mode="json"))


def look_words(look: OneLook, cores: int | None = None) -> str:
    """A look to read; `cores` are those on which the next batch is made, where it is known."""
    now, most = len(look.looks[look.number - 1]), len(look.looks[-1])
    lines = [f"{look.experiment}, look {look.number} of {len(look.looks)}: {now} seeds, of {most} at most"]
    for name, judgement in look.verdicts.items():
        lines.append(f"  {judgement.verdict}{' so far' if name in look.open and look.goes_on else ''}: {name}")
        lines[-1] += "" if judgement.effect is None else f" ({_interval_words(judgement)})"
    if not look.open:
        return "\n".join([*lines, "  no more seeds would decide anything: none are added"])
    if not look.goes_on:
        return "\n".join(
            [*lines, f"  its seeds are all there: {len(look.open)} of {len(look.verdicts)} stay undecided"]
        )
    added = look.looks[look.number][now:]
    seeds = f"{len(added)} seeds ({min(added)} to {max(added)})" if len(added) > 1 else f"seed {min(added)}"
    lines.append(f"  the next batch adds {seeds}: {look.runs} runs, {_time_words(look, cores)}")
    return "\n".join(lines)


def _interval_words(judgement: Judgement) -> str:
    around = "" if judgement.low is None else f", {judgement.low:.3g} to {judgement.high:.3g}"
    return f"effect {judgement.effect:.3g}{around}; {judgement.seeds} seeds"


def _time_words(look: OneLook, cores: int | None) -> str:
    if look.seconds is None:
        return "of which no earlier run tells how long they take"
    alone = f"about {duration(look.seconds)} one after the other"
    at_once = min(cores or 1, look.runs)
    return alone if at_once < 2 else f"{alone}, {duration(look.seconds / at_once)} on {at_once} cores"
