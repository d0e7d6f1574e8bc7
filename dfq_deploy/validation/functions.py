"""Count the nodes that model-local functions expand to, without expanding them."""

from collections.abc import Iterable, Mapping

import onnx

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.walk import attribute_graphs

__all__ = ["check_size"]

_Key = tuple[str, str, str]


def check_size(model: onnx.ModelProto, most: int) -> None:
    """Check that the model has at most ``most`` nodes once its functions are expanded.

    Raises:
        ModelError: it has more, a function calls itself, or a function was written for another opset than the model.
    """
    functions = {_key_of(function): function for function in model.functions}
    _check_opsets(model)
    sizes: dict[_Key, int] = {}
    for start in functions:
        _measure(start, functions, sizes)
    total = sum(_expanded(node, sizes) for node in model.graph.node)
    if total > most:
        raise ModelError(
            f"it expands to {total:,} nodes, the limit is {most:,}; export it without nested functions"
            if functions
            else f"it has {total:,} nodes, the limit is {most:,}"
        )


def _key_of(function: onnx.FunctionProto) -> _Key:
    return function.domain, function.name, getattr(function, "overload", "")


def _called(node: onnx.NodeProto) -> _Key:
    return node.domain, node.op_type, getattr(node, "overload", "")


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in attribute_graphs(node):
            yield from _all(graph.node)


def _measure(start: _Key, functions: Mapping[_Key, onnx.FunctionProto], sizes: dict[_Key, int]) -> None:
    """Fill ``sizes`` for ``start`` and all that it calls, the inner ones first, without recursion."""
    stack, open_ = [start], set[_Key]()
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        called = {_called(node) for node in _all(functions[key].node)} & functions.keys()
        if missing := called - sizes.keys():
            if key in open_:
                raise ModelError(f"function '{key[1]}' calls itself; export the model without recursive functions")
            open_.add(key)
            stack.extend(missing)
        else:
            sizes[key] = max(1, sum(_expanded(node, sizes) for node in functions[key].node))
            stack.pop()


def _expanded(node: onnx.NodeProto, sizes: Mapping[_Key, int]) -> int:
    return sum(sizes.get(_called(each), 1) for each in _all([node]))


def _check_opsets(model: onnx.ModelProto) -> None:
    """Inlining a function mixes its nodes with the model's, which is right only where both mean the same opset."""
    used = {entry.domain: entry.version for entry in model.opset_import}
    bodies = (*model.graph.node, *(node for function in model.functions for node in function.node))
    called = {_called(node) for node in _all(bodies)}
    for function in (function for function in model.functions if _key_of(function) in called):
        for entry in function.opset_import:
            if used.get(entry.domain, entry.version) != entry.version:
                raise ModelError(
                    f"function '{function.name}' is written in opset {entry.version} of domain '{entry.domain}', the "
                    f"model in {used[entry.domain]}; export it with one opset"
                )
