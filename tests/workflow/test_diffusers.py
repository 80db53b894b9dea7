"""A U-Net of the real diffusers, with random weights, as a field."""

import importlib
import os
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from trigbench.core.constants import SIGMA_MIN
from trigbench.core.conversions import field_with_boundary, trig_from_vp
from trigbench.core.forward_mode import TangentMethod, value_and_tangent
from trigbench.core.networks.teachers import field_from_discrete_vp
from trigbench.core.samplers.consistency import sample_consistency
from trigbench.core.trigflow import angle_from_noise_level, consistency_map

SIGMA_D = 0.5


@pytest.fixture(scope="module")
def diffusers() -> Any:
    """The package; where it is missing the test is skipped, and fails in CI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module("diffusers")
            _ = (module.UNet2DModel, module.DDPMScheduler)  # imported when first named
        except ImportError:
            if os.environ.get("CI"):
                raise
            pytest.skip("diffusers is not installed")
    return module


@pytest.fixture(scope="module")
def unet(diffusers) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    ).double()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_field_denoises_as_the_schedulers_own_formula(diffusers, unet, prediction, schedule):
    scheduler = diffusers.DDPMScheduler(prediction_type=prediction, beta_schedule=schedule, clip_sample=False)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    field = field_from_discrete_vp(lambda x, n: unet(x, n).sample, scheduler.alphas_cumprod, SIGMA_D, prediction)
    generator = torch.Generator().manual_seed(1)
    for step in (0, 3, 400, 900):
        x = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            expected = scheduler.step(unet(x, step).sample, step, x, generator=generator).pred_original_sample
            ours = consistency_map(field, *trig_from_vp(x, scheduler.alphas_cumprod[[step, step]].sqrt(), SIGMA_D))
        torch.testing.assert_close(SIGMA_D * ours, expected, rtol=1e-5, atol=1e-5)


def test_samples_of_a_map_with_cms_boundary_are_those_of_cms_scheduler(diffusers):
    """Its Alg. 1 adds sqrt(sigma^2 - sigma_min^2) z: nothing at sigma_min, where sigma z would add 0.002."""
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    scheduler.set_timesteps(timesteps=[39, 20, 5, 1, 0])
    draws = [torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    x = draws[0] * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        output = torch.sin(3 * scheduler.scale_model_input(x, t))
        z = torch.Generator().manual_seed(step + 1)
        x = scheduler.step(output, t, x, generator=z).prev_sample

    bounded = field_with_boundary(lambda x, t: -torch.sin(3 * x), SIGMA_MIN, SIGMA_D)
    times = angle_from_noise_level(scheduler.sigmas[:5].double(), SIGMA_D).tolist()
    boundary = float(angle_from_noise_level(SIGMA_MIN, SIGMA_D))
    noise = torch.stack(draws).double()
    ours = sample_consistency(bounded, noise, times, min(boundary, times[-1]))
    torch.testing.assert_close(SIGMA_D * ours, x.double(), rtol=0, atol=2e-5)
    undivided = sample_consistency(bounded, noise, times)
    assert (undivided - ours).abs().max() > 1e-3


def contiguous(module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Before a group norm, which torch's forward mode cannot take through the strides that attention leaves."""
    return (inputs[0].contiguous(),)


def test_the_fast_tangent_equals_the_reference_and_trains_as_it(unet):
    generator = torch.Generator().manual_seed(2)
    x, v = torch.randn(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
    t, weights = torch.tensor([30.0, 700.0], dtype=torch.float64), torch.randn_like(x)

    def found(method: TangentMethod) -> list[torch.Tensor]:
        value, tangent = value_and_tangent(lambda x, t: unet(x, t).sample, (x, t), (v, torch.ones_like(t)), method)
        return [value.detach(), tangent, *torch.autograd.grad((value * weights).sum(), list(unet.parameters()))]

    ours = found("pairs")  # without a fallback, whose warning is an error here
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(contiguous)
    reference = found("func")
    for own, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
    assert ours[1].abs().max() > 1e-3


# --- networks of diffusers, tiny and random, against torch.func.jvp --------------------------------

WORDS, POOLED = (2, 3, 8), (2, 8)
"""Of the texts that condition them."""
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...], Any, float]] = {
    "WanTransformer3DModel": (
        {
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": 4,
            "out_channels": 4,
            "text_dim": 8,
            "freq_dim": 16,
            "ffn_dim": 16,
            "num_layers": 1,
            "rope_max_seq_len": 16,
        },
        (2, 4, 2, 4, 4),
        lambda n, x, t: n(x, 1000 * t, encoder_hidden_states=normal(WORDS)).sample,
        1e-6,
    ),
    "Lumina2Transformer2DModel": (
        {
            "sample_size": 4,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 24,
            "num_layers": 1,
            "num_refiner_layers": 1,
            "num_attention_heads": 3,
            "num_kv_heads": 1,
            "multiple_of": 4,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (8, 8, 8),
            "cap_feat_dim": 8,
        },
        (2, 4, 4, 4),
        lambda n, x, t: (
            n(
                x, t, encoder_hidden_states=normal(WORDS), encoder_attention_mask=torch.ones(2, 3, dtype=torch.bool)
            ).sample
        ),
        1e-6,
    ),
    "UNet2DConditionModel": (
        {
            "sample_size": 4,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "cross_attention_dim": 8,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 4,
            "norm_num_groups": 4,
        },
        (2, 4, 4, 4),
        lambda n, x, t: n(x, 1000 * t, encoder_hidden_states=normal(WORDS)).sample,
        1e-12,
    ),
    "SD3Transformer2DModel": (
        {
            "sample_size": 4,
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 8,
            "out_channels": 4,
            "pos_embed_max_size": 8,
            "qk_norm": "rms_norm",
        },
        (2, 4, 4, 4),
        lambda n, x, t: (
            n(x, encoder_hidden_states=normal(WORDS), pooled_projections=normal(POOLED), timestep=1000 * t).sample
        ),
        1e-6,
    ),
    "FluxTransformer2DModel": (
        {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "joint_attention_dim": 8,
            "pooled_projection_dim": 8,
            "axes_dims_rope": (4, 2, 2),
        },
        (2, 4, 4),
        lambda n, x, t: (
            n(
                x,
                encoder_hidden_states=normal(WORDS),
                pooled_projections=normal(POOLED),
                timestep=t,
                img_ids=torch.ones(4, 3).cumsum(0),
                txt_ids=torch.zeros(3, 3),
            ).sample
        ),
        1e-12,
    ),
    "SanaTransformer2DModel": (
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "num_layers": 1,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 4,
            "cross_attention_dim": 8,
            "caption_channels": 8,
            "mlp_ratio": 2.0,
            "sample_size": 4,
            "patch_size": 1,
        },
        (2, 4, 4, 4),
        lambda n, x, t: n(x, encoder_hidden_states=normal(WORDS), timestep=1000 * t).sample,
        1e-12,
    ),
    "PixArtTransformer2DModel": (
        {
            "num_attention_heads": 2,
            "attention_head_dim": 4,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 1,
            "cross_attention_dim": 8,
            "sample_size": 4,
            "patch_size": 2,
            "caption_channels": 8,
            "norm_num_groups": 1,
            "use_additional_conditions": False,
        },
        (2, 4, 4, 4),
        lambda n, x, t: (
            n(
                x,
                encoder_hidden_states=normal(WORDS),
                timestep=1000 * t,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            ).sample
        ),
        1e-12,
    ),
}
"""Settings, shape of a point, call, and how far tangents may differ: some round parts of a network to float32."""


def normal(shape: tuple[int, ...], seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_diffusers_have_the_tangent_and_gradients_of_the_reference_without_a_fallback(diffusers, name):
    settings, shape, call, tolerance = NETWORKS[name]
    torch.manual_seed(0)
    network = getattr(diffusers, name)(**settings).double()
    with torch.no_grad():  # no layer stays at zero
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, v, t = normal(shape, 1), normal(shape, 2), torch.tensor([0.3, 0.7], dtype=torch.float64)
    found = []
    for method in ("pairs", "func"):  # a FallbackWarning is an error here
        value, tangent = value_and_tangent(lambda x, t: call(network, x, t), (x, t), (v, 0.01 * t), method)
        loss = (value * normal(tuple(value.shape))).sum()
        found.append([tangent, value.detach(), *torch.autograd.grad(loss, list(network.parameters()))])
    (tangent, *others), (expected, *other_expected) = found
    assert tangent.abs().max() > 1e-2
    torch.testing.assert_close(tangent, expected, rtol=tolerance, atol=tolerance)
    for own, other in zip(others, other_expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-11)
