"""Check what a quantized file holds against its float model: weights, scales, biases, nodes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.attempts import Attempts
from dfq_deploy.evaluation.biases import bias_faults
from dfq_deploy.evaluation.changed_nodes import changed_nodes
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.float_file import Fed
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.integer_layers import with_float_layers
from dfq_deploy.evaluation.qdq_pairs import WeightPair, unread_weights, weight_pairs
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.evaluation.scale_checks import activation_checks, in_order
from dfq_deploy.evaluation.weight_checks import weight_checks
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.graph.loading import load_quantized, load_stored
from dfq_deploy.graph.missing_batch import state_missing_batch
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

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class FileChecks:
    """What was found in a quantized file.

    Args:
        scales: the check of each quantized tensor, the worst first; empty for the file of another network.
        faults: everything else that is wrong: another network alone, or nodes and biases in the graph's order.
        unchecked: a sentence on each thing that could not be checked, with the reason.
    """

    scales: tuple[ScaleCheck, ...] = ()
    faults: tuple[FileFault, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence on each fault, the causes before what follows from them."""
        wrong = [str(check) for check in self.scales if (check.is_fault and not check.is_mild) or check.is_wide]
        return (*(str(fault) for fault in self.faults), *wrong)


def check_files(files: tuple[Path, Path], data: Samples, fed: Fed, snr: float) -> tuple[FileChecks, tuple[str, ...]]:
    """The checks of a quantized file, and a sentence on each fault, and on what could not be checked.

    Args:
        files: the float model's and the quantized one's; other pairs are not checked.
        data: a few of them are taken.
        snr: signal to noise of the worst output in dB.
    """
    whole = is_quantized(files[1])
    if is_quantized(files[0]) or whole is None:
        return FileChecks(), ()
    count = min(SAMPLES, len(data))
    part = replace(data, labels=None).part(np.arange(count) * len(data) // count)
    attempts = Attempts()
    models = attempts.run(
        "the weights, the scales, the biases and the nodes",
        lambda: (fed.load(files[0]), _loaded(files[1], fed, whole=whole)),
    )
    if models is not None and not whole and not weight_pairs(models[1]) and not unread_weights(models[1]):
        return FileChecks(), ()  # a float model
    found = FileChecks(unchecked=attempts.sentences) if models is None else file_checks(*models, part, snr)
    return found, (*found.sentences[:SHOWN], *found.unchecked)


def _loaded(path: Path, fed: Fed, *, whole: bool) -> ir.Model:
    """The quantized file.

    Args:
        whole: it has more than quantized weights.
    """
    model = (load_quantized if whole else load_stored)(path, fed.shapes)
    state_missing_batch(model)
    return model


def file_checks(reference: ir.Model, quantized: ir.Model, samples: Samples, snr: float) -> FileChecks:
    """Check a quantized file against the float model; a check that fails leaves a sentence in ``unchecked``.

    Args:
        reference: the float model, as :func:`dfq_deploy.graph.loading.load` reads it.
        quantized: as :func:`dfq_deploy.graph.loading.load_quantized` reads it.
        samples: a few are enough.
        snr: signal to noise of the worst output in dB.
    """
    attempts = Attempts()
    quantized = attempts.run("layers that compute on integers", lambda: with_float_layers(quantized)) or quantized
    floats = FloatWeights(reference)
    pairs = attempts.run("the weights", lambda: weight_pairs(quantized)) or ()
    unread = unread_weights(quantized)
    if unread:
        some = f"the weights of {', '.join(unread[:SHOWN])}{' and others' if len(unread) > SHOWN else ''}"
        attempts.leave_out(some, "their scales are for blocks of values, or computed, and not one for each channel")
    other = attempts.run("the origin", lambda: _another_network(floats, pairs, snr))
    if other is not None:
        return FileChecks(faults=(other,), unchecked=attempts.sentences)
    weights = attempts.run("the scales of the weights", lambda: _weights(floats, quantized, pairs))
    checks, factors = ([], None) if weights is None else weights
    activations = attempts.run(
        "the scales of the activations", lambda: activation_checks(reference, quantized, samples, factors)
    )
    scales = in_order((*checks, *(activations or ())))
    if factors is None:
        for subject in ("the biases", "the nodes"):
            attempts.leave_out(subject, "they are compared at the scales of the weights, which are not known")
        return FileChecks(scales, unchecked=attempts.sentences)
    # The values of a tensor that float does not have are the file's own, with all errors before them.
    wrong = [check for check in scales if check.is_fault and not check.is_mild and check.matched]
    blamed = {part for check in wrong for part in (check.tensor, check.node.partition(", channel")[0])}
    # Where the scale of a bias is the product of others, a wrong one of these is what is wrong with it.
    judged = [pair for pair in pairs if not _reads(pair, blamed)]
    sizes = {check.tensor: check.factor for check in activations or () if check.matched}
    biases = attempts.run("the biases", lambda: bias_faults(floats, judged, factors, samples, sizes)) or []
    blamed |= {part for fault in biases for part in (fault.node, fault.tensor)}
    nodes = attempts.run("the nodes", lambda: _nodes(floats, quantized, samples, factors, blamed)) or []
    return FileChecks(scales, (*nodes, *biases), attempts.sentences)


def _another_network(floats: FloatWeights, pairs: Sequence[WeightPair], snr: float) -> FileFault | None:
    """The fault that nearly all weights are like none of the float model, where the outputs differ too."""
    unlike, compared = floats.unlike(pairs)
    if snr >= UNLIKE or compared < FEWEST or unlike < OTHERS * compared:
        return None
    message = (
        "the quantized file was not made from this float file: "
        f"{unlike} of {compared} weights have nothing in common with float's; give the one that it was made from"
    )
    return FileFault("another-network", "", "", message, snr)


def _weights(
    floats: FloatWeights, quantized: ir.Model, pairs: Sequence[WeightPair]
) -> tuple[list[ScaleCheck], Mapping[str, Floats]]:
    """The check of each weight, and tensor of the float model -> the factor of each of its channels."""
    checks, equalized = weight_checks(floats, quantized, pairs)
    return checks, equalized.tensors(floats.lowered)


def _nodes(
    floats: FloatWeights,
    quantized: ir.Model,
    samples: Samples,
    factors: Mapping[str, Floats],
    blamed: Collection[str],
) -> list[FileFault]:
    return changed_nodes((floats.lowered, floats.folded), quantized, samples, factors, blamed)


def _reads(pair: WeightPair, blamed: Collection[str]) -> bool:
    """Whether a layer reads a tensor, or has a weight, whose fault is known."""
    value = pair.node.inputs[1 - pair.place]
    producer = None if value is None else value.producer()
    quantizer = None if producer is None else quantizer_of(producer)
    return pair.tensor in blamed or (quantizer is not None and name_of(quantizer.inputs[0]) in blamed)
