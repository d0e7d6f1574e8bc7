"""Block-wise reconstruction: learn roundings and steps.

Li et al., "BRECQ", ICLR 2021, arXiv 2102.05426 (blocks as the unit, each behind the quantized ones before it); Wei et
al., "QDrop", ICLR 2022, arXiv 2203.05740 (activations are quantized at random while weights are learned); learned
rounding and steps: :mod:`dfq_deploy.refinement.adaround` and :mod:`dfq_deploy.quantization.learned_fake_quant`. All
on synthetic samples.
"""

from collections.abc import Mapping

import onnx_ir as ir
import torch

from dfq_deploy.encodings import Encoding
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.refinement.block_learner import BlockLearner, Reconstruction
from dfq_deploy.refinement.blocks import blocks_of
from dfq_deploy.refinement.more_samples import with_more_samples
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Reconstruction", "reconstruct"]

MEMORY = 2**31
"""Bytes that the features at one cut of the network may take, for all samples together."""

LARGEST_EXPANSION = 16
"""How many times as large as the input such features are taken to be."""


def reconstruct(
    model: ir.Model,
    placement: Placement,
    encodings: Mapping[str, Encoding],
    samples: Samples,
    *,
    how: Reconstruction | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> dict[str, Encoding]:
    """Learn the roundings of all weights of ``model``, in place, and the steps; its biases keep each layer's means.

    Args:
        model: prepared for the target; its weights lie on their grids afterwards.
        placement, encodings: what is quantized, and from where learning starts.
        samples: as many as fit into memory are used; augmented ones are added to few.

    Returns:
        the encodings with their learned steps.
    """
    how = how or Reconstruction()
    twin = teacher_of(model, samples.extra, device)
    blocks = blocks_of(twin, placement.weights)
    generator = torch.Generator().manual_seed(seed)
    room = max(1, MEMORY // (samples.images[0].nbytes * LARGEST_EXPANSION))
    images = with_more_samples(twin_images(model, samples)[:room], min(how.samples, room), generator)
    learner = BlockLearner(model, placement, dict(encodings), how, generator, device)
    progress.start("reconstruction", sum(how.iterations for block in blocks if block.weights))
    exact, quantized = images, learner.quantized_input(twin.input_names[0], images)
    for block in blocks:
        exact, quantized = learner.learn(twin, block, exact, quantized, progress)
    return learner.encodings
