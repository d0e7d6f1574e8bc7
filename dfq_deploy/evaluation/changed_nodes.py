"""Find nodes of the float model that a quantized file lacks, or computes otherwise.

Exporters rewrite graphs without changing what they compute: BatchNormalization is folded, a Relu goes where the
integers end at zero. So a difference counts only where the values behind it are far from float's, and those before it
are not.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.common_tensors import NamedGraph, Part, shared_parts
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.evaluation.missing_clips import missing_clip, missing_clip_faults
from dfq_deploy.evaluation.rescaled_tensors import channel_scale
from dfq_deploy.evaluation.tensor_values import CHUNK
from dfq_deploy.graph.operators import operator_of
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.samples import Samples

__all__ = ["changed_nodes"]

DROP = 12.0
"""dB of signal to noise that are lost between what a changed node reads and what it writes."""

POOR = 6.0
"""dB below which a tensor is far from float's."""

TINY = 1e-6
"""Factor of a channel below which it is not known (:mod:`dfq_deploy.evaluation.equalized_weights`)."""

Floats = NDArray[np.floating[Any]]


def changed_nodes(
    references: Sequence[ir.Model],
    quantized: ir.Model,
    samples: Samples,
    factors: Mapping[str, Floats],
    blamed: Collection[str] = (),
) -> list[FileFault]:
    """The nodes that are missing, added or changed, in the graph's order.

    Args:
        references: forms of the float model, with the same names; a node has to differ from each.
        quantized: with Q and DQ.
        samples: a few.
        factors: tensor of the float model -> factor of each of its channels by equalization.
        blamed: nodes (as ``Conv 'stem'``) and tensors whose fault is known: what is wrong behind them is their doing.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    graphs = NamedGraph(references[0]), NamedGraph(quantized)
    parts = shared_parts(*graphs)
    found = {name: change for name, pair in parts.items() if (change := _difference(*pair))}
    for other in references[1:] if found else ():
        same = {name for name, pair in shared_parts(NamedGraph(other), graphs[1]).items() if not _difference(*pair)}
        found = {name: change for name, change in found.items() if name not in same}
    changes = {name: change for name, change in found.items() if not _is_blamed(name, parts[name], blamed)}
    if not changes:
        return []
    inputs = {name: parts[name][0].inputs | parts[name][1].inputs for name in changes}
    clips = {
        name: clip for name, change in changes.items() if (clip := missing_clip(graphs, change.missing)) is not None
    }
    others = [name for name in changes if name not in clips]
    wanted = dict.fromkeys(name for tensor in others for name in (*sorted(inputs[tensor]), tensor))
    noises, unclipped = _noises(graphs, list(wanted), samples, factors), missing_clip_faults(graphs, clips, samples)
    faults = []
    for name, change in changes.items():
        if name in clips:
            faults += [unclipped[name]] if name in unclipped else []
            continue
        before = min((noises[part] for part in inputs[name] if part in noises), default=np.inf)
        behind = noises.get(name, np.inf)
        if behind < POOR and before - behind >= DROP:
            message = f"{change.sentence}: '{name}' has {behind:.1f} dB signal to noise"
            message += f", and {before:.1f} before it" if np.isfinite(before) else ", and what it reads is float's"
            faults.append(FileFault("node", name, change.node, message, behind))
    return faults


@dataclass(frozen=True, eq=False)
class _Change:
    """What is different about one node.

    Args:
        node: as ``Relu 'relu'``.
        sentence: what is different.
        missing: the node of the float model that the quantized file lacks, where nothing stands for it.
    """

    node: str
    sentence: str
    missing: ir.Node | None = None


def _is_blamed(name: str, parts: tuple[Part, Part], blamed: Collection[str]) -> bool:
    nodes = {_named(node) for part in parts for node in part.nodes}
    return (
        name in blamed or any(entry in blamed for part in parts for entry in part.inputs) or bool(nodes & set(blamed))
    )


def _named(node: ir.Node) -> str:
    return f"{operator_of(node)} '{node.name}'"


def _difference(first: Part, second: Part) -> _Change | None:
    """What is different; None where both parts are alike.

    Attributes come first: beside them a Relu may be missing that the integers stand for.
    """
    for mine, theirs in _same(first.nodes, second.nodes):
        changed = _changed_attribute(mine, theirs)
        if changed:
            return _Change(_named(theirs), f"{_named(theirs)} of the quantized file has {changed}")
    counts = [Counter(operator_of(node) for node in part.nodes) for part in (first, second)]
    scales = [sum(channel_scale(node) is not None for node in part.nodes) for part in (first, second)]
    counts[1]["Mul"] -= max(0, scales[1] - scales[0])  # the weights take these factors back
    missing, added = counts[0] - counts[1], counts[1] - counts[0]
    lacking, extra = (
        next((node for node in reversed(part.nodes) if operator_of(node) in kinds), None)
        for part, kinds in ((first, missing), (second, added))
    )
    if lacking is not None:
        name = _named(lacking)
        if extra is None:
            return _Change(name, f"{name} of the float model is missing in the quantized file", lacking)
        return _Change(_named(extra), f"{_named(extra)} of the quantized file stands for {name} of the float model")
    if extra is not None:
        return _Change(_named(extra), f"{_named(extra)} of the quantized file is not in the float model")
    if first.inputs != second.inputs and first.nodes and second.nodes:
        read, other = (", ".join(f"'{name}'" for name in sorted(part)) for part in (second.inputs, first.inputs))
        node = _named(second.nodes[0])
        return _Change(node, f"{node} of the quantized file reads {read}, and float {other}")
    return None


def _same(first: Iterable[ir.Node], second: Sequence[ir.Node]) -> Iterable[tuple[ir.Node, ir.Node]]:
    """Nodes of the same operator, where there is one of it in each."""
    for node in first:
        others = [other for other in second if operator_of(other) == operator_of(node)]
        if len(others) == 1:
            yield node, others[0]


def _changed_attribute(mine: ir.Node, theirs: ir.Node) -> str:
    """An attribute that both have with other values; one that is left out may be the default."""
    for name, attribute in mine.attributes.items():
        other = theirs.attributes.get(name)
        if other is not None and other.type == attribute.type and _plain(other) != _plain(attribute):
            return f"{name}={_plain(other)}, and float {_plain(attribute)}"
    return ""


def _plain(attribute: ir.Attr) -> Any:
    value = attribute.value
    if isinstance(value, list | tuple):
        return [round(entry, 6) if isinstance(entry, float) else entry for entry in value]
    return round(value, 6) if isinstance(value, float) else value if isinstance(value, int | str) else None


def _noises(
    graphs: tuple[NamedGraph, NamedGraph], names: Sequence[str], samples: Samples, factors: Mapping[str, Floats]
) -> dict[str, float]:
    """Signal to noise in dB of each tensor, within the interval that its readers tell apart."""
    found: dict[str, float] = {}
    for start in range(0, len(names), CHUNK):
        found |= _noises_of(graphs, names[start : start + CHUNK], samples, factors)
    return found


def _noises_of(
    graphs: tuple[NamedGraph, NamedGraph], names: Sequence[str], samples: Samples, factors: Mapping[str, Floats]
) -> dict[str, float]:
    """The same of tensors that all fit into memory."""
    values = [graph.tensor(name) for name in names for graph in graphs]
    firsts, seconds = values[::2], values[1::2]
    kept = [index for index, pair in enumerate(zip(firsts, seconds, strict=True)) if None not in pair]
    if not kept:
        return {}
    limits = saturations([value for value in firsts if value is not None])
    runners = [
        Runner(expose_tensors(graph.model, [name_of(part[index]) for index in kept]), name="the model")
        for graph, part in zip(graphs, (firsts, seconds), strict=True)
    ]
    sums = np.zeros((len(kept), 2))
    for one in range(len(samples)):
        sample = samples.part(slice(one, one + 1))
        arrays = [runner.feed(feed) for runner in runners for feed, _ in runner.batches(sample)]
        for row, (index, *pair) in enumerate(zip(kept, *arrays, strict=True)):
            # A fixed batch repeats the sample, and the two files may be fixed to different ones.
            wanted, given = (array[: min(map(len, pair))] if array.ndim else array for array in pair)
            sums[row] += _powers(wanted, given, factors.get(names[index]), limits.get(names[index]))
    return {names[index]: signal_to_noise(*sums[row]) for row, index in enumerate(kept)}


def _powers(
    wanted: NDArray[Any], given: NDArray[Any], factors: Floats | None, limits: Limits | None
) -> tuple[float, float]:
    if wanted.shape != given.shape or wanted.dtype.kind != "f":
        return 0.0, 0.0 if wanted.dtype.kind != "f" else np.inf
    exact, found = (np.clip(array.astype(np.float64), *(limits or UNBOUNDED)) for array in (wanted, given))
    if factors is not None and exact.ndim > 1 and exact.shape[1] == len(factors):
        counting = (factors > TINY).reshape(-1, *(1,) * (exact.ndim - 2))
        exact, found = exact * factors.reshape(counting.shape) * counting, found * counting
    return float(np.square(exact).sum()), float(np.square(exact - found).sum())
