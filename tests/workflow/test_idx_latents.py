"""Grey images in the latents of an autoencoder of their own: drawn as it encodes them and judged as it decodes them;
and a student of latents in diffusers' LCMScheduler, and a network of its kind in our sampler."""

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.workflow.test_idx import CLASSES, COUNTS, SIDE, write_idx
from trigbench.core.exported import exported
from trigbench.core.map_conversions import field_from_lcm
from trigbench.core.networks.teachers import step_at
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.schedules import largest_angle
from trigbench.workflow.data.features import extractors
from trigbench.workflow.data.kinds.idx.labelled import labelled
from trigbench.workflow.data.kinds.idx.latents import making
from trigbench.workflow.data.kinds.idx.latents.autoencoder import FILES, autoencoder_of, said_of
from trigbench.workflow.data.kinds.idx.latents.draws import open_dataset
from trigbench.workflow.data.kinds.idx.latents.kind import IDX_LATENTS, IdxLatentsData
from trigbench.workflow.data.preparing import prepare
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.exporting import leaving
from trigbench.workflow.run.make import make_run
from trigbench.workflow.run.training import train
from trigbench.workflow.study.kinds import known_of
from trigbench.workflow.study.licences import Said
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings
from trigbench.workflow.study.sources import places_named
from trigbench.workflow.study.study import Run, Study

EVALUATION = EvaluationSettings(samples=80)


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """The package; where it is missing tests are skipped, and fail in CI."""
    try:
        module = importlib.import_module("diffusers")
        _ = (module.AutoencoderKL, module.LCMScheduler)  # imported when first named
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("diffusers is not installed")
    return module


def given(folder: Path, **images: Any) -> dict[str, Any]:
    of = {"kind": "idx", "path": str(folder), "size": SIDE, "classes": CLASSES, **images}
    return {"kind": "idx_latents", "images": of, "widths": [4, 4, 8], "seen": 320}


@pytest.fixture(scope="module")
def prepared(diffusers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[IdxLatentsData, dict, dict]]:
    """(settings, arrays, facts), in the folder where they were prepared."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(extractors, "FEWEST_STEPS", 20)
        data = IdxLatentsData.model_validate(given(write_idx(home / "files")))
        yield data, *making.prepare(data, EVALUATION, 0.5)


# --- the data -------------------------------------------------------------------------------------


def test_latents_are_drawn_of_each_image_s_own_distribution_in_unit_variance(prepared, diffusers) -> None:
    data, arrays, facts = prepared
    dataset, known = open_dataset(arrays, 0.5), known_of(data)
    assert (dataset.shape, dataset.classes, dataset.shares) == (known.shape, known.classes, (40,) * CLASSES)
    assert dataset.shape == (4, SIDE // 4, SIDE // 4) and facts["train"] == COUNTS["train"]
    network = diffusers.AutoencoderKL.from_pretrained(said_of(arrays)["folder"], low_cpu_mem_usage=False)
    shift, scale = network.config.shift_factor, network.config.scaling_factor
    train = making._shards(arrays, "train")
    with torch.no_grad():
        found = network.encode(torch.from_numpy(train.rows(np.arange(160))).float() / 127.5 - 1).latent_dist
    x0, condition = dataset.draw(torch.Generator().manual_seed(5), 60)
    g = torch.Generator().manual_seed(5)
    chosen, z = torch.randint(160, (60,), generator=g), torch.randn(60, *dataset.shape, generator=g)
    expected = (found.mean[chosen] + found.std[chosen] * z - shift) * scale
    torch.testing.assert_close(x0, expected, rtol=2e-3, atol=2e-3)  # float16 lies between
    assert train.labels is not None and condition.label.tolist() == train.labels[chosen.numpy()].tolist()
    many = dataset.draw(torch.Generator().manual_seed(0), 2000)[0]
    assert (many.mean(), many.std()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))
    decoded = autoencoder_of(arrays).decode(x0)
    with torch.no_grad():
        theirs = network.decode(x0 / scale + shift).sample
    torch.testing.assert_close(decoded, ((theirs.clamp(-1, 1) + 1) * 127.5).round(), rtol=0, atol=1)
    assert torch.equal(decoded, decoded.to(torch.uint8).float())


def test_samples_are_decoded_and_read_as_the_class_that_was_asked_for(prepared) -> None:
    data, arrays, facts = prepared
    dataset, autoencoder = open_dataset(arrays, 0.5), autoencoder_of(arrays)
    held = making._shards(arrays, "held_out")  # whose classes come in turn, as samples' do
    mean, _ = autoencoder.encode(torch.from_numpy(held.rows(np.arange(96)))).chunk(2, dim=1)
    found = making.judge_samples(dataset, mean)
    assert set(found) == set(making.METRICS["samples"]) == set(known_of(data).metrics["samples"])  # pyright: ignore
    levels = autoencoder.decode(mean).to(torch.uint8)
    about = making.about_of(arrays)
    read = labelled(dataset).read(making.to_unit_variance(levels, about["mean"], about["std"], 1))
    assert found["recognised"] == pytest.approx(float((read == torch.arange(96) % CLASSES).float().mean()))
    again = making.judge_samples(dataset, mean.roll(1, 0), ["recognised", "fd_train"])
    assert again["recognised"] == pytest.approx(float((read.roll(1) == torch.arange(96) % CLASSES).float().mean()))
    assert again["fd_train"] == pytest.approx(found["fd_train"]), "the same pictures, in another order"
    for turned, share in ((0, 1.0), (1, 0.0)):  # a reader that errs in nothing, or in everything
        with pytest.MonkeyPatch.context() as patch:
            said = (torch.arange(2000) + turned) % CLASSES
            reader = SimpleNamespace(read=lambda images, said=said: said[: len(images)])
            patch.setattr(making, "labelled", lambda dataset, reader=reader: reader)
            assert making.judge_samples(dataset, mean, ["recognised"])["recognised"] == share
    floors = {value.metric: value.value for value in making.floors(dataset)}
    assert floors.keys() == {name for name in found if not name.endswith("_held_out")}
    assert 0 < facts["fd_train_of_held_out_images_as_they_are"] < floors["fd_train"], "what is lost in the autoencoder"
    assert 0 < facts["autoencoder_rms_held_out"] < 0.5
    mean[5] = 1e38  # a number, and none once it is decoded
    lost = making.judge_samples(dataset, mean, ["fd_train", "recognised"])
    assert set(lost) == {"fd_train", "recognised"} and np.isnan([*lost.values()]).all()


def test_an_autoencoder_that_is_damaged_is_made_again_to_the_same_bits(prepared, monkeypatch) -> None:
    data, arrays, _ = prepared
    assert [str(path) for path in places_named(data.model_dump())] == [data.images.path], "its files are its own"
    said = said_of(arrays)
    weights, config = (Path(said["folder"]) / name for name in reversed(FILES))
    weights.write_bytes(weights.read_bytes()[:-4] + b"else")
    with pytest.raises(BenchError, match="damaged"):
        autoencoder_of(arrays)
    assert said_of(making.prepare(data, EVALUATION, 0.5)[0]) == said
    config.unlink()
    assert said_of(making.prepare(data, EVALUATION, 0.5)[0]) == said
    autoencoder_of(arrays)


def test_pictures_are_what_is_decoded_and_data_conform(prepared) -> None:
    data, arrays, _ = prepared
    assert IDX_LATENTS.images is not None
    seen = IDX_LATENTS.images(arrays, 6)
    x0 = open_dataset(arrays, 0.5).draw(torch.Generator().manual_seed(0), 3)[0]
    assert seen.real.shape == (6, SIDE, SIDE) and seen.encoded is None
    np.testing.assert_allclose(seen.decoded(x0.numpy()), autoencoder_of(arrays).decode(x0)[:, 0].numpy() / 255)
    kept = [*Path("results/shards").rglob("0*.npy"), *Path("results/shards").rglob("*.safetensors")]
    before = [file.stat().st_mtime_ns for file in kept]
    found = check_data(making, data)
    assert {one.check for one in found if one.state == "failed"} == set(), found
    assert len(kept) == 5 and [file.stat().st_mtime_ns for file in kept] == before, "nothing is made twice"


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        ({"size": 30}, "images.size: 30 pixels cannot be halved twice"),
        ({"extractor": {"kind": "random"}}, "images.extractor: features of 'random' read no class"),
        ({"conditional": False}, "images.conditional: without labels nothing is asked for"),
        ({"sise": 28}, "images.sise"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(images: dict, wanted: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=wanted):
        IdxLatentsData.model_validate(given(tmp_path, **images))


def test_what_is_missing_is_said_with_the_line_to_type_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, imported = IdxLatentsData.model_validate(given(tmp_path / "nowhere")), importlib.import_module

    def import_module(name: str, *rest: Any) -> Any:
        def refuse() -> NoReturn:
            raise ImportError("No module named 'diffusers'")

        return refuse() if name == "diffusers" else imported(name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", import_module)
        with pytest.raises(BenchError, match=r"needs the package diffusers(.|\n)*pip install 'trigbench\[latents\]'"):
            making.prepare(data, EVALUATION, 0.5)
    monkeypatch.setattr(making, "load_diffusers", lambda key: None)
    with pytest.raises(BenchError, match=r"no train-images-idx3-ubyte(.|\n)*apt install dataset-fashion-mnist"):
        making.prepare(data, EVALUATION, 0.5)


# --- in a study, and in diffusers -----------------------------------------------------------------


@pytest.fixture
def study(tiny: dict, write_study: Callable[[dict], Path], prepared) -> Study:
    """A guided teacher of the prepared latents, and its students."""
    data = prepared[0]
    tiny["data"] = {"clothes": data.model_dump(mode="json", exclude_defaults=True)}
    tiny["defaults"] |= {"data": "clothes", "iterations": 3, "batch": 16}
    tiny["samplers"] = {"even": {"solver": "few", "times": [[], [1.1890553, 0.7822732, 0.4067821]], "guidance": [1.5]}}
    student = {"objective": "lcm", "teacher": "teacher", "start": "teacher", "guidance_max": 3.0, "samplers": ["even"]}
    tiny["arms"] = {
        "teacher": {"objective": "diffusion", "label_dropout": 0.1},
        "lcm": {**student, "skip": 100},
        "lcm-lora": {**student, "skip": 100, "adapter": {"rank": 2}},
    }
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    tiny["evaluation"] = {"samples": 80}
    found = load(write_study(tiny))
    prepare(found, "clothes")
    return found


@pytest.mark.slow
def test_diffusers_lcm_scheduler_runs_a_student_to_the_same_picture(diffusers: Any, study: Study) -> None:
    """F is its v in unit variance, and its timesteps are even in the angle by the betas of such a schedule."""
    train(study, Run(arm="teacher", seed=0))
    angles = largest_angle(0.5) * torch.arange(1001, dtype=torch.float64) / 1000
    kept = angles.cos().square()
    scheduler = diffusers.LCMScheduler(
        trained_betas=(1 - kept[1:] / kept[:-1]).tolist(), prediction_type="v_prediction"
    )
    labels = torch.tensor([0, 3, 1])
    for arm in ("lcm", "lcm-lora"):
        run = Run(arm=arm, seed=0)
        record = make_run(study, run)
        assert record is not None and "recognised" in {value.metric for value in record.metrics}
        left = leaving(study, run, Said(data="MIT"))
        assert left.card["units"]["pictures"] is None
        assert left.card["units"]["latents"]["autoencoder"]["sha256"].keys() >= {"config.json"}
        model = exported(left.card, left.weights)
        g = torch.Generator().manual_seed(7)
        noise = torch.stack([torch.randn(3, *model.shape, generator=g) for _ in range(4)])
        ours = model.sample(noise, labels, model.ways[1])

        scheduler.set_timesteps(4)
        g, field = torch.Generator().manual_seed(7), model.field(labels, 1.5)
        x = torch.randn(3, *model.shape, generator=g)
        x = found = scheduler.add_noise(torch.zeros_like(x), x, scheduler.timesteps[:1])
        for n in scheduler.timesteps:
            x, found = scheduler.step(field(x, angles[n + 1].expand(3)), n, x, generator=g, return_dict=False)
        torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)
        theirs, own = (autoencoder_of(left.task.data.arrays).decode(latents) for latents in (found, ours))
        assert (theirs - own).abs().mean() < 0.01 and own.unique().numel() > 10, "of levels from 0 to 255"


def test_our_sampler_runs_a_network_of_diffusers_as_lcm_scheduler_does(diffusers: Any) -> None:
    """A U-Net that is told its guidance predicts the noise, on Stable Diffusion's schedule, in float64."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        time_cond_proj_dim=6,
    ).double()
    words, told = (torch.randn(2, *shape, dtype=torch.float64) for shape in ((3, 8), (6,)))
    scheduler = diffusers.LCMScheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(4)

    def predict(x: Tensor, n: Tensor) -> Tensor:
        with torch.no_grad():
            return unet(x, n, encoder_hidden_states=words, timestep_cond=told).sample

    g = torch.Generator().manual_seed(3)
    start = torch.randn(2, 4, 4, 4, generator=g, dtype=torch.float64)
    x = theirs = scheduler.add_noise(torch.zeros_like(start), start, scheduler.timesteps[:1])
    for n in scheduler.timesteps:
        x, theirs = scheduler.step(predict(x, n), n, x, generator=g, return_dict=False)

    g = torch.Generator().manual_seed(3)
    noise = torch.stack([torch.randn(2, 4, 4, 4, generator=g, dtype=torch.float64) for _ in range(4)])
    squared = scheduler.alphas_cumprod
    levels = ((1 - squared) / squared).log() / 2
    step = lambda alpha: step_at(((1 - alpha.square()) / alpha.square()).log() / 2, levels).round()  # noqa: E731
    field = field_from_lcm(lambda x, alpha: predict(x, step(alpha)), lambda alpha: 10 * step(alpha), 1.0)
    times = squared[scheduler.timesteps].sqrt().acos().tolist()
    ours = sample_consistency(field, noise, times)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert ours.std() > 0.1
