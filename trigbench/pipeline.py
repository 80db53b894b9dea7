"""An exported map as a pipeline of diffusers, which `trigbench export --format diffusers` writes: its network as a
model, sampled by SCMScheduler, whose steps are TrigFlow's (docs/export.md). Needs diffusers: `trigbench[latents]`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_scm import SCMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from trigbench.core.exported import Exported, network_of


class ExportedNetwork(ModelMixin, ConfigMixin):
    """The network of a card, called as diffusers' unconditional U-Net: in data units, at an angle."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__()
        self.network = network_of(card)

    @property
    def exported(self) -> Exported:
        """The same, in unit variance (core.exported)."""
        return Exported(self.config["card"], self.network)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        guidance_scale: float | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """sigma_d F(sample / sigma_d, timestep), of the sample's shape; `timestep` is an angle, of all rows or each."""
        found = self.exported
        t = torch.as_tensor(timestep, dtype=torch.float64, device=sample.device).expand(len(sample))
        output = found.sigma_d * found.field(class_labels, guidance_scale)(sample / found.sigma_d, t)
        return UNet2DOutput(sample=output) if return_dict else (output,)


class ExportedPipeline(DiffusionPipeline):
    """Samples in few steps: from noise by the map to data, and for each further step noised again and mapped."""

    def __init__(self, network: ExportedNetwork, scheduler: SCMScheduler) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        class_labels: Sequence[int] | Tensor | None = None,
        num_inference_steps: int = 1,
        timesteps: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """So many samples, or one for each of `class_labels`, of a network that is told labels.

        `timesteps` are descending angles from the first on, without the 0 at the end; by default those of the first way
        of the card with so many steps. `latents` are standard normal (batch, *shape), drawn in float32 unless given,
        of a network in half precision too. Of
        `output_type` "latent" samples are in data units, else ("pil", "np", "pt") pictures. Raises ValueError for a
        number of steps that the card does not have, and as Exported.field does.
        """
        found: Exported = self.network.exported
        times = list(timesteps or _times_of(found, num_inference_steps))
        device = self._execution_device
        labels = None if class_labels is None else torch.as_tensor(class_labels, device=device)
        rows = batch_size if labels is None else len(labels)
        if latents is None:
            latents = randn_tensor((rows, *found.shape), generator=generator, device=device)
        self.scheduler.set_timesteps(
            len(times), timesteps=[*times, 0.0], max_timesteps=None, intermediate_timesteps=None, device=device
        )
        first = self.scheduler.timesteps[0]
        x = sample = self.scheduler.config.sigma_data * torch.sin(first) * latents.to(device)  # cos(t) x0 is left out
        shown: Any = self.progress_bar
        for t in shown(self.scheduler.timesteps[:-1]):
            output = self.network(x, t, labels, guidance_scale).sample
            x, sample = self.scheduler.step(output, t, x, generator=generator, return_dict=False)
        images: Any = sample if output_type == "latent" else found.pictures(sample / found.sigma_d)
        if output_type in ("pil", "np"):
            images = images.cpu().permute(0, 2, 3, 1).float().numpy()
        images = self.numpy_to_pil(images) if output_type == "pil" else images
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def _times_of(found: Exported, steps: int) -> list[float]:
    known = {how["steps"]: how["times"] for how in reversed(found.card["samplings"].values())}
    if steps not in known:
        raise ValueError(f"no angles are known for {steps} steps, only for {sorted(known)}: give timesteps=[...]")
    return known[steps]
