"""Metadata in TensorFlow Lite's own schema (M001): normalization of images, file of labels.

Android Studio, the Task Library and MediaPipe read it. The tables and their fields are those of
``metadata_schema.fbs`` (tflite-support), addressed by number since the package that has their classes is not needed
for anything else.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dfq_deploy.samples.preprocess import Preprocess

from .tensors import Graph, Port

__all__ = ["NAME", "metadata", "with_files"]

NAME = "TFLITE_METADATA"
"""Name of the buffer with this metadata."""

IDENTIFIER = b"M001"

IMAGE_PROPERTIES, NORMALIZATION_OPTIONS, AXIS_LABELS = 2, 1, 2
"""Numbers in the unions ContentProperties and ProcessUnitOptions and in AssociatedFileType."""

COLORS = {1: 2, 3: 1}
"""Channels -> ColorSpaceType: grayscale, RGB."""

STORED = (1980, 1, 1, 0, 0, 0)
"""Date of the packed files: the same content gives the same bytes."""


def metadata(graph: Graph, preprocess: Preprocess | None, labels: str | None) -> bytes:
    """Return the metadata of a file.

    Args:
        graph: for its inputs and outputs.
        preprocess: normalization of the first input with four axes; pixels from 0 to 255, as the schema counts them.
        labels: name of the packed file of labels, which belongs to the first output.
    """
    import flatbuffers

    builder = flatbuffers.Builder(256)
    images = [port for port in graph.inputs if len(port.order) == 4]
    inputs = [_input(builder, port, preprocess if port in images[:1] else None) for port in graph.inputs]
    outputs = [_output(builder, port, labels if index == 0 else None) for index, port in enumerate(graph.outputs)]
    subgraph = _table(builder, 7, {2: _vector(builder, inputs), 3: _vector(builder, outputs)})
    version = builder.CreateString("1.0.0")
    model = _table(builder, 8, {3: _vector(builder, [subgraph]), 7: version})
    builder.Finish(model, IDENTIFIER)
    return bytes(builder.Output())


def with_files(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Append ``files`` as a zip archive, as the schema's associated files are packed."""
    if not files:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, STORED), data)
    return stream.getvalue()


def _input(builder: Any, port: Port, preprocess: Preprocess | None) -> int:
    fields: dict[int, int] = {0: builder.CreateString(port.name)}
    if preprocess is not None:
        channels = port.tensor.shape[port.order.index(1)] if port.order[0] == 0 else port.tensor.shape[-1]
        mean, std = ([255 * value for value in values] for values in (preprocess.mean, preprocess.std))
        options = _table(builder, 2, {0: _floats(builder, mean), 1: _floats(builder, std)})
        unit = _union(builder, 2, 0, NORMALIZATION_OPTIONS, options)
        image = _table(builder, 2, {}, {0: COLORS.get(channels, 0)})
        fields[3] = _union(builder, 3, 0, IMAGE_PROPERTIES, image)
        fields[4] = _vector(builder, [unit])
    return _table(builder, 7, fields)


def _output(builder: Any, port: Port, labels: str | None) -> int:
    fields: dict[int, int] = {0: builder.CreateString(port.name)}
    if labels is not None:
        described = {0: builder.CreateString(labels), 1: builder.CreateString("names of the classes")}
        fields[6] = _vector(builder, [_table(builder, 4, described, {2: AXIS_LABELS})])
    return _table(builder, 7, fields)


def _table(builder: Any, size: int, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
    """Write a table of ``size`` fields: offsets and single bytes, by field number."""
    builder.StartObject(size)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, number in (numbers or {}).items():
        builder.PrependUint8Slot(field, number, 0)
    return int(builder.EndObject())


def _union(builder: Any, size: int, field: int, kind: int, offset: int) -> int:
    """Write a table whose ``field`` is the type of a union, and the next one its value."""
    return _table(builder, size, {field + 1: offset}, {field: kind})


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    return _filled(builder, 4, offsets, builder.PrependUOffsetTRelative)


def _floats(builder: Any, values: Sequence[float]) -> int:
    return _filled(builder, 4, values, builder.PrependFloat32)


def _filled(builder: Any, width: int, values: Sequence[Any], prepend: Callable[[Any], None]) -> int:
    builder.StartVector(width, len(values), width)
    for value in reversed(values):
        prepend(value)
    return int(builder.EndVector())
