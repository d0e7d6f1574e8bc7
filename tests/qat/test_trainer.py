"""A batch that does not fit into the memory is run in parts, and learns the same."""

from pathlib import Path

import pytest
import torch

from dfq_deploy import Samples
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.setup import make_trainer
from dfq_deploy.qat.trainer import Trainer
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin.teacher import teacher_of
from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.budget import ENOUGH, noted

RECIPE = Recipe(batch=24, steps=3)


def trainer(path: Path, samples: Samples) -> Trainer:
    prepared = prepare(load(path), find_target("cpu"), Bits.parse("w8a8"))
    start = encode(prepared, find_plugin("calibrators", "minmax")(), samples)
    teacher = teacher_of(prepared.model, {}, "cpu")
    return make_trainer(start, teacher, samples, samples.part(slice(8)), RECIPE, None, Processes(), 0, "cpu")


def gradients(training: Trainer) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = training.learn()
    found = {name: parameter.grad for name, parameter in training.student.learned().items()}
    return loss, {name: gradient for name, gradient in found.items() if gradient is not None}


def test_parts_of_a_batch_learn_what_the_whole_does(digits_bn: Path, digits: Samples) -> None:
    samples = digits.part(slice(48))
    with noted() as notes:
        loss, expected = gradients(trainer(digits_bn, samples))
    assert notes == []
    training = trainer(digits_bn, samples)
    with use_bounds(Bounds(memory=ENOUGH // 1024)), noted() as notes:
        parted, found = gradients(training)
    (said,) = notes
    assert said.startswith("--max-memory leaves 1.05 MB to the features of a batch, so training ran its batches in ")
    assert float(parted) == pytest.approx(float(loss), rel=1e-4)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= 1e-3 * float(gradient.norm()) + 1e-7, name


def test_one_image_at_a_time_where_none_fits(digits_bn: Path, digits: Samples) -> None:
    training = trainer(digits_bn, digits.part(slice(48)))
    with use_bounds(Bounds(memory=1)), noted() as notes:
        loss, _ = gradients(training)
    assert notes[0].endswith("training ran its batches in 24 parts")
    assert torch.isfinite(loss)
