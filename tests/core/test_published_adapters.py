"""Published adapters by their three ways of naming, against y = W x + (alpha / rank) B (A x) of every layer."""

import json
import re

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.core.test_teachers import without
from trigbench.core.low_rank import adapted_weights, merged
from trigbench.core.networks.ddpmpp import DDPMpp
from trigbench.core.networks.dit import DiT
from trigbench.core.published_adapters import METADATA, adapter_from, said_alpha

RANK, ALPHA = 3, 12.0


def networks() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {
            "DiT": DiT((2, 4, 4), 3, width=16, depth=1, heads=2, conditioning="plain"),
            "DDPM++": DDPMpp((2, 4, 4), 3, width=8, multipliers=(1, 2), blocks=1, attention=(2,)),
        }
        for network in made.values():
            for weight in network.double().parameters():
                nn.init.normal_(weight, std=0.2)
        return made


NETWORKS = networks()


def in_peft(network: nn.Module) -> dict[str, Tensor]:
    """Of every layer that the house adapts, as peft saves them."""
    g, state = torch.Generator().manual_seed(1), dict[str, Tensor]()
    for name, weight in adapted_weights(network).items():
        layer, ones = f"base_model.model.{name.removesuffix('.weight')}", (1,) * (weight.ndim - 2)
        for part, shape in {"A": (RANK, *weight.shape[1:]), "B": (len(weight), RANK, *ones)}.items():
            state[f"{layer}.lora_{part}.weight"] = 0.3 * torch.randn(shape, generator=g, dtype=torch.float64)
    return state


def as_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("base_model.model.", "unet."): tensor for name, tensor in state.items()}


def as_old_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {".lora_A.": ".lora.down.", ".lora_B.": ".lora.up."}
    return {re.sub(r"\.lora_[AB]\.", lambda m: renamed[m[0]], n): t for n, t in as_diffusers(state).items()}


def as_kohya(state: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    found = dict[str, Tensor]()
    for name, tensor in state.items():
        layer, part = name.removeprefix("base_model.model.").rsplit(".lora_", 1)
        flat = f"lora_unet_{layer.replace('.', '_')}"
        found[f"{flat}.lora_{'down' if part[0] == 'A' else 'up'}.weight"] = tensor
        found[f"{flat}.alpha"] = torch.tensor(alpha)
    return found


def beside(network: nn.Module, state: dict[str, Tensor], scale: float, *given: Tensor) -> Tensor:
    """The network with scale B(A(input)) added to each layer's output, as peft evaluates it."""

    def hook_of(A: Tensor, B: Tensor):
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if isinstance(layer, nn.Linear):
                return output + scale * nn.functional.linear(nn.functional.linear(inputs[0], A), B)
            assert isinstance(layer, nn.Conv2d)
            within = nn.functional.conv2d(inputs[0], A, stride=layer.stride, padding=layer.padding)  # type: ignore
            return output + scale * nn.functional.conv2d(within, B)

        return hook

    layers = {name.split(".lora_")[0] for name in state}
    hooks = []
    for layer in layers:
        parts = (state[f"{layer}.lora_{part}.weight"] for part in "AB")
        hooks.append(
            network.get_submodule(layer.removeprefix("base_model.model.")).register_forward_hook(hook_of(*parts))
        )
    try:
        return network(*given)
    finally:
        for hook in hooks:
            hook.remove()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x, torch.tensor([0.1, 0.8, 1.5]).double(), torch.tensor([0, 3, 2])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("naming", ["peft", "diffusers", "old diffusers", "kohya"])
def test_a_published_adapter_merged_is_what_it_adds_beside_each_layer(kind, naming):
    network, state = NETWORKS[kind], in_peft(NETWORKS[kind])
    weights = dict(network.named_parameters())
    named, alpha, scale = {
        "peft": (state, ALPHA, ALPHA / RANK),
        "diffusers": (as_diffusers(state), None, 1.0),
        "old diffusers": (as_old_diffusers(state), ALPHA, ALPHA / RANK),
        "kohya": (as_kohya(state, ALPHA), None, ALPHA / RANK),
    }[naming]
    adapter = adapter_from(named, weights, alpha)
    assert adapter.keys() == {f"{name}.{part}" for name in adapted_weights(network) for part in ("down", "up")}
    ours = functional_call(network, merged(weights, (adapter, 1.0)), inputs())
    exact = beside(network, state, scale, *inputs())
    torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)
    assert (exact - network(*inputs())).abs().max() > 0.1
    if naming != "kohya":
        again = adapter_from(named, None, alpha)
        assert again.keys() == adapter.keys() and all(torch.equal(again[name], adapter[name]) for name in adapter)


def test_lcm_lora_is_of_the_unet_that_has_its_names():
    """Its names without dots are found among those of diffusers' U-Net, whose own have underscores."""
    layer = "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0"
    weights = {
        f"{layer}.weight": torch.zeros(6, 4),
        "conv_in.weight": torch.zeros(4, 2, 3, 3),
        "conv_in.bias": torch.ones(4),
    }
    down, up = torch.ones(2, 4), torch.full((6, 2), 3.0)
    name = f"lora_unet_{layer.replace('.', '_')}"
    state = {
        f"{name}.lora_down.weight": down.half(),
        f"{name}.lora_up.weight": up.half(),
        f"{name}.alpha": torch.tensor(8.0),
    }
    adapter = adapter_from(state, weights)
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}
    found = merged(weights, (adapter, 1.0))
    assert (
        torch.equal(found[f"{layer}.weight"], 8 / 2 * up @ down)
        and found["conv_in.weight"] is weights["conv_in.weight"]
    )


def test_what_is_no_such_adapter_is_named():
    network = NETWORKS["DiT"]
    weights, state = dict(network.named_parameters()), in_peft(network)
    one = "base_model.model.blocks.0.qkv.lora_A.weight"
    with pytest.raises(ValueError, match=r"nothing says alpha of .*lora_alpha of the adapter_config\.json"):
        adapter_from(state, weights)
    with pytest.raises(ValueError, match="alpha for its layers, and another was given"):
        adapter_from(as_kohya(state, 1.0), weights, alpha=2.0)
    with pytest.raises(ValueError, match=r"without their pair: base_model\.model\.blocks\.0\.qkv\.lora_B\.weight$"):
        adapter_from(without(state, one), weights, ALPHA)
    for more in (
        "base_model.model.blocks.0.qkv.lora_magnitude_vector",
        "text_encoder.a.lora_A.weight",
        "a.lora_B.bias",
    ):
        with pytest.raises(ValueError, match=f"unexpected: {re.escape(more)}$"):
            adapter_from(state | {more: torch.ones(2)}, weights, ALPHA)
    with pytest.raises(ValueError, match="nothing is there"):
        adapter_from({})
    with pytest.raises(ValueError, match=r"lost its dots: give the weights"):
        adapter_from(as_kohya(state, 1.0))
    with pytest.raises(ValueError, match=r"none of the \d+ weights: unet\.mid\.qkv$"):
        adapter_from(
            {"unet.mid.qkv.lora_A.weight": torch.ones(2, 4), "unet.mid.qkv.lora_B.weight": torch.ones(4, 2)}, weights
        )
    with pytest.raises(
        ValueError, match=r"blocks\.0\.qkv\.weight is of \(48, 16\), its adapter of \(3, 15\) and \(48, 3\)"
    ):
        adapter_from(state | {one: torch.ones(3, 15)}, weights, ALPHA)
    with pytest.raises(ValueError, match=r"qkv is of \(4, 16\) and \(48, 3\), not \(rank, ...\)"):
        adapter_from(state | {one: torch.ones(4, 16)}, weights, ALPHA)
    again = one.replace("base_model.model.", "unet.")
    with pytest.raises(ValueError, match=r"two layers of the file are of blocks\.0\.qkv\.weight"):
        adapter_from(state | {again: state[one], again.replace("_A", "_B"): torch.ones(48, 3)}, weights, ALPHA)
    with pytest.raises(ValueError, match=r"lora_A\.default\.weight \(3, 16\) is one too many of"):
        adapter_from(state | {one.replace("A.", "A.default."): state[one]}, weights, ALPHA)
    kohya = as_kohya(state, 1.0)
    with pytest.raises(ValueError, match=r"qkv\.alpha \(2,\) is one too many of .*, or no number"):
        adapter_from(kohya | {"lora_unet_blocks_0_qkv.alpha": torch.ones(2)}, weights)
    for empty in (torch.ones(0, 16), torch.ones(())):
        with pytest.raises(ValueError, match=r"not \(rank, ...\)"):
            adapter_from(state | {one: empty}, weights, ALPHA)
    twice = {"a.b.weight": torch.ones(2, 2), "a_b.weight": torch.ones(2, 2)}
    with pytest.raises(ValueError, match="same name without dots"):
        adapter_from(as_kohya(state, 1.0), twice)


def metadata(**said: object) -> dict[str, str]:
    return {"format": "pt", METADATA: json.dumps({name.replace("__", "."): value for name, value in said.items()})}


PLAIN = {"unet__r": 8, "unet__use_rslora": False, "unet__use_dora": False, "unet__alpha_pattern": {}}


def test_alpha_is_read_from_what_diffusers_says_beside_the_tensors():
    assert said_alpha({}) is None and said_alpha({"format": "pt"}) is None
    assert said_alpha(metadata(**PLAIN, unet__lora_alpha=2, unet__rank_pattern={"a": 4})) == 2.0
    assert said_alpha(metadata(transformer__lora_alpha=0.5, text_encoder__use_dora=True)) == 0.5
    assert said_alpha(metadata(text_encoder__lora_alpha=2)) is None
    refused = {
        "use_rslora(.*)times the root of the rank": {"unet__use_rslora": True},
        "use_dora(.*)merge it with peft": {"transformer__use_dora": True},
        "alpha_pattern(.*)merge it with peft": {"unet__alpha_pattern": {"a.b": 3}},
        "not one number": {"transformer__lora_alpha": 3},
        "is 0, and is a number above 0": {"unet__lora_alpha": 0},
    }
    for words, said in refused.items():
        with pytest.raises(ValueError, match=words):
            said_alpha(metadata(**PLAIN | {"unet__lora_alpha": 2} | said))
    for content in ("{", "[]"):
        with pytest.raises(ValueError, match=r"is no (JSON|mapping)"):
            said_alpha({METADATA: content})
    with pytest.raises(ValueError, match="not one number"):
        said_alpha(metadata(unet__lora_alpha="2"))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_in_the_file_is_above_0(alpha):
    network = NETWORKS["DiT"]
    with pytest.raises(ValueError, match=r"alpha of 'lora_unet_.* is a number above 0"):
        adapter_from(as_kohya(in_peft(network), alpha), dict(network.named_parameters()))
