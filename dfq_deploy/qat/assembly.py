"""Puts a training together: student, teacher, loss and batches of one prepared model."""

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy import graph
from dfq_deploy.contracts import Source
from dfq_deploy.qat.batches import Batches, DrawnBatches, FixedBatches
from dfq_deploy.qat.distillation import Lesson
from dfq_deploy.qat.material import as_fed
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.qat.together import Processes
from dfq_deploy.qat.train import Training
from dfq_deploy.quantize import Quantized
from dfq_deploy.samples import Samples
from dfq_deploy.twin import Twin

__all__ = ["lesson_of", "training_of"]


def training_of(
    quantized: Quantized,
    teacher: Twin,
    used: Samples,
    held: Samples,
    recipe: Recipe,
    source: Source | None,
    processes: Processes,
    seed: int,
    device: str,
) -> Training:
    """A training that has not begun.

    Args:
        quantized: where the student starts.
        teacher: the float network.
        used, held: samples to train on, and to look at.
        source: draws a part of each batch anew; None where the samples are all there is.
        processes: that train together.
    """
    prepared = quantized.prepared
    model = prepared.model
    student = QuantizedStudent(
        model,
        prepared.placement,
        quantized.encodings,
        integer_bias=not prepared.target.float_bias,
        extra=used.extra,
        device=device,
    )
    processes.level(student)
    fixed = FixedBatches(
        torch.from_numpy(as_fed(model, used)),
        _soft(used, graph.score_count(model)),
        recipe.batch,
        recipe.augmentation,
        seed,
        device,
        (processes.rank, processes.count),
    )
    fresh = round(recipe.fresh * fixed.size)
    batches: Batches = fixed if source is None else DrawnBatches(source, fixed, fresh, recipe.adapt_every)
    return Training(
        student,
        teacher,
        lesson_of(model, student, recipe),
        recipe,
        batches,
        torch.from_numpy(as_fed(model, held)).to(device),
        recipe.total(len(used), processes.count),
        processes,
    )


def lesson_of(model: ir.Model, student: QuantizedStudent, recipe: Recipe) -> Lesson:
    """The loss for ``model``: class scores where its first output is one row of them, else all float outputs."""
    names = student.twin.output_names
    floats = {value.name for value in model.graph.outputs if value.dtype in (ir.DataType.FLOAT, None)}
    return Lesson(
        recipe.distillation,
        names[0] if graph.score_count(model) is not None else None,
        tuple(name for name in names if name in floats),
        student.joints(),
    )


def _soft(samples: Samples, classes: int | None) -> Tensor | None:
    """Soft labels (N, K); classes become ones."""
    if samples.labels is None or classes is None:
        return None
    labels = torch.from_numpy(samples.labels)
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(labels.long(), classes).float() if int(labels.max()) < classes else None
    return labels.float() if labels.shape[1] == classes else None
