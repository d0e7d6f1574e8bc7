"""Check the types of inputs, outputs and values: tensors, sequences and optional ones."""

import onnx

from dfq_deploy.errors import ModelError
from dfq_deploy.validation.walk import all_graphs

__all__ = ["check_types"]

WRAPPERS = ("sequence_type", "optional_type")


def check_types(model: onnx.ModelProto, depth: int) -> None:
    """Check that no value is a map, which classifiers of scikit-learn's converters end in.

    Args:
        depth: levels of nested graphs.

    Raises:
        ModelError: names the value and the way out.
    """
    for graph in all_graphs(model, depth):
        for kind, entries in (("input", graph.input), ("output", graph.output), ("value", graph.value_info)):
            for entry in entries:
                if _holds_maps(entry.type):
                    raise ModelError(
                        f"{kind} '{entry.name}' holds maps, which the ZipMap of scikit-learn's converters makes of "
                        "class probabilities; export it again with options={'zipmap': False}"
                    )


def _holds_maps(kind: onnx.TypeProto) -> bool:
    """Whether it is a map, or a sequence or an optional value of maps."""
    name = kind.WhichOneof("value")
    return name == "map_type" or (name in WRAPPERS and _holds_maps(getattr(kind, name).elem_type))
