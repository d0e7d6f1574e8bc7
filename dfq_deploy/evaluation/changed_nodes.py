"""Find nodes of the float model that a quantized file lacks, or computes otherwise.

Exporters rewrite graphs without changing what they compute: BatchNormalization is folded, a Relu goes where the
integers end at zero. So a difference counts only where the values behind it are far from float's, and those before it
are not.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.graph.operators import QDQ_OPS, is_op, operator_of
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.placement.limits import UNBOUNDED, Limits
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.quantization.qdq_reader import quantizer_of
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.samples import Samples

__all__ = ["changed_nodes"]

DROP = 10.0
"""dB of signal to noise that are lost between what a changed node reads and what it writes."""

POOR = 10.0
"""dB below which a tensor is far from float's."""

SILENT = QDQ_OPS | {"Identity", "Cast", "Dropout", "BatchNormalization"}
"""Nodes that a quantized file may have or lack at will."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Part:
    """The nodes of one graph between tensors that both files have.

    Args:
        nodes: those that count, from the last one back.
        inputs: names of the tensors that they read, as float has them.
    """

    nodes: tuple[ir.Node, ...]
    inputs: frozenset[str]


@dataclass(frozen=True, eq=False)
class _Graph:
    """A graph with its tensors by the names of the float model."""

    model: ir.Model

    @cached_property
    def computed(self) -> dict[str, ir.Value]:
        """All tensors that are fed or computed, in order."""
        values = [*self.model.graph.inputs, *(value for node in self.model.graph for value in node.outputs)]
        return {name_of(value): value for value in values}

    @cached_property
    def rounded(self) -> dict[str, ir.Value]:
        """Float tensor -> the tensor behind its Q and DQ."""
        found: dict[str, ir.Value] = {}
        for node in self.model.graph:
            quantizer = quantizer_of(node)
            if quantizer is not None and constant_of(quantizer.inputs[0]) is None:
                output = node.outputs[0]
                found.setdefault(name_of(output if output.is_graph_output() else quantizer.inputs[0]), output)
        return found

    @cached_property
    def _names(self) -> dict[str, str]:
        return {name_of(value): name for name, value in self.rounded.items()}

    def tensor(self, name: str) -> ir.Value | None:
        """The tensor that stands for the float one of that name, rounded where it is quantized."""
        return self.rounded.get(name, self.computed.get(name))

    def part(self, name: str, shared: Collection[str]) -> _Part:
        """What computes a tensor from ``shared`` ones."""
        nodes: dict[ir.Node, None] = {}
        inputs = set()
        waiting = [self.tensor(name)]
        while waiting:
            value = waiting.pop()
            own = self._names.get(name_of(value), name_of(value))
            if value is None or constant_of(value) is not None:
                continue
            if own != name and own in shared:
                inputs.add(own)
                continue
            node = value.producer()
            if node is None or node in nodes:
                continue
            nodes[node] = None
            waiting += node.inputs
        return _Part(tuple(node for node in nodes if not is_op(node, SILENT)), frozenset(inputs))


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
    first, second = _Graph(references[0]), _Graph(quantized)
    parts = _parts(first, second)
    found = {name: said for name, pair in parts.items() if (said := _difference(*pair))}
    for other in references[1:] if found else ():
        same = {name for name, pair in _parts(_Graph(other), second).items() if not _difference(*pair)}
        found = {name: entry for name, entry in found.items() if name not in same}
    suspects = {name: parts[name] for name in found if not _is_blamed(name, parts[name], blamed)}
    if not suspects:
        return []
    wanted = {name: None for tensor, pair in suspects.items() for name in (*pair[0].inputs, *pair[1].inputs, tensor)}
    noises = _noises((first, second), list(wanted), samples, factors)
    faults = []
    for name, (mine, theirs) in suspects.items():
        before = min((noises[part] for part in mine.inputs | theirs.inputs if part in noises), default=np.inf)
        behind = noises.get(name, np.inf)
        if behind < POOR and before - behind >= DROP:
            node, sentence = found[name]
            message = f"{sentence}: '{name}' has {behind:.1f} dB signal to noise"
            message += f", and {before:.1f} before it" if np.isfinite(before) else ", and what it reads is float's"
            faults.append(FileFault("node", name, node, message, behind))
    return faults


def _parts(first: _Graph, second: _Graph) -> dict[str, tuple[_Part, _Part]]:
    """What computes each tensor that both have, in both."""
    shared = [name for name in first.computed if second.tensor(name) is not None]
    known = frozenset(shared)
    return {name: (first.part(name, known), second.part(name, known)) for name in shared}


def _is_blamed(name: str, parts: tuple[_Part, _Part], blamed: Collection[str]) -> bool:
    nodes = {_named(node) for part in parts for node in part.nodes}
    return (
        name in blamed or any(entry in blamed for part in parts for entry in part.inputs) or bool(nodes & set(blamed))
    )


def _named(node: ir.Node) -> str:
    return f"{operator_of(node)} '{node.name}'"


def _difference(first: _Part, second: _Part) -> tuple[str, str] | None:
    """A node and what is different about it; None where both parts are alike."""
    counts = [Counter(operator_of(node) for node in part.nodes) for part in (first, second)]
    missing, added = counts[0] - counts[1], counts[1] - counts[0]
    lacking, extra = (
        next((node for node in reversed(part.nodes) if operator_of(node) in kinds), None)
        for part, kinds in ((first, missing), (second, added))
    )
    if lacking is not None and extra is not None:
        return _named(extra), f"{_named(extra)} of the quantized file stands for {_named(lacking)} of the float model"
    if lacking is not None:
        return _named(lacking), f"{_named(lacking)} of the float model is missing in the quantized file"
    if extra is not None:
        return _named(extra), f"{_named(extra)} of the quantized file is not in the float model"
    for mine, theirs in _same(first.nodes, second.nodes):
        changed = _changed_attribute(mine, theirs)
        if changed:
            return _named(theirs), f"{_named(theirs)} of the quantized file has {changed}"
    if first.inputs != second.inputs and first.nodes and second.nodes:
        read, other = (", ".join(f"'{name}'" for name in sorted(part)) for part in (second.inputs, first.inputs))
        return _named(
            second.nodes[0]
        ), f"{_named(second.nodes[0])} of the quantized file reads {read}, and float {other}"
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
    graphs: tuple[_Graph, _Graph], names: Sequence[str], samples: Samples, factors: Mapping[str, Floats]
) -> dict[str, float]:
    """Signal to noise in dB of each tensor, within the interval that its readers tell apart."""
    values = [graph.tensor(name) for name in names for graph in graphs]
    firsts, seconds = values[::2], values[1::2]
    kept = [index for index, pair in enumerate(zip(firsts, seconds, strict=True)) if None not in pair]
    limits = saturations([value for value in firsts if value is not None])
    runners = [
        Runner(expose_tensors(graph.model, [name_of(part[index]) for index in kept]), name="the model")
        for graph, part in zip(graphs, (firsts, seconds), strict=True)
    ]
    feeding = runners[1] if runners[0].batch is None else runners[0]  # one of both may have a fixed batch
    sums = np.zeros((len(kept), 2))
    for one in range(len(samples)):
        for feed, _ in feeding.batches(samples.part(slice(one, one + 1))):
            arrays = [runner.feed(feed) for runner in runners]
            for row, (index, wanted, given) in enumerate(zip(kept, *arrays, strict=True)):
                sums[row] += _powers(wanted, given, factors.get(names[index]), limits.get(names[index]))
    return {names[index]: signal_to_noise(*sums[row]) for row, index in enumerate(kept)}


def _powers(
    wanted: NDArray[Any], given: NDArray[Any], factors: Floats | None, limits: Limits | None
) -> tuple[float, float]:
    if wanted.shape != given.shape or wanted.dtype.kind != "f":
        return 0.0, 0.0 if wanted.dtype.kind != "f" else np.inf
    exact, found = (np.clip(array.astype(np.float64), *(limits or UNBOUNDED)) for array in (wanted, given))
    if factors is not None and exact.ndim > 1 and exact.shape[1] == len(factors):
        exact = exact * factors.reshape(-1, *(1,) * (exact.ndim - 2))
    return float(np.square(exact).sum()), float(np.square(exact - found).sum())
