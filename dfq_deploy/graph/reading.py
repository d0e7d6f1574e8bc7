"""Read a model file, check it and upgrade its opset."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

import google.protobuf.message
import onnx
import onnx_ir as ir

from dfq_deploy.errors import DfqError, ModelError, first_line, is_out_of_memory, similar_file
from dfq_deploy.graph.domains import with_short_domain, with_short_opset
from dfq_deploy.graph.file_info import quantized_node
from dfq_deploy.graph.foreign_files import foreign_format
from dfq_deploy.graph.large_models import (
    LARGEST_MESSAGE,
    fits_in_message,
    in_memory,
    skeleton,
    through_message,
    weightless,
)
from dfq_deploy.graph.operators import STANDARD_DOMAINS
from dfq_deploy.graph.standard_form import refuse_cycles, to_standard_form
from dfq_deploy.validation.check import check_message
from dfq_deploy.validation.trial import complaint_about, try_file

__all__ = [
    "MINIMUM_OPSET",
    "ModelSource",
    "blamed_on_the_file",
    "blames_the_file",
    "check_file",
    "no_model",
    "read_any",
    "read_checked",
    "read_mapped",
    "source_name",
]

ModelSource: TypeAlias = "str | PathLike[str] | onnx.ModelProto | ir.Model"

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

MINIMUM_OPSET = 13
"""QuantizeLinear and DequantizeLinear have a channel axis from here on."""

LFS_POINTER = b"version https://git-lfs"
"""What a file starts with that was cloned without Git LFS."""

_PROBLEMS = (
    RuntimeError,
    ValueError,
    onnx.version_converter.ConvertError,
    onnx.shape_inference.InferenceError,
)


def source_name(source: ModelSource) -> str:
    """What errors call it: the path, where there is one."""
    return "the model" if isinstance(source, ir.Model | onnx.ModelProto) else str(source)


def no_model(source: object) -> ModelError:
    """The error for what is neither a path nor a model."""
    kind = type(source).__name__
    return ModelError(f"{kind}: no model; give the path of an .onnx file, an onnx.ModelProto or an onnx_ir.Model")


@contextmanager
def blamed_on_the_file(source: object) -> Iterator[None]:
    """Turn an unexpected exception within the block into a :class:`.ModelError` if ONNX Runtime fails on the file too.

    An exception on a file that ONNX Runtime runs is a fault of this package, and stays what it is.

    Raises:
        ModelError: with ONNX Runtime's words.
    """
    try:
        yield
    except DfqError:
        raise
    except Exception as problem:
        refused = complaint_about(Path(source)) if isinstance(source, str | PathLike) else None
        if refused is None or is_out_of_memory(problem):
            raise
        raise ModelError(
            f"{source}: ONNX Runtime refuses it ({first_line(refused)[:200]}); the file is damaged: export it again"
        ) from problem


def blames_the_file(step: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Decorate a step whose first argument is a model with :func:`blamed_on_the_file`."""
    first = next(iter(signature(step).parameters))

    @wraps(step)
    def guarded(*given: _Given.args, **named: _Given.kwargs) -> _Result:
        with blamed_on_the_file(given[0] if given else named.get(first)):
            return step(*given, **named)

    return guarded


def read_checked(source: ModelSource, *, quantized: bool = False) -> ir.Model:
    """Read ``source``, refuse what is no float ONNX model, and convert an opset below 13.

    Weights of more than 2 GB in external data are mapped, not read: they stay on the disk until they are asked for.

    Args:
        quantized: a quantized model is wanted, and a float one refused.

    Raises:
        ModelError: the file is missing, is not ONNX, lacks its external data, fails the checker, needs more than the
            limits of :mod:`dfq_deploy.validation`, is quantized (or is not, where it should be), or is of an old opset
            that cannot be converted.
    """
    place = source_name(source)
    proto, large = _parted(source)
    if isinstance(source, onnx.ModelProto):
        check_message(proto, place)
    if isinstance(source, str | PathLike):
        try_file(Path(source))
    if large is None:
        to_standard_form(proto, place)
    found = quantized_node(proto)
    if found is None and quantized:
        raise ModelError(f"{place}: a float model; quantize it with dfq-deploy calibrate, or give its --encodings")
    if found is not None and not quantized:
        raise ModelError(
            f"{place}: already quantized ({found.op_type} '{found.name}'); give the float model that it was made from"
        )
    if large is not None:
        return _checked_large(large, place)
    if isinstance(source, str | PathLike):
        _load_external(proto, Path(source))
    _check(proto, place)
    return ir.from_proto(_upgraded(proto, place))


def _parted(source: ModelSource) -> tuple[onnx.ModelProto, ir.Model | None]:
    """The message, and where it cannot hold all weights the model with these, shared or mapped."""
    if isinstance(source, str | PathLike):
        path = Path(source)
        proto = _read(path)
        check_message(proto, str(path))
        large = _total_bytes(proto, path) > LARGEST_MESSAGE
        return with_short_domain(proto), read_mapped(ir.load(path), path) if large else None
    if isinstance(source, onnx.ModelProto):
        if sum(tensor.ByteSize() for tensor in source.graph.initializer) > LARGEST_MESSAGE:
            model = with_short_opset(in_memory(ir.from_proto(source)))
            return skeleton(model)[0], model
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return with_short_domain(copy), None
    if not isinstance(source, ir.Model):
        raise no_model(source)
    model = with_short_opset(in_memory(source.clone()))
    return (ir.to_proto(model), None) if fits_in_message(model) else (skeleton(model)[0], model)


def _read(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise _not_onnx(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file{similar_file(path) or '; give the path of an .onnx file'}")
    try:
        proto = onnx.load(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, ValueError, OSError) as problem:
        with path.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise ModelError(
                    f"{path}: a Git LFS pointer, not the model itself; fetch it with git lfs pull"
                ) from None
        raise _not_onnx(path, f"or cut short ({problem})") from None
    if not proto.graph.node:
        raise _not_onnx(path, "it holds no graph")
    return proto


def _not_onnx(path: Path, why: str = "") -> ModelError:
    """The error for a file or folder that holds no model; ``why`` is said where it is not known what it is."""
    found = foreign_format(path)
    if found is not None:
        return ModelError(f"{path}: not an ONNX model but {found}")
    return ModelError(f"{path}: not an ONNX model, {why}; export it again")


def _load_external(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as problem:
        raise _unreadable(path, problem) from None


def check_file(path: Path) -> None:
    """Check a file that a runtime is to load as it is.

    Raises:
        ModelError: it asks for more than the limits, or aborts the process that loads it.
    """
    message = _read(path)
    check_message(message, str(path))
    refuse_cycles(message, str(path))
    try_file(path)


def read_any(source: ModelSource) -> ir.Model:
    """Read an ONNX file, float or quantized, as it is; a model in memory is copied.

    Raises:
        ModelError: it is missing, no ONNX model, or its external data cannot be read.
    """
    if isinstance(source, ir.Model):
        return with_short_opset(source.clone())
    if isinstance(source, str | PathLike):
        check_file(Path(source))
        try:
            model = ir.load(Path(source))
        except (google.protobuf.message.DecodeError, ValueError, OSError, RuntimeError) as problem:
            raise ModelError(f"{source}: not an ONNX model, or cut short ({problem}); export it again") from None
        read_mapped(model, Path(source))
    else:
        if not isinstance(source, onnx.ModelProto):
            raise no_model(source)
        check_message(source, source_name(source))
        refuse_cycles(source, source_name(source))
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        model = with_short_opset(ir.from_proto(copy))
    if not len(model.graph):
        raise ModelError(f"{source_name(source)}: not an ONNX model (it holds no graph); export it again")
    return model


def read_mapped(model: ir.Model, path: Path) -> ir.Model:
    """``model``, as it was read from ``path``, with its external data mapped.

    Raises:
        ModelError: that is missing, cut short, or not beside the model.
    """
    try:
        return with_short_opset(in_memory(model))
    except (OSError, ValueError) as problem:
        raise _unreadable(path, problem) from None


def _unreadable(path: Path, problem: Exception) -> ModelError:
    return ModelError(
        f"{path}: its external data cannot be read ({_first_line(problem)}); keep the data file beside the model"
    )


def _total_bytes(proto: onnx.ModelProto, path: Path) -> int:
    names = {
        entry.value for tensor in proto.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    files = [path, *(path.parent / name for name in names)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _checked_large(model: ir.Model, place: str) -> ir.Model:
    """``model`` checked and upgraded without its large initializers, which no opset change concerns."""
    _check(weightless(model)[0], place)
    if model.opset_imports.get("", MINIMUM_OPSET) >= MINIMUM_OPSET:
        return model
    return through_message(model, lambda proto: _upgraded(proto, place))


def _check(proto: onnx.ModelProto, place: str) -> None:
    # The checker wants a shape for every output, if only an empty one; converters leave it out.
    bare = [value.type.tensor_type for value in proto.graph.output if value.type.HasField("tensor_type")]
    bare = [kind for kind in bare if not kind.HasField("shape")]
    for kind in bare:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(proto, check_custom_domain=False)
    except onnx.checker.ValidationError as problem:
        raise ModelError(f"{place}: the ONNX checker refuses it: {_first_line(problem)}; export it again") from None
    for kind in bare:
        kind.ClearField("shape")


def _opset(proto: onnx.ModelProto) -> int | None:
    return next((int(entry.version) for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), None)


def _upgraded(proto: onnx.ModelProto, place: str) -> onnx.ModelProto:
    opset = _opset(proto)
    if opset is None or opset >= MINIMUM_OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, MINIMUM_OPSET)
    except _PROBLEMS as problem:
        raise ModelError(
            f"{place}: opset {opset} cannot be converted to {MINIMUM_OPSET} ({_first_line(problem)}); "
            f"export it with opset {MINIMUM_OPSET} or newer"
        ) from None


def _first_line(problem: Exception) -> str:
    """What went wrong, without the place in onnx's own sources that its assertions name first."""
    message = str(problem).rpartition("` failed: ")[2].replace("$", "").strip()
    return first_line(message) if message else type(problem).__name__
