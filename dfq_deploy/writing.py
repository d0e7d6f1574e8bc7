"""A model to a file, and to a second one with its weights where one cannot hold them."""

from pathlib import Path

import onnx
import onnx_ir as ir

from dfq_deploy.files import replacing
from dfq_deploy.messages import contiguous, fits, skeleton, weight_bytes

__all__ = ["write"]

PAGE = 4096
"""Where large tensors begin, so that runtimes can map them."""


def write(model: ir.Model, path: Path, largest: int | None = None) -> tuple[Path, ...]:
    """Write ``model`` to ``path``; more weights than that holds go to ``PATH.data`` beside it.

    Either file appears whole or not at all, and the model last.

    Args:
        largest: bytes of weights that stay in the file; None is what one message holds.

    Returns:
        what was written.

    Raises:
        OutputError: a file cannot be written.
    """
    if fits(model) if largest is None else weight_bytes(model) <= largest:
        with replacing(path) as partial:
            partial.write_bytes(ir.to_proto(model).SerializeToString())
        return (path,)
    data = path.with_name(f"{path.name}.data")
    proto, beside = skeleton(model)
    with replacing(path) as partial, replacing(data) as stored:
        with stored.open("wb") as stream:
            for tensor in proto.graph.initializer:
                if tensor.name in beside:
                    stream.seek(-stream.tell() % PAGE, 1)
                    _place(tensor, data.name, stream.tell(), beside[tensor.name].nbytes)
                    contiguous(beside[tensor.name]).tofile(stream)
        partial.write_bytes(proto.SerializeToString())
    return path, data


def _place(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
