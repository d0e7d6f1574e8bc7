"""What a written file says of the layers that it keeps in float on purpose."""

import json
from collections.abc import Mapping, MutableMapping, Sequence

from dfq_deploy.files.json_text import parsed_json
from dfq_deploy.quantization.placement.place import BEHIND_PLUGIN, Placement

__all__ = ["kept_float", "kept_layers", "state_kept_float"]

KEPT_FLOAT = "dfq_deploy.kept_float"
"""Key of the metadata: names of the layers as JSON."""


def kept_layers(placement: Placement) -> list[str]:
    """The layers that the caller or a remedy keeps in float, and those that cannot be calibrated behind a plug-in."""
    return [name for name, _, reason in placement.left_float if name in placement.kept or reason == BEHIND_PLUGIN]


def state_kept_float(metadata: MutableMapping[str, str], names: Sequence[str]) -> None:
    """Write the names into the metadata of a model; nothing where there are none."""
    if names:
        metadata[KEPT_FLOAT] = json.dumps(list(names))


def kept_float(metadata: Mapping[str, str]) -> frozenset[str]:
    """The names in the metadata of a model; none where it does not say, or not so."""
    try:
        names = parsed_json(metadata.get(KEPT_FLOAT, "[]"))
    except ValueError:
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()
