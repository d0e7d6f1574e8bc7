"""ONNX Runtime sessions on files and on models in memory."""

from collections.abc import Collection, Sequence
from typing import Any

import google.protobuf.message
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from dfq_deploy.errors import one_line
from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.large_models import contiguous, fits_in_message, skeleton
from dfq_deploy.graph.reading import read_any
from dfq_deploy.runtime import processor
from dfq_deploy.runtime.plugin_nodes import is_missing_operator, runnable_part

__all__ = [
    "EXACT_PRODUCTS",
    "RUNTIME_ERRORS",
    "Session",
    "expose_tensors",
    "runtime_message",
    "session_options",
]

RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""Exceptions of ONNX Runtime, which have no base class of their own."""

EXACT_PRODUCTS = ("session.x64quantprecision", "1")
"""The entry of a session's options with which ONNX Runtime adds products of u8 and s8 exactly on x86 processors without
VNNI, where they saturate otherwise (:mod:`dfq_deploy.runtime.processor`). With VNNI it only makes kernels slower."""

FLOAT8 = "float8e4m3fn"
"""The type that ONNX Runtime's message names where its optimizer cannot run a file in FP8 (1.31)."""


def session_options(*, quiet_threads: bool) -> ort.SessionOptions:
    """Return session options without logging: what fails is raised, and said once.

    Args:
        quiet_threads: let idle threads sleep instead of spin; spinning threads occupy cores.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if quiet_threads:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def runtime_message(problem: Exception) -> str:
    """Return ONNX Runtime's message on one line, without prefix and code."""
    return one_line(problem).rsplit("] : ", maxsplit=1)[-1].split(" : ", maxsplit=2)[-1][:300]


class Session(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session on a file or a model in memory.

    A model that does not fit into one protobuf message is opened from its structure, with its weights passed as arrays.
    No file is written; ONNX Runtime copies them like those of a message.

    If the model has operators that ONNX Runtime does not have, the session runs the part before them
    (:mod:`dfq_deploy.runtime.plugin_nodes`), with other outputs. A file in FP8 runs without ONNX Runtime's fusions.

    Args:
        exact: set :data:`EXACT_PRODUCTS` where the model needs it on this processor. What ONNX Runtime 1.31 does not
            load with it (weights that nodes share, s8 activations) is opened without.
    """

    def __init__(
        self,
        model: str | bytes | ir.Model,
        options: ort.SessionOptions,
        providers: Sequence[Any],
        *,
        exact: bool = True,
    ) -> None:
        self._exact = exact
        try:
            self._open(model, options, providers)
        except RUNTIME_ERRORS as problem:
            if FLOAT8 in str(problem):
                # Its fusions take Q and DQ of FP8 for those of integers.
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
                self._open(model, options, providers)
                return
            if not is_missing_operator(problem):
                raise
            whole = model if isinstance(model, ir.Model) else read_any(_readable(model))
            self._open(runnable_part(whole), options, providers)

    def _open(self, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        if self._exact and _saturates(model):
            options.add_session_config_entry(*EXACT_PRODUCTS)
            try:
                self._load(model, options, providers)
            except RUNTIME_ERRORS:
                options.add_session_config_entry(EXACT_PRODUCTS[0], "0")
            else:
                return
        self._load(model, options, providers)

    def _load(self, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        # ONNX Runtime does not keep references to these arrays.
        self._weights: list[ort.OrtValue] = []
        if isinstance(model, ir.Model):
            if fits_in_message(model):
                model = bytes(ir.to_proto(model).SerializeToString())
            else:
                proto, weights = skeleton(model)
                self._weights = [ort.OrtValue.ortvalue_from_numpy(contiguous(t)) for t in weights.values()]
                options.add_external_initializers(list(weights), self._weights)
                model = bytes(proto.SerializeToString())
        super().__init__(model, options, providers=providers)


def _saturates(model: str | bytes | ir.Model) -> bool:
    if not processor.lacks_vnni():
        return False
    try:
        if isinstance(model, bytes):
            model = ir.from_proto(onnx.load_model_from_string(model))
        return processor.saturates(model if isinstance(model, ir.Model) else ir.load(model))
    except (google.protobuf.message.DecodeError, ValueError, OSError, RuntimeError):  # ONNX Runtime says what is wrong
        return False


def _readable(model: str | bytes) -> str | onnx.ModelProto:
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else model


def expose_tensors(model: ir.Model, names: Collection[str]) -> ir.Model:
    """Return a copy of ``model`` whose outputs are the tensors ``names``, in order; weights are shared.

    Nodes and weights that they do not need are left out. An input among them passes through an Identity, whose output
    has the suffix ``_shown``.
    """
    copy = model.clone()
    graph = copy.graph
    values = {value.name: value for node in graph for value in node.outputs}
    inputs = {value.name: value for value in graph.inputs}
    fresh = Names(graph)
    outputs = []
    for name in names:
        if name in inputs:
            node = ir.node("Identity", [inputs[name]], name=fresh.fresh(f"{name}_Identity"))
            node.outputs[0].name = fresh.fresh(f"{name}_shown")
            graph.append(node)
            outputs.append(node.outputs[0])
        else:
            outputs.append(values[name])
    graph.outputs.clear()
    for value in outputs:
        # ONNX Runtime infers them, and rejects a model whose declared outputs differ.
        value.type = value.shape = None
        graph.outputs.append(value)
    RemoveUnusedNodesPass()(copy)
    return copy
