"""Refinements by name, in their order.

``equalize`` changes weights before ranges are measured, ``reconstruct`` learns roundings and steps once there
are encodings, and ``bias`` takes out what is left of the shift.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from dfq_deploy.errors import DfqError, ModelError, PluginError, is_out_of_memory
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.placement.place import with_biases
from dfq_deploy.samples.samples import Samples

__all__ = ["REFINEMENTS", "Refinement", "default_refinements", "in_order", "refine_encodings", "refine_weights"]

logger = logging.getLogger(__name__)

FAILURES = (ModelError, RuntimeError, IndexError, MemoryError)
"""What a refinement raises where the twin cannot run the graph, or memory does not suffice."""


@dataclass(frozen=True)
class Refinement:
    """One refinement; it works on the prepared weights, or on what is quantized.

    Args:
        summary: one line for ``dfq-deploy methods``, with the source.
        weights: changes the weights of a prepared model in place, before ranges are measured.
        encodings: changes weights and biases in place, and returns what is quantized with its new encodings.

    Both are handed a copy, which is dropped where they fail.
    """

    summary: str
    weights: Callable[[Prepared, Samples, str, Progress], None] | None = None
    encodings: Callable[[Quantized, Samples, int, str, Progress], Quantized] | None = None


def _equalize(prepared: Prepared, samples: Samples, device: str, progress: Progress) -> None:
    from dfq_deploy.refinement.cross_layer_equalization import equalize

    equalize(prepared.model, samples, device=device, progress=progress)


def _reconstruct(quantized: Quantized, samples: Samples, seed: int, device: str, progress: Progress) -> Quantized:
    from dfq_deploy.graph.passes.own_biases import give_own_biases
    from dfq_deploy.refinement.reconstruction import reconstruct

    model = quantized.prepared.model
    give_own_biases(model)
    quantized = _with_biases(quantized)
    placement = quantized.prepared.placement
    learned = reconstruct(model, placement, quantized.encodings, samples, seed=seed, device=device, progress=progress)
    return replace(quantized, encodings=learned)


def _correct_biases(quantized: Quantized, samples: Samples, _: int, device: str, progress: Progress) -> Quantized:
    from dfq_deploy.refinement.bias_correction import correct_biases

    prepared = quantized.prepared
    correct_biases(
        prepared.model, quantized.encodings, samples.images, extra=samples.extra, device=device, progress=progress
    )
    return _with_biases(quantized)


def _with_biases(quantized: Quantized) -> Quantized:
    """``quantized`` with the biases that its model has been given."""
    prepared = quantized.prepared
    placement = with_biases(prepared.placement, prepared.model, prepared.target)
    return replace(quantized, prepared=replace(prepared, placement=placement))


REFINEMENTS = {
    "equalize": Refinement("weights of neighboring layers trade scale (Nagel et al. 2019, 4.1)", weights=_equalize),
    "reconstruct": Refinement(
        "block by block, learned rounding and steps (AdaRound 2020, BRECQ 2021, QDrop 2022)",
        encodings=_reconstruct,
    ),
    "bias": Refinement(
        "biases take the mean shift of each channel back (Nagel et al. 2019, 4.2)", encodings=_correct_biases
    ),
}


def default_refinements(bits: Bits) -> tuple[str, ...]:
    """What measures best: ``bias`` at 8 bits and more, where roundings have little to learn; else ``reconstruct``."""
    return ("bias",) if bits.fewest >= 8 else ("reconstruct",)


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The refinements of those names, in the order in which they belong.

    Raises:
        PluginError: there is none of a name.
    """
    for name in names:
        if name not in REFINEMENTS:
            raise PluginError(f"no refinement '{name}'; installed: {', '.join(REFINEMENTS)}")
    return tuple(name for name in REFINEMENTS if name in names)


def refine_weights(
    prepared: Prepared,
    names: Sequence[str],
    samples: Samples,
    *,
    optional: Collection[str] = (),
    device: str = "cpu",
    progress: Progress = SILENT,
) -> tuple[Prepared, tuple[str, ...]]:
    """Run the refinements that come before ranges; ``prepared`` stays as it is.

    Args:
        optional: names of those that are left out where the graph does not let them run.

    Returns:
        what is prepared then, and a sentence for each refinement that was left out, which has changed nothing.

    Raises:
        ModelError: one that is not optional cannot run.
        DfqError: memory does not suffice for one that is not optional.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].weights
        if step is not None:
            candidate = _copy(prepared)
            try:
                step(candidate, samples, device, progress)
                prepared = candidate
                logger.info("refinement '%s' done on %d samples", name, len(samples))
            except FAILURES as problem:
                warnings.append(_left_out(name, problem, optional))
    return prepared, tuple(warnings)


def refine_encodings(
    quantized: Quantized,
    names: Sequence[str],
    samples: Samples,
    *,
    optional: Collection[str] = (),
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> tuple[Quantized, tuple[str, ...]]:
    """Run the refinements that come after ranges; ``quantized`` stays as it is.

    Returns what is quantized then, and a sentence for each refinement that was left out. Arguments and errors are those
    of :func:`refine_weights`.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].encodings
        if step is not None:
            candidate = replace(quantized, prepared=_copy(quantized.prepared), encodings=dict(quantized.encodings))
            try:
                quantized = step(candidate, samples, seed, device, progress)
                logger.info("refinement '%s' done on %d samples", name, len(samples))
            except FAILURES as problem:
                warnings.append(_left_out(name, problem, optional))
    return quantized, tuple(warnings)


def _copy(prepared: Prepared) -> Prepared:
    """A copy to refine: one that fails halfway leaves nothing behind. Weights are shared until they are replaced."""
    return replace(prepared, model=prepared.model.clone())


def _left_out(name: str, problem: Exception, optional: Collection[str]) -> str:
    """The sentence on an optional refinement that failed; any other failure is raised."""
    reason = next(iter(str(problem).splitlines()), "").rstrip(".") or type(problem).__name__
    logger.debug("refinement '%s' failed: %s: %s", name, type(problem).__name__, reason)
    lacks_memory = is_out_of_memory(problem)
    if name not in optional and lacks_memory:
        raise DfqError(
            f"refinement '{name}' ran out of memory ({reason}); use fewer samples (--samples) or a machine with more "
            "memory, or leave it out with --refine none"
        ) from None
    if name not in optional:
        raise ModelError(f"refinement '{name}' cannot run: {reason}; leave it out with --refine none") from None
    if lacks_memory:
        return (
            f"refinement '{name}' was left out: out of memory ({reason}); use fewer samples (--samples) or a machine "
            "with more memory"
        )
    return f"refinement '{name}' was left out, since the twin cannot run the model ({reason})"
