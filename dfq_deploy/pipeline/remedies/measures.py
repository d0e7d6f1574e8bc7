"""The remedies, the cheapest first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from dfq_deploy.pipeline.remedies.attempts import Bench, Measured, Setting
from dfq_deploy.pipeline.remedies.known import HEADROOM, gate_headroom, known_ranges
from dfq_deploy.pipeline.remedies.samples import mixable, mixed
from dfq_deploy.pipeline.remedies.worst import depthwise_nodes, nodes_to_keep
from dfq_deploy.quantization.dynamic import is_worth_it
from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS
from dfq_deploy.verdict.noise.what_hurts import what_hurts

__all__ = ["REMEDIES", "Remedy", "Trial"]

NOISE_S, NOISE_SHARE = 10.0, 0.25
"""Seconds that the noise of single layers may take to measure, or a part of what is left of the time."""

NAMED = 3
"""How many names a sentence lists."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One thing to try.

    Args:
        name: as :class:`dfq_deploy.pipeline.remedies.steps.RemedyStep` has it.
        what: what it changes, for people.
        make: the setting with it; drawing samples may take a while.
        mixes: a kind of inputs that calibrate with it, and can judge no more; empty for none.
    """

    name: str
    what: str
    make: Callable[[], Setting]
    mixes: str = ""


Remedy: TypeAlias = Callable[[Bench, Measured], Iterator[Trial]]
"""From the best result so far, what to try; of several, each is tried with what was kept before it."""


def _headroom(bench: Bench, best: Measured) -> Iterator[Trial]:
    entries = gate_headroom(best.fitted.reference, best.fitted.quantized.encodings)
    if entries:
        what = f"{HEADROOM:g} times the range of {_tensors(len(entries))} behind global pooling"
        yield Trial("headroom", what, lambda: best.setting.overriding(entries))


def _known(bench: Bench, best: Measured) -> Iterator[Trial]:
    entries = known_ranges(best.fitted.reference, best.fitted.quantized.encodings)
    if entries:
        what = f"the range that the operator tells for {_tensors(len(entries))}"
        yield Trial("known-ranges", what, lambda: best.setting.overriding(entries))


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _equalize(bench: Bench, best: Measured) -> Iterator[Trial]:
    used = best.fitted.choices["refine"]  # none where none was asked for, which is left at that
    if used and "equalize" not in used:
        yield Trial("equalize", "--refine equalize", lambda: best.setting.planned(refine=(*used, "equalize")))


def _mixes_floats(target: Target) -> bool:
    """True for a runtime that computes in float between its integer kernels."""
    return target.style == "kernels" and target.whole_ops is None


def _channels(bench: Bench, best: Measured) -> Iterator[Trial]:
    used = best.fitted.choices["refine"]
    if used and "channels" not in used and _mixes_floats(best.setting.plan.target):
        yield Trial("channels", "--refine channels", lambda: best.setting.planned(refine=(*used, "channels")))


def _depthwise(bench: Bench, best: Measured) -> Iterator[Trial]:
    """They add few products, read what differs from channel to channel, and gain little speed by integers."""
    nodes = depthwise_nodes(best.fitted.quantized.prepared)
    if nodes and _mixes_floats(best.setting.plan.target):
        what = f"float for the {len(nodes)} depthwise convolutions"
        yield Trial("depthwise", what, lambda: best.setting.overriding(keep_float=nodes))


def _procedural(bench: Bench, best: Measured) -> Iterator[Trial]:
    return _mixing(bench, best, BY_RULE)


def _photographs(bench: Bench, best: Measured) -> Iterator[Trial]:
    return _mixing(bench, best, PHOTOGRAPHS)


def _mixing(bench: Bench, best: Measured, kind: str) -> Iterator[Trial]:
    setting = best.setting
    if kind in mixable(bench.source, setting.samples, best.sets):

        def make() -> Setting:
            more = mixed(bench.source, setting.samples, kind, setting.plan.preprocess, setting.plan.seed, bench.ranges)
            return replace(setting, samples=more)

        yield Trial("samples", f"{len(setting.samples)} {kind} inputs among the samples", make, kind)


def _sixteen_bits(bench: Bench, best: Measured) -> Iterator[Trial]:
    plan, bits = best.setting.plan, best.fitted.quantized.prepared.bits
    if any(activation == "u16" for activation, _ in plan.target.pairs) and bits.activations < 16:
        wide = replace(bits, activations=16)
        yield Trial("16-bit", f"--bits {wide}", lambda: best.setting.planned(bits=wide))


def _dynamic(bench: Bench, best: Measured) -> Iterator[Trial]:
    """Not where it was measured against static ones before, as for models that are mostly of such layers."""
    plan, bits = best.setting.plan, best.fitted.quantized.prepared.bits
    if plan.activations == "auto" and bits.is_plain and "activations" not in best.fitted.choices:
        count = sum(is_worth_it(node, plan.target) for node in bench.source.graph)
        if count:
            what = f"--activations dynamic for {count} layer{'' if count == 1 else 's'}"
            yield Trial("dynamic", what, lambda: best.setting.planned(activations="dynamic"))


def _keep_float(bench: Bench, best: Measured) -> Iterator[Trial]:
    if best.setting.plan.target.style == "everything":
        return
    fitted, plan = best.fitted, best.setting.plan
    hurts = what_hurts(
        bench.source, fitted.reference, fitted.quantized.prepared, fitted.quantized.encodings,
        replace(best.sets[-1].samples, labels=None), refine=fitted.choices["refine"],
        budget_s=max(NOISE_S, NOISE_SHARE * bench.left()),
        device=plan.device,
    )  # fmt: skip
    for count, nodes in nodes_to_keep(fitted.quantized.prepared.model, hurts):
        more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
        what = f"float for the {count} noisiest layer{'s' if count > 1 else ''}: {', '.join(nodes[:NAMED])}{more}"

        def make(nodes: tuple[str, ...] = nodes) -> Setting:
            return best.setting.overriding(keep_float=nodes)

        yield Trial("keep-float", what, make)


def _reconstruct(bench: Bench, best: Measured) -> Iterator[Trial]:
    used = best.fitted.choices["refine"]
    learns = not best.fitted.quantized.prepared.bits.floating  # it learns the rounding to integers
    if learns and used and "reconstruct" not in used:
        yield Trial("reconstruct", "--refine reconstruct", lambda: best.setting.planned(refine=(*used, "reconstruct")))


REMEDIES: tuple[Remedy, ...] = (
    _headroom,
    _known,
    _equalize,
    _depthwise,
    _channels,
    _procedural,
    _photographs,
    _sixteen_bits,
    _dynamic,
    _keep_float,
    _reconstruct,
)
