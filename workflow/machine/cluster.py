"""What is known of a cluster: its local settings, the jobs left by an earlier workflow, the time left to this one."""

import getpass
import os
import re
import shlex
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from trigbench._places import ROOT, place_of
from trigbench.workflow.errors import BenchError, Mistake
from trigbench.workflow.machine.plain import StrictLoader, syntax_said

SITE = Path("profiles/slurm/site.yaml")
TIME_LEFT = re.compile(r"(?:(?:(?P<days>\d+)-)?(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")
RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""The executor plugin calls all jobs of one workflow by one UUID."""


class Site(BaseModel):
    """profiles/slurm/site.yaml: what differs from cluster to cluster; what is empty is left to Slurm."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    account: str | None = None
    partition: str | None = None
    """One, or several with commas between: Slurm takes the first that can run the job."""
    qos: str | None = None
    constraint: str | None = None
    jobs: PositiveInt = 100
    """At most so many in the queue at a time."""
    poll: PositiveInt = 20
    """Seconds between two looks at the queue, at least."""
    runs_per_job: PositiveInt = 1
    """Runs without a GPU that share a job, a core each."""
    max_runtime: PositiveInt | None = None
    """Minutes that no job may exceed, also when it is tried again."""
    max_mem_mb: PositiveInt | None = None
    """The same of its memory."""

    def runtime(self, minutes: int) -> int:
        return min(minutes, self.max_runtime or minutes)

    def mem_mb(self, megabytes: int) -> int:
        return min(megabytes, self.max_mem_mb or megabytes)

    @property
    def resources(self) -> dict[str, str]:
        """By the executor plugin's names, quoted, since the profile's values are read as Python."""
        names = {"slurm_account": self.account, "slurm_partition": self.partition}
        named = names | {"qos": self.qos, "constraint": self.constraint}
        return {name: repr(value) for name, value in named.items() if value}


def read_site() -> Site:
    """The settings from where one starts, or else beside the workflow; raises BenchError naming file and remedy."""
    path = next((p for p in (SITE, ROOT / SITE) if p.is_file()), None)
    if path is None:
        example = shlex.quote(place_of(f"{SITE}.example"))
        remedy = f"mkdir -p {SITE.parent} && cp {example} {SITE}, and put your cluster's names there (docs/cluster.md)"
        raise BenchError("the cluster's settings are missing", file=SITE, remedy=remedy)
    try:
        return Site.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader) or {})
    except Mistake as error:
        raise BenchError(str(error), file=path, remedy=error.remedy) from error
    except yaml.YAMLError as error:
        raise BenchError(
            f"not valid YAML: {syntax_said(error)}", file=path, remedy="mend the syntax at that line"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key, known = ".".join(map(str, first["loc"])), ", ".join(Site.model_fields)
        raise BenchError(first["msg"], file=path, key=key, remedy=f"the keys are: {known}") from error


def site() -> Site:
    """The settings where there are some; one machine needs none."""
    return read_site() if SITE.is_file() or (ROOT / SITE).is_file() else Site()


def refuse_orphans(folder: Path, submits: bool) -> None:
    """Raise BenchError while jobs that a killed workflow submitted from `folder` are in Slurm's queue.

    They would write the same files as the jobs that are about to be submitted in their place. A workflow that
    `submits` jobs has to know; one that does not may start where no Slurm answers.
    """
    left = jobs_left(folder, submits)
    if not left:
        return
    names = " ".join(sorted(left))
    remedy = (
        f"end them, which keeps what they have trained: scancel {names}\n"
        "          or wait until they have ended; then start the workflow again"
    )
    raise BenchError("jobs of a workflow that was killed are still in the queue", file=folder, remedy=remedy)


def jobs_left(folder: Path, needed: bool, tries: int = 3, every: float = 10.0) -> dict[str, str]:
    """Slurm's jobs (id -> state) of this user that a workflow in `folder` submitted.

    Where no Slurm answers: none; or, if the answer is `needed`, BenchError after some tries.
    """
    asked = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%T|%j|%Z"]
    for left in reversed(range(tries)):
        said, problem = _answer(asked)
        if problem is None:
            break
        if not needed:
            return {}
        if not left:
            remedy = "start the workflow again when Slurm answers: jobs of an earlier one may still run"
            raise BenchError(f"squeue does not answer: {problem}", remedy=remedy)
        time.sleep(every)
    jobs = (line.split("|", 3) for line in said.splitlines())
    return {
        job: state
        for job, state, name, place in jobs
        if RUN_ID.search(name) and Path(place).resolve() == folder.resolve()
    }


def seconds_left() -> float | None:
    """Until Slurm ends the job that this process is in; None outside one, or where Slurm does not say."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    said, problem = _answer(["squeue", "--noheader", "--job", job, "--format", "%L"])
    found = TIME_LEFT.fullmatch(said.strip())  # else: UNLIMITED
    if problem is not None or found is None:
        return None
    return timedelta(**{unit: int(number or 0) for unit, number in found.groupdict().items()}).total_seconds()


def _answer(command: list[str]) -> tuple[str, str | None]:
    """What a command prints, and what went wrong."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, done.stderr.strip() or f"status {done.returncode}" if done.returncode else None
