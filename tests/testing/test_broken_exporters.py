"""Each check of an exporter catches one that is broken in just that way."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir
import pytest
from dfq_deploy.exporters.qdq import Qdq
from dfq_deploy.exporters.tensorrt import TensorRT

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import DfqError
from dfq_deploy.plugins.contracts import Exporter, Written
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.testing import check_exporter


@dataclass(frozen=True)
class Good(Exporter):
    """QDQ files, with the fault of that name."""

    fault: str = ""
    summary: ClassVar[str] = "QDQ for a test"

    def export(self, model: ir.Model, encodings: Mapping[str, Encoding], path: Path) -> Any:
        if self.fault == "drops what it does not know":
            names = {value.name for node in model.graph for value in (*node.inputs, *node.outputs) if value is not None}
            encodings = {name: value for name, value in encodings.items() if name in names}
        if self.fault == "model":
            next(iter(model.graph)).name = "renamed"
        if self.fault == "scales":
            encodings = {name: replace(value, scale=value.scale * 20) for name, value in encodings.items()}
        if self.fault == "leaves" and path.parent.is_dir():
            (path.parent / "partial").write_text("half")
        try:
            files = Qdq().export(model, encodings, path).files
        except DfqError as problem:
            if self.fault == "error":
                raise ValueError("it did not work") from problem
            if self.fault == "half" and path.parent.is_dir():
                (path.parent / "partial").write_text("half")
            raise
        returned: dict[str, Any] = {
            "bare": files,
            "list": Written(list(files)),  # type: ignore[arg-type]
            "unnamed": Written(()),
            "gone": Written((*files, path.with_name("gone"))),
            "notes": Written(files, "a note"),  # type: ignore[arg-type]
        }
        return returned.get(self.fault, Written(files, ("a note",)))


def test_what_keeps_the_contract_passes() -> None:
    check_exporter(Good)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("model", "changes the model; work on a copy"),
        ("scales", r"net\.qdq\.onnx is \d+\.\d dB from the float model, and 25 dB is the least"),
        ("leaves", "leaves partial behind and does not name it"),
        ("bare", r"export returns \(.*; Written\(files, notes\) is needed"),
        ("list", r"export names \[.*; a tuple of the paths written is needed"),
        ("unnamed", r"export names \(\); a tuple of the paths written is needed"),
        ("gone", "names gone, which is not there"),
        ("drops what it does not know", "writes without an error for an encoding of a tensor that the model has not"),
        ("error", "an encoding of a tensor .* raises ValueError .*; one of dfq_deploy.errors is needed"),
        ("half", "refuses an encoding of a tensor that the model has not and leaves partial behind"),
        ("notes", "its notes are 'a note'; a tuple of sentences is needed"),
    ],
)
def test_a_fault_is_named(fault: str, words: str) -> None:
    with pytest.raises(AssertionError, match=f"^Good: ({words})"):
        check_exporter(Good(fault))


@dataclass(frozen=True)
class Undotted(Good):
    suffix: ClassVar[str] = "onnx"


@dataclass(frozen=True)
class Halving(TensorRT):  # type: ignore[misc]  # seen without types
    """Writes half of each range."""

    def write_ranges(self, ranges: Mapping[str, Range], folder: Path) -> tuple[Path, ...]:
        halves = {name: Range(r.low / 2, r.high / 2) for name, r in ranges.items()}
        files: tuple[Path, ...] = super().write_ranges(halves, folder)
        return files


@dataclass(frozen=True)
class Silent(TensorRT):  # type: ignore[misc]  # seen without types
    """Builds nothing, without a word."""

    def build(self, path: Path, samples: Samples | None = None, progress: Progress = SILENT) -> Written:
        return Written(())


@pytest.mark.parametrize(
    ("exporter", "words"),
    [
        (Undotted, "Undotted: suffix='onnx' begins with no dot"),
        (Halving, "Halving: the range of 'image' was .* and comes back as"),
        (Silent, "Silent: builds nothing and does not say why"),
    ],
)
def test_a_further_fault_is_named(exporter: type[Exporter], words: str) -> None:
    with pytest.raises(AssertionError, match=f"^{words}"):
        check_exporter(exporter, target="tensorrt" if issubclass(exporter, TensorRT) else "cpu")
