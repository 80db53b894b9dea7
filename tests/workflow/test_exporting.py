"""Runs that leave the house: what `trigbench export` writes draws what the run draws, wherever it is loaded."""

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from benchmarks.grid import NETWORKS, content
from examples.own_network import Waves
from tests.workflow.conftest import ROOT
from trigbench import load_exported
from trigbench.cli import main
from trigbench.core.exported import Exported, exported
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.workflow.data.kinds.idx.draws import to_levels
from trigbench.workflow.data.kinds.latents import autoencoder
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import write_tensors
from trigbench.workflow.run import exporting
from trigbench.workflow.run.assembly import make_network
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.exporting import Leaving, carded, leaving, write_exported
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.task import Task
from trigbench.workflow.run.training import train
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.converted import ConvertedTeacher
from trigbench.workflow.study.kinds import data_kind, read_data
from trigbench.workflow.study.licences import Said, licence_of_data, licence_of_weights
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.records import RunRecord, TrainingRecord, Value, read_record, write_record
from trigbench.workflow.study.study import Run, Study

TRAINED = TrainingRecord(fingerprint="", inputs={}, step=30, rate=1e-3, provenance={"commit": "abc", "dirty": False})
JUDGED = RunRecord(
    status="finished", fingerprint="mark", arm="", seed=0, step=30,
    metrics=[
        Value(metric="fd_train", value=7.0, steps=2, sampler="four", mid_time=1.1, times=(1.1,)),
        Value(metric="collapse", value=0.3),
    ],
)  # fmt: skip
DIGITS = {
    "train": np.zeros((10, 1, 8, 8), np.float32), "train_labels": np.arange(10), "mean": np.float64(5),
    "std": np.float64(6), "sigma_d": np.float64(0.5),
}  # fmt: skip
CLOTHES = {
    "about": np.array(json.dumps({"fold": 2, "mean": 70.0, "std": 90.0, "conditional": False})),
    "train_shown": np.zeros((1, 1, 8, 8)), "train_shown_labels": np.zeros(1), "shares": np.ones(1),
}  # fmt: skip
UNSAID = Said()
FURTHER: dict[str, dict[str, Any]] = {
    "told-scale": {"objective": "scd", "teacher": "free", "guidance_max": 3.0, "samplers": ["guided"]},
    "free": {"objective": "diffusion", "label_dropout": 0.1, "samplers": ["by-itself", "churned"]},
    "renoised": {"objective": "ctm", "teacher": "free", "samplers": ["renoised"]},
    "adapted": {"objective": "lcm", "teacher": "free", "start": "teacher", "adapter": {"rank": 2}},
    "sampled-four": {"objective": "sct", "samplers": ["four"]},
}
WAYS = {
    "guided": {"solver": "few", "times": [[], [1.1]], "guidance": [1.0, 2.5]},
    "by-itself": {"solver": "dpm_pp_2m", "evaluations": [5], "guidance": [2.0]},
    "churned": {"solver": "heun_churn", "evaluations": [5], "churn": 2.0},
    "renoised": {"solver": "jumps", "times": [[1.1, 0.5]], "gamma": 0.6},
    "four": {"solver": "few", "times": [[], [1.1], [1.3, 1.0, 0.6]]},
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Every objective, every network, and what has ways of its own."""
    made = content()
    kept = {n: arm for n, arm in made["arms"].items() if n.startswith(("mlp-", "teacher-mlp")) or n.endswith("-sct")}
    made["arms"] = kept | {name: {"size": "mlp", **arm} for name, arm in FURTHER.items()}
    made["samplers"] = WAYS
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    return load(path)


def task_of(study: Study, arm: str, arrays: dict[str, Any] = DIGITS) -> Task:
    task = without_data(study, arm)
    shares = (0.1,) * task.data.classes or None
    return dataclasses.replace(task, data=dataclasses.replace(task.data, arrays=arrays, shares=shares))


def left_by(task: Task, said: Said = UNSAID) -> Leaving:
    """What leaves of a task whose weights are anything."""
    g = torch.Generator().manual_seed(0)
    weights = kept_of(make_network(task))
    weights = {name: t + 0.1 * torch.randn(t.shape, generator=g) for name, t in weights.items()}
    return carded(task, weights, TRAINED, JUDGED, said)


@pytest.fixture(scope="module")
def four(grid: Study) -> Leaving:
    """Of digits, told labels, sampled in one, two and four steps."""
    return left_by(task_of(grid, "sampled-four"))


def of_own(study: Study, path: str, **settings: Any) -> Study:
    """The study, in which `sampled-four` has a network of somebody's own."""
    own = study.sizes["mlp"].model_copy(update={"network": path, "settings": settings})
    arm = study.arms["sampled-four"].model_copy(update={"size": "own"})
    return study.model_copy(update={"sizes": study.sizes | {"own": own}, "arms": {"sampled-four": arm}})


def of_data(study: Study, **given: Any) -> Study:
    """The study on other data."""
    return study.model_copy(update={"data": {"digits": read_data(given)}})


def of_published(study: Study) -> Study:
    """The study with arms that start from a published network: `distilled`, and `tuned` from its run."""
    four = study.arms["sampled-four"]
    teacher = ConvertedTeacher(file="given/place/edm.safetensors", kind="edm")
    arms = {
        "taught": four.model_copy(update={"teacher": teacher}),
        "distilled": four.model_copy(update={"teacher": teacher, "start": "teacher"}),
        "tuned": four.model_copy(update={"start": "distilled"}),
    }
    return study.model_copy(update={"arms": study.arms | arms})


# --- what is written ---------------------------------------------------------------------------------


def one_of_each(study: Study) -> list[str]:
    """An arm for each way to draw samples, each network, and all that have ways of their own."""
    kinds = {
        (arm.method.sampler, arm.told, arm.method.boundary): name
        for name, arm in reversed(study.arms.items())
        if name.startswith("mlp-")
    }
    return [*kinds.values(), *(f"{network}-sct" for network in NETWORKS), *FURTHER]


@pytest.mark.slow
def test_runs_of_all_kinds_leave_as_what_they_draw_in_every_way(grid: Study, tmp_path: Path) -> None:
    """`write_exported` refuses what is not alike; here kinds and ways are counted, and nothing drawn is a constant."""
    fields, solvers = dict[str, Any](), set[str]()
    for arm in one_of_each(grid):
        write_exported(left_by(task_of(grid, arm)), tmp_path / f"{arm}.safetensors")
        made = load_exported(tmp_path / f"{arm}.safetensors")
        fields[grid.arms[arm].objective] = made.card["network"]["field"]
        solvers |= {how["solver"] for how in made.card["samplings"].values()}
        noise = torch.randn(5, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        drawn = made.sample(noise, torch.arange(4))
        assert drawn.isfinite().all() and drawn.std(0).min() > 0.01, arm
    assert solvers >= {"few", "segments", "jumps", "halves", "heun", "ddim_even", "dpm_pp_2m", "heun_churn"}
    assert set(fields.values()) == {"map", "velocity", None}
    assert (fields["shortcut"], fields["vsd"], fields["cd"]) == (None, None, "map")


def test_a_run_with_noise_of_its_seed_s_own_leaves_as_what_it_draws_from_that(grid: Study, tmp_path: Path) -> None:
    """`write_exported` refuses what is not alike, and would by another seed's noise."""
    evaluation = grid.evaluation.model_copy(update={"noise": "by_seed"})
    task = task_of(grid.model_copy(update={"evaluation": evaluation}), "sampled-four")
    leaving = left_by(dataclasses.replace(task, run=task.run.model_copy(update={"seed": 3})))
    write_exported(leaving, tmp_path / "run.safetensors")
    assert load_exported(tmp_path / "run.safetensors").card["run"]["seed"] == 3


def test_the_card_says_what_the_run_is_and_what_was_measured_in_each_way(four: Leaving) -> None:
    card = four.card
    assert json.loads(json.dumps(card)) == card
    assert {"study": "grid", "arm": "sampled-four", "seed": 0, "steps": 30, "commit": "abc"}.items() <= card[
        "run"
    ].items()
    assert "2410.11081" in card["run"]["citation"] and card["data"]["licence"].startswith("CC BY 4.0")
    assert card["weights"] is None and card["units"].keys() == {"sigma_d", "pictures"}
    metrics = {way: how["metrics"] for way, how in card["samplings"].items()}
    assert metrics == {"four-1": {}, "four-2-t1.1": {"fd_train": 7.0}, "four-4-t1.3-t1-t0.6": {}}
    assert card["metrics"] == {"collapse": 0.3}


def test_no_place_of_a_file_here_stands_in_the_card(grid: Study) -> None:
    places = {"path": "given/place/clothes", "extractor": {"kind": "inception", "weights": "/given/place/weights.pt"}}
    study = of_data(of_published(grid), kind="idx", size=8, fold=2, **places)
    card = left_by(task_of(study, "distilled", CLOTHES), Said(data="CC0", weights="CC BY")).card
    assert card["run"]["settings"]["teacher"] == {"kind": "edm", "content": None}
    assert card["weights"]["licence"] == "CC BY" and card["data"]["licence"] == "CC0"
    assert "place" not in json.dumps(card)


def test_units_of_latents_say_how_they_are_an_autoencoder_s(
    grid: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "load_diffusers", lambda _: None)  # takes seconds, and nothing is decoded
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights.safetensors").write_text("")
    places = {"path": "given/place", "held_out": "given/place", "vae": str(tmp_path)}
    judged = {"extractor": {"kind": "inception", "weights": "given/place"}}
    study = of_data(grid, kind="imagenet512", size=64, classes=10, **places, **judged)
    found = left_by(task_of(study, "sampled-four", {}))
    latents, made = found.card["units"]["latents"], exported(found.card, found.weights)
    assert latents["autoencoder"]["sha256"].keys() == {"config.json", "weights.safetensors"}
    x = made.sample(torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(2))
    mean, std = (torch.tensor(latents[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(mean + std * x, autoencoder.denormalise(x))
    assert str(tmp_path) not in json.dumps(found.card) and "place" not in json.dumps(found.card)


def test_pictures_are_what_the_data_show(four: Leaving, grid: Study) -> None:
    made = exported(four.card, four.weights)
    samples = 2 * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    kind = data_kind(grid.data["digits"])
    assert kind.images is not None
    images = kind.images(DIGITS, 1)
    levels = (images.decoded(samples.numpy()) - images.black) / (images.white - images.black)
    np.testing.assert_allclose(made.pictures(samples)[:, 0], levels.clip(0, 1), atol=1e-6)

    task = task_of(of_data(grid, kind="idx", size=8, fold=2), "sampled-four", CLOTHES)
    assert task.data.shape == (4, 4, 4)
    folded = exported((found := left_by(task, Said(data="CC0"))).card, found.weights)
    samples = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal((255 * folded.pictures(samples)).round().byte(), to_levels(samples, 70.0, 90.0, 2))


# --- what is refused ---------------------------------------------------------------------------------


def test_what_a_model_is_not_told_or_lacks_is_refused(
    four: Leaving, grid: Study, unchecked: Callable[[], AbstractContextManager[None]]
) -> None:
    made, noise, labels = exported(four.card, four.weights), torch.zeros(2, 3, 1, 8, 8), torch.arange(3)
    wrong: dict[str, Callable[[], object]] = {
        "from 0 to 9$": lambda: made.sample(noise),
        "labels are from 0 to 9, got 0 to 10": lambda: made.field(torch.tensor([0, 10])),
        "one label a row: 2 for 3": lambda: made.sample(noise, labels[:2]),
        "one label a row: 1 for 3": lambda: made.field(labels[:1])(noise[0], torch.ones(3)),
        "no way 'x' to sample it; there are four-1, ": lambda: made.sample(noise, labels, "x"),
        r"noise is of \(4 or more, batch, 1, 8, 8\) here": lambda: made.sample(noise, labels, made.ways[2]),
        "not trained to be guided": lambda: made.field(labels, 2.0),
        "no target time": lambda: made.jump(labels),
        "are no pictures": lambda: Exported({"units": {"pictures": None}}, made.network).pictures(noise[0]),
        "format 2": lambda: exported({**four.card, "format": 2}, {}),
        "missing: ": lambda: exported(four.card, {}),
    }
    for said, call in wrong.items():
        with pytest.raises(ValueError, match=said), unchecked():
            call()
    guided = left_by(task_of(grid, "told-scale"))
    with pytest.raises(ValueError, match="told its scale of guidance"):
        exported(guided.card, guided.weights).field(labels)
    edges = left_by(task_of(grid, "mlp-ms_scd"))
    with pytest.raises(ValueError, match="from some angles alone"):
        exported(edges.card, edges.weights).field(labels)


def test_a_file_that_is_damaged_or_was_not_exported_is_refused(four: Leaving, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    write_exported(four, path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run.safetensors is damaged"):
        load_exported(path)
    write_tensors(path, four.weights)
    with pytest.raises(ValueError, match="has no card"):
        load_exported(path)


class Drawn(nn.Module):
    """A network whose function is not all in what is kept of it."""

    drawn: torch.Tensor

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.register_buffer("drawn", torch.randn(shape), persistent=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.scale * self.drawn * x


def test_a_network_of_one_s_own_leaves_and_is_made_by_who_loads_it_where_it_is_all_in_its_weights(
    grid: Study, tmp_path: Path
) -> None:
    found = left_by(task_of(of_own(grid, "examples.own_network:Waves", waves=8), "sampled-four"))
    write_exported(found, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"examples.own_network:Waves, no part of trigbench: .* network="):
        load_exported(tmp_path / "own.safetensors")
    made = load_exported(tmp_path / "own.safetensors", Waves)
    assert made.sample(torch.randn(1, 2, 1, 8, 8), torch.arange(2)).std() > 0
    drawn = left_by(task_of(of_own(grid, f"{__name__}:Drawn"), "sampled-four"))
    with pytest.raises(BenchError, match=r"from what the run draws from the same noise[\s\S]*key: +sizes.own.network"):
        write_exported(drawn, tmp_path / "drawn.safetensors")
    assert not (tmp_path / "drawn.safetensors").exists()


def test_a_licence_is_said_where_it_is_not_known_and_there_alone(grid: Study) -> None:
    idx, unsaid = of_data(grid, kind="idx", size=8), r"under which licence[\s\S]*--licence 'CC BY 4.0'"
    for said in (None, "", " "):
        with pytest.raises(BenchError, match=unsaid):
            licence_of_data(idx, "digits", said)
    assert licence_of_data(idx, "digits", "CC0") == "CC0"
    with pytest.raises(BenchError, match=r"'digits' is known: CC BY 4.0[\s\S]*key: +--licence[\s\S]*leave it out"):
        licence_of_data(grid, "digits", "CC0")
    study = of_published(grid)
    for arm in ("distilled", "tuned"):
        for said in (None, ""):
            with pytest.raises(BenchError, match=rf"{arm} started from edm:edm.safetensors[\s\S]*--weights-licence '"):
                licence_of_weights(study, Run(arm=arm, seed=0), said)
        assert licence_of_weights(study, Run(arm=arm, seed=0), "CC BY") == "CC BY"
    for arm in ("taught", "adapted", "free"):
        assert licence_of_weights(study, Run(arm=arm, seed=0), None) is None
    with pytest.raises(BenchError, match=r"no published network's weights[\s\S]*leave it out"):
        licence_of_weights(study, Run(arm="taught", seed=0), "CC BY")


@pytest.mark.slow
def test_what_is_stopped_before_it_is_checked_leaves_nothing(
    diffusers: Any, four: Leaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trigbench.workflow.run import exported_pipeline  # noqa: PLC0415 - takes diffusers

    def stopped(*_: object) -> None:
        assert any(tmp_path.iterdir()), "it is written by then"
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "check_alike", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_exported(four, tmp_path / "run.safetensors")
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(exported_pipeline, "_check_read", stopped)
    with pytest.raises(KeyboardInterrupt):
        exported_pipeline.write_pipeline(four, tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_a_network_in_half_precision_is_near_the_one_in_float32(four: Leaving) -> None:
    made = exported(four.card, four.weights)
    noise, labels = torch.randn(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    exact = made.sample(noise, labels)
    made.network.to(torch.bfloat16)
    half = made.sample(noise, labels)
    assert half.dtype == torch.float32 and 0 < (half - exact).abs().max() < 0.05 * exact.std()


# --- the command, and who loads what it writes --------------------------------------------------------


@pytest.fixture
def trained(
    tiny: dict[str, Any], with_data: Callable[[dict], Study], unchecked: Callable[[], AbstractContextManager[None]]
) -> Study:
    """A study with a finished run, of an adapter of its teacher, in the current folder."""
    adapter = {"teacher": "base", "start": "teacher", "adapter": {"rank": 2}, "iterations": 3}
    tiny["arms"] = {"base": {"objective": "diffusion", "iterations": 2}, "scd": {"objective": "scd", **adapter}}
    tiny["experiments"] = {"training": tiny["experiments"]["training"]}
    study = with_data(tiny)
    with unchecked():
        train(study, Run(arm="base", seed=0))
        make_run(study, Run(arm="scd", seed=0))
    return study


def required(*names: str) -> set[str]:
    """The distributions that these cannot do without, themselves among them."""
    found, pending = set[str](), list(names)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        if name not in found:
            found.add(name)
            pending += [re.split(r"[^\w.-]", line)[0] for line in wanted if "extra ==" not in line]
    return found


@pytest.fixture(scope="module")
def core_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages in which nothing stands but trigbench and what its core needs."""
    folder = tmp_path_factory.mktemp("core_alone")
    tops = {
        file.parts[0]: Path(str(metadata.distribution(name).locate_file(file.parts[0])))
        for name in required("torch", "numpy", "jaxtyping", "safetensors")
        for file in metadata.files(name) or ()  # some share a folder, as CUDA's do
    }
    for top in tops.keys() - {"..", "__pycache__"}:
        (folder / top).symlink_to(tops[top])
    (folder / "trigbench").symlink_to(ROOT / "trigbench")
    return folder


EXAMPLE = """
import runpy, sys
sys.argv = ["", *sys.argv[1:]]
runpy.run_path(%r)
try:
    import pydantic
except ModuleNotFoundError:
    print("alone")
"""


@pytest.mark.slow
def test_the_command_writes_a_file_that_five_lines_load_with_what_the_core_needs(
    trained: Study, core_alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(trained.files(Run(arm="scd", seed=0)).folder), "--study", str(trained.file)]
    main(words)
    assert "tiny-scd-seed-0.safetensors: tiny scd seed 0" in capsys.readouterr().out
    base, made = (load_file(file) for file in (trained.files(Run(arm="base", seed=0)).weights, *Path().glob("*.saf*")))
    assert base.keys() == made.keys() and any(not torch.equal(base[name], made[name]) for name in base)
    assert str(Path.cwd()) not in json.dumps(load_exported("tiny-scd-seed-0.safetensors").card)
    with pytest.raises(SystemExit, match=r"there is something already[\s\S]*--out"):
        main(words)
    example = ROOT / "examples/exported.py"
    code = [line for line in example.read_text().split('"""')[2].splitlines() if line and "import" not in line]
    assert len(code) <= 5
    environment = {"PYTHONPATH": str(core_alone), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-W", "error", "-c", EXAMPLE % str(example), "tiny-scd-seed-0.safetensors"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("alone\n"), done.stderr
    assert "16 samples of tiny scd seed 0" in done.stdout


def test_a_run_that_is_not_finished_or_not_of_now_does_not_leave(trained: Study) -> None:
    run = Run(arm="scd", seed=0)
    words = ["export", str(trained.files(run).folder), "--study", str(trained.file)]
    refused = {}
    for name, out in (("suffix", "x.pt"), ("folder", "none/x.safetensors")):
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--out", out])
        refused[name] = str(stopped.value)
    assert "ends with .safetensors" in refused["suffix"] and "its folder is not there" in refused["folder"]
    record = read_record(trained.files(run).metrics)
    for part, said in (("sampling", "sampled"), ("evaluation", "judged")):
        other = {"fingerprint": "other", "parts": record.parts | {part: "other"}}
        write_record(trained.files(run).metrics, record.model_copy(update=other))
        with pytest.raises(BenchError, match=f"not judged as it is now: .*{said}"):
            leaving(trained, run, UNSAID)
    write_record(trained.files(run).metrics, record.model_copy(update={"status": "diverged"}))
    with pytest.raises(BenchError, match="nothing leaves: the run diverged"):
        leaving(trained, run, UNSAID)
    trained.files(run).metrics.unlink()
    with pytest.raises(BenchError, match="not judged as it is now: no record"):
        leaving(trained, run, UNSAID)
    other = trained.model_copy(update={"sigma_d": 0.6})
    with pytest.raises(BenchError, match="trained from something else"):
        leaving(other, run, Said())
    assert not [*Path().glob("*.safetensors")]


# --- of diffusers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diffusers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, which copies the code of a folder that it trusts into a place of the test's own."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        module = importlib.import_module("diffusers")
        modules = importlib.import_module("diffusers.utils.dynamic_modules_utils")
        patch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        module.utils.logging.disable_progress_bar()
        yield module


TIMES = {1: [1.56], 2: [1.56, 1.1], 4: [1.56, 1.3, 1.0, 0.6]}


@pytest.mark.slow
def test_a_folder_of_diffusers_samples_as_the_core_from_the_same_noise_in_one_two_and_four_steps(
    diffusers: Any, four: Leaving, grid: Study, tmp_path: Path
) -> None:
    from trigbench.workflow.run.exported_pipeline import write_pipeline  # noqa: PLC0415 - takes diffusers

    labels = torch.tensor([3, 1, 4, 1, 5])
    for name, found, scale in (("four", four, None), ("guided", left_by(task_of(grid, "told-scale")), 2.0)):
        write_pipeline(found, tmp_path / name)
        pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / name, trust_remote_code=True)
        pipeline.set_progress_bar_config(disable=True)
        assert not [*tmp_path.glob(".*")]
        assert (type(pipeline).__name__, pipeline.scheduler.config.sigma_data) == ("ExportedPipeline", 0.5)
        field = exported(found.card, found.weights).field(labels, scale)
        for steps, times in TIMES.items():
            noise = [torch.randn(5, 1, 8, 8, generator=g) for g in [torch.Generator().manual_seed(7)] for _ in times]
            ours = sample_consistency(field, torch.stack(noise), times)
            about = {"class_labels": labels, "timesteps": times, "guidance_scale": scale}
            theirs = pipeline(**about, generator=torch.Generator().manual_seed(7), output_type="latent").images
            torch.testing.assert_close(theirs, 0.5 * ours, rtol=0, atol=1e-6)
            assert steps == 1 or ours.std() > 0.1
    again = {"generator": torch.Generator().manual_seed(7), "guidance_scale": 2.0, "output_type": "np"}
    pictures = pipeline(class_labels=labels, timesteps=times, **again).images
    np.testing.assert_allclose(pictures[..., 0], pipeline.network.exported.pictures(ours)[:, 0], atol=1e-5)
    assert pipeline(class_labels=[3], guidance_scale=2.0).images[0].size == (8, 8)
    with pytest.raises(ValueError, match=r"no angles are known for 3 steps, only for \[1, 2\]: give timesteps"):
        pipeline(class_labels=[3], guidance_scale=2.0, num_inference_steps=3)
    pipeline.to(torch.bfloat16)
    half = pipeline(**about, generator=torch.Generator().manual_seed(7), output_type="latent").images
    assert half.dtype == torch.float32 and 0 < (half - theirs).abs().max() < 0.05 * theirs.std()


@pytest.mark.slow
def test_what_scm_scheduler_does_not_sample_is_refused(diffusers: Any, grid: Study) -> None:
    from trigbench.workflow.run.exported_pipeline import check_pipeline  # noqa: PLC0415 - takes diffusers

    wrong = {
        "free": "is sampled by dpm_pp_2m and heun_churn",
        "renoised": "is sampled by jumps",
        "mlp-cd": "ends at the noise level 0.002",
    }
    for arm, said in wrong.items():
        with pytest.raises(BenchError, match=rf"{said}[\s\S]*key: +--format[\s\S]*as safetensors"):
            check_pipeline(left_by(task_of(grid, arm)))
    own = left_by(task_of(of_own(grid, "examples.own_network:Waves", waves=8), "sampled-four"))
    with pytest.raises(BenchError, match="Waves, is no part of trigbench"):
        check_pipeline(own)


@pytest.mark.slow
def test_every_objective_is_refused_by_diffusers_or_drawn_by_it(diffusers: Any, grid: Study, tmp_path: Path) -> None:
    from trigbench.workflow.run.exported_pipeline import check_pipeline, write_pipeline  # noqa: PLC0415

    refused = set[str]()
    for arm in grid.arms:
        found = left_by(task_of(grid, arm))
        try:
            check_pipeline(found)
        except BenchError as error:
            assert "SCMScheduler takes maps to data" in str(error), arm
            refused.add(arm)
        else:
            if arm in one_of_each(grid):
                write_pipeline(found, tmp_path / arm)
    assert refused >= {"mlp-vsd", "mlp-dmd2", "mlp-sid", "mlp-shortcut", "mlp-ms_scd", "mlp-cd", "teacher-mlp"}
    assert not refused & {"mlp-scd", "mlp-sct", "sampled-four", "told-scale", "adapted"}
