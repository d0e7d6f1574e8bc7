"""Class loss, total variation and image norm."""

import torch
from torch import Tensor

__all__ = [
    "class_loss",
    "competition",
    "image_norm",
    "squared_variation",
    "total_variation",
    "total_variation_l1",
    "total_variation_l2",
]


def _neighbour_differences(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differences to the right, lower, lower right and lower left neighbour."""
    return (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )


def total_variation(images: Tensor) -> tuple[Tensor, Tensor]:
    """Both forms of the total variation, l1 and l2."""
    return total_variation_l1(images), total_variation_l2(images)


def total_variation_l1(images: Tensor) -> Tensor:
    """Total variation over four directions, as in DeepInversion (section 3.1 and its appendix), in its l1 form.

    The sum of the four mean absolute differences, in units of the input.
    """
    return torch.stack([d.abs().mean() for d in _neighbour_differences(images)]).sum()


def total_variation_l2(images: Tensor) -> Tensor:
    """Its l2 form: the sum of the four Euclidean norms of the differences over the whole batch."""
    norms: Tensor = torch.stack([torch.linalg.vector_norm(d) for d in _neighbour_differences(images)]).sum()
    return norms


def squared_variation(images: Tensor) -> Tensor:
    """The squares of the four norms in :func:`total_variation_l2`; those of parts of a batch add up to its own."""
    squares: Tensor = torch.stack([d.square().sum() for d in _neighbour_differences(images)])
    return squares


def image_norm(images: Tensor) -> Tensor:
    """Mean over the images of their Euclidean norm."""
    norms: Tensor = torch.linalg.vector_norm(images.flatten(1), dim=1)
    return norms.mean()


def class_loss(scores: Tensor, targets: Tensor, hard: float = 0.0) -> Tensor:
    """Cross-entropy in nats, averaged over the images, each weighted by ``(1 - p) ** hard``.

    The weight reduces the loss of images that the teacher classifies with confidence (HAST, Li et al., CVPR 2023,
    section 3.2); ``p`` is the probability of the target, and the gradient flows through it too.

    Args:
        scores: logits (N, K).
        targets: classes int64 (N,), or probabilities float (N, K); ``p`` is then the expectation under them.
        hard: exponent of the weight; 0 is plain cross-entropy.
    """
    if not hard:
        return torch.nn.functional.cross_entropy(scores, targets)
    each = torch.nn.functional.cross_entropy(scores, targets, reduction="none")
    probabilities = torch.softmax(scores, 1)
    if targets.is_floating_point():
        target_probability = (probabilities * targets).sum(1)
    else:
        target_probability = probabilities.gather(1, targets[:, None])[:, 0]
    # The derivative of a power below one is infinite at 0, where the cross-entropy is 0 as well.
    return ((1 - target_probability).clamp_min(1e-6).pow(hard) * each).mean()


def competition(student_scores: Tensor, teacher_scores: Tensor, temperature: float = 3.0) -> Tensor:
    """One minus the Jensen-Shannon divergence between student and teacher (Yin et al. 2020, section 3.3).

    Minimising it leads to images on which the two disagree.

    Args:
        student_scores, teacher_scores: logits (N, K).
        temperature: of both softmaxes.

    Returns:
        a scalar in [0, 1]; the divergence is in nats, clamped to 1.
    """
    student, teacher = (torch.softmax(s / temperature, 1).clamp(0.01, 0.99) for s in (student_scores, teacher_scores))
    middle = ((student + teacher) / 2).clamp(0.01, 0.99).log()
    divergence = torch.nn.functional.kl_div
    distance = (
        divergence(middle, student, reduction="batchmean") + divergence(middle, teacher, reduction="batchmean")
    ) / 2
    return 1 - distance.clamp(0, 1)
