"""Check the names in a model: valid UTF-8, of a sensible length, without control characters."""

import unicodedata
from collections.abc import Iterable, Iterator

import onnx

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.walk import all_graphs, all_nodes, all_tensors

__all__ = ["check_names"]

SHOWN = 60
"""Characters of a name that an error shows."""


def check_names(model: onnx.ModelProto, depth: int, longest: int) -> None:
    """Check every string that names something.

    Args:
        depth: levels of nested graphs.
        longest: bytes that a name may have.

    Raises:
        ModelError: a name is no valid UTF-8, too long, or holds control characters, which a terminal obeys.
    """
    try:
        for kind, name in _names(model, depth):
            _check_name(kind, name, longest)
    except UnicodeError as problem:  # what some versions of protobuf raise where others give the bytes
        raise ModelError(f"a name is not valid UTF-8 ({problem}); the file is damaged: export it again") from None


def _check_name(kind: str, name: str | bytes, longest: int) -> None:
    if isinstance(name, bytes):
        name.decode()
        return
    owner = f"the name of {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if len(name) > longest or len(name.encode()) > longest:
        raise ModelError(
            f"{owner} has {len(name.encode()):,} bytes ('{_shown(name)}...'), the limit is {longest:,}; export the "
            "model with shorter names"
        )
    if not name.isprintable() and any(unicodedata.category(character) == "Cc" for character in name):
        raise ModelError(f"{owner} holds control characters ('{_shown(name)}'); export the model with plain names")


def _shown(name: str) -> str:
    return name[:SHOWN].encode("unicode_escape").decode("ascii")


def _names(model: onnx.ModelProto, depth: int) -> Iterator[tuple[str, str | bytes]]:
    """Yield what is named, and its name: bytes where it is no valid UTF-8."""
    for text in (model.producer_name, model.producer_version, model.domain):
        yield "producer", text
    for entry in model.opset_import:
        yield "domain", entry.domain
    for property_ in model.metadata_props:
        yield "metadata property", property_.key
        if isinstance(property_.value, bytes):  # the value of a property may have any length and several lines
            yield "metadata property", property_.value
    for graph in all_graphs(model, depth):
        yield "graph", graph.name
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from (("tensor", name) for name in _value_names(value))
    for node in all_nodes(model, depth):
        yield from _node_names(node)
    for tensor in all_tensors(model, depth):
        yield "tensor", tensor.name
        for location in tensor.external_data:
            yield "external data entry", location.key
            yield "external data file", location.value
    for function in model.functions:
        for name in (function.name, function.domain, *function.input, *function.output, *function.attribute):
            yield "function", name
        for entry in function.opset_import:
            yield "domain", entry.domain


def _value_names(value: onnx.ValueInfoProto) -> Iterable[str]:
    yield value.name
    for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
        yield dim.dim_param


def _node_names(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    yield "node", node.name
    yield "operator", node.op_type
    yield "domain", node.domain
    for name in (*node.input, *node.output):
        yield "tensor", name
    for attribute in node.attribute:
        yield "attribute", attribute.name
        yield "attribute", attribute.ref_attr_name
