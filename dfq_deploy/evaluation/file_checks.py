"""Check what a quantized file holds against its float model: weights, scales, biases, nodes."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.biases import bias_faults
from dfq_deploy.evaluation.changed_nodes import changed_nodes
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.float_file import Fed
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.integer_layers import with_float_layers
from dfq_deploy.evaluation.qdq_pairs import WeightPair, weight_pairs
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.evaluation.scale_checks import activation_checks, in_order
from dfq_deploy.evaluation.weight_checks import weight_checks
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.graph.loading import load_quantized
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.qdq_reader import quantizer_of
from dfq_deploy.samples.samples import Samples

__all__ = ["FileChecks", "check_files", "file_checks"]

SAMPLES = 8
"""Samples that a file is checked on: clipping and resolution show on a few."""

SHOWN = 5
"""Faults that are named in the warnings."""

UNLIKE = 12.0
"""dB of the worst output below which the file may be that of another network."""

OTHERS = 0.9
"""Part of the weights that are like none of the float model, from which the file is that of another network."""

FEWEST = 2
"""Weights that tell so."""


@dataclass(frozen=True)
class FileChecks:
    """What was found in a quantized file.

    Args:
        scales: the check of each quantized tensor, the worst first; empty for the file of another network.
        faults: everything else that is wrong: another network alone, or nodes and biases in the graph's order.
    """

    scales: tuple[ScaleCheck, ...] = ()
    faults: tuple[FileFault, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence on each fault, the causes before what follows from them."""
        wrong = [str(check) for check in self.scales if (check.is_fault and not check.is_mild) or check.is_wide]
        return (*(str(fault) for fault in self.faults), *wrong)


def check_files(files: tuple[Path, Path], data: Samples, fed: Fed, snr: float) -> tuple[FileChecks, tuple[str, ...]]:
    """The checks of a quantized file, and a sentence on each fault, or on why there are no checks.

    Args:
        files: the float model's and the quantized one's; other pairs are not checked.
        data: a few of them are taken.
        snr: signal to noise of the worst output in dB.
    """
    if is_quantized(files[0]) or not is_quantized(files[1]):
        return FileChecks(), ()
    count = min(SAMPLES, len(data))
    part = replace(data, labels=None).part(np.arange(count) * len(data) // count)
    try:
        found = file_checks(fed.load(files[0]), load_quantized(files[1], fed.shapes), part, snr)
    except DfqError as problem:
        return FileChecks(), (f"the scales of {files[1]} were not judged: {problem}",)
    return found, found.sentences[:SHOWN]


def file_checks(reference: ir.Model, quantized: ir.Model, samples: Samples, snr: float) -> FileChecks:
    """Check a quantized file against the float model.

    Args:
        reference: the float model, as :func:`dfq_deploy.graph.loading.load` reads it.
        quantized: as :func:`dfq_deploy.graph.loading.load_quantized` reads it.
        samples: a few are enough.
        snr: signal to noise of the worst output in dB.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    quantized = with_float_layers(quantized)
    floats, pairs = FloatWeights(reference), weight_pairs(quantized)
    unlike, compared = floats.unlike(pairs)
    if snr < UNLIKE and compared >= FEWEST and unlike >= OTHERS * compared:
        message = (
            "the quantized file was not made from this float file: "
            f"{unlike} of {compared} weights have nothing in common with float's; give the one that it was made from"
        )
        return FileChecks(faults=(FileFault("another-network", "", "", message, snr),))
    weights, equalized = weight_checks(floats, quantized, pairs)
    factors = equalized.tensors(floats.lowered)
    scales = in_order((*weights, *activation_checks(reference, quantized, samples, factors)))
    # The values of a tensor that float does not have are the file's own, with all errors before them.
    wrong = [check for check in scales if check.is_fault and not check.is_mild and check.matched]
    blamed = {part for check in wrong for part in (check.tensor, check.node.partition(", channel")[0])}
    # Where the scale of a bias is the product of others, a wrong one of these is what is wrong with it.
    biases = bias_faults(floats, [pair for pair in pairs if not _reads(pair, blamed)], factors, samples)
    blamed |= {fault.node for fault in biases}
    nodes = changed_nodes((floats.lowered, floats.folded), quantized, samples, factors, blamed)
    return FileChecks(scales, (*nodes, *biases))


def _reads(pair: WeightPair, blamed: Collection[str]) -> bool:
    """Whether a layer reads a tensor, or has a weight, whose fault is known."""
    value = pair.node.inputs[1 - pair.place]
    producer = None if value is None else value.producer()
    quantizer = None if producer is None else quantizer_of(producer)
    return pair.tensor in blamed or (quantizer is not None and name_of(quantizer.inputs[0]) in blamed)
