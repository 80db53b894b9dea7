"""benchmarks/gpu.py at toy sizes: that it measures, checks and writes all that it names. No GPU has run it."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_at_toy_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")  # as benchmarks/shared.py sets it, for as long as this lasts
    gpu = importlib.import_module("gpu")
    gpu.main(["--toy", "--out", str(tmp_path)])
    table = pd.read_csv(tmp_path / "gpu.csv")
    attention, steps = (table[table.what == what] for what in ("attention", "step"))
    assert set(zip(attention.method, attention["mode"], attention.length, strict=True)) == {
        (kind, mode, length)
        for kind in ("plain", "causal", "masked")
        for mode in ("forward", "forward and gradient")
        for length in gpu.TOY.lengths
    }
    assert set(zip(steps.method, steps["mode"], strict=True)) == {
        (method, mode) for method in ("diffusion", "scd", "sct") for mode in ("eager", "compiled")
    }
    assert set(steps[steps.method == "diffusion"]["time"]) == {1}
    assert (table.time_low <= table.time).all() and (table.time <= table.time_high).all()
    assert (attention.error < 1e-6).all() and (steps.error < 1e-6).all() and (table.device == "cpu, toy").all()
    assert (tmp_path / "gpu.svg").stat().st_size > 1000 and (tmp_path / "gpu.png").stat().st_size > 1000
    with torch.device("meta"):  # what it is for
        sizes = {name: sum(p.numel() for p in case.make().parameters()) for name, case in gpu.GPU.cases.items()}
    assert 120e6 < sizes["DiT-B/2"] < 140e6 and 250e6 < sizes["EDM2-S"] < 300e6
    assert gpu.GPU.lengths[0] == 256 and gpu.GPU.lengths[-1] == 16384
    capsys.readouterr()
    with pytest.raises(SystemExit):
        gpu.main(["--toy", "--minutes", "0.5", "--out", str(tmp_path)])
    assert "left out" in capsys.readouterr().out
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            gpu.main([])
        assert "no GPU here; --toy" in capsys.readouterr().err
