"""All checks on a parsed model, in order."""

import onnx

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.bounds import bounds
from dfq_deploy.validation.functions import check_size
from dfq_deploy.validation.loops import check_loops
from dfq_deploy.validation.names import check_names
from dfq_deploy.validation.tensors import check_inputs, check_tensors
from dfq_deploy.validation.types import check_types
from dfq_deploy.validation.walk import all_graphs

__all__ = ["check_message"]


def check_message(model: onnx.ModelProto, place: str) -> None:
    """Check nesting, names, types, tensors, the number of nodes and the turns of Loops against the limits in force.

    Args:
        place: what errors call the model.

    Raises:
        ModelError: the message begins with ``place`` and says what is wrong, where, and the value.
    """
    limits = bounds()
    try:
        for _ in all_graphs(model, limits.depth):
            pass
        check_names(model, limits.depth, limits.name_length)
        check_types(model, limits.depth)
        check_tensors(model, limits.depth, limits.memory)
        check_inputs(model, limits.memory)
        check_size(model, limits.nodes)
        check_loops(model, limits.depth, limits.memory, limits.seconds)
    except ModelError as problem:
        raise ModelError(f"{place}: {problem}") from None
