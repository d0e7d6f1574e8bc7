"""GENIE's latent vectors and generator (Jeon et al., CVPR 2023)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.generators.networks import Geometry, InputSpace
from dfq_deploy.synthesis.inversion.loop import ImageParameters
from dfq_deploy.synthesis.inversion.optimizers import Decay, Plateau, ScheduledAdam
from dfq_deploy.twin.precision import autocast

__all__ = ["GenieGenerator", "Latents"]

BETAS = (0.9, 0.999)


class GenieGenerator(nn.Module):
    """Linear to 128 maps of a quarter of the image's size; BatchNorm; doubled; Conv3x3 to 64, BatchNorm and LeakyReLU
    0.2; doubled; Conv3x3 to the image's channels; Tanh; BatchNorm without gain and offset; the input space.

    The paper's network at 224 pixels. For other sizes the maps are as large as rounding up asks.
    """

    def __init__(self, geometry: Geometry, request: SynthesisRequest) -> None:
        super().__init__()
        self.sizes, self.channels = geometry.sizes[-3:], geometry.channels
        height, width = self.sizes[0]
        self.start = nn.Linear(geometry.latent, self.channels * height * width)
        self.norm = _batch_norm(self.channels)
        self.middle = nn.Conv2d(self.channels, self.channels // 2, 3, padding=1)
        self.middle_norm = _batch_norm(self.channels // 2)
        self.last = nn.Conv2d(self.channels // 2, geometry.shape[0], 3, padding=1)
        self.whiten = _batch_norm(geometry.shape[0], affine=False)
        self.space = InputSpace(request.preprocess, geometry.shape[0])

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (N, L) to images (N, C, H, W), float32 in the input space."""
        features = self.start(latents).unflatten(1, (*self.sizes[0], self.channels)).permute(0, 3, 1, 2)
        features = nn.functional.interpolate(self.norm(features), self.sizes[1], mode="nearest-exact")
        features = nn.functional.leaky_relu(self.middle_norm(self.middle(features)), 0.2)
        features = nn.functional.interpolate(features, self.sizes[2], mode="nearest-exact")
        images: Tensor = self.space(self.whiten(torch.tanh(self.last(features)).float()))
        return images


def _batch_norm(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    """Normalises by the batch at hand, always: a generator of one batch remembers none."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


class Latents(ImageParameters):
    """Latents and the generator that makes images of them, both descending.

    Args:
        latents: (N, L), on the generator's device; taken over.
        latent_rate, generator_rate: Adam's first.
        every: the latents' patience, and the iterations after which the generator's rate falls by 5 %.
    """

    def __init__(
        self, latents: Tensor, network: GenieGenerator, latent_rate: float, generator_rate: float, every: int
    ) -> None:
        self.latents = latents.requires_grad_()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rates, self.every = (latent_rate, generator_rate), every
        self.descents: tuple[ScheduledAdam, ...] = ()

    def images(self) -> Tensor:
        """What the generator makes of the latents."""
        with autocast(self.latents.device):
            images: Tensor = self.network(self.latents)
        return images

    def begin(self, iterations: int) -> None:
        """Start with fresh optimizers."""
        plateau = Plateau(self.rates[0], self.every, 1e-4, self.latents.device)
        self.descents = (
            ScheduledAdam([self.latents], plateau, BETAS),
            ScheduledAdam(list(self.network.parameters()), Decay(self.rates[1], 0.95, self.every), BETAS),
        )

    def descend(self, loss: Tensor) -> None:
        """One step of both."""
        loss.backward()  # type: ignore[no-untyped-call]
        for descent in self.descents:
            descent.step(loss)

    def state(self) -> dict[str, Any]:
        """Latents, weights and both optimizers."""
        return {
            "latents": self.latents.detach().clone(),
            "network": deepcopy(self.network.state_dict()),
            "descents": [descent.state() for descent in self.descents],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        with torch.no_grad():
            self.latents.copy_(state["latents"])
        self.network.load_state_dict(state["network"])
        for descent, kept in zip(self.descents, state["descents"], strict=bool(self.descents)):
            descent.restore(kept)
