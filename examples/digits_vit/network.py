"""A small vision transformer for grey pictures: attention and LayerNormalization, no BatchNormalization."""

import torch
from torch import nn

__all__ = ["DigitTransformer"]

PATCH, WIDTH, HEADS, BLOCKS = 4, 48, 4, 3


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), written out, so that its parts are seen in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, WIDTH) to the same."""
        query, key, value = (self._heads(layer(tokens)) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5, dim=-1)
        mixed = (weights @ value).transpose(1, 2)
        result: torch.Tensor = self.out(mixed.reshape(mixed.shape[0], -1, WIDTH))
        return result

    @staticmethod
    def _heads(tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, WIDTH) to (N, HEADS, T, WIDTH / HEADS)."""
        return tokens.reshape(tokens.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)


class Block(nn.Module):
    """Attention, then two linear layers, each beside an identity (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_layers = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, WIDTH) to the same."""
        tokens = tokens + self.attention(self.before_attention(tokens))
        result: torch.Tensor = tokens + self.layers(self.before_layers(tokens))
        return result


class DigitTransformer(nn.Module):
    """float32 (N, 1, 16, 16) to ten scores (N, 10); 16 patches of 4 x 4 pixels, their mean is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scores, not yet softmaxed."""
        tokens = self.embed(inputs).flatten(2).transpose(1, 2) + self.positions
        scores: torch.Tensor = self.classifier(self.norm(self.blocks(tokens)).mean(1))
        return scores
