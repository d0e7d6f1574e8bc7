"""Write a model to a file, with external data if it is large."""

from pathlib import Path

import onnx
import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.graph.large_models import contiguous, fits_in_message, skeleton, weight_bytes

__all__ = ["to_bytes", "write_model"]

PAGE = 4096
"""Alignment of large tensors in bytes, so that runtimes can map them."""


def write_model(model: ir.Model, path: Path, largest: int | None = None) -> tuple[Path, ...]:
    """Write ``model`` to ``path``, with its large weights in ``PATH.data`` if they exceed a limit.

    Both files are written atomically, the model last.

    Args:
        largest: largest size of all weights in bytes that stay in the file; None is the limit of one message.

    Returns:
        the written files.

    Raises:
        OutputError: a file cannot be written.
    """
    if fits_in_message(model) if largest is None else weight_bytes(model) <= largest:
        with atomic_file(path) as partial:
            partial.write_bytes(ir.to_proto(model).SerializeToString())
        return (path,)
    data = path.with_name(f"{path.name}.data")
    proto, weights = skeleton(model)
    with atomic_file(path) as partial, atomic_file(data) as partial_data:
        with partial_data.open("wb") as stream:
            for tensor in proto.graph.initializer:
                if tensor.name in weights:
                    stream.seek(-stream.tell() % PAGE, 1)
                    _set_location(tensor, data.name, stream.tell(), weights[tensor.name].nbytes)
                    contiguous(weights[tensor.name]).tofile(stream)
        partial.write_bytes(proto.SerializeToString())
    return path, data


def _set_location(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def to_bytes(model: ir.Model) -> bytes:
    """Serialize the model with its weights into one message.

    Raises:
        ModelError: it exceeds the limit of 2 GB.
    """
    if not fits_in_message(model):
        raise ModelError(
            f"the model '{model.graph.name}' has {weight_bytes(model) / 1e9:.1f} GB of weights, and this step takes it "
            "in one message of at most 2 GB; calibrate it for --target cpu, or its parts (onnx.utils.extract_model)"
        )
    return bytes(ir.to_proto(model).SerializeToString())
