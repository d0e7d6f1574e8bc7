"""The remedies, the cheapest first."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from dfq_deploy.pipeline.remedies.attempts import Bench, Measured, Setting
from dfq_deploy.pipeline.remedies.floor import PERCENT, Floor
from dfq_deploy.pipeline.remedies.known import HEADROOM, gate_headroom, known_ranges, scaled_ranges
from dfq_deploy.pipeline.remedies.samples import mixable, mixed
from dfq_deploy.pipeline.remedies.worst import depthwise_nodes, nodes_to_keep, reads_swishes
from dfq_deploy.quantization.dynamic import is_worth_it
from dfq_deploy.quantization.overrides import Override
from dfq_deploy.refinement.cross_layer_equalization import pairs_of
from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS
from dfq_deploy.verdict.noise.what_hurts import what_hurts

__all__ = ["REMEDIES", "SUREST", "Remedy", "Result", "Trial", "Trials"]

NOISE_S, NOISE_SHARE = 10.0, 0.25
"""Seconds that the noise of single layers may take to measure, or a part of what is left of the time."""

NOISE_RUNS = 8
"""Groups of layers that are measured at least: the noisiest one is then a sixteenth of all."""

DEPTHWISE = "kept in float by a remedy: a depthwise convolution, which gains little speed by integers"
NOISY = "kept in float by a remedy: its noise reaches the outputs"
"""Why nodes stay float, for the report."""

SCALES = (1.4, 0.85)
"""Wider and narrower ranges to try: with the headroom of 1.2, 1.7 times what was measured, and about that."""

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
        learns: it takes minutes, which only a result that is not good enough is worth.
    """

    name: str
    what: str
    make: Callable[[], Setting]
    mixes: str = ""
    learns: bool = False


Result: TypeAlias = Literal["kept", "no gain", "too much"]
"""What came of a trial: ``too much`` where it gains, and is slower than allowed or leaves nothing in integers."""

Trials: TypeAlias = Generator[Trial, Result | None, None]
"""What to try; it is sent what came of each."""

Remedy: TypeAlias = Callable[[Bench, Measured, Floor], Trials]
"""From the best result so far and what is to be reached, what to try; of several, each is tried with what was kept
before it."""


def _headroom(bench: Bench, best: Measured, floor: Floor) -> Trials:
    quantized = best.fitted.quantized
    entries = gate_headroom(best.fitted.reference, quantized.encodings, quantized.prepared.placement.shared)
    if entries:
        what = f"{HEADROOM:g} times the range of {_tensors(len(entries))} behind global pooling"
        yield Trial("headroom", what, lambda: best.setting.overriding(entries))


def _known(bench: Bench, best: Measured, floor: Floor) -> Trials:
    quantized = best.fitted.quantized
    entries = known_ranges(best.fitted.reference, quantized.encodings, quantized.prepared.placement.shared)
    if entries:
        what = f"the range that the operator tells for {_tensors(len(entries))}"
        yield Trial("known-ranges", what, lambda: best.setting.overriding(entries))


def _scaled(bench: Bench, best: Measured, floor: Floor) -> Trials:
    """Samples by rule differ from real inputs in how far their ranges reach; what that costs, held-out inputs tell."""
    result: Result | None = None
    quantized = best.fitted.quantized
    for factor in SCALES:
        shared = quantized.prepared.placement.shared
        entries = scaled_ranges(best.fitted.reference, quantized.encodings, factor, shared)
        if result == "kept" or not entries or not best.setting.samples.is_synthetic:
            return

        def make(entries: tuple[Override, ...] = entries) -> Setting:
            return best.setting.overriding(entries)

        result = yield Trial("scaled-ranges", f"{factor:g} times the range of {_tensors(len(entries))}", make)


def _tensors(count: int) -> str:
    return f"{count} tensor{'' if count == 1 else 's'}"


def _equalize(bench: Bench, best: Measured, floor: Floor) -> Trials:
    used = best.fitted.choices["refine"]  # none where none was asked for, which is left at that
    if used and "equalize" not in used and pairs_of(best.fitted.reference):
        yield Trial("equalize", "--refine equalize", lambda: best.setting.planned(refine=(*used, "equalize")))


def _mixes_floats(target: Target) -> bool:
    """True for a runtime that computes in float between its integer kernels."""
    return target.style == "kernels" and target.whole_ops is None and target.floats


def _channels(bench: Bench, best: Measured, floor: Floor) -> Trials:
    used = best.fitted.choices["refine"]
    if used and "channels" not in used and _mixes_floats(best.setting.plan.target):
        yield Trial("channels", "--refine channels", lambda: best.setting.planned(refine=(*used, "channels")))


def _depthwise_first(bench: Bench, best: Measured, floor: Floor) -> Trials:
    """Where nothing else helps them: no scale can be moved through hard swishes and the like."""
    nodes = depthwise_nodes(best.fitted.quantized.prepared)
    if reads_swishes(best.fitted.quantized.prepared, nodes):
        yield from _depthwise(bench, best, floor)


def _depthwise_later(bench: Bench, best: Measured, floor: Floor) -> Trials:
    nodes = depthwise_nodes(best.fitted.quantized.prepared)
    if not reads_swishes(best.fitted.quantized.prepared, nodes):
        yield from _depthwise(bench, best, floor)


def _depthwise(bench: Bench, best: Measured, floor: Floor) -> Trials:
    """They add few products, read what differs from channel to channel, and gain little speed by integers."""
    nodes = depthwise_nodes(best.fitted.quantized.prepared)
    if nodes and _mixes_floats(best.setting.plan.target):
        what = f"float for the {len(nodes)} depthwise convolutions"
        yield Trial("depthwise", what, lambda: best.setting.overriding(keep_float=nodes, reason=DEPTHWISE))


def _procedural(bench: Bench, best: Measured, floor: Floor) -> Trials:
    return _mixing(bench, best, BY_RULE)


def _photographs(bench: Bench, best: Measured, floor: Floor) -> Trials:
    return _mixing(bench, best, PHOTOGRAPHS)


def _mixing(bench: Bench, best: Measured, kind: str) -> Trials:
    setting = best.setting
    if kind in mixable(bench.source, setting.samples, best.sets):

        def make() -> Setting:
            more = mixed(bench.source, setting.samples, kind, setting.plan.preprocess, setting.plan.seed, bench.ranges)
            return replace(setting, samples=more)

        yield Trial("samples", f"{len(setting.samples)} {kind} inputs among the samples", make, kind)


def _sixteen_bits(bench: Bench, best: Measured, floor: Floor) -> Trials:
    plan, bits = best.setting.plan, best.fitted.quantized.prepared.bits
    if any(activation == "u16" for activation, _ in plan.target.pairs) and bits.activations < 16:
        wide = replace(bits, activations=16)
        yield Trial("16-bit", f"--bits {wide}", lambda: best.setting.planned(bits=wide))


def _dynamic(bench: Bench, best: Measured, floor: Floor) -> Trials:
    """Not where it was measured against static ones before, as for models that are mostly of such layers."""
    plan, bits = best.setting.plan, best.fitted.quantized.prepared.bits
    if plan.activations == "auto" and bits.is_plain and "activations" not in best.fitted.choices:
        count = sum(is_worth_it(node, plan.target) for node in bench.source.graph)
        if count:
            what = f"--activations dynamic for {count} layer{'' if count == 1 else 's'}"
            yield Trial("dynamic", what, lambda: best.setting.planned(activations="dynamic"))


def _keep_float(bench: Bench, best: Measured, floor: Floor) -> Trials:
    target = best.setting.plan.target
    if target.style == "everything" or not target.floats:
        return
    fitted, plan = best.fitted, best.setting.plan
    hurts = what_hurts(
        bench.source, fitted.reference, fitted.quantized.prepared, fitted.quantized.encodings,
        replace(best.sets[-1].samples, labels=None), refine=fitted.choices["refine"], accumulated={},
        budget_s=max(NOISE_S, NOISE_SHARE * bench.left()), fewest_runs=NOISE_RUNS,
        device=plan.device,
    )  # fmt: skip
    rungs = nodes_to_keep(fitted.quantized.prepared.model, hurts, plan.overrides.keep_float)
    missing, tried = floor.aim - floor.figure(best.agreement), set[int]()
    index = next((number for number, rung in enumerate(rungs) if rung.gain >= missing), len(rungs) - 1)
    if floor.unit(best.agreement) == PERCENT:
        index = 0  # what noise does to classes is not known
    while 0 <= index < len(rungs) and index not in tried:
        tried.add(index)
        count, nodes = rungs[index].count, rungs[index].nodes
        more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
        noisy, kept = _counted(count, "noisiest operator"), _counted(len(nodes), "layer")
        what = f"float for the {noisy}, {kept}: {', '.join(nodes[:NAMED])}{more}"

        def make(nodes: tuple[str, ...] = nodes) -> Setting:
            return best.setting.overriding(keep_float=nodes, reason=NOISY)

        result = yield Trial("keep-float", what, make)
        index += -1 if result == "too much" else 1


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _reconstruct(bench: Bench, best: Measured, floor: Floor) -> Trials:
    used = best.fitted.choices["refine"]
    learns = not best.fitted.quantized.prepared.bits.floating  # it learns the rounding to integers
    if learns and used and "reconstruct" not in used:

        def make() -> Setting:
            return best.setting.planned(refine=(*used, "reconstruct"))

        yield Trial("reconstruct", "--refine reconstruct", make, learns=True)


SUREST: Remedy = _keep_float
"""What comes first where there is time for few."""

REMEDIES: tuple[Remedy, ...] = (
    _depthwise_first,
    _headroom,
    _known,
    _equalize,
    _depthwise_later,
    _channels,
    _procedural,
    _photographs,
    _sixteen_bits,
    _dynamic,
    _keep_float,
    _scaled,
    _reconstruct,
)
