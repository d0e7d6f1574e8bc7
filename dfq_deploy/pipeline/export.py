"""Write the file that a runtime loads, from a quantized model: ``dfq_deploy.export``."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError, OutputError, TargetError
from dfq_deploy.files.aimet_encodings import is_aimet
from dfq_deploy.files.atomic import atomic_files
from dfq_deploy.files.claim import claimed
from dfq_deploy.files.encodings_file import read_encodings
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.graph.inputs import InputShapes
from dfq_deploy.graph.loading import load, load_notes, load_quantized
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.graph.reading import ModelSource, blames_the_file, source_name
from dfq_deploy.pipeline.foreign_encodings import encodings_of_aimet
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
    """The result of :func:`export`.

    Args:
        files: paths of the written files, in the order of the exporter.
        notes: sentences for the user.
        engine: what was compiled and its layers; None if nothing was.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    engine: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        engine = {} if self.engine is None else {"engine": dict(self.engine)}
        return {"files": [str(file) for file in self.files], "notes": list(self.notes), **engine}


@blames_the_file
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
    """Write the file that a runtime loads.

    Args:
        model: a quantized ONNX model of any tool, whose Q and DQ stay as they are; or a float one with its
            ``encodings``.
        to: an exporter's name, or the exporter itself with its options.
        encodings: for a float model: a mapping from tensor names, the ``encodings.json`` of ``calibrate``, or a
            calibration file of the runtime (a TensorRT calibration cache).
        target: the runtime that a float model is quantized for; None is the target named ``to``, or ``cpu``. If it is
            given, or ``to`` names a target, a quantized model must obey its rules.
        input_shapes: input name -> shape, batch included, for inputs whose size is open.
        integer_io: take uint8 pixels, and return quantized outputs as integers
            (:mod:`dfq_deploy.quantization.integer_io`).
        preprocess: normalisation of those pixels, or a name such as ``imagenet``; None leaves the input at the scale of
            its QuantizeLinear.
        output: the file to write; None writes a file named after the model into the working folder.

    Raises:
        ModelError: the model cannot be read, or does not fit the encodings.
        TargetError: the target is refused, or the quantized model violates its rules.
        PluginError: there is no such exporter.
        OptionError: an option has an invalid value.
        OutputError: the file cannot be written.
    """
    exporter, pixels = exporter_of(to), as_preprocess(preprocess)
    named = target or (to if isinstance(to, str) and to in TARGETS else None)
    runtime = find_target(named or DEFAULT_TARGET)
    path = _path(model, exporter, None if output is None else as_path(output, "output"))
    read: Mapping[str, Encoding] = {}
    notes: tuple[str, ...] = ()
    if encodings is None:
        source = load_quantized(model, input_shapes)
        if named is not None:
            _refuse(source, runtime, source_name(model))
    else:
        loaded = load(model, input_shapes=input_shapes, fix_shapes=True)
        prepared = prepare(loaded, runtime)
        exporter.refuse(prepared.model)
        source = prepared.model
        read, more = _read_encodings(loaded, prepared, exporter, encodings)
        _refuse_misfits(source, read)
        notes = (*load_notes(loaded), *more)
    if integer_io:
        source, read = _as_qdq(source, read), {}
        notes = (*notes, *take_integers(source, pixels, mixed_signs=runtime.shifts_unsigned))
    if pixels is not None:
        pixels.state_in(source.metadata_props)
    with claimed(path), atomic_files(path) as folder:
        written = exporter.export(source, read, folder / path.name)
    files, notes, engine = tuple(path.with_name(file.name) for file in written.files), (*notes, *written.notes), None
    if isinstance(exporter, BuildingExporter):
        built = exporter.build(path, None, progress)
        files, notes, engine = (*files, *built.files), (*notes, *built.notes), built.engine
    return Exported(files, notes, engine)


def _read_encodings(
    source: ir.Model, prepared: Prepared, exporter: Exporter, encodings: AnyPath | Mapping[str, Encoding]
) -> tuple[Mapping[str, Encoding], tuple[str, ...]]:
    """The encodings, and notes on how they were derived."""
    if isinstance(encodings, Mapping):
        return encodings, ()
    path = as_path(encodings, "encodings")
    if isinstance(exporter, ImplicitExporter) and path.suffix != ".json":
        return encodings_of_ranges(source, prepared, exporter.read_ranges(path), path.name)
    if is_aimet(path):
        return encodings_of_aimet(path, prepared)
    return read_encodings(path), ()


def _refuse_misfits(model: ir.Model, encodings: Mapping[str, Encoding]) -> None:
    """Refuse encodings per channel that have another number of channels than their tensor.

    Raises:
        ModelError: one has.
    """
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for value in values:
        encoding = encodings.get(str(value.name))
        if encoding is None or encoding.axis is None or value.shape is None:
            continue
        axis, count = encoding.axis, encoding.scale.size
        if axis >= len(value.shape) or (isinstance(value.shape[axis], int) and value.shape[axis] != count):
            raise ModelError(
                f"the encoding of '{value.name}' has {count} scale(s) along axis {axis}, the tensor has shape "
                f"{list(value.shape)}; give the encodings of this model"
            )


def _as_qdq(model: ir.Model, encodings: Mapping[str, Encoding]) -> ir.Model:
    """``model`` with Q and DQ inserted; without encodings it has them already."""
    if not encodings:
        return model
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.qdq.onnx"
        exporter_of("qdq").export(model, encodings, path)
        return load_quantized(path)


def _refuse(model: ir.Model, target: Target, place: str) -> None:
    """Refuse a quantized model that violates a rule of ``target``; the exporter fixes an open batch.

    Raises:
        TargetError: it violates one.
    """
    from dfq_deploy.checking import check

    closed = model.clone()
    if target.static_shapes:
        fix_batch(closed, 1)
    violations = check(closed, target.name).errors
    if violations:
        more = (
            f", and {len(violations) - 1} more: dfq-deploy check --target {target.name} lists them"
            if violations[1:]
            else ""
        )
        raise TargetError(f"{place} breaks the rules of '{target.name}': {violations[0]}{more}")


def _path(source: ModelSource, exporter: Exporter, output: Path | None) -> Path:
    """Where to write: never over the model that is read."""
    file = Path(source) if isinstance(source, str | PathLike) else None
    stem = "model" if file is None else file.name.removesuffix(file.suffix).removesuffix(".qdq")
    path = Path(f"{stem}{exporter.suffix}") if output is None else output
    path = path / f"{stem}{exporter.suffix}" if path.is_dir() else path
    if file is not None and path.exists() and path.samefile(file):
        raise OutputError(f"cannot write {path}: it is the model that is read; choose another place with -o")
    _keep_other_kinds(path, exporter)
    return path


def _keep_other_kinds(path: Path, exporter: Exporter) -> None:
    """Refuse to overwrite a file of another kind than the exporter writes, such as a float model.

    Raises:
        OutputError: there is one.
    """
    if not path.is_file():
        return
    if path.suffix not in (".onnx", f".{exporter.suffix.rpartition('.')[2]}"):
        what = f"a file of another kind than {exporter.suffix}"
    elif path.suffix != ".onnx" or is_quantized(path):
        return
    else:
        what = "not an ONNX model" if is_quantized(path) is None else "a float model"
    raise OutputError(f"cannot write {path}: it is {what}, which would be lost; choose another place with -o")
