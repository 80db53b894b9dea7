"""The GPUs of one machine: found without torch, and each given to one job at a time."""

import contextlib
import multiprocessing
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, environment
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.gpus import VISIBLE, gpu_slot, visible_gpus

TWO = ("GPU-a", "GPU-b")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch):
    """(output of nvidia-smi -L) -> a machine whose driver prints that."""

    def make(listing: str) -> None:
        tool = tmp_path / "bin/nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}\nEND\n")
        tool.chmod(0o755)
        monkeypatch.delenv(VISIBLE, raising=False)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")

    return make


def test_gpus_are_found_by_uuid_and_one_that_is_cut_up_by_its_parts(machine) -> None:
    machine("GPU 0: NVIDIA H100 (UUID: GPU-11-aa)\nGPU 1: NVIDIA H100 (UUID: GPU-22-bb)")
    assert visible_gpus() == ("GPU-11-aa", "GPU-22-bb")
    machine("GPU 0: NVIDIA H100 (UUID: GPU-11-aa)\n  MIG 1g.10gb Device 0: (UUID: MIG-33-cc)")
    assert visible_gpus() == ("MIG-33-cc",)


def test_what_somebody_made_visible_stays_the_limit(machine, monkeypatch) -> None:
    machine("GPU 0: NVIDIA H100 (UUID: GPU-11-aa)")
    for named, expected in {"2,3": ("2", "3"), "": (), "-1": ()}.items():
        monkeypatch.setenv(VISIBLE, named)
        assert visible_gpus() == expected


def test_a_machine_without_a_driver_has_none(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == ()


def test_a_slot_shows_cuda_its_own_gpu_and_none_where_none_is_asked_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    with gpu_slot(1, slots=tmp_path) as first, gpu_slot(1, slots=tmp_path, there=TWO) as second:
        assert (first, second) == (("GPU-a",), ("GPU-b",))
        assert os.environ[VISIBLE] == "GPU-b"
    assert os.environ[VISIBLE] == "GPU-a,GPU-b"
    monkeypatch.delenv(VISIBLE)
    with gpu_slot(0, slots=tmp_path) as none:
        assert none == ()
        assert os.environ[VISIBLE] == ""
    assert VISIBLE not in os.environ


def test_more_than_there_are_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="3 GPUs are asked for, and there are 2"), gpu_slot(3, TWO, tmp_path):
        pass


def test_a_job_waits_until_all_that_it_asks_for_are_free_and_holds_none_meanwhile(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, ",".join(TWO))  # and as it was in the end: two threads leave what one of them found
    order: list[str] = []

    def both() -> None:
        with gpu_slot(2, TWO, tmp_path, every=0.01):
            order.append("both")

    with gpu_slot(1, TWO, tmp_path):
        waiting = threading.Thread(target=both)
        waiting.start()
        time.sleep(0.1)
        with gpu_slot(1, TWO, tmp_path, every=0.01) as other:
            assert other == ("GPU-b",)
            order.append("one")
    waiting.join(10)
    assert order == ["one", "both"]


def _hold(folder: str, taken) -> None:
    with gpu_slot(1, TWO, Path(folder), every=0.01) as (name,):
        taken.put(name)
        time.sleep(60)


def _told(taken, jobs: list) -> str:
    """What the next of the jobs took: however long it takes to start, unless one of them ended."""
    while all(job.is_alive() for job in jobs):
        with contextlib.suppress(queue.Empty):
            return taken.get(timeout=0.1)
    raise AssertionError(f"a job ended: {[job.exitcode for job in jobs]}")


@pytest.mark.slow
def test_a_killed_job_gives_its_gpu_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    jobs = [context.Process(target=_hold, args=(str(tmp_path), taken)) for _ in TWO]
    for job in jobs:
        job.start()
    assert {_told(taken, jobs) for _ in TWO} == set(TWO)
    for job in jobs:
        job.kill()
        job.join()
    with gpu_slot(2, TWO, tmp_path, every=0.01) as both:
        assert both == TWO


def test_a_job_that_becomes_another_program_keeps_its_gpu(tmp_path: Path) -> None:
    code = f"""if True:
        import os, pathlib
        from trigbench.workflow.machine.gpus import gpu_slot
        with gpu_slot(1, {TWO}, pathlib.Path({str(tmp_path)!r})):
            os.execvp("sh", ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; read line"])
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "GPU-a\n"
        with gpu_slot(1, TWO, tmp_path, every=0.01) as other:
            assert other == ("GPU-b",)
        job.communicate("end\n", timeout=30)
    with gpu_slot(2, TWO, tmp_path, every=0.01) as both:
        assert both == TWO


def test_finding_gpus_imports_no_torch() -> None:
    code = "from trigbench.workflow.machine import cluster, gpus; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
