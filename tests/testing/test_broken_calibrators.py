"""Each check of a calibrator catches one that is broken in just that way."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.plugins.contracts import Calibrator
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.activations import activations
from dfq_deploy.testing import check_calibrator


@dataclass(frozen=True)
class Good(Calibrator):
    """Smallest and largest value, with the fault of that name."""

    fault: str = ""
    summary: ClassVar[str] = "ends for a test"

    def ranges(
        self,
        model: ir.Model,
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        if self.fault == "hoards":
            batches = list(batches)
        if self.fault == "first batch":
            batches = [next(iter(batches))]
        if self.fault == "nothing" and batches == []:
            return {}
        found: dict[str, Range] = {}
        for arrays in activations(model, tensors, batches, progress):
            for name, array in arrays.items():
                span = Range(float(array.min()), float(array.max()))
                found[name] = span if self.fault == "last" else span.union(found.get(name, span))
        if not found:
            raise SamplesError("no sample")
        spoiled: dict[str, Range] = self._spoiled(model, found)
        return spoiled

    def _spoiled(self, model: ir.Model, found: dict[str, Range]) -> Any:
        name, span = next(iter(found.items()))
        spoiled: dict[str, Any] = {
            "missing": {key: value for key, value in found.items() if key != name},
            "other": {**found, "ghost": span},
            "type": {**found, name: (span.low, span.high)},
            "list": list(found.items()),
            "narrow": {**found, name: Range(span.low / 10, span.high / 10)},
            "wide": {**found, name: Range(span.low * 10, span.high * 10)},
            "random": {**found, name: Range(span.low, span.high + np.random.default_rng().random())},
        }
        if self.fault == "model":
            next(iter(model.graph)).name = "renamed"
        return spoiled.get(self.fault, found)


def test_what_keeps_the_contract_passes() -> None:
    check_calibrator(Good)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "gives no range for 'image'"),
        ("other", "gives a range for 'ghost', which was not asked for"),
        ("type", r"gives \(-.*\) for 'image'; a Range is needed"),
        ("list", "ranges returns list; a dict is needed"),
        ("narrow", r"its range of 'image', .* holds \d+ % of the values, which go from -4"),
        ("wide", "its range of 'image', .* is more than 2 times as wide as the values"),
        ("random", "gives other ranges for the same batches"),
        ("hoards", "holds 12 batches at once; memory must not grow with their number"),
        ("first batch", "looks at 1 of 6 batches"),
        ("last", "its range of '.*' depends on how the samples are batched: "),
        ("nothing", "gives 0 ranges without a sample; raise dfq_deploy.errors.SamplesError"),
        ("model", "changes the model; work on a copy"),
    ],
)
def test_a_fault_is_named(fault: str, words: str) -> None:
    with pytest.raises(AssertionError, match=f"^Good: {words}"):
        check_calibrator(Good(fault))
