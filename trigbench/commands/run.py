"""Make a study from its data to its report, in the current folder: results/ and reports/.

  trigbench run oracle                          what is reproduced where the exact solution is known
  trigbench run oracle --budget smoke           the same at a toy budget, in a minute
  trigbench run oracle dimension                one experiment of it
  trigbench run digits claims/two-steps-beat-one-scd
  trigbench run path/to/my.yaml --slurm
  trigbench run oracle -n -- --quiet all        what follows -- goes to Snakemake

What was made before and is still of these settings and this code is kept.
"""

import argparse
import os
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


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench run`."""
    raw = argparse.RawDescriptionHelpFormatter
    made = subparsers.add_parser("run", help="make a study, to its report", description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", help="a study's name, such as oracle, or a YAML file")
    parts = made.add_argument(
        "parts", metavar="PART", nargs="*", help="an experiment of it, or claims/ID; without any, all"
    )
    made.add_argument("--budget", help="a budget of that study (default: laptop)")
    made.add_argument("--cores", type=_cores, help="at most so many (default: all that may be used)")
    made.add_argument("--slurm", action="store_true", help="send every run to Slurm as a job (docs/cluster.md)")
    made.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and why")
    _completion.by(parts, _completion.parts)
    return made


def _cores(text: str) -> str:
    if text != "all" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError("write a whole number, as 4")
    return text


def main(arguments: argparse.Namespace) -> None:
    """Become Snakemake, so that signals and exit status are its own. Raises BenchError for what is not there."""
    need("workflow", "trigbench run")
    from trigbench.workflow.study.places import FRONT  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.reading import load  # noqa: PLC0415
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    study = load(arguments.study, arguments.budget or DEFAULT_BUDGET)
    command = snakemake(study, arguments, arguments.engine)
    if not arguments.dry_run:
        print(f"{study.label}: the report will be {FRONT.absolute()}", flush=True)
    beside = os.path.dirname(sys.executable)  # jobs say `python`, which is to be this one
    os.environ["PATH"] = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    os.execv(sys.executable, command)


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
