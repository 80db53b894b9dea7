"""Pickled checkpoints into .safetensors, and networks out of those."""

import gc
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.core.test_teachers import checkpoint
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.converting import convert
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.run.teachers import open_edm_network
from trigbench.workflow.steps.convert import command

STATE = {"a.weight": torch.ones(2, 3), "b": torch.zeros(())}


class Intruder:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_converted_checkpoint_is_the_network(tmp_path):
    state = {name: tensor.float() for name, tensor in checkpoint("edm2").items()}
    torch.save(state, tmp_path / "published.pt")
    convert(tmp_path / "published.pt", tmp_path / "teacher.safetensors")
    tensors = open_edm_network(tmp_path / "teacher.safetensors").state_dict()
    assert all(torch.equal(tensor, state[f"unet.{name}"]) for name, tensor in tensors.items())


def test_the_entry_with_the_tensors_is_chosen_by_name(tmp_path):
    source, target = tmp_path / "all.pt", tmp_path / "ema.safetensors"
    torch.save({"step": 3, "ema": STATE, "nested": {"net": STATE}}, source)
    with pytest.raises(BenchError, match="--entry: ema"):
        convert(source, target)
    with pytest.raises(BenchError, match=r"key: *nested\.other"):
        convert(source, target, "nested.other")
    assert not target.exists()
    for entry in ("ema", "nested.net"):
        convert(source, target, entry)
        written = read_tensors(target, "")
        assert written.keys() == STATE.keys() and all(torch.equal(written[name], STATE[name]) for name in STATE)


def test_what_needs_code_is_refused_and_its_code_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"net": Intruder(trace)}, tmp_path / "torch.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"ema": Intruder(trace)}))
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "empty.pt").write_bytes(b"")
    for source in ("torch.pt", "plain.pkl", "module.pt", "text.pt", "empty.pt"):
        with pytest.raises(BenchError, match="weights-only loading refuses it") as refusal:
            convert(tmp_path / source, tmp_path / "out.safetensors")
        assert "docs/teachers.md" in str(refusal.value) and source in str(refusal.value)
    assert not trace.exists() and not (tmp_path / "out.safetensors").exists()


def test_the_command_says_what_it_wrote_and_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    torch.save(STATE, tmp_path / "state.pt")
    monkeypatch.setattr(sys, "argv", ["convert", str(tmp_path / "state.pt"), str(tmp_path / "state.safetensors")])
    main(command)
    assert "2 tensors" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["convert", str(tmp_path / "none.pt"), str(tmp_path / "state.safetensors")])
    with pytest.raises(SystemExit):
        main(command)
    assert "there is no such file" in capsys.readouterr().err


def test_a_file_that_is_no_teacher_is_named(tmp_path):
    path = tmp_path / "other.safetensors"
    write_tensors(path, STATE)
    with pytest.raises(BenchError, match=r"neither EDM's(.|\n)*other\.safetensors"):
        open_edm_network(path)


def test_what_is_asked_for_wrongly_is_said_with_what_is_there(tmp_path):
    source = tmp_path / "deep.pt"
    torch.save({"net": {"model": {"weight": torch.ones(2)}}}, source)
    with pytest.raises(BenchError, match=r"--entry: net\.model"):
        convert(source, tmp_path / "net.safetensors", "net.modl")
    with pytest.raises(BenchError, match=r"write to .*net\.safetensors"):
        convert(source, tmp_path / "net.pt", "net.model")
    with pytest.raises(BenchError, match="it is a folder"):
        convert(tmp_path, tmp_path / "net.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["deep.pt"]
