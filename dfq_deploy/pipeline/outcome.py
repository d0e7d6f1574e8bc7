"""What the steps before the export have found, and the model as the target takes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.expanded import expanded_concats
from dfq_deploy.graph.passes.static_shapes import fix_batch
from dfq_deploy.pipeline.reporting import About
from dfq_deploy.plugins.contracts import Calibrator, Exporter
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.report.model import (
    Section,
)
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement

__all__ = ["Outcome", "closed_model"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the steps before the export have found.

    Args:
        source: the model as it was given; ``prepared``: folded, lowered and refined; ``reference``: the same before
            biases were corrected and roundings learned, with the values of ``source``: what tensors are compared with.
        held_out: samples that no step has used.
        choices: calibrator and refinements, for the report.
        warnings: sentences for the user; what loading says (:func:`dfq_deploy.graph.loading.load_notes`) is shown
            apart from them.
        batch: of the file where the target takes no open one.
        integer_io: write the model that takes bytes too.
        exporter: writes the file; None is that of the target.
        calibrator: what measured the ranges; it measures those of all tensors of ``source`` where a runtime takes
            them. None where the float model is no longer what is exported.
        teachers: float models whose statistics the samples matched.
        ranges: what inputs are drawn from, by name.
        device: where the noise of layers is measured.
        remedies: what was tried to reach the floor.
        sets, agreement: held-out inputs, and what was measured on them, where that is known already.
        about: how it was made, and another run to compare it with; None leaves both out of the report.
    """

    source: ir.Model
    prepared: ir.Model
    reference: ir.Model
    target: Target
    placement: Placement
    encodings: Mapping[str, Encoding]
    samples: Samples
    held_out: Samples
    choices: Mapping[str, Any]
    seed: int
    preprocess: Preprocess | None
    warnings: tuple[str, ...]
    batch: int = 1
    calibrator: Calibrator | None = None
    integer_io: bool = False
    exporter: Exporter | None = None
    teachers: Sequence[ir.Model] = ()
    ranges: InputRanges | None = None
    device: str = "cpu"
    remedies: Section | None = None
    sets: tuple[HeldOut, ...] = ()
    agreement: Agreement | None = None
    about: About | None = None


def closed_model(
    prepared: ir.Model, encodings: Mapping[str, Encoding], target: Target, batch: int
) -> tuple[ir.Model, Mapping[str, Encoding]]:
    """The model with its batch fixed where the target takes no open one, or miscomputes this model with an open one.

    What is computed from sizes is constant then, and some of its tensors are gone with their encodings.
    """
    miscomputed = not target.expands and any(expanded_concats(prepared.graph))
    if not target.static_shapes and not miscomputed:
        return prepared, encodings
    model = prepared.clone()
    try:
        fix_batch(model, batch)
    except ModelError:
        if target.static_shapes:
            raise
        return prepared, encodings  # other sizes are open too; the rule `expanded-concat` says so
    left = {value.name for node in model.graph for value in node.outputs}
    left |= {value.name for value in model.graph.inputs} | set(model.graph.initializers)
    return model, {name: encoding for name, encoding in encodings.items() if name in left}
