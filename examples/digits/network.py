"""A small residual network with depthwise-separable convolutions, for grey pictures."""

import torch
from torch import nn

__all__ = ["DigitNet"]


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and BatchNormalization."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(channels, channels), nn.ReLU(), *_conv(channels, channels))
        self.relu = nn.ReLU()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same."""
        result: torch.Tensor = self.relu(inputs + self.body(inputs))
        return result


class Separable(nn.Sequential):
    """A depthwise 3x3 convolution with stride 2, then a 1x1 convolution (MobileNet, arXiv 1704.04861)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            *_conv(inputs, inputs, stride=2, groups=inputs), nn.ReLU(), *_conv(inputs, outputs, kernel=1), nn.ReLU()
        )


class DigitNet(nn.Module):
    """float32 (N, 1, 16, 16) to ten scores (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_conv(1, 16), nn.ReLU(), Residual(16), Separable(16, 32), Residual(32), Separable(32, 64)
        )
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scores, not yet softmaxed."""
        scores: torch.Tensor = self.classifier(self.features(inputs))
        return scores
