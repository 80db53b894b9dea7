"""A Slurm of one node in a folder, from the system's packages: no root, systemd, cgroups or accounting needed."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.workflow import warm
from tests.workflow.conftest import environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
PACKAGES = "slurm-wlm slurm-client munge"
CPUS, MEMORY_MB = 4, 16_000
"""What the node claims to have: enough for four small runs side by side, whatever the machine."""
SBIN = os.pathsep.join(("/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Slurm:
    """A running one."""

    folder: Path
    environment: dict[str, str]
    """In which its commands find it."""

    @property
    def warm(self) -> dict[str, str]:
        """The same, in which a job's processes are warm; its signals reach those alone that Slurm itself started."""
        path = os.pathsep.join((str(self.folder / "bin"), str(Path(warm.python()).parent), self.environment["PATH"]))
        return {**self.environment, "PATH": path}

    def ask(self, *command: str) -> str:
        """The output of one of its commands."""
        done = _run(self, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, about: str = "", states: str = "all") -> list[list[str]]:
        """[id, state, comment, time limit] of the jobs whose comment holds `about`, oldest first."""
        out = self.ask("squeue", "--noheader", "--states", states, "--sort", "i", "--format", "%i|%T|%k|%l")
        return [job for line in out.splitlines() if about in (job := line.strip().split("|"))[2]]

    def logs(self) -> str:
        """What its daemons wrote last, for the message of a failing test."""
        return "\n".join(f"== {path}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("log/*.log")))


def missing() -> list[str]:
    """Which of the programs are not installed."""
    return [name for name in PROGRAMS if _which(name) is None]


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """Start one in `folder`, wait until its node is idle, and leave no process of it behind."""
    for part in ("munge", "state", "spool", "log", "run", "bin"):
        (folder / part).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    socket_file, conf = folder / "run/munge.socket", folder / "slurm.conf"
    key = folder / "munge/key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf.write_text(_configuration(folder, socket_file))
    (folder / "gres.conf").write_text("Name=gpu Type=toy File=/dev/null\nName=gpu Type=toy File=/dev/zero\n")
    # the executor plugin takes SLURM_CONF away inside a job; /etc/slurm need not be ours
    for name in ("srun", "squeue"):
        wrapper = folder / "bin" / name
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF="{conf}" exec {_which(name)} "$@"\n')
        wrapper.chmod(0o755)
    ours = environment()
    path = os.pathsep.join((str(folder / "bin"), ours["PATH"], SBIN))
    slurm = Slurm(folder, {**ours, "SLURM_CONF": str(conf), "PATH": path})
    try:
        _start(slurm, "munged", "--force", f"--key-file={key}", f"--socket={socket_file}",
               f"--pid-file={folder}/run/munged.pid", f"--log-file={folder}/log/munged.log",
               f"--seed-file={folder}/munge/seed")  # fmt: skip
        _start(slurm, "slurmctld")
        _start(slurm, "slurmd")
        _wait_until_idle(slurm)
        yield slurm
    finally:
        _stop(slurm)


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), SBIN)))


def _configuration(folder: Path, socket_file: Path) -> str:
    host, user = socket.gethostname().split(".")[0], getpass.getuser()
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": _free_port(),
        "SlurmdPort": _free_port(),
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={socket_file}",
        "CredType": "cred/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "run/slurmctld.pid",
        "SlurmdPidFile": folder / "run/slurmd.pid",
        "SlurmctldLogFile": folder / "log/slurmctld.log",
        "SlurmdLogFile": folder / "log/slurmd.log",
        "MpiDefault": "none",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=2,bf_interval=2",
        "SlurmdParameters": "config_overrides",  # the node claims more than the machine may have
        "ReturnToService": 2,
        "KillWait": 15,  # between SIGTERM and SIGKILL
        "MinJobAge": 86400,  # ended jobs stay visible, for the tests to count
        "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "GresTypes": "gpu",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory={MEMORY_MB} Gres=gpu:toy:2 State=UNKNOWN",
        f"PartitionName=main Nodes={host} Default=YES MaxTime=1-0 State=UP",
    ]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(slurm: Slurm, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=slurm.environment, capture_output=True, text=True, timeout=60, check=False, cwd=slurm.folder
    )


def _start(slurm: Slurm, program: str, *arguments: str) -> None:
    """The daemon goes into the background by itself."""
    done = _run(slurm, str(_which(program)), *arguments)
    assert done.returncode == 0, f"{program}: {done.stderr}{slurm.logs()}"


def _wait_until_idle(slurm: Slurm, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = _run(slurm, "sinfo", "--noheader", "--format", "%t")
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    raise AssertionError(f"the node is not idle after {seconds} s: {done.stdout}{done.stderr}{slurm.logs()}")


def _stop(slurm: Slurm, seconds: float = 30) -> None:
    """Cancel what runs, and end the daemons in the order that lets each say goodbye to the next."""
    _run(slurm, "scancel", f"--user={getpass.getuser()}")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _run(slurm, "squeue", "--noheader").stdout.strip():
            break
        time.sleep(0.2)
    for name in ("slurmd", "slurmctld", "munged"):
        pid_file = slurm.folder / f"run/{name}.pid"
        if not pid_file.is_file():
            continue
        _end(int(pid_file.read_text()), deadline)


def _end(pid: int, deadline: float) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, how)
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
