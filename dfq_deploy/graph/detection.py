"""Find the parts of a detector's outputs: boxes and scores, in one output or in several.

A part is a block of columns along one axis of an output. The graph tells which is which: scores come from a Sigmoid or
a Softmax that nothing but moves of values follow, boxes from arithmetic. Where a detector returns logits, names and
widths tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_ir as ir

from dfq_deploy.graph.main_input import words_of
from dfq_deploy.graph.operators import FLOATS, WEIGHTED_OPS, is_op
from dfq_deploy.graph.task import TASK
from dfq_deploy.graph.traversal import before

__all__ = ["HeadPart", "Role", "head_parts", "role_of_columns"]

Role: TypeAlias = Literal["boxes", "scores"]

GATES = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
"""What ends scores."""

COMBINING_OPS = frozenset({"Clip", "Mul", "Pow", "Sqrt"})
"""What combines an objectness with class scores: still scores where all that they read are."""

MOVING_OPS = frozenset(
    {"Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose"}
    | {"Unsqueeze"}
)

SCORE_WORDS = frozenset({"cls", "conf", "confidence", "logits", "obj", "prob", "probs", "score", "scores"})
"""Whole words in names of scores; ``class`` may start a longer word."""

BOX_WORDS = frozenset({"bbox", "bboxes", "box", "boxes", "dets", "loc", "locations", "reg", "regressors", "rois"})

LEAST_ANCHORS = 16
"""Fewer rows than these are no grid of a detector."""

BOX_WIDTHS = (4, 5)
"""Columns of one box: corners or center and size, perhaps with an angle."""

WIDEST_BOX = 4 * 33
"""Columns of a box whose four distances are distributions over up to 33 bins."""


@dataclass(frozen=True)
class HeadPart:
    """Columns of one output.

    Args:
        output: name of the output.
        axis: of its shape, counted from 0, along which the columns lie.
        start, stop: the columns.
        role: what they hold. Landmarks and distributions of distances count as boxes, an objectness as scores.
        raw: a layer writes them, and only moves follow: boxes are not decoded, scores are logits.
        objectness: the first column is the probability of any object, by which the other scores are multiplied.
    """

    output: str
    axis: int
    start: int
    stop: int
    role: Role
    raw: bool = False
    objectness: bool = False

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.stop - self.start


def head_parts(model: ir.Model) -> tuple[HeadPart, ...]:
    """The parts of the outputs of a detector, in the order of outputs and columns; empty where it is none.

    Rules: (1) an output that one Concat joins from box columns and score columns, perhaps level by level, has its
    parts, unless it is as large a picture as an input; (2) of outputs (N, rows, columns) with the same number of rows,
    those that are named after scores, that a Sigmoid or Softmax ends or that have one column hold scores, those named
    after boxes or with a width of boxes hold boxes. A model is a detector if it has both, with 16 rows or more, and
    ``--task`` does not say otherwise.
    """
    if model.metadata_props.get(TASK) not in (None, "detect"):
        return ()
    outputs = [value for value in model.graph.outputs if value.dtype in FLOATS | {None}]
    joined = [part for value in outputs if not _is_picture(value, model) for part in _joined_parts(value)]
    for found in (joined, list(_separate_parts(outputs))):
        if {part.role for part in found} == {"boxes", "scores"}:
            return tuple(found)
    return ()


def _is_picture(output: ir.Value, model: ir.Model) -> bool:
    """True for an output with a value at each pixel of an input; the grid of a detector is coarser."""
    given = [_sides(value) for value in model.graph.inputs]
    return any(sides in known for known in given for sides in _sides(output))


def _sides(value: ir.Value) -> list[tuple[str, ...]]:
    """Height and width of (N, C, H, W), and what they are if it is (N, H, W, C); none of values of another rank."""
    shape = [str(dim) for dim in value.shape or ()]
    return [tuple(shape[2:]), tuple(shape[1:3])] if len(shape) == 4 and "None" not in shape else []


def _joined_parts(output: ir.Value) -> Iterator[HeadPart]:
    """The parts of an output that a Concat of boxes and scores ends."""
    dims = [] if output.shape is None else list(output.shape)
    runs = _runs(_last_join(output))
    total = sum(run.width for run in runs)
    axes = [axis for axis, dim in enumerate(dims) if axis and dim == total]
    rows = [dim for axis, dim in enumerate(dims) if axis and axis != axes[-1]] if axes else []
    if not axes or not rows or any(isinstance(dim, int) and 1 < dim < LEAST_ANCHORS for dim in rows):
        return
    start = 0
    for run in runs:
        stop = start + run.width
        yield HeadPart(str(output.name), axes[-1], start, stop, run.role, run.raw, run.objectness)
        start = stop


@dataclass(frozen=True)
class _Columns:
    """Neighboring columns of one role; compared by what they are, so that levels of one kind are equal."""

    width: int
    role: Role
    raw: bool
    objectness: bool = False


def _runs(columns: list[_Columns]) -> list[_Columns]:
    """Neighbors of one role as one; a single column of scores before or after others of scores is an objectness."""
    runs: list[_Columns] = []
    for part in columns:
        last = runs[-1] if runs else None
        if last is not None and last.role == part.role:
            objectness = part.role == "scores" and (last.width == 1 or last.objectness)
            runs[-1] = _Columns(last.width + part.width, part.role, last.raw and part.raw, objectness)
        else:
            runs.append(part)
    return runs


def _last_join(value: ir.Value) -> list[_Columns]:
    """The columns that the last Concat of both roles joins, in order; none where there is no such Concat."""
    node = _behind_moves(value)
    if node is None or not is_op(node, "Concat"):
        return []
    parts = [part for part in node.inputs if part is not None]
    boxes = [part for part in parts if role_of_columns(part) == "boxes"]
    axis = node.attributes.get_int("axis", 0)
    found = [columns for part in parts for columns in _sliced(part) or _of_part(part, axis, boxes)]
    if {columns.role for columns in found} == {"boxes", "scores"}:
        return found
    levels = [_last_join(part) for part in parts]
    return levels[0] if levels and all(level == levels[0] for level in levels) else []


def _of_part(part: ir.Value, axis: int, boxes: list[ir.Value]) -> list[_Columns]:
    """The columns of one input of a Concat, where their number is known."""
    width, role = None if part.shape is None else part.shape[axis], role_of_columns(part)
    if not isinstance(width, int):
        return []
    return [_Columns(width, role, _is_raw(part), role == "scores" and _shares_gate(part, boxes))]


def _sliced(part: ir.Value) -> list[_Columns]:
    """The columns of a part that is the end of what another Concat of boxes and scores has joined."""
    node = part.producer()
    start = None if node is None or not is_op(node, "Slice") or node.inputs[1] is None else node.inputs[1].const_value
    source = None if node is None or start is None or start.size != 1 else node.inputs[0]
    joined = [] if source is None else _last_join(source)
    skipped = 0 if start is None else int(start.numpy().reshape(-1)[0])
    while joined and skipped >= joined[0].width:
        skipped -= joined.pop(0).width
    return joined if skipped == 0 else []


def _behind_moves(value: ir.Value) -> ir.Node | None:
    """The node that computes ``value``, behind operators that only move it."""
    node = value.producer()
    while node is not None and is_op(node, MOVING_OPS) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _is_raw(value: ir.Value) -> bool:
    node = _behind_moves(value)
    if node is not None and is_op(node, "Concat"):
        return all(_is_raw(part) for part in node.inputs if part is not None)
    if node is not None and is_op(node, "Add") and any(one is not None and one.is_initializer() for one in node.inputs):
        node = next((one.producer() for one in node.inputs if one is not None and one.producer() is not None), None)
    return node is not None and is_op(node, WEIGHTED_OPS | {"BatchNormalization"})


def _shares_gate(scores: ir.Value, boxes: list[ir.Value]) -> bool:
    """True where one Sigmoid writes scores and what boxes are computed from: columns of boxes, objectness, classes."""
    gate = _behind_moves(scores)
    producers = [part.producer() for part in boxes]
    return gate is not None and any(node is not None and gate in before(node) for node in producers)


def role_of_columns(value: ir.Value, depth: int = 12) -> Role:
    """``scores`` where a gate writes the values and only moves or combines follow it, else ``boxes``."""
    node = _behind_moves(value)
    if node is None or depth == 0:
        return "boxes"
    if is_op(node, GATES):
        return "scores"
    computed = [one for one in node.inputs if one is not None and not one.is_initializer()]
    joins = is_op(node, "Concat") or (is_op(node, COMBINING_OPS) and len(computed) > is_op(node, "Mul"))
    return "scores" if joins and all(role_of_columns(one, depth - 1) == "scores" for one in computed) else "boxes"


def _separate_parts(outputs: list[ir.Value]) -> Iterator[HeadPart]:
    """The parts of outputs that hold one role each, for those that have a partner of the other one."""
    known = [(value, rows, width, _role_of_output(value, width)) for value in outputs for rows, width in _grid(value)]
    for value, rows, width, role in known:
        partners = {other for _, count, _, other in known if count == rows}
        if role is not None and partners >= {"boxes", "scores"} and value.shape is not None:
            yield HeadPart(str(value.name), len(value.shape) - 1, 0, width, role, _is_raw(value))


def _grid(value: ir.Value) -> Iterator[tuple[int | str, int]]:
    """Rows and columns of an output (N, rows, columns), where it is one; open rows by their name."""
    shape = list(value.shape or ())
    if len(shape) == 3 and isinstance(shape[2], int):
        rows = shape[1]
        if not isinstance(rows, int):
            yield rows.value or "open", shape[2]
        elif rows >= LEAST_ANCHORS:
            yield rows, shape[2]


def _role_of_output(value: ir.Value, width: int) -> Role | None:
    words = words_of(str(value.name))
    if words & BOX_WORDS:
        return "boxes"
    if role_of_columns(value) == "scores" or words & SCORE_WORDS or any(word.startswith("class") for word in words):
        return "scores"
    if width in BOX_WIDTHS or (width % 4 == 0 and width <= WIDEST_BOX):
        return "boxes"
    return "scores" if width == 1 else "boxes" if width % 2 == 0 else None
