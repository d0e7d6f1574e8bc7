"""Sensitivity before calibration: quantize on procedural samples, and measure each layer alone."""

from collections.abc import Mapping

import onnx_ir as ir

from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.refinement.registry import default_refinements
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.noise.what_hurts import WhatHurts, what_hurts

__all__ = ["COUNT", "layer_sensitivity"]

COUNT = 64
"""Procedural samples: 56 give the ranges, and 8 measure the noise."""

METHOD = "procedural"


def layer_sensitivity(
    source: ir.Model,
    *,
    target: str = "cpu",
    bits: str | None = None,
    preprocess: Preprocess | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> WhatHurts:
    """Measure the noise of each layer of a float model, before any calibration.

    Ranges are the extremes of procedural samples. Mean shifts are corrected, as the default refinements do. Roundings
    are not learned, so below 8 bits a calibration does better.

    Args:
        source: as :func:`dfq_deploy.graph.loading.load` reads it.
        bits: widths of weights and activations, e.g. ``w4a8``; None is 8 of both.
        preprocess: of the procedural images.
        ranges: input name -> smallest and largest value, for inputs that are not images.

    Raises:
        ModelError: the model cannot be run, or no output can be compared.
        TargetError: the target or the bits are unknown.
    """
    widths = Bits() if bits is None else Bits.parse(bits)
    prepared = prepare(source, find_target(target), widths)
    samples = synthesize_from(
        source, METHOD, (), count=COUNT, preprocess=preprocess, seed=seed, device="cpu", ranges=ranges,
        progress=progress,
    )  # fmt: skip
    used, held = split_held_out(samples)
    quantized = encode(prepared, find_plugin("calibrators", "minmax")(), used, preprocess, progress)
    ready = quantized.prepared
    return what_hurts(
        source, ready.model, ready, quantized.encodings, held,
        refine=default_refinements(widths), device=device, progress=progress,
    )  # fmt: skip
