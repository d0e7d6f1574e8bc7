"""Build student, teacher, loss and batches from a prepared model."""

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.graph.query import score_count, score_logits
from dfq_deploy.plugins.contracts import Source
from dfq_deploy.qat.batches import Batches, DrawnBatches, FixedBatches
from dfq_deploy.qat.distillation import DistillationLoss
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.qat.trainer import Trainer
from dfq_deploy.quantization.encode import Quantized
from dfq_deploy.samples.batches import as_twin_input
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Twin

__all__ = ["make_distillation_loss", "make_trainer"]


def make_trainer(
    quantized: Quantized,
    teacher: Twin,
    train: Samples,
    held_out: Samples,
    recipe: Recipe,
    source: Source | None,
    processes: Processes,
    seed: int,
    device: str,
) -> Trainer:
    """Create a trainer.

    Args:
        quantized: the initial student.
        teacher: the float network.
        train, held_out: samples to train on, and to measure the agreement on.
        source: draws new samples for each batch; None to use ``train`` only.
        processes: this process and the number of processes.
    """
    prepared = quantized.prepared
    model = prepared.model
    student = QuantizedStudent(
        model,
        prepared.placement,
        quantized.encodings,
        integer_bias=not prepared.target.float_bias,
        extra=train.extra,
        device=device,
    )
    processes.synchronize(student)
    fixed = FixedBatches(
        torch.from_numpy(as_twin_input(model, train)),
        _soft_labels(train, score_count(model)),
        recipe.batch,
        recipe.augmentation,
        seed,
        device,
        (processes.rank, processes.count),
    )
    fresh = round(recipe.fresh * fixed.size)
    batches: Batches = fixed if source is None else DrawnBatches(source, fixed, fresh, recipe.adapt_every)
    return Trainer(
        student,
        teacher,
        make_distillation_loss(model, student, recipe),
        recipe,
        batches,
        torch.from_numpy(as_twin_input(model, held_out)).to(device),
        recipe.total(len(train), processes.count),
        processes,
    )


def make_distillation_loss(model: ir.Model, student: QuantizedStudent, recipe: Recipe) -> DistillationLoss:
    """Create the loss for ``model``: on the logits if one output holds class scores, else on all float outputs."""
    names = student.twin.output_names
    floats = {value.name for value in model.graph.outputs if value.dtype in (ir.DataType.FLOAT, None)}
    logits = score_logits(model)
    return DistillationLoss(
        recipe.distillation,
        None if logits is None else str(logits.value.name),
        tuple(name for name in names if name in floats),
        student.feature_names(),
    )


def _soft_labels(samples: Samples, classes: int | None) -> Tensor | None:
    """Return soft labels (N, K), one-hot for classes; None if they do not fit the model."""
    if samples.labels is None or classes is None:
        return None
    labels = torch.from_numpy(samples.labels)
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(labels.long(), classes).float() if int(labels.max()) < classes else None
    return labels.float() if labels.shape[1] == classes else None
