"""Make a study from its data to its report, in the current folder: results/ and reports/.

  trigbench run oracle                          what is reproduced where the exact solution is known
  trigbench run oracle --budget smoke           the same at a toy budget, in a minute
  trigbench run oracle dimension                one experiment of it
  trigbench run digits claims/two-steps-beat-one-scd
  trigbench run path/to/my.yaml --slurm
  trigbench run my.yaml training --until-decided  batches of seeds, by the experiment's plan
  trigbench run oracle -n -- --quiet all        what follows -- goes to Snakemake

What was made before and is still of these settings and this code is kept.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trigbench._extras import need
from trigbench._nearest import choice
from trigbench._places import ROOT
from trigbench.commands import _completion

if TYPE_CHECKING:
    from trigbench.workflow.study.study import Study

PATIENCE = 2.0
"""Seconds in which a process that was told to die has died, on a busy machine too."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench run`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("run", help="make a study, to its report", description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", help="a study's name, such as oracle, or a YAML file")
    parts = made.add_argument(
        "parts", metavar="PART", nargs="*", default=[], help="an experiment of it, or claims/ID; without any, all"
    )
    made.add_argument("--budget", help="a budget of that study (default: laptop, the study as it stands)")
    made.add_argument("--cores", type=_cores, help="at most so many, or all (default: all that may be used)")
    made.add_argument("--slurm", action="store_true", help="send every run to Slurm as a job (docs/cluster.md)")
    said = "add seeds by each experiment's plan until its claims are decided (docs/verdicts.md)"
    made.add_argument("--until-decided", action="store_true", help=said)
    made.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and why")
    said = "take away the lock that a workflow left which was killed, and do no more; what follows -- goes to Snakemake"
    made.add_argument("--unlock", action="store_true", help=said)
    _completion.by(parts, _completion.parts)
    return made


def _cores(text: str) -> str:
    if text != "all" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores; write a whole number, as 4")
    return text


def main(arguments: argparse.Namespace) -> None:
    """Become Snakemake, so that signals and exit status are its own. Raises BenchError for what is not there."""
    need("workflow", "trigbench run")
    from trigbench.workflow.study.places import FRONT  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    study = load(arguments.study, arguments.budget or DEFAULT_BUDGET)
    command = snakemake(study, arguments, arguments.engine)
    beside = os.path.dirname(sys.executable)  # jobs say `python`, which is to be this one
    os.environ["PATH"] = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    if arguments.until_decided:
        _until_decided(study, arguments)
        if arguments.parts and not arguments.dry_run:
            return
    if not (arguments.dry_run or arguments.unlock):
        print(f"{study.label}: the report will be {FRONT.absolute()}", flush=True)
    os.execv(sys.executable, command)


def _until_decided(study: "Study", arguments: argparse.Namespace) -> None:
    """Make batches of seeds and look, experiment by experiment; what was stopped goes on where it was."""
    from trigbench.workflow.claims.looking import decided_claims, look_words, planned, take_looks  # noqa: PLC0415
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415
    from trigbench.workflow.machine.cores import cores_here  # noqa: PLC0415

    experiments = arguments.parts or planned(study)
    if not experiments:
        remedy = "give one a plan, as seeds: {first: 8, batch: 4, most: 24}"
        raise BenchError("no experiment has a plan that adds seeds", file=study.file, key="experiments", remedy=remedy)
    for experiment in experiments:  # all of them, before anything is made
        decided_claims(study, experiment)
    if arguments.dry_run:
        return
    here = cores_here() if arguments.cores in (None, "all") else int(arguments.cores)
    cores = None if arguments.slurm or study.resources.gpu else here
    for experiment in experiments:
        alone = argparse.Namespace(**{**vars(arguments), "parts": [experiment]})
        command = snakemake(study, alone, arguments.engine)
        for look in take_looks(study, experiment, lambda command=command: _call(command)):
            print(look_words(look, cores), flush=True)


def _call(command: Sequence[str]) -> None:
    """Let Snakemake make it; its end by a signal or an error is the end of all, and signals are for it to answer.

    Snakemake takes a second SIGINT for haste, so that of a terminal, which it got too, is not passed on. It stays in
    our group, or Ctrl-Z and a closed terminal would pass it by.
    """
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    witnesses = [_witness()]

    def pass_on(name: int, _frame: object) -> None:
        if not children:  # it is just being started: told below
            early.append(name)
        elif name != signal.SIGINT or not _group_was_told(witnesses):
            children[0].send_signal(name)

    heard = [name for name in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(name) != signal.SIG_IGN]
    before = {name: signal.signal(name, pass_on) for name in heard}  # first, or a child would be left alone
    try:
        children.append(subprocess.Popen(command))
        for name in early:
            children[0].send_signal(name)
        status = children[0].wait()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        for witness in witnesses:
            witness.communicate()
    if status:
        print("stopped; what was made is kept, and the same command goes on with the same look", file=sys.stderr)
        sys.exit(status if status > 0 else 128 - status)


def _witness() -> "subprocess.Popen[bytes]":
    """A process of our group that does nothing: of SIGINT it dies, and it ends with us."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def _group_was_told(witnesses: "list[subprocess.Popen[bytes]]") -> bool:
    """Whether SIGINT was for all of our group, as Ctrl-C is, and not for us alone; the next one has a new witness."""
    try:
        witnesses[-1].wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    witnesses.append(_witness())
    return True


def snakemake(study: "Study", arguments: argparse.Namespace, more: Sequence[str] = ()) -> list[str]:
    """The words of Snakemake's command line, of which the last ones win."""
    if arguments.slurm:
        need("cluster", "--slurm")
        from trigbench.workflow.machine.cluster import read_site  # noqa: PLC0415

        read_site()  # its mistakes are better said before Snakemake reads the profile
    name = study.study if study.is_shipped else str(study.file)
    return [
        *(sys.executable, "-m", "snakemake", *_targets(study, arguments.parts)),
        *("--snakefile", str(ROOT / "Snakefile"), "--config", f"study={name}", f"budget={study.budget}"),
        *("--workflow-profile", str(_profile("slurm" if arguments.slurm else "default"))),
        *(["--cores", arguments.cores] if arguments.cores else []),
        *(["--dry-run"] if arguments.dry_run else []),
        *(["--unlock"] if arguments.unlock else []),
        *more,
    ]


def _targets(study: "Study", parts: Sequence[str]) -> list[str]:
    """Snakemake's names of a study's parts; none is the whole of it, with the front page. Raises BenchError."""
    from trigbench.workflow.claims.ledger import all_claims, read_claims  # noqa: PLC0415
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415

    if not parts:
        return []
    known = {name: f"{study.label}/{name}" for name in study.experiments}
    known |= {f"claims/{name}": f"claims/{name}" for name in all_claims(read_claims(), [study])}
    for part in parts:
        if part not in known:
            among = [name for name in known if part.startswith("claims/") == name.startswith("claims/")]
            raise BenchError(f"there is no {part!r}", file=study.file, key="PART", remedy=choice(part, among))
    return [known[part] for part in parts]


def _profile(name: str) -> Path:
    """One's own where one starts, or the project's."""
    own = Path("profiles") / name
    return own if (own / "config.yaml").is_file() else ROOT / own
