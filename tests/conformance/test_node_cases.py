"""The ONNX package's own node tests against the twin.

A case that the twin cannot reach is skipped by a rule (see ``_out_of_reach``); every other case must pass.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx.backend.test.case.test_case import TestCase as Case
from onnx.backend.test.loader import load_model_tests

from dfq_deploy.twin import REGISTRY, Twin
from dfq_deploy.twin.dtypes import DTYPES

TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype", "output_datatype", "softmax_precision"})
"""Attributes whose value is an element type."""

RANDOM = frozenset({"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
"""Operators that draw numbers: no result to compare with."""

EPSILON = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}

Array = NDArray[Any]


def _cases() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # working the expected values out overflows on purpose in places
        return sorted(load_model_tests(kind="node"), key=lambda case: case.name)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _types(node: onnx.NodeProto) -> Iterator[int]:
    for attribute in node.attribute:
        if attribute.name in TYPE_ATTRIBUTES:
            yield attribute.i
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t.data_type


def _out_of_reach(model: onnx.ModelProto) -> str | None:
    """Why the twin does not run a model; None if it must."""
    values = (*model.graph.input, *model.graph.output)
    if any(value.type.WhichOneof("value") not in {"tensor_type", "sequence_type"} for value in values):
        return "optionals"
    nodes = tuple(_nodes(model.graph))
    types = {_element(value.type) for value in values} | {code for node in nodes for code in _types(node)}
    if types - set(DTYPES) - {0}:
        return "strings, 2-bit and 4-bit integers, 4-bit, 6-bit and 8-bit floats"
    fed = {value.name for value in model.graph.input}
    if any(node.op_type in RANDOM or (node.op_type == "Dropout" and fed & set(node.input[2:])) for node in nodes):
        return "random results"
    versions = {opset.domain: opset.version for opset in model.opset_import}
    unknown = {node.op_type for node in nodes if not _known(node, versions)}
    return f"not in the registry: {', '.join(sorted(unknown))}" if unknown else None


def _known(node: onnx.NodeProto, versions: dict[str, int]) -> bool:
    constant = node.op_type == "Constant" and not node.domain
    return constant or REGISTRY.find(node.domain, node.op_type, versions.get(node.domain, 0)) is not None


def _element(kind: onnx.TypeProto) -> int:
    tensor = kind.sequence_type.elem_type if kind.WhichOneof("value") == "sequence_type" else kind
    return tensor.tensor_type.elem_type


def _array(value: object) -> Array:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _fed(value: object) -> Any:
    return [_tensor(item) for item in value] if isinstance(value, list) else _tensor(value)


def _tensor(value: object) -> torch.Tensor:
    array = _array(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _compare(actual: torch.Tensor, expected: Array, case: Case) -> None:
    """To the case's tolerance, or two roundings of the type where that is wider.

    The expected values are rounded themselves: half types to 3 or 4 digits, and a float32 that should be zero is as
    far off as the rounding of the largest value that went into it.
    """
    assert str(actual.dtype).removeprefix("torch.") == expected.dtype.name
    assert tuple(actual.shape) == expected.shape
    epsilon = EPSILON.get(expected.dtype.name, 0.0)
    exact = expected.astype(np.float64) if expected.dtype.name == "bfloat16" else expected
    finite = np.abs(exact[np.isfinite(exact)]) if epsilon else np.zeros(0)
    largest = float(finite.max()) if finite.size and epsilon < 1e-6 else 0.0
    shown = actual.double() if actual.dtype is torch.bfloat16 else actual
    np.testing.assert_allclose(
        shown.numpy(), exact, rtol=max(case.rtol, 2 * epsilon), atol=max(case.atol, 2 * epsilon * largest)
    )


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.name.removeprefix("test_"))
def test_node_case(case: Case) -> None:
    assert case.model is not None
    reason = _out_of_reach(case.model)
    if reason:
        pytest.skip(reason)
    twin = Twin.from_model(ir.from_proto(case.model))
    assert case.data_sets
    for inputs, outputs in case.data_sets:
        with torch.no_grad():
            result = twin(*(_fed(value) for value in inputs))
        results = result if isinstance(result, tuple) else (result,)
        for actual, expected in zip(results, outputs, strict=True):
            pairs = zip(actual, expected, strict=True) if isinstance(expected, list) else [(actual, expected)]
            for tensor, wanted in pairs:
                _compare(tensor, _array(wanted), case)
