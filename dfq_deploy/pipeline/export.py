"""Write what a runtime loads from a quantized model: ``dfq_deploy.export``."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import OutputError, TargetError
from dfq_deploy.files.encodings_file import read_encodings
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import InputShapes
from dfq_deploy.graph.loading import load, load_notes, load_quantized
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.graph.reading import ModelSource, source_name
from dfq_deploy.plugins.contracts import BuildingExporter, Exporter, ImplicitExporter
from dfq_deploy.plugins.registry import exporter_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.quantization.integer_io import integer_io as take_integers
from dfq_deploy.quantization.ranges import encodings_of_ranges
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.targets.catalog import TARGETS, find_target
from dfq_deploy.targets.target import Target

__all__ = ["Exported", "export"]

DEFAULT_TARGET = "cpu"


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote.

    Args:
        files: in the order in which the exporter names them.
        notes: sentences that the user should read.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        return {"files": [str(file) for file in self.files], "notes": list(self.notes)}


def export(
    model: ModelSource,
    *,
    to: str | Exporter,
    encodings: AnyPath | Mapping[str, Encoding] | None = None,
    target: str | None = None,
    input_shapes: InputShapes | None = None,
    integer_io: bool = False,
    preprocess: Preprocess | str | None = None,
    output: AnyPath | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """Write what a runtime loads.

    Args:
        model: a quantized ONNX model, this package's or any other tool's, whose Q and DQ stay as they are; or a float
            one with its ``encodings``.
        to: an exporter's name, or the exporter itself with its options.
        encodings: for a float model: by tensor name, or the ``encodings.json`` that ``calibrate`` wrote, or a file of
            ranges that the runtime's own calibration left (TensorRT's calibration cache).
        target: the runtime that the float model is quantized for; None is the one that ``to`` is named like, or the
            CPU. A quantized one must obey its rules, where it is named.
        input_shapes: input name -> shape with the batch, where more than the batch is open.
        integer_io: pixels go in as bytes, quantized outputs come out as integers
            (:mod:`dfq_deploy.quantization.integer_io`).
        preprocess: what turns those pixels into the input, or a name such as ``imagenet``; None leaves the input in
            the scale of its QuantizeLinear.
        output: the file to write; None writes one named like the model into the working folder.

    Raises:
        ModelError: the model cannot be read, or does not fit the encodings.
        TargetError: the runtime refuses it, or the quantized model breaks its rules.
        PluginError: there is no such exporter.
        OptionError: an option has a value that it cannot have.
        OutputError: the file cannot be written.
    """
    exporter, pixels = exporter_of(to), as_preprocess(preprocess)
    named = target or (to if isinstance(to, str) and to in TARGETS else None)
    runtime = find_target(named or DEFAULT_TARGET)
    path = _path(model, exporter, None if output is None else as_path(output, "output"))
    given: Mapping[str, Encoding] = {}
    notes: tuple[str, ...] = ()
    if encodings is None:
        source = load_quantized(model, input_shapes)
        if named is not None:
            _refuse(source, runtime, source_name(model))
    else:
        loaded = load(model, input_shapes=input_shapes, fix_shapes=True)
        prepared = prepare(loaded, runtime)
        source = prepared.model
        given, said = _given(loaded, prepared, exporter, encodings)
        notes = (*load_notes(loaded), *said)
    if integer_io:
        source, given = _as_qdq(source, given), {}
        notes = (*notes, *take_integers(source, pixels))
    files, said = exporter.export(source, given, path)
    notes = (*notes, *said)
    if isinstance(exporter, BuildingExporter):
        built, said = exporter.build(path, None, progress)
        files, notes = (*files, *built), (*notes, *said)
    return Exported(files, notes)


def _given(
    source: ir.Model, prepared: Prepared, exporter: Exporter, encodings: AnyPath | Mapping[str, Encoding]
) -> tuple[Mapping[str, Encoding], tuple[str, ...]]:
    """The encodings, and sentences on how they were found."""
    if isinstance(encodings, Mapping):
        return encodings, ()
    path = as_path(encodings, "encodings")
    if isinstance(exporter, ImplicitExporter) and path.suffix != ".json":
        return encodings_of_ranges(source, prepared, exporter.read_ranges(path), path.name)
    return read_encodings(path), ()


def _as_qdq(model: ir.Model, encodings: Mapping[str, Encoding]) -> ir.Model:
    """``model`` with Q and DQ in it; one without encodings has them already."""
    if not encodings:
        return model
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.qdq.onnx"
        exporter_of("qdq").export(model, encodings, path)
        return load_quantized(path)


def _refuse(model: ir.Model, target: Target, place: str) -> None:
    """Refuse a quantized model that breaks a rule of ``target``; an open batch is closed by the exporter.

    Raises:
        TargetError: it breaks one.
    """
    from dfq_deploy.checking import check

    closed = model.clone()
    if target.static_shapes:
        fix_batch(closed, 1)
    broken = check(closed, target.name).violations
    if broken:
        more = f", and {len(broken) - 1} more: dfq-deploy check --target {target.name} lists them" if broken[1:] else ""
        raise TargetError(f"{place} breaks the rules of '{target.name}': {broken[0]}{more}")


def _path(source: ModelSource, exporter: Exporter, output: Path | None) -> Path:
    """Where to write: never over the model that is read."""
    file = Path(source) if isinstance(source, str | PathLike) else None
    stem = "model" if file is None else file.name.removesuffix(file.suffix).removesuffix(".qdq")
    path = Path(f"{stem}{exporter.suffix}") if output is None else output
    path = path / f"{stem}{exporter.suffix}" if path.is_dir() else path
    if file is not None and path.exists() and path.samefile(file):
        raise OutputError(f"cannot write {path}: it is the model that is read; choose another place with -o")
    return path
