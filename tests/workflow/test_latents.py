"""ImageNet 512: latents with the paper's normalisation, encoded by a step of its own, judged as images."""

import importlib
import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from tests.workflow.conftest import step
from tests.workflow.drawn import write_autoencoder, write_images
from trigbench.workflow.data.autoencoders import load_diffusers
from trigbench.workflow.data.features import judging
from trigbench.workflow.data.files.shards import open_shards
from trigbench.workflow.data.kinds.latents import making as latents
from trigbench.workflow.data.kinds.latents.autoencoder import (
    check_autoencoder,
    denormalise,
    normalise,
    open_autoencoder,
)
from trigbench.workflow.data.kinds.latents.draws import open_dataset
from trigbench.workflow.data.kinds.latents.kind import LatentsData
from trigbench.workflow.errors import BenchError
from trigbench.workflow.steps.encode import command
from trigbench.workflow.study.samplers import EvaluationSettings

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="it is an extra")
SIDE, PER_CLASS = 32, 24
EVALUATION = EvaluationSettings(samples=70)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    place = write_autoencoder(tmp_path_factory.mktemp("a home é"), SIDE)
    for part, seed in (("train", 0), ("val", 100)):
        write_images(place / part, PER_CLASS, SIDE + 8, seed=seed)
    return place


@pytest.fixture
def data(home: Path, monkeypatch: pytest.MonkeyPatch) -> LatentsData:
    monkeypatch.chdir(home)
    weights = "dinov2.safetensors"
    return LatentsData.model_validate(
        {"kind": "imagenet512", "path": "train", "held_out": "val", "size": SIDE, "vae": "vae", "classes": 3,
         "count": 72, "extractor": {"kind": "dinov2", "weights": weights}, "dinov2": weights}
    )  # fmt: skip


def test_normalisation_is_the_paper_s_and_is_undone() -> None:
    """(x - mu) sigma_d / sigma_c in data units, so (x - mu) / sigma_c in unit variance (App. G.1)."""
    raw = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    unit = normalise(raw, torch.zeros(2, 4, 3, 3))
    for channel, (mu, sigma) in enumerate(zip((1.56, -0.695, 0.483, 0.729), (5.27, 5.91, 4.21, 4.31), strict=True)):
        torch.testing.assert_close(unit[:, channel], (raw[:, channel] - mu) / sigma)
    torch.testing.assert_close(denormalise(unit), raw[:, :4])
    noisy = normalise(raw, torch.ones(2, 4, 3, 3))
    torch.testing.assert_close(denormalise(noisy), raw[:, :4] + raw[:, 4:])


def test_the_autoencoder_sees_images_from_minus_one_to_one(data: LatentsData) -> None:
    encode, decode = open_autoencoder(Path("vae"))
    pixels = torch.randint(256, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network = load_diffusers("vae").AutoencoderKL.from_pretrained("vae").eval()
    with torch.no_grad():
        theirs = network.encode(pixels.float() / 127.5 - 1).latent_dist
        decoded = network.decode(theirs.mean).sample
    found = encode(pixels)
    torch.testing.assert_close(found, torch.cat([theirs.mean, theirs.std], 1))
    back = decode(found[:, :4])
    assert back.shape == pixels.shape and torch.equal(back, back.to(torch.uint8))
    torch.testing.assert_close(back, ((decoded.clamp(-1, 1) + 1) * 127.5).round(), atol=1, rtol=0)


@pytest.mark.slow
def test_latents_are_encoded_once_drawn_and_judged_as_images(data: LatentsData) -> None:
    about = latents.encode(data, latents.parts_of(data))
    arrays, facts = latents.prepare(data, EVALUATION, 0.5)
    assert judging.about_of(arrays)["parts"] == about["parts"], "prepared from what was encoded"
    assert facts["train"] == 72 and "dinov2" in facts["protocol"]["extractor"] and "[-1, 1]" in str(facts["protocol"])
    dataset = open_dataset(arrays, 0.5)
    assert dataset.shape == (4, SIDE // 8, SIDE // 8) and dataset.classes == 3
    one, two = (dataset.draw(torch.Generator().manual_seed(5), 30) for _ in range(2))
    assert torch.equal(one[0], two[0])
    shards = open_shards(Path(about["folder"]) / "train", about["parts"]["train"], "")
    g = torch.Generator().manual_seed(5)
    chosen, noise = torch.randint(72, (30,), generator=g).numpy(), torch.randn(30, 4, 4, 4, generator=g)
    expected = normalise(torch.from_numpy(shards.rows(chosen)), noise)
    torch.testing.assert_close(one[0], expected, rtol=0, atol=0)
    assert shards.labels is not None and one[1].label.tolist() == shards.labels[chosen].tolist()
    raw = torch.from_numpy(shards.rows(np.arange(72)))
    means = normalise(raw, torch.zeros(72, 4, 4, 4))
    found = latents.judge_samples(dataset, means)
    assert set(found) == set(latents.METRICS["samples"])
    assert found["fdd_train"] == pytest.approx(found["fd_train"], rel=1e-6), "here both features are DINOv2's"
    worse = latents.judge_samples(dataset, means + 3, ["fd_train"])
    assert set(worse) == {"fd_train"} and worse["fd_train"] > found["fd_train"]
    means[5] = 1e38  # a number, and none once it is decoded
    lost = latents.judge_samples(dataset, means, ["fd_train", "recall"])
    assert set(lost) == {"fd_train", "recall"} and all(map(math.isnan, lost.values())), "and no black picture"
    assert {value.metric for value in latents.floors(dataset)} == set(latents.METRICS["samples"]) - {"fd_held_out"}


def test_what_is_missing_is_asked_for(data: LatentsData, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"autoencoder is not there[\s\S]*sd-vae-ft-mse"):
        check_autoencoder(tmp_path)
    without = data.model_copy(update={"vae": str(tmp_path / "no")})
    with pytest.raises(BenchError, match="autoencoder is not there"):
        latents.prepare(without, EVALUATION, 0.5)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(BenchError, match="autoencoder is not there"):
        check_autoencoder(tmp_path)


def test_encoding_is_a_step_of_its_own(
    data: LatentsData, home: Path, tiny: dict, write_study, monkeypatch, capsys
) -> None:
    content = tiny | {"data": {"mixture": data.model_dump()}, "evaluation": {"samples": 70}}
    content["arms"] = {"scd": {"objective": "sct"}, "dscd-4": {"objective": "dsct", "intervals": 4}}
    content["sizes"] = {"small": {"width": 16, "blocks": 1}}
    content["data"]["mixture"]["dinov2"] = None
    content["data"]["mixture"]["extractor"] = {"kind": "inception", "weights": "none.safetensors"}
    content["evaluation"] = {"samples": 3000}
    content["experiments"]["discretisation"]["metric"] = "fd_train"
    file = write_study(content)
    monkeypatch.setattr(sys, "argv", ["encode", "--study", str(file), "--data", "mixture"])
    command()
    assert "72 of train, 72 of held_out" in capsys.readouterr().out
    failed = step("prepare", "--study", file, "--data", "mixture", cwd=home, check=False)
    assert failed.returncode == 2 and "weights of the extractor 'inception'" in failed.stderr


def test_diffusers_that_cannot_be_imported_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(reason: Exception) -> Callable[[str], NoReturn]:
        def import_module(name: str) -> NoReturn:
            raise reason

        return import_module

    other_build = RuntimeError("Failed to import diffusers:\noperator torchvision::nms does not exist")
    for reason, remedy in ((other_build, "of one build"), (ImportError("No module"), r"trigbench\[latents\]")):
        monkeypatch.setattr(importlib, "import_module", refuse(reason))
        with pytest.raises(BenchError, match=remedy):
            load_diffusers("vae")
