"""Measure a model that was trained elsewhere as a study measures its own: its data, features, numbers and seeds.

  trigbench judge digits samples/ --name theirs               a folder of pictures, a subfolder for each class
  trigbench judge digits samples.npz --name theirs --steps 1  arrays `samples` and `labels`
  trigbench judge oracle mine.py:sample --name mine --data mixture-2d
  trigbench judge cifar10 edm.safetensors --name edm --by "Karras et al."
  trigbench judge cifar10 map.safetensors --name meanflow --steps 1,2,4   a converted map of two times

A function is called as sample(noise, times, labels). What samples and functions have to be stands in docs/judge.md.
The result stands in results/STUDY/outside/NAME and on the study's pages as 'from outside', and no claim rests on it.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from trigbench._extras import need
from trigbench._nearest import choice
from trigbench._places import to_step

if TYPE_CHECKING:
    from trigbench.workflow.run.outside.judging import Asked
    from trigbench.workflow.study.study import Study


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `trigbench judge`."""
    raw = argparse.RawDescriptionHelpFormatter
    said = "measure a model trained elsewhere as a study's own"
    made = subparsers.add_parser("judge", help=said, description=__doc__, formatter_class=raw)
    made.add_argument("study", metavar="STUDY", help="a study's name, such as oracle, or a YAML file")
    made.add_argument("what", metavar="WHAT", help="samples, module:function, file.py:function, or a checkpoint")
    made.add_argument("--name", required=True, help="what the tables call it")
    made.add_argument("--budget", help="a budget of that study (default: laptop)")
    made.add_argument("--data", help="which of the study's data sets, where it has several")
    made.add_argument("--steps", metavar="N,...", help="in how many steps a model samples, or these samples were drawn")
    made.add_argument(
        "--seeds",
        metavar="N,...",
        help="of a model's noise; 0 is that of the study's own runs, by `noise: by_seed` each seed's is theirs",
    )
    made.add_argument("--labels", metavar="FILE", help="the classes of samples, where nothing beside them says so")
    made.add_argument("--by", metavar="WHO", help="whose model it is")
    made.add_argument("--note", metavar="TEXT", help="what should stand beside it")
    made.add_argument("--replace", action="store_true", help="replace what has that name")
    return made


def main(arguments: argparse.Namespace) -> None:
    """Judge, write, print. Raises BenchError for what cannot be compared, before it is measured."""
    need("workflow", "trigbench judge")
    from trigbench.workflow.study.reading import load  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.study import DEFAULT_BUDGET  # noqa: PLC0415

    study = load(arguments.study, arguments.budget or DEFAULT_BUDGET)
    data = _data(study, arguments.data)
    _check_name(study, arguments.name, arguments.replace)
    asked = _asked(study, data, arguments)
    from trigbench.workflow.claims.outside import own_results, write_outside_table  # noqa: PLC0415 - heavy
    from trigbench.workflow.report.outside import printed  # noqa: PLC0415
    from trigbench.workflow.report.writing import report  # noqa: PLC0415
    from trigbench.workflow.run.outside.judging import check_there, judge  # noqa: PLC0415
    from trigbench.workflow.study.outside import write_outside  # noqa: PLC0415

    check_there(asked.what)
    _prepare(study, data)
    record = judge(study, asked)
    path = write_outside(study, record)
    write_outside_table(study)
    print(printed(study, record, own_results(study)))
    report(study)
    print(f"written to {path}, beside all others in {path.parents[1] / 'outside.csv'}, and shown in {study.report}")


def _data(study: "Study", said: str | None) -> str:
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra

    if said is None and len(study.data) == 1:
        return next(iter(study.data))
    if said is None:
        remedy = f"name one with --data: {', '.join(study.data)}"
        raise BenchError("the study has several data sets", file=study.file, key="--data", remedy=remedy)
    if said not in study.data:
        raise BenchError(f"no data {said!r}", file=study.file, key="--data", remedy=choice(said, study.data))
    return said


def _check_name(study: "Study", name: str, replace: bool) -> None:
    """Raise BenchError for a name that is none, that an arm has, or that is taken."""
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.models import NAME  # noqa: PLC0415
    from trigbench.workflow.study.outside import outside_file  # noqa: PLC0415

    if not re.fullmatch(NAME, name):
        remedy = "begin with a letter or digit, and go on with letters, digits, '.', '_' and '-'"
        raise BenchError(f"{name!r} is no name", key="--name", remedy=remedy)
    if name in study.arms:
        raise BenchError(f"{name!r} is an arm of the study", file=study.file, key="--name", remedy="take another name")
    path = outside_file(study, name)
    if path.exists() and not replace:
        raise BenchError(f"there is a {name!r} already", file=path, key="--name", remedy="add --replace, or rename")


def _asked(study: "Study", data: str, arguments: argparse.Namespace) -> "Asked":
    from trigbench.workflow.run.outside.judging import Asked  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.outside import judge_command  # noqa: PLC0415

    options = {
        f"--{key}": getattr(arguments, key)
        for key in ("data", "steps", "seeds", "labels", "by", "note")  # as they were typed
    }
    return Asked(
        what=arguments.what,
        name=arguments.name,
        data=data,
        command=judge_command(study, arguments.what, arguments.name, **options),
        steps=_numbers("--steps", arguments.steps, 1),
        seeds=_numbers("--seeds", arguments.seeds, 0),
        labels=Path(arguments.labels) if arguments.labels else None,
        by=arguments.by,
        note=arguments.note,
    )


def _numbers(key: str, said: str | None, least: int) -> tuple[int, ...]:
    """Whole numbers between commas, each once."""
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra

    words = [word.strip() for word in said.split(",")] if said else []
    if all(word.isdecimal() and int(word) >= least for word in words) and len(set(words)) == len(words):
        return tuple(map(int, words))
    remedy = f"write whole numbers from {least} with commas between them, each once: {key} {least},{least + 1}"
    raise BenchError(f"{said!r} is no list of numbers", key=key, remedy=remedy)


def _prepare(study: "Study", data: str) -> None:
    """Make small data that are not there. Raises BenchError where others are not, and where what is there is stale."""
    from trigbench.workflow.data.preparing import prepare  # noqa: PLC0415
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415 - of the extra
    from trigbench.workflow.study.fingerprint import data_fingerprint  # noqa: PLC0415
    from trigbench.workflow.study.freshness import data_verdict  # noqa: PLC0415
    from trigbench.workflow.study.kinds import data_kind  # noqa: PLC0415

    path = study.data_file(data)
    command = to_step("prepare", "--study", study.said, "--budget", study.budget, "--data", data)
    if not path.is_file() and data_kind(study.data[data]).small:
        print(f"preparing {data}, which nothing has been made of here", flush=True)
        prepare(study, data)
    elif not path.is_file():
        raise BenchError(f"{data} is not prepared", file=path, key=f"data.{data}", remedy=f"prepare it: {command}")
    elif why := data_verdict(study, data, data_fingerprint(study.data_specification(data))):
        remedy = f"prepare it again ({command}), and make again what rests on it: {study.command()}"
        raise BenchError(f"{data} is stale: {why}", file=path, key=f"data.{data}", remedy=remedy)
