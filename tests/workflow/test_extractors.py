"""Published feature networks take their weights from a file and nothing else, and compute what they should."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trigbench.workflow.data.features import metrics
from trigbench.workflow.data.features import reference as reference_module
from trigbench.workflow.data.features.dinov2 import DINOv2, dinov2_of, normalised
from trigbench.workflow.data.features.extractors import Extractor, check_weights, open_extractor
from trigbench.workflow.data.features.reference import frechet_to, open_reference, reference_file
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.tensors import read_tensors, write_tensors

PIXELS = torch.randint(256, (3, 3, 20, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Path:
    """A file of random weights in torch-fidelity's layout."""
    module = metrics.fidelity("feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch:
        kept: dict = {}

        class Stop(Exception):
            pass

        def names(network, state, strict=True, assign=False):
            kept.update(network.state_dict())
            raise Stop

        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", names)
        with pytest.raises(Stop):
            module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("weights é") / "inception.safetensors"
    write_tensors(path, {name: value.clone() for name, value in kept.items()})
    return path


@pytest.mark.slow
def test_inception_is_torch_fidelity_s_with_the_weights_of_the_file(inception: Path, monkeypatch) -> None:
    extractor = open_extractor("inception", check_weights("inception", str(inception)))
    found = extractor(PIXELS)
    assert found.shape == (3, 2048) and found.dtype == torch.float64 and bool(found.isfinite().all())
    module, tensors = metrics.fidelity("feature_extractor_inceptionv3"), read_tensors(inception, "")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_, **__: tensors)
    theirs = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])(PIXELS)[0]
    torch.testing.assert_close(found, theirs.double(), rtol=1e-5, atol=1e-6)
    changed = {**tensors, "Conv2d_1a_3x3.conv.weight": tensors["Conv2d_1a_3x3.conv.weight"] * 2}
    write_tensors(inception.with_name("other.safetensors"), changed)
    assert not torch.equal(open_extractor("inception", inception.with_name("other.safetensors"))(PIXELS), found)


def test_weights_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    for kind in ("inception", "dinov2"):
        for name in ("none.safetensors", "weights.pth"):
            (tmp_path / "weights.pth").write_bytes(b"a pickle")
            with pytest.raises(BenchError) as caught:
                check_weights(kind, str(tmp_path / name))
            for wanted in (name, "trigbench.workflow.steps.convert", "docs/data.md", kind):
                assert wanted in str(caught.value)


@pytest.mark.parametrize("kind", ["inception", "dinov2", "classifier"])
def test_weights_of_another_network_are_refused(kind: str, tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", {"0.weight": torch.zeros(3), "0.bias": torch.zeros(3)})
    with pytest.raises(BenchError, match=r"not the weights of[\s\S]*w\.safetensors"):
        open_extractor(kind, tmp_path / "w.safetensors")


@pytest.mark.slow
def test_weights_that_changed_since_the_data_were_prepared_are_refused(inception: Path) -> None:
    with pytest.raises(BenchError, match="checksum differs"):
        open_extractor("inception", inception, "0" * 64)


# --- DINOv2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels, depth, parameters", [(384, 12, 22_056_576), (1024, 24, 304_368_640)])
def test_dinov2_has_the_released_number_of_parameters(channels: int, depth: int, parameters: int) -> None:
    with torch.device("meta"):
        network = DINOv2(channels, depth, patch=14, positions=1 + 37 * 37)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.fixture(scope="module")
def dinov2() -> DINOv2:
    torch.manual_seed(0)
    network = DINOv2(128, 2, patch=14, positions=1 + 37 * 37)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_dinov2_computes_what_its_definition_says(dinov2: DINOv2) -> None:
    """Against attention and norms written out."""
    x = normalised(PIXELS)
    p = dict(dinov2.named_parameters())
    with torch.no_grad():
        tokens = torch.nn.functional.conv2d(x, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=14)
        tokens = torch.cat([p["cls_token"].expand(3, 1, 128), tokens.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + dinov2.positions(16)
        for i in range(2):
            b = {
                name.removeprefix(f"blocks.{i}."): value for name, value in p.items() if name.startswith(f"blocks.{i}.")
            }
            h = _norm(tokens, b["norm1.weight"], b["norm1.bias"]) @ b["attn.qkv.weight"].T + b["attn.qkv.bias"]
            q, k, v = (part.unflatten(-1, (2, 64)).transpose(1, 2) for part in h.chunk(3, dim=-1))
            weights = (q @ k.transpose(-1, -2) / 8).softmax(-1)
            h = (weights @ v).transpose(1, 2).flatten(2) @ b["attn.proj.weight"].T + b["attn.proj.bias"]
            tokens = tokens + b["ls1.gamma"] * h
            h = _norm(tokens, b["norm2.weight"], b["norm2.bias"]) @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"]
            h = 0.5 * h * (1 + torch.erf(h / 2**0.5))
            tokens = tokens + b["ls2.gamma"] * (h @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"])
        expected = _norm(tokens, p["norm.weight"], p["norm.bias"])[:, 0]
        torch.testing.assert_close(dinov2(x), expected, rtol=1e-4, atol=1e-4)


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt() * weight + bias


@pytest.mark.slow
def test_dinov2_is_read_from_its_tensors(dinov2: DINOv2, tmp_path: Path) -> None:
    write_tensors(tmp_path / "dinov2.safetensors", dinov2.state_dict())
    found = open_extractor("dinov2", check_weights("dinov2", str(tmp_path / "dinov2.safetensors")))(PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(found, dinov2(normalised(PIXELS)).double())
    with pytest.raises(ValueError, match=r"blocks\.1\.norm1"):
        dinov2_of({name: value for name, value in dinov2.state_dict().items() if name != "blocks.1.norm1.weight"})


def test_positions_are_kept_at_their_own_grid_and_resized_for_another(dinov2: DINOv2) -> None:
    assert dinov2.positions(37) is dinov2.pos_embed
    small = dinov2.positions(16)
    assert small.shape == (1, 1 + 256, 128) and torch.equal(small[:, 0], dinov2.pos_embed[:, 0])


# --- reference statistics ------------------------------------------------------------------------


def _extractor(path: Path, scale: float = 1.0) -> Extractor:
    mix = torch.randn(48, 5, generator=torch.Generator().manual_seed(1)) * scale
    return Extractor("toy", path, f"{scale}", lambda pixels: pixels.float().flatten(1) @ mix)


def test_statistics_are_torch_fidelity_s_and_kept_for_their_data_and_extractor(tmp_path: Path, monkeypatch) -> None:
    images = torch.randint(256, (4500, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    asked = []

    def read(rows: np.ndarray) -> torch.Tensor:
        asked.append(len(rows))
        return images[rows]

    rows, extractor = np.arange(4500)[::-1].copy(), _extractor(tmp_path / "w")
    origin = reference_file(tmp_path, "train", "digest", extractor, rows, read)
    reference = open_reference(origin, "")
    features = extractor(images.flip(0))
    np.testing.assert_allclose(reference.mean, features.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(reference.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-9)
    torch.testing.assert_close(reference.features, features, rtol=1e-6, atol=1e-4)
    own = features[:300] * 1.1
    assert frechet_to(reference, own) == pytest.approx(metrics.frechet_distance(own, features), rel=1e-6)
    assert sum(asked) == 4500
    assert reference_file(tmp_path, "train", "digest", extractor, rows, read) == origin and sum(asked) == 4500
    for changed in (("train", "other", extractor), ("train", "digest", _extractor(tmp_path / "w", 2.0))):
        assert reference_file(tmp_path, *changed, rows, read)["file"] != origin["file"]
    assert reference_file(tmp_path, "train", "digest", extractor, rows[:100], read)["file"] != origin["file"]


def test_statistics_that_were_cut_off_go_on_to_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    images = torch.randint(256, (7000, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows, extractor, asked = np.arange(7000), _extractor(tmp_path / "w"), []

    def read(rows: np.ndarray) -> torch.Tensor:
        if len(asked) == 2:
            asked.append("cut off")
            raise KeyboardInterrupt
        asked.append(rows[0])
        return images[rows]

    monkeypatch.setattr(reference_module, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        reference_file(tmp_path, "train", "digest", extractor, rows, read)
    origin = reference_file(tmp_path, "train", "digest", extractor, rows, read)
    assert asked == [0, 2000, "cut off", 4000, 6000], "what was seen is not read again"
    undisturbed = reference_file(tmp_path / "other", "train", "digest", extractor, rows, lambda r: images[r])
    assert origin["sha256"] == undisturbed["sha256"]
    assert not list(tmp_path.rglob("*.partial.npz"))


def test_damaged_sums_are_named_and_the_statistics_start_over(tmp_path: Path, capsys) -> None:
    images = torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    asked = tmp_path, "train", "d", _extractor(tmp_path / "w"), np.arange(8), lambda rows: images[rows]
    origin = reference_file(*asked)
    path = Path(origin["file"])
    path.unlink()
    path.with_suffix(".partial.npz").write_bytes(b"PK half a file")
    assert reference_file(*asked) == origin
    assert "partial.npz" in capsys.readouterr().err


def test_too_few_images_for_a_covariance_are_refused(tmp_path: Path) -> None:
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    extractor = _extractor(tmp_path / "w")
    reference = open_reference(reference_file(tmp_path, "t", "d", extractor, np.arange(6), lambda r: images[r]), "")
    with pytest.raises(BenchError, match="5 generated images cannot fix a covariance of 5 dimensions"):
        frechet_to(reference, torch.zeros(5, 5, dtype=torch.float64))
