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
    """The generator of GENIE: Linear to 128 feature maps of a quarter of the image size; BatchNorm; upsampling; Conv3x3
    to 64, BatchNorm and LeakyReLU 0.2; upsampling; Conv3x3 to the image channels; Tanh; BatchNorm without affine
    parameters; :class:`InputSpace`.

    At 224 pixels it is the paper's network. For other sizes the sizes of the feature maps are rounded up.
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
    """BatchNorm that always uses the batch statistics: the generator is trained on a single batch."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


class Latents(ImageParameters):
    """Latent vectors and the weights of a generator as the parameters of an inversion.

    Args:
        latents: (N, L), on the generator's device; used in place.
        network: the generator.
        latent_rate, generator_rate: initial learning rates of Adam.
        every: patience of the latents' rate, and number of iterations after which the generator's rate decays by 5 %.
    """

    def __init__(
        self, latents: Tensor, network: GenieGenerator, latent_rate: float, generator_rate: float, every: int
    ) -> None:
        self.latents = latents.requires_grad_()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rates, self.every = (latent_rate, generator_rate), every
        self.optimizers: tuple[ScheduledAdam, ...] = ()

    def images(self) -> Tensor:
        """The images of the generator for the latents."""
        with autocast(self.latents.device):
            images: Tensor = self.network(self.latents)
        return images

    def begin(self, iterations: int) -> None:
        """Begin with new optimizers."""
        plateau = Plateau(self.rates[0], self.every, 1e-4, self.latents.device)
        self.optimizers = (
            ScheduledAdam([self.latents], plateau, BETAS),
            ScheduledAdam(list(self.network.parameters()), Decay(self.rates[1], 0.95, self.every), BETAS),
        )

    def descend(self, loss: Tensor) -> None:
        """Take one step with both optimizers."""
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step(loss)

    def state(self) -> dict[str, Any]:
        """Copies of the latents, the weights and the state of both optimizers."""
        return {
            "latents": self.latents.detach().clone(),
            "network": deepcopy(self.network.state_dict()),
            "descents": [optimizer.state() for optimizer in self.optimizers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        with torch.no_grad():
            self.latents.copy_(state["latents"])
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["descents"], strict=bool(self.optimizers)):
            optimizer.restore(saved)
