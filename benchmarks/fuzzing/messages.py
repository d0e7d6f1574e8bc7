"""Mutate ONNX files field by field, and by what hostile files are known for."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper

from benchmarks.fuzzing.text import INTEGERS, STRINGS, mutated_bytes, mutated_json

__all__ = ["mutated_model"]

OPERATORS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}))

FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e30, -1e30, float("inf"), float("-inf"), float("nan"))

MOST_BYTES = 2**20
"""Mutants that are larger are not worth their time."""


def mutated_model(data: bytes, rng: Random) -> bytes:
    """Mutate one to four fields of an ONNX file, or a part of its structure; sometimes its bytes."""
    if rng.random() < 0.12:
        return mutated_bytes(data, rng)
    model = onnx.ModelProto()
    model.ParseFromString(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if rng.random() < 0.5:
            _mutate_field(model, rng)
        else:
            try:
                rng.choice(STRUCTURAL)(model, rng)
            except (IndexError, ValueError):  # there is nothing of that kind in the model
                _mutate_field(model, rng)
    try:
        mutant = model.SerializeToString()
    except (ValueError, UnicodeError):
        return mutated_bytes(data, rng)
    if rng.random() < 0.03:
        mutant = mutated_bytes(mutant, rng)
    return mutant if len(mutant) < max(MOST_BYTES, 2 * len(data)) else data


def _places(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """Every field that is set, with the message that holds it, nested ones included."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                yield from _places(child)


def _mutate_field(model: onnx.ModelProto, rng: Random) -> None:
    places = list(_places(model))
    if rng.random() < 0.85:  # weights are the bulk of a file, and one of them is like the other
        places = [place for place in places if place[1].name not in ("float_data", "raw_data")] or places
    if not places:
        return
    message, field = rng.choice(places)
    value = getattr(message, field.name)
    if field.is_repeated:
        _mutate_repeated(value, field, rng)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        others = [getattr(*place) for place in ((m, f.name) for m, f in places if not f.is_repeated)]
        same = [other for other in others if type(other) is type(value)]
        value.CopyFrom(_copy(rng.choice(same))) if same else message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(value, field, rng))


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _mutate_repeated(values: Any, field: FieldDescriptor, rng: Random) -> None:
    place = rng.randrange(len(values))
    kind = rng.randrange(5)
    if kind == 0:
        del values[place]
    elif kind == 1:
        first = _copy(values[place]) if field.type == FieldDescriptor.TYPE_MESSAGE else values[place]
        for _ in range(rng.choice((1, 1, 3, 40))):
            values.append(first)
    elif kind == 2 and len(values) > 1:
        kept = [_copy(value) if isinstance(value, Message) else value for value in values]
        rng.shuffle(kept)
        del values[:]
        values.extend(kept)
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        values[place] = _scalar(values[place], field, rng)
    else:
        del values[place]


def _scalar(value: Any, field: FieldDescriptor, rng: Random) -> Any:
    if isinstance(value, str):
        return rng.choice((*STRINGS, *OPERATORS[:: rng.randrange(1, 40)])).replace("\x00", "")
    if isinstance(value, bytes):
        return rng.choice((b"", value + value[:4], value[:-1], value[: len(value) // 2], mutated_bytes(value, rng)))
    if isinstance(value, float):
        return rng.choice(FLOATS)
    narrow = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
    fitting = [number for number in INTEGERS if not narrow or -(2**31) <= number < 2**31]
    if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
        fitting = [number for number in fitting if number >= 0]
    if field.type == FieldDescriptor.TYPE_ENUM:
        fitting = [number.number for number in field.enum_type.values] if field.enum_type else fitting
    found = rng.choice((value + 1, value - 1, *fitting)) if fitting[0] == INTEGERS[0] else rng.choice(fitting)
    # Closed enumerations take their own numbers alone.
    closed = field.type == FieldDescriptor.TYPE_ENUM and field.enum_type is not None
    return fitting[found % len(fitting)] if closed and found not in fitting else found


def _rewire(model: onnx.ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    node.input[rng.randrange(len(node.input))] = rng.choice(names)


def _reoutput(model: onnx.ModelProto, rng: Random) -> None:
    names = [name for other in model.graph.node for name in other.output]
    rng.choice(model.graph.output).name = rng.choice(names)


def _other_operator(model: onnx.ModelProto, rng: Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)


def _resize_tensor(model: onnx.ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)


def _reshape_tensor(model: onnx.ModelProto, rng: Random) -> None:
    """Keep the number of elements, change the shape."""
    tensor = rng.choice(model.graph.initializer)
    dims = list(tensor.dims)
    rng.shuffle(dims)
    if rng.random() < 0.5:
        dims.insert(rng.randrange(len(dims) + 1), 1)
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _retype_tensor(model: onnx.ModelProto, rng: Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.choice(TensorProto.DataType.values())


def _small_constant(model: onnx.ModelProto, rng: Random) -> None:
    """Replace an input of a node by a small constant."""
    node = rng.choice(model.graph.node)
    kind = rng.choice((TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT64, TensorProto.INT8, TensorProto.BOOL))
    count = rng.choice((0, 1, 1, 2, 4, 8))
    numbers: list[Any] = [rng.choice(FLOATS if kind == TensorProto.FLOAT else INTEGERS) for _ in range(count)]
    if kind in (TensorProto.INT8, TensorProto.BOOL):
        numbers = [int(number) % 2 for number in numbers]
    dims = [] if count == 1 and rng.random() < 0.5 else [count]
    name = f"constant_{rng.randrange(1000)}"
    model.graph.initializer.append(helper.make_tensor(name, kind, dims, numbers))
    node.input[rng.randrange(len(node.input))] = name


def _external(model: onnx.ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key in rng.sample(("location", "offset", "length", "checksum"), rng.randrange(1, 4)):
        places = ("model.onnx", "../model.onnx", "/etc/hostname", ".", "missing.bin", "C:\\x", *STRINGS)
        value = rng.choice(places) if key == "location" else rng.choice(("0", "4", "-1", "4096", "x", str(2**63)))
        tensor.external_data.add(key=key, value=value.replace("\x00", ""))


def _attribute(model: onnx.ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    names = [attribute.name for other in model.graph.node for attribute in other.attribute]
    values: tuple[Any, ...] = (
        *(rng.choice(INTEGERS), rng.choice(FLOATS), rng.choice(STRINGS)),
        [rng.choice(INTEGERS) for _ in range(rng.choice((1, 2, 4, 5)))],
        [rng.choice(FLOATS) for _ in range(rng.choice((1, 2, 4)))],
    )
    common = ("axis", "axes", "pads", "strides", "dilations", "group", "kernel_shape", "perm", "to", "mode", "keepdims")
    node.attribute.append(helper.make_attribute(rng.choice((*names, *common)), rng.choice(values)))


def _subgraph(model: onnx.ModelProto, rng: Random) -> None:
    """Move a node into the branches of an If, or the body of a Loop."""
    place = rng.randrange(len(model.graph.node))
    node = _copy(model.graph.node[place])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    condition = f"condition_{rng.randrange(1000)}"
    model.graph.initializer.append(helper.make_tensor(condition, TensorProto.BOOL, [], [True]))
    if rng.random() < 0.5:
        branch = helper.make_graph([node], "branch", [], results)
        new = helper.make_node("If", [condition], list(node.output), then_branch=branch, else_branch=branch)
    else:
        trips = f"trips_{rng.randrange(1000)}"
        model.graph.initializer.append(helper.make_tensor(trips, TensorProto.INT64, [], [rng.choice(INTEGERS)]))
        index = helper.make_tensor_value_info("index", TensorProto.INT64, [])
        flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
        kept = helper.make_tensor_value_info("kept", TensorProto.BOOL, [])
        body = helper.make_graph(
            [helper.make_node("Identity", ["flag"], ["kept"]), node], "body", [index, flag], [kept, *results]
        )
        new = helper.make_node("Loop", [trips, condition], list(node.output), body=body)
    model.graph.node[place].CopyFrom(new)


def _function(model: onnx.ModelProto, rng: Random) -> None:
    """Make a function of a node; sometimes one that calls itself, or twice."""
    node = rng.choice(model.graph.node)
    inner = [_copy(node)]
    if rng.random() < 0.3:
        inner.append(helper.make_node("made", list(node.input), ["again"], domain="local"))
    if rng.random() < 0.3:
        inner.append(_copy(node))
    imports = [helper.make_opsetid("", rng.choice((13, 17, 18, 21))), helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", "made", list(node.input), list(node.output), inner, imports))
    model.opset_import.append(helper.make_opsetid("local", 1))
    node.op_type, node.domain = "made", "local"
    if rng.random() < 0.5:
        del node.attribute[:]


def _opset(model: onnx.ModelProto, rng: Random) -> None:
    rng.choice(model.opset_import).version = rng.choice((1, 6, 7, 9, 11, 12, 13, 15, 17, 18, 21, 23, 26, 99))


def _input_shape(model: onnx.ModelProto, rng: Random) -> None:
    shape = rng.choice([*model.graph.input, *model.graph.output, *model.graph.value_info]).type.tensor_type.shape
    dim = rng.choice(shape.dim)
    if rng.random() < 0.6:
        dim.dim_value = rng.choice(INTEGERS)
    else:
        dim.dim_param = rng.choice((*STRINGS, "N", "batch")).replace("\x00", "")


def _bad_text(model: onnx.ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    node.name = rng.choice(STRINGS).replace("\x00", "\x01")


def _metadata(model: onnx.ModelProto, rng: Random) -> None:
    """An entry of the metadata that this package writes, sound or mutated."""
    types = {"type": "uint8", "scale": 0.5, "zero_point": 3}
    pixels = {"mean": [0.5], "std": [0.25]}
    inputs = {entry.name: rng.choice((types, {**pixels, "type": "uint8", "axis": 1})) for entry in model.graph.input}
    integers = {"inputs": inputs, "outputs": {entry.name: types for entry in model.graph.output}}
    entry = model.metadata_props.add()
    entry.key, text = rng.choice(
        (
            ("dfq_deploy.integer_io", json.dumps(integers)),
            ("dfq_deploy.preprocess", json.dumps(pixels)),
            ("dfq_deploy.main_input", rng.choice(list(inputs))),
            ("dfq_deploy.task", "classify"),
        )
    )
    mutated = mutated_json(text.encode(), rng) if text[0] == "{" else rng.choice(STRINGS).encode()
    entry.value = mutated.decode(errors="replace") if rng.random() < 0.7 else text


STRUCTURAL: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    *(_rewire, _reoutput, _other_operator, _resize_tensor, _reshape_tensor, _retype_tensor, _small_constant),
    *(_small_constant, _external, _attribute, _attribute, _subgraph, _function, _opset, _input_shape, _bad_text),
    _metadata,
)
