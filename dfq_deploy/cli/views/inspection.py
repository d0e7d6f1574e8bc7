"""Print the result of ``inspect``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from dfq_deploy.cli.views.tables import facts, indented, notes, page, size, title

if TYPE_CHECKING:
    from dfq_deploy.inspection.inspect import Inspection, TensorInfo

__all__ = ["show_inspection"]

SHOWN_TENSORS = 4
SHOWN_KINDS = 12
"""How many inputs and outputs, and how many kinds of operators, ``inspect`` shows unless it is asked for all."""


def show_inspection(found: "Inspection", verbose: bool) -> None:
    """What ``inspect`` prints: one screen; ``verbose`` lists everything."""
    limit = None if verbose else SHOWN_TENSORS
    page(
        title(found.name, f"opset {found.opset}, written by {found.producer}"),
        facts(
            [
                *_tensor_rows("input", found.inputs, limit),
                *_tensor_rows("output", found.outputs, limit),
                ("classes", "" if found.classes is None else str(found.classes)),
                ("parameters", f"{found.parameters:,}"),
                ("operators", _operators(found, None if verbose else SHOWN_KINDS)),
                ("BatchNorm", _normalizations(found)),
                ("synthesis", _synthesis(found)),
                *(("procedural", sentence) for sentence in found.drawn[:limit]),
                (f"on {found.target}", str(found.kernels)),
                ("size", f"{size(found.file_bytes)}, about {size(found.quantized_bytes)} in INT8"),
            ]
        ),
        notes(found.notes),
        _advice(found),
        _sensitivity(found),
        _details(found) if verbose else None,
    )


def _tensor_rows(kind: str, tensors: Sequence["TensorInfo"], limit: int | None) -> list[tuple[str, str]]:
    """A row for each, up to ``limit``, and one for the rest."""
    rows = [(kind, _tensor_text(tensor)) for tensor in tensors[:limit]]
    rest = len(tensors) - len(rows)
    return [*rows, (f"{kind}s", f"and {rest} more (--verbose)")] if rest else rows


def _operators(found: "Inspection", limit: int | None) -> str:
    """Number of nodes, whether the twin supports them, and the most frequent operators."""
    total, kinds = sum(found.operators.values()), list(found.operators.items())
    support = f"{len(found.unknown)} unsupported by the twin" if found.unknown else "all supported by the twin"
    # One more is shown where it takes the place of "and 1 more".
    shown = kinds if limit is None or len(kinds) <= limit + 1 else kinds[:limit]
    rest = len(kinds) - len(shown)
    named = ", ".join(f"{name} {count}" for name, count in shown) + (f", and {rest} more kinds" if rest else "")
    return f"{total}, {support}: {named}"


def _normalizations(found: "Inspection") -> str:
    if not found.batch_normalizations:
        return "none left in the graph"
    if found.foldable == found.batch_normalizations:
        return f"{found.foldable}, all of which fold into weights"
    return f"{found.batch_normalizations}, of which {found.foldable} fold into weights and the rest stay"


def _synthesis(found: "Inspection") -> str:
    """The methods that apply, and why the others do not; a reason that several share is given once."""
    applies = ", ".join(fit.name for fit in found.methods if fit.applies)
    reasons: dict[str, list[str]] = {}
    for fit in found.methods:
        if not fit.applies:
            reasons.setdefault(fit.reason, []).append(fit.name)
    if not applies and len(reasons) == 1:
        return next(iter(reasons)).partition(": ")[2] or next(iter(reasons))
    others = "; ".join(
        f"{', '.join(names)} {reason if len(names) == 1 else reason.replace('needs ', 'need ', 1)}"
        for reason, names in reasons.items()
    )
    return applies + (f"  ({others})" if others else "")


def _tensor_text(tensor: "TensorInfo") -> str:
    shape = "of unknown shape" if tensor.shape is None else f"({', '.join(str(dim) for dim in tensor.shape)})"
    return f"{tensor.name}: {tensor.dtype} {shape}"


def _advice(found: "Inspection") -> Group | None:
    if not found.advice:
        return Group("", Text("  No problems found.", "green"))
    parts: list[RenderableType] = []
    for advice in found.advice:
        parts += [Text.assemble("\n", ("! ", "bold yellow"), advice.problem)]
        parts += [indented(Text.assemble(("way out: ", "green"), advice.way_out + (":" if advice.lines else "")))]
        # One line each, however narrow the terminal is: they are to be copied.
        parts += [Text(f"    {line}", no_wrap=True, overflow="ignore") for line in advice.lines]
    return Group(*parts)


def _sensitivity(found: "Inspection") -> Group | None:
    """The most sensitive layers; all of them are in the JSON."""
    noise = found.sensitivity
    if noise is None:
        return None
    count, total = len(noise.sensitivity.layers), noise.sensitivity.total_snr
    head = title("most sensitive", f"of {count} quantized layers, {total:.1f} dB together, on procedural inputs")
    parts: list[RenderableType] = []
    for finding in noise.findings():
        parts += [Text.assemble("\n", ("! ", "bold yellow"), finding.message)]
        parts += [indented(Text.assemble(("way out: ", "green"), finding.remedy))] if finding.remedy else []
    return Group("", head, *parts)


def _details(found: "Inspection") -> Group | None:
    rows = [(name, f"{operator}: {reason}") for name, operator, reason in found.left_float]
    rows += [(name, f"{operator}: unsupported by the twin") for name, operator in found.unknown]
    return Group("", facts(rows)) if rows else None
