"""Block-wise reconstruction: learn rounding and steps.

Li et al., "BRECQ", ICLR 2021, arXiv 2102.05426 (block by block, each with the input from the quantized blocks before
it); Wei et al., "QDrop", ICLR 2022, arXiv 2203.05740 (activations are quantized at random while weights are learned);
learned rounding and steps: :mod:`dfq_deploy.refinement.adaround` and
:mod:`dfq_deploy.quantization.learned_fake_quant`. All on synthetic samples.
"""

from collections.abc import Mapping

import onnx_ir as ir
import torch

from dfq_deploy.encodings import Encoding
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.refinement.block_learner import BlockLearner, Reconstruction
from dfq_deploy.refinement.blocks import blocks_of, with_rows
from dfq_deploy.refinement.more_samples import with_more_samples
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin.teacher import teacher_of, twin_images
from dfq_deploy.validation.budget import allowance, in_megabytes, note

__all__ = ["Reconstruction", "reconstruct"]

ROOM = 2**31
"""Room in bytes for the features between two blocks, for all samples together; they are on disk if large."""

ROWS = (2, 3)
"""Samples of the two runs that tell which axis counts them: halves of a channel shuffle, (2, n, ...), count two too."""

LARGEST_EXPANSION = 16
"""Assumed size of these features relative to the input."""


def reconstruct(
    model: ir.Model,
    placement: Placement,
    encodings: Mapping[str, Encoding],
    samples: Samples,
    *,
    settings: Reconstruction | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
    learner: type[BlockLearner] = BlockLearner,
) -> dict[str, Encoding]:
    """Learn the rounding of all weights of ``model``, in place, and the steps; biases correct the channel means.

    Args:
        model: prepared for the target; afterwards its weights are multiples of their steps.
        placement, encodings: the quantized tensors and their initial encodings.
        samples: as many as fit into memory are used; a small set is extended by augmented and procedural images.
        learner: what learns a block.

    Returns:
        the encodings with the learned steps.
    """
    settings = settings or Reconstruction()
    twin = teacher_of(model, samples.extra, device)
    blocks = blocks_of(twin, placement.weights)
    generator = torch.Generator().manual_seed(seed)
    size = samples.images[0].nbytes * LARGEST_EXPANSION
    limit, usual = (max(1, room // size) for room in (allowance(ROOM), ROOM))
    wanted = min(usual, max(len(samples), settings.samples))
    if limit < wanted:
        left = in_megabytes(allowance(ROOM))
        note(f"--max-memory leaves {left} to features, so reconstruction took {limit} samples instead of {wanted}")
    images = with_more_samples(twin_images(model, samples)[:limit], min(settings.samples, limit), generator)
    for batch in ROWS if twin.batch is None else (twin.batch,):
        if batch <= len(images):
            blocks = with_rows(blocks, twin, images[:batch].to(device), batch)
    blocks_learned = learner(model, placement, dict(encodings), settings, generator, device)
    progress.start(learner.title, sum(blocks_learned.effort(block) for block in blocks if block.weights))
    exact, quantized = images, blocks_learned.quantized_input(twin.input_names[0], images)
    for block in blocks:
        exact, quantized = blocks_learned.learn(twin, block, exact, quantized, progress)
    return blocks_learned.encodings
