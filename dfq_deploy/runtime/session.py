"""ONNX Runtime sessions on files and on models in memory."""

from collections.abc import Collection, Sequence
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.large_models import contiguous, fits_in_message, skeleton

__all__ = ["Session", "expose_tensors", "reason_of"]


class Session(ort.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
    """A session on a file or a model in memory.

    A model that one message cannot hold is opened from its structure, with its weights handed over as arrays. Nothing
    is written; ONNX Runtime copies them as it does those of a message.
    """

    def __init__(self, model: str | bytes | ir.Model, options: ort.SessionOptions, providers: Sequence[Any]) -> None:
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


def reason_of(problem: Exception) -> str:
    """The message of an exception of ONNX Runtime without its prefix and code, on one line."""
    text = " ".join(str(problem).split())
    return text.rsplit("] : ", maxsplit=1)[-1].split(" : ", maxsplit=2)[-1].rstrip(".")[:300]
