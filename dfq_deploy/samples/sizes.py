"""Which images count as large, and how many samples suit them."""

from dfq_deploy.graph.inputs import looks_channels_last

__all__ = ["default_count", "is_large"]

SMALL_PIXELS = 64 * 64
"""Pixels of the largest image that counts as small."""

SYNTHESIZED = (256, 64)
"""Samples to calibrate with: small ones, and as many large ones as a CPU inverts in a few minutes."""

TRAINING = (1024, 256)
"""Samples to train with: what a CPU makes in the time that training takes."""


def is_large(shape: tuple[int, ...]) -> bool:
    """True for images (C, H, W) or (H, W, C) of more than 64 x 64 pixels; False for anything else.

    Large ones get what suits ImageNet, others what suits CIFAR-10.
    """
    if len(shape) != 3:
        return False
    height, width = shape[:2] if looks_channels_last(shape) else shape[1:]
    return height * width > SMALL_PIXELS


def default_count(shape: tuple[int, ...], *, training: bool = False) -> int:
    """How many samples of ``shape`` are synthesized where no number is given.

    Args:
        training: they are for fine-tuning, which needs more than calibration.
    """
    return (TRAINING if training else SYNTHESIZED)[is_large(shape)]
