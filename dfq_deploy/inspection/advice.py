"""Advice on what will cost accuracy or speed in a model, or prevent synthesis."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import closed_shape, example_shape, input_values, shown_shape
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.runtime.kernel_count import KernelCount, named
from dfq_deploy.targets.target import Target

__all__ = [
    "Advice",
    "input_advice",
    "kernel_advice",
    "statistics_notes",
    "target_advice",
    "target_notes",
    "twin_advice",
]


@dataclass(frozen=True)
class Advice:
    """One problem, and the way out: a sentence, and lines to type if there are any."""

    problem: str
    way_out: str
    lines: tuple[str, ...] = ()


def input_advice(model: ir.Model) -> Iterable[Advice]:
    """Inputs of open size, which prevent synthesis and inference, with the options that fix their shapes."""
    refused = []
    for value in input_values(model):
        if value.shape is None or len(value.shape):
            try:
                closed_shape(value)
            except ModelError as problem:
                refused.append((value, str(problem)))
    if len(refused) == 1:
        sentence, _, way_out = refused[0][1].partition("; ")
        yield Advice(sentence, way_out or "export the model again")
    elif refused:
        shapes = ", ".join(f"{value.name} {shown_shape(value)}" for value, _ in refused)
        options = " ".join(f"--input-shape {example_shape(value)}" for value, _ in refused)
        yield Advice(
            f"{len(refused)} inputs are open beyond the batch: {shapes}",
            "fix them, or export the model with fixed sizes; e.g. add",
            (options,),
        )


def statistics_notes(left: int) -> Iterable[str]:
    """A remark where no BatchNormalization is left: its statistics pay below 8 bits."""
    if left == 0:
        yield (
            "no BatchNormalization is left (exporters fold it by default). At 8 bits it is not needed: pictures drawn "
            "by rule do as well. Below 8 bits its statistics help: export the network once more with it and add "
            "--teacher teacher.onnx (docs/batchnorm-folded.md)"
        )


def twin_advice(unknown: tuple[tuple[str, str], ...], refusal: str) -> Iterable[Advice]:
    """Advice if the twin cannot be built: unsupported nodes (name, operator), or another error."""
    if unknown:
        operators = ", ".join(sorted({operator for _, operator in unknown}))
        yield Advice(
            f"{len(unknown)} node(s) that the twin does not support ({operators}), so no gradient reaches the input",
            "use --synth procedural, or real images with --data",
        )
    if refusal:
        yield Advice(f"the twin cannot be built: {refusal}", "use --synth procedural, or real images with --data")


def target_notes(left: int) -> Iterable[str]:
    """Remarks on what costs little on the target; ``left`` BatchNormalization nodes remain after folding."""
    if left:
        yield (
            f"{left} BatchNormalization node(s) neither fold into a convolution nor run in integers, and stay float: "
            "it costs some speed, not accuracy"
        )


def target_advice(placement: Placement, target: Target) -> Iterable[Advice]:
    """Advice on layers that stay float on the target."""
    if not placement.weights:
        yield Advice(
            f"no layer can be quantized for {target.runtime}: no weighted operator has an integer kernel",
            "check that this is the intended network",
        )
    elif placement.left_float:
        reasons = Counter(reason for _, _, reason in placement.left_float)
        yield Advice(
            f"{len(placement.left_float)} weighted operator(s) stay float: {reasons.most_common(1)[0][0]}",
            "inspect --verbose lists all of them",
        )


def kernel_advice(kernels: KernelCount) -> Iterable[Advice]:
    """Advice on layers that are quantized in the file but run in float."""
    lost = kernels.dequantized
    if lost:
        yield Advice(
            f"{len(lost)} of the layers that are quantized will run in float in {kernels.runtime}, slower than without "
            f"Q and DQ: {named(lost)}",
            kernels.way_out,
        )
