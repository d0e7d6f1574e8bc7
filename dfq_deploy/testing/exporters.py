"""Check an exporter: files whole or none, a quantized model that runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load_quantized
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.plugins.contracts import BuildingExporter, Exporter, ImplicitExporter, Written
from dfq_deploy.plugins.registry import calibrator_of, exporter_of
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.session import Session, session_options
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.testing.models import small_model
from dfq_deploy.testing.options import instance_of, require, same_options

__all__ = ["check_exporter"]

SAMPLES = 8

LEAST_SNR = 25.0
"""Signal to noise in dB that a file of 8 bits must keep against the float model; the small classifier has 47."""

Outputs = list[NDArray[Any]]


def check_exporter(
    exporter: type[Exporter] | Exporter,
    *,
    target: str = "cpu",
    model: "ModelSource | None" = None,
    least_snr: float = LEAST_SNR,
) -> None:
    """Check that an exporter keeps the contract of :class:`~dfq_deploy.plugins.contracts.Exporter`.

    A file that ONNX Runtime loads is run there and compared with the float model.

    Args:
        exporter: the class, whose defaults are then used, or an instance.
        target: the runtime that the model is quantized for.
        model: a float model with one input; None is a small classifier.
        least_snr: signal to noise in dB that a file must keep against it.

    Raises:
        AssertionError: says what is wrong.
    """
    made: Exporter = instance_of(exporter, Exporter)
    suffix = made.suffix
    require(isinstance(suffix, str) and suffix.startswith("."), made, f"suffix={suffix!r} begins with no dot")
    case = _Case.of(made, small_model(model), target, least_snr)
    with same_options(made), TemporaryDirectory() as folder:
        place = Path(folder)
        for name in (f"net{suffix}", "model.qdq.onnx"):
            case.export(place / name.replace(".", "_"), name)
        _check_quantized_input(case, place / "again")
        _check_refusals(case, place / "refused")
        if isinstance(made, ImplicitExporter):
            _check_ranges(made, place / "ranges")
        if isinstance(made, BuildingExporter):
            _check_build(case, place / "build")


@dataclass(frozen=True, eq=False)
class _Case:
    """An exporter, and what it is to write."""

    exporter: Exporter
    source: ir.Model
    model: ir.Model
    encodings: Mapping[str, Encoding]
    samples: Samples
    least_snr: float

    @classmethod
    def of(cls, exporter: Exporter, source: ir.Model, target: str, least_snr: float) -> "_Case":
        rng, shape = np.random.default_rng(0), sample_shape(source)
        # Samples that differ as a whole: the mean of noise is the same in all of them, and hides errors.
        levels = rng.normal(0, 1, (SAMPLES, *(1 for _ in shape)))
        samples = Samples((levels + rng.normal(0, 1, (SAMPLES, *shape))).astype(np.float32))
        quantized = encode(prepare(source, find_target(target)), calibrator_of("minmax"), samples)
        return cls(exporter, source, quantized.prepared.model, quantized.encodings, samples, least_snr)

    def export(self, folder: Path, name: str) -> tuple[Path, ...]:
        """The files, complete, where they were asked for, and right where ONNX Runtime can say so."""
        folder.mkdir()
        before = to_bytes(self.model)
        files = self.written(self.exporter.export(self.model, dict(self.encodings), folder / name))
        require(to_bytes(self.model) == before, self.exporter, "changes the model; work on a copy")
        self.require_all_named(files, folder)
        if name.endswith(".onnx") and (folder / name).exists():
            self.require_near(folder / name)
        return files

    def written(self, result: Any) -> tuple[Path, ...]:
        """The files of what ``export`` returns."""
        fits = isinstance(result, Written)
        require(fits, self.exporter, f"export returns {result!r}; Written(files, notes) is needed")
        _check_notes(self.exporter, result.notes)
        files: tuple[Path, ...] = result.files
        return files

    def require_all_named(self, files: Any, folder: Path) -> None:
        """Require that ``files`` are what lies in ``folder``."""
        fits = isinstance(files, tuple) and bool(files) and all(isinstance(file, Path) for file in files)
        require(fits, self.exporter, f"export names {files!r}; a tuple of the paths written is needed")
        gone = [file.name for file in files if not file.is_file()]
        require(not gone, self.exporter, f"names {', '.join(gone)}, which is not there")
        extra = sorted({file.name for file in folder.iterdir()} - {file.name for file in files})
        require(not extra, self.exporter, f"leaves {', '.join(extra)} behind and does not name it")

    def require_near(self, path: Path) -> None:
        """Require that the file computes what the float model does, where ONNX Runtime has all of its operators."""
        if any(entry.domain not in ("", "ai.onnx") for entry in onnx.load(path).opset_import):
            return
        tally = OutputTally()
        expected, found = (self._scores(content) for content in (to_bytes(self.source), path.read_bytes()))
        tally.add(expected, found)
        snr = tally.distance("output").snr
        require(
            snr >= self.least_snr,
            self.exporter,
            f"{path.name} is {snr:.1f} dB from the float model, and {self.least_snr:g} dB is the least; are the "
            "encodings applied to the right tensors?",
        )

    def _scores(self, content: bytes) -> NDArray[Any]:
        options = session_options(quiet_threads=False)
        session = Session(content, options, ["CPUExecutionProvider"])
        (given, *_) = session.get_inputs()
        rows = given.shape[0] if isinstance(given.shape[0], int) else SAMPLES
        runs: Outputs = [
            session.run(None, {given.name: self.samples.images[first : first + rows]})[0]
            for first in range(0, SAMPLES, rows)
        ]
        return np.concatenate(runs)


def _check_quantized_input(case: _Case, folder: Path) -> None:
    """A model that is quantized already comes without encodings."""
    folder.mkdir()
    exporter_of("qdq").export(case.model, dict(case.encodings), folder / "source.onnx")
    quantized = load_quantized(folder / "source.onnx")
    (folder / "out").mkdir()
    files = case.written(case.exporter.export(quantized, {}, folder / "out/model.qdq.onnx"))
    case.require_all_named(files, folder / "out")
    if (folder / "out/model.qdq.onnx").exists():
        case.require_near(folder / "out/model.qdq.onnx")


def _check_refusals(case: _Case, folder: Path) -> None:
    """What cannot be written leaves nothing behind."""
    folder.mkdir()
    name = f"net{case.exporter.suffix}"
    any_encoding = next(iter(case.encodings.values()))
    ghost = {**case.encodings, "no tensor of this model": any_encoding}
    (folder / "file").write_text("where a folder would have to be")
    (folder / name).mkdir()
    attempts: dict[str, tuple[Mapping[str, Encoding], Path]] = {
        "an encoding of a tensor that the model has not": (ghost, folder / "new" / name),
        "a place below a file": (case.encodings, folder / "file" / name),
        "a place where a folder is": (case.encodings, folder / name),
    }
    (folder / "new").mkdir()
    before = sorted(folder.rglob("*"))
    for what, (encodings, path) in attempts.items():
        try:
            case.exporter.export(case.model, encodings, path)
        except DfqError:
            left = sorted(entry.name for entry in set(folder.rglob("*")) - set(before))
            require(not left, case.exporter, f"refuses {what} and leaves {', '.join(left)} behind")
        except Exception as problem:
            raise AssertionError(
                f"{type(case.exporter).__name__}: {what} raises {type(problem).__name__} ({problem}); "
                "one of dfq_deploy.errors is needed"
            ) from problem
        else:
            require(False, case.exporter, f"writes without an error for {what}")


def _check_notes(exporter: Exporter, notes: Any) -> None:
    fits = isinstance(notes, tuple) and all(isinstance(note, str) and note.strip() for note in notes)
    require(fits, exporter, f"its notes are {notes!r}; a tuple of sentences is needed")


def _check_ranges(exporter: ImplicitExporter, folder: Path) -> None:
    folder.mkdir()
    ranges = {"image": Range(-2.0, 2.0), "relu": Range(0.0, 6.0)}
    files = exporter.write_ranges(ranges, folder)
    require(bool(files), exporter, "write_ranges names no file")
    back = exporter.read_ranges(files[0])
    for name, span in ranges.items():
        require(name in back, exporter, f"read_ranges does not know '{name}', which write_ranges wrote")
        covered = back[name].high >= span.high * 0.99 and back[name].low <= span.low * 0.99
        require(covered, exporter, f"the range of '{name}' was {span} and comes back as {back[name]}")


def _check_build(case: _Case, folder: Path) -> None:
    case.export(folder, "model.qdq.onnx")
    built: Any = case.exporter.build(folder / "model.qdq.onnx", case.samples)  # type: ignore[attr-defined]
    require(isinstance(built, Written), case.exporter, f"build returns {built!r}; Written(files, notes) is needed")
    files, sentences = built.files, built.notes
    _check_notes(case.exporter, sentences)
    gone = [str(file) for file in files if not Path(file).is_file()]
    require(not gone, case.exporter, f"build names {', '.join(gone)}, which is not there")
    require(bool(files) or bool(sentences), case.exporter, "builds nothing and does not say why")
