"""ONNX Runtime sessions on files and on models in memory."""

from collections.abc import Collection, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from dfq_deploy.errors import one_line
from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.large_models import contiguous, fits_in_message, skeleton
from dfq_deploy.graph.reading import read_any
from dfq_deploy.runtime.plugin_nodes import is_missing_operator, runnable_part

__all__ = ["RUNTIME_ERRORS", "Session", "expose_tensors", "runtime_message", "session_options"]

RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What ONNX Runtime raises; its exceptions have no base class of their own."""


def session_options(*, quiet_threads: bool) -> ort.SessionOptions:
    """Options that print nothing.

    Args:
        quiet_threads: let idle threads sleep instead of spin, which takes the core from those that compute.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if quiet_threads:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def runtime_message(problem: Exception) -> str:
    """ONNX Runtime's message without its prefix and code, on one line."""
    return one_line(problem).rsplit("] : ", maxsplit=1)[-1].split(" : ", maxsplit=2)[-1][:300]


class Session(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session on a file or a model in memory.

    A model that one message cannot hold is opened from its structure, with its weights handed over as arrays. Nothing
    is written; ONNX Runtime copies them as it does those of a message.

    Of a model with operators that ONNX Runtime does not have, the part before them is run
    (:mod:`dfq_deploy.runtime.plugin_nodes`): its outputs are other ones then.
    """

    def __init__(self, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        try:
            self._open(model, options, providers)
        except RUNTIME_ERRORS as problem:
            if not is_missing_operator(problem):
                raise
            whole = model if isinstance(model, ir.Model) else read_any(_readable(model))
            self._open(runnable_part(whole), options, providers)

    def _open(self, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
        # ONNX Runtime does not keep the arrays alive that it is handed.
        self._weights: list[ort.OrtValue] = []
        if isinstance(model, ir.Model):
            if fits_in_message(model):
                model = bytes(ir.to_proto(model).SerializeToString())
            else:
                proto, beside = skeleton(model)
                self._weights = [ort.OrtValue.ortvalue_from_numpy(contiguous(t)) for t in beside.values()]
                options.add_external_initializers(list(beside), self._weights)
                model = bytes(proto.SerializeToString())
        super().__init__(model, options, providers=providers)


def _readable(model: str | bytes) -> str | onnx.ModelProto:
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else model


def expose_tensors(model: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy of ``model`` whose outputs are the tensors ``names``, in order; weights are shared.

    ONNX Runtime computes nothing that they do not need. An input among them goes through an Identity, and has
    ``_shown`` behind its name.
    """
    copy = model.clone()
    graph = copy.graph
    values = {value.name: value for node in graph for value in node.outputs}
    fed = {value.name: value for value in graph.inputs}
    fresh = Names(graph)
    shown = []
    for name in names:
        if name in fed:
            node = ir.node("Identity", [fed[name]], name=fresh.fresh(f"{name}_Identity"))
            node.outputs[0].name = fresh.fresh(f"{name}_shown")
            graph.append(node)
            shown.append(node.outputs[0])
        else:
            shown.append(values[name])
    graph.outputs.clear()
    for value in shown:
        # ONNX Runtime infers them, and holds a model to what it says of an output.
        value.type = value.shape = None
        graph.outputs.append(value)
    return copy
