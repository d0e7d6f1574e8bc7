"""Check a calibrator: every tensor, any batches, values covered, no hoarding."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import DfqError
from dfq_deploy.graph.inputs import Feeds, main_input_value, sample_shape
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.plugins.contracts import Calibrator
from dfq_deploy.quantization.ranges import float_tensors
from dfq_deploy.runtime.activations import activations
from dfq_deploy.testing.models import small_model
from dfq_deploy.testing.options import instance_of, require, same_options

__all__ = ["check_calibrator"]

SAMPLES = 48

SPLITS: tuple[tuple[int, ...], ...] = ((8,) * 6, (3, 1, 20, 7, 17), (4,) * 12)
"""Numbers of samples in the batches: equal ones, and others."""

HELD = 6
"""Batches that a calibrator may hold at once: the next one is often computed ahead."""

COVERED = 0.9
"""Least share of a tensor's values that its range holds."""

WIDEST = 2.0
"""Largest end of a range, in units of the largest magnitude that was seen."""

APART = 0.1
"""Largest difference of a range's ends between two ways to batch the same samples, in parts of its span."""

TYPES = QuantType(8, signed=False, symmetric=False), QuantType(8, signed=True, symmetric=True)


def check_calibrator(calibrator: type[Calibrator] | Calibrator, *, model: "ModelSource | None" = None) -> None:
    """Check that a calibrator keeps the contract of :class:`~dfq_deploy.plugins.contracts.Calibrator`.

    Args:
        calibrator: the class, whose defaults are then used, or an instance.
        model: a float model with one input, that it is run on; None is a small classifier.

    Raises:
        AssertionError: says what is wrong.
    """
    made: Calibrator = instance_of(calibrator, Calibrator)
    source = small_model(model)
    images = np.random.default_rng(0).normal(0, 1, (SAMPLES, *sample_shape(source))).astype(np.float32)
    tensors = {name: TYPES[index % 2] for index, name in enumerate(float_tensors(source))}
    before = to_bytes(source)
    with same_options(made):
        whole = [_ranges(made, source, tensors, images, split) for split in SPLITS]
        _check_values(made, source, whole[0], images)
        again = _ranges(made, source, tensors, images, SPLITS[0])
        require(again == whole[0], made, "gives other ranges for the same batches")
        for found, split in zip(whole[1:], SPLITS[1:], strict=True):
            _check_near(made, whole[0], found, split)
        _ranges(made, source, tensors, np.zeros_like(images), SPLITS[0])  # every tensor is constant
        _check_nothing(made, source, tensors)
    require(to_bytes(source) == before, made, "changes the model; work on a copy")


def _ranges(
    calibrator: Calibrator,
    model: ir.Model,
    tensors: Mapping[str, QuantType],
    images: NDArray[np.float32],
    split: Sequence[int],
) -> dict[str, Range]:
    """What it finds, complete and in the right types, from batches that can be gone through only once."""
    fed = _Once(str(main_input_value(model).name), images, split)
    found: Any = calibrator.ranges(model, tensors, fed.batches())
    require(isinstance(found, dict), calibrator, f"ranges returns {type(found).__name__}; a dict is needed")
    missing, other = sorted(set(tensors) - set(found)), sorted(set(found) - set(tensors))
    require(not missing, calibrator, f"gives no range for '{', '.join(missing)}'")
    require(not other, calibrator, f"gives a range for '{', '.join(other)}', which was not asked for")
    for name, span in found.items():
        require(isinstance(span, Range), calibrator, f"gives {span!r} for '{name}'; a Range is needed")
    require(fed.given == len(split), calibrator, f"looks at {fed.given} of {len(split)} batches")
    require(
        fed.most_held <= HELD,
        calibrator,
        f"holds {fed.most_held} batches at once; memory must not grow with their number",
    )
    result: dict[str, Range] = found
    return result


@dataclass
class _Once:
    """Batches of one pass, and how many of them were alive at a time."""

    name: str
    images: NDArray[np.float32]
    split: Sequence[int]
    given: int = 0
    most_held: int = 0
    seen: list["weakref.ref[Any]"] = field(default_factory=list)

    def batches(self) -> Iterator[Feeds]:
        """Fresh copies, one after the other."""
        first = 0
        for size in self.split:
            batch = self.images[first : first + size].copy()
            first += size
            self.given += 1
            self.seen.append(weakref.ref(batch))
            self.most_held = max(self.most_held, sum(reference() is not None for reference in self.seen))
            yield {self.name: batch}
            del batch


def _check_values(
    calibrator: Calibrator, model: ir.Model, found: Mapping[str, Range], images: NDArray[np.float32]
) -> None:
    feeds = {str(main_input_value(model).name): images}
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in found}
    for arrays in activations(model, list(found), [feeds]):
        for name, array in arrays.items():
            parts[name].append(array.reshape(-1))
    for name, span in found.items():
        values = np.concatenate(parts[name])
        # Zero belongs to every range, since every encoding holds it.
        inside = (values >= min(span.low, 0) - 1e-6) & (values <= max(span.high, 0) + 1e-6)
        require(
            inside.mean() >= COVERED,
            calibrator,
            f"its range of '{name}', {span.low:.4g} to {span.high:.4g}, holds {100 * inside.mean():.0f} % of the "
            f"values, which go from {values.min():.4g} to {values.max():.4g}; at least {100 * COVERED:.0f} % is needed",
        )
        limit = WIDEST * float(np.abs(values).max())
        require(
            max(abs(span.low), abs(span.high)) <= limit + 1e-6,
            calibrator,
            f"its range of '{name}', {span.low:.4g} to {span.high:.4g}, is more than {WIDEST:g} times as wide as the "
            f"values, which go from {values.min():.4g} to {values.max():.4g}",
        )


def _check_near(
    calibrator: Calibrator, expected: Mapping[str, Range], found: Mapping[str, Range], split: Sequence[int]
) -> None:
    for name, span in expected.items():
        allowed = APART * (span.high - span.low) + 1e-6
        apart = max(abs(span.low - found[name].low), abs(span.high - found[name].high))
        require(
            apart <= allowed,
            calibrator,
            f"its range of '{name}' depends on how the samples are batched: {found[name].low:.4g} to "
            f"{found[name].high:.4g} in batches of {', '.join(map(str, split))}, else {span.low:.4g} to "
            f"{span.high:.4g}",
        )


def _check_nothing(calibrator: Calibrator, model: ir.Model, tensors: Mapping[str, QuantType]) -> None:
    try:
        found = calibrator.ranges(model, tensors, [])
    except DfqError:
        return
    require(False, calibrator, f"gives {len(found)} ranges without a sample; raise dfq_deploy.errors.SamplesError")
