"""The noise of outputs that are no class scores, on inputs on which they show something.

The map of a text detector is empty on pictures without text: its noise there, relative to a signal that is next to
nothing, says nothing of the noise on text. Each output is judged on the most trustworthy kind of inputs on which it
shows something; what the quantized model adds on the other kinds counts as noise, so that nothing is missed which it
finds where there is nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.evaluation.output_distance import OutputDistance, judged_outputs
from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS, WRITTEN
from dfq_deploy.verdict.agreement.measure import SHOWN, Agreement, KindAgreement

__all__ = ["PREFERRED", "OutputNoise", "worst_beside_scores", "worst_noise"]

PREFERRED = ("data", PHOTOGRAPHS, WRITTEN, BY_RULE)
"""Kinds of inputs, the best first."""

ENOUGH = 8
"""So many inputs of a kind on which an output shows something do, if there is no kind of which :data:`SHOWN` do."""


@dataclass(frozen=True)
class OutputNoise:
    """The worst output of a quantized model.

    Args:
        name: of the output.
        snr: signal to noise in dB.
        count, kind: the inputs that it is from.
        empty: float's output shows something on none of the inputs, or on too few, so that ``snr`` says nothing.
        shown: part of the inputs of ``kind`` on which float's output shows something, 0 to 1.
        invented: the largest part of the inputs of a kind on which only the quantized model's does.
        offset: mean of the values, where they vary so little that the signal is taken about it; 0 otherwise.
        moved: how far one probability for each sample moves in the mean; None for other outputs.
    """

    name: str
    snr: float
    count: int
    kind: str
    empty: bool = False
    shown: float = 1.0
    invented: float = 0.0
    offset: float = 0.0
    moved: float | None = None


def worst_noise(agreement: Agreement) -> OutputNoise | None:
    """The output with the most noise; an empty one only where no other is bad. None where no output can be compared."""
    return _worst(agreement, frozenset())


def worst_beside_scores(agreement: Agreement) -> OutputNoise | None:
    """The same of the outputs that are neither the class scores nor another form of them; None where there are none."""
    outputs = [output for kind in agreement.judging for output in kind.comparison.outputs]
    scored = {kind.comparison.scored for kind in agreement.judging} - {""}
    if not scored:
        return None
    widths = {output.width for output in outputs if output.name in scored}
    forms = {output.name for output in outputs if output.name in scored or output.width in widths or output.integers}
    return _worst(agreement, forms)


def _worst(agreement: Agreement, without: Collection[str]) -> OutputNoise | None:
    kinds = sorted(agreement.judging, key=lambda kind: PREFERRED.index(kind.kind) if kind.kind in PREFERRED else 9)
    names = dict.fromkeys(output.name for kind in kinds for output in judged_outputs(kind.comparison.outputs))
    found = [_noise(name, kinds) for name in names if name not in without]
    return min(found, key=lambda noise: (noise.empty, noise.snr), default=None)


def _noise(name: str, kinds: Sequence[KindAgreement]) -> OutputNoise:
    measured = [(kind, output) for kind in kinds for output in kind.comparison.outputs if output.name == name]
    telling = [pair for pair in measured if pair[1].shown >= SHOWN]
    telling = telling or sorted((pair for pair in measured if _inputs(*pair) >= ENOUGH), key=lambda p: -_inputs(*p))
    kind, output = (telling or measured)[0]
    added = [other for _, other in measured if other.shown < SHOWN and other is not output] if telling else []
    snr = min([output.snr, *(signal_to_noise(output.signal, other.noise) for other in added)])
    invented = max(other.invented for _, other in measured)
    return OutputNoise(
        name, snr, kind.comparison.count, kind.kind, not telling, output.shown, invented, output.offset, output.moved
    )


def _inputs(kind: KindAgreement, output: OutputDistance) -> int:
    """How many inputs the output shows something on."""
    return round(output.shown * kind.comparison.count)
