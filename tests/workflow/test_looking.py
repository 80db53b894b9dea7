"""Seeds that are added in batches: look by look, never between two, by a plan that outlives whoever is stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from trigbench import cli
from trigbench.commands import run as run_command
from trigbench.workflow.claims.collecting import tabulate_experiment
from trigbench.workflow.claims.deciding import judge_claim
from trigbench.workflow.claims.looking import OneLook, decided_claims, look_at, look_words, planned, take_looks
from trigbench.workflow.claims.tables import read_table, write_table
from trigbench.workflow.claims.verdicts import Judgement
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.seeds import LooksRecord, SeedPlan, read_looks
from trigbench.workflow.study.study import Run, Study

MIDDLE = 0.5918
"""About the median over seeds of what is judged: half of the seeds say this, and half that."""
PLAN = {"first": 8, "batch": 4, "most": 12, "start": 20}


def _claim(bound: float, metric: str = "map_rms", **of: int) -> dict:
    rule = {
        "experiment": "training", "metric": metric, "of": {"arms": "scd", **of}, "against": {"value": bound},
        "scale": "log_ratio", "direction": "less", "smallest": 0.0,
    }  # fmt: skip
    about = {"paper": "sCM", "place": "Sec. 4", "topic": "tangent", "claim": f"Below {bound}."}
    return about | {"decided_by": {"tiny": rule}}


@pytest.fixture
def in_batches(tiny: dict, with_data: Callable[[dict], Study]) -> Callable[..., Study]:
    """The tiny study with a plan of two looks, and a claim that the first decides and one that none does."""

    def make(**more: object) -> Study:
        tiny["defaults"] |= {"iterations": 2, "batch": 4}
        tiny["experiments"]["training"]["seeds"] = PLAN
        tiny["claims"] = {"clear": _claim(1e3, "sliced_wasserstein", steps=1), "close": _claim(MIDDLE)}
        return with_data(tiny | more)

    return make


def _maker(study: Study, made: list[Run], stop_at: int = 100) -> Callable[[], None]:
    """What Snakemake does of an experiment; it is killed before a run of that number."""

    def make() -> None:
        for run in study.runs_of("training"):
            if not study.files(run).metrics.is_file():
                if len(made) == stop_at:
                    raise KeyboardInterrupt
                made.append(run)
                make_run(study, run)
        tabulate_experiment(study, "training")

    return make


def _record(study: Study) -> LooksRecord:
    plan = study.experiments["training"].seeds
    assert isinstance(plan, SeedPlan)
    return read_looks(plan, study.made.looks("training"))


@pytest.mark.slow
def test_batches_are_added_until_the_most_and_who_is_stopped_goes_on_with_the_same_look(in_batches) -> None:
    study, made = in_batches(), list[Run]()
    assert planned(study) == ["training"] and study.seeds_of("training") == tuple(range(20, 28))
    for look in take_looks(study, "training", _maker(study, made)):
        assert (look.number, len(made), look.runs, look.open) == (1, 8, 4, ["close"])
        break  # stopped once it is said, and before it is written down
    assert not study.made.looks("training").exists()

    looks = take_looks(study, "training", _maker(study, made, stop_at=10))
    first = next(looks)
    assert first.number == 1 and first.verdicts["clear"].verdict == "reproduced"
    with pytest.raises(KeyboardInterrupt):
        next(looks)
    assert len(made) == 10 and _record(study).seeds == 12, "the batch is written down before it is made"
    assert study.seeds_of("training") == tuple(range(20, 32))
    with pytest.raises(BenchError, match=r"look at 12 seeds are not there(.|\n)*tiny\.yaml training"):
        look_at(study, "training")

    (second,) = take_looks(study, "training", _maker(study, made))
    assert [run.seed for run in made] == list(range(20, 32)), "no run is made twice"
    assert second.number == 2 and not second.goes_on and second.open == ["close"]
    assert second.verdicts["close"].seeds == 12 and second.verdicts["clear"].seeds == 8, "the first verdict stands"
    effects = {name: list(judge_claim(study, name)["effects"]) for name in ("clear", "close")}
    assert effects == {name: [str(20 + k) for k in range(n)] for name, n in (("clear", 8), ("close", 12))}
    said = [(looked.seeds, looked.verdicts) for looked in _record(study).looks]
    assert said == [(n, {"clear": "reproduced", "close": "inconclusive"}) for n in (8, 12)]
    assert "its seeds are all there: 1 of 2 stay undecided" in look_words(second)
    written = _record(study)
    (again,) = take_looks(study, "training", _maker(study, made))
    assert again == second and len(made) == 12, "never more than the most"
    first, last = written.looks
    assert _record(study) == written, "what a look has said is not written anew, with another commit and time"
    other = last.model_copy(update={"verdicts": {"clear": "opposite", "close": "inconclusive"}})
    study.made.looks("training").write_text(written.model_copy(update={"looks": (first, other)}).model_dump_json())
    list(take_looks(study, "training", _maker(study, made)))
    assert [looked.verdicts["clear"] for looked in _record(study).looks] == ["reproduced", "opposite", "reproduced"]
    table = study.made.experiment("training").runs
    runs = read_table(table)
    write_table(pd.DataFrame(runs[(runs.metric != "map_rms") | (runs.seed != 29)]), table)
    with pytest.raises(BenchError, match=r"close is never judged at 12 seeds(.|\n)*no map_rms of scd, seed 29"):
        look_at(study, "training")
    with pytest.raises(BenchError, match="by another plan of seeds"):
        read_looks(_record(study).plan.model_copy(update={"most": 16}), study.made.looks("training"))
    study.made.looks("training").write_text("{}")
    with pytest.raises(BenchError, match=r"no record of looks(.|\n)*training.json"):
        study.seeds_of("training")


def test_a_look_says_what_is_decided_what_goes_on_and_what_the_next_batch_takes() -> None:
    looks = (tuple(range(8)), tuple(range(12)))
    found = {"a": Judgement("reproduced", -0.5, -0.6, -0.4, seeds=8), "b": Judgement("inconclusive", 0.1, -0.2, 0.3)}
    look = OneLook("tiny/training", 1, looks, found, 8, 100.0)
    assert look_words(look, 2).splitlines() == [
        "tiny/training, look 1 of 2: 8 seeds, of 12 at most",
        "  reproduced: a (effect -0.5, -0.6 to -0.4; 8 seeds)",
        "  inconclusive so far: b (effect 0.1, -0.2 to 0.3; 0 seeds)",
        "  the next batch adds 4 seeds (8 to 11): 8 runs, about 1 min 40 s one after the other, 50 s on 2 cores",
    ]
    assert "no earlier run tells" in look_words(OneLook("x", 1, looks, found, 8))
    others = {"c": Judgement("not tested"), "d": Judgement("inconclusive", basis="exact")}
    done = OneLook("x", 1, looks, {"a": found["a"], **others})
    assert not done.goes_on and "no more seeds would decide anything: none are added" in look_words(done)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"claims": {}}, "no claim is decided by tiny/training"),
        ({"quick": True}, "of which no claim is tested"),
        ({}, r"no seeds are added to tiny/discretisation(.|\n)*first: 8"),
        (None, "unknown experiment: 'trainin'(.|\n)*did you mean 'training'"),
    ],
)
def test_what_no_look_could_decide_is_refused_before_anything_is_made(change, words: str, in_batches) -> None:
    study = in_batches(**(change or {}))
    experiment = "training" if change else "discretisation" if change == {} else "trainin"
    with pytest.raises(BenchError, match=words):
        decided_claims(study, experiment)


@pytest.mark.slow
def test_the_command_looks_after_each_call_and_ends_with_what_ends_in_error(
    in_batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, calls = in_batches(), list[list[str]]()

    def call(command: list[str]) -> None:
        calls.append(command)
        raise SystemExit(3)

    monkeypatch.setattr(run_command, "_call", call)
    with pytest.raises(SystemExit, match="3"):
        cli.main(["run", str(study.file), "training", "--until-decided", "--cores", "1"])
    assert "tiny/training" in calls[0] and not study.made.looks("training").exists()


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that reach this process where nobody takes them, which would end it; children are told at once."""
    found: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, lambda number, _: found.append(number)) for name in names]
    monkeypatch.setattr(run_command, "PATIENCE", 0.05)
    yield found
    for name, handler in zip(names, before, strict=True):
        signal.signal(name, handler)


def test_signals_are_for_the_child_to_answer_and_its_end_is_the_end(
    unheard: list[int], monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    with pytest.raises(SystemExit, match="7"):
        run_command._call(["sh", "-c", "exit 7"])
    assert "the same command goes on with the same look" in capfd.readouterr().err
    for name, status in (("TERM", "143"), ("INT", "130")):
        with pytest.raises(SystemExit, match=status):
            run_command._call(["sh", "-c", f"kill -{name} $PPID; exec sleep 60"])
    run_command._call(["true"])
    assert not unheard
    signal.raise_signal(signal.SIGTERM)
    assert unheard == [signal.SIGTERM], "what was there before is there again"


def test_a_signal_while_the_child_is_being_started_is_not_lost(
    unheard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def slow(command: list[str], **more: Any) -> subprocess.Popen:
        child = start(command, **more)
        if command[0] == "sleep":
            signal.raise_signal(signal.SIGTERM)
        return child

    monkeypatch.setattr(run_command.subprocess, "Popen", slow)
    with pytest.raises(SystemExit, match="143"):
        run_command._call(["sleep", "60"])
    assert not unheard


COUNTED = "trap 'echo told; i=37' INT; echo ready; i=0; while [ $i -lt 40 ]; do sleep 0.1; i=$((i + 1)); done"
"""A shell that says how often it is told to stop."""


@pytest.mark.parametrize(("told", "patience"), [(os.killpg, 10.0), (os.kill, 0.2)], ids=["Ctrl-C", "kill"])
def test_the_child_is_told_once_whether_a_terminal_tells_all_or_somebody_the_parent_alone(
    told: Callable[[int, int], None], patience: float
) -> None:
    heeded = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # where the tests' shell ignores it
    )
    call = f"run.PATIENCE = {patience}; run._call(['sh', '-c', {COUNTED!r}])"
    code = f"{heeded}; from trigbench.commands import run; {call}"
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    told(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=60)[0] == "told\n"
