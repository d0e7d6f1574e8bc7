"""Registry of refinements, in the order in which they run.

``equalize`` and ``channels`` change weights before ranges are measured, ``closed-form`` rounds weights after
calibration, ``reconstruct`` learns rounding and steps, and ``bias`` corrects the remaining mean shift.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dfq_deploy.errors import DfqError, ModelError, PluginError, did_you_mean, is_out_of_memory
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.placement.place import with_biases
from dfq_deploy.samples.samples import Samples
from dfq_deploy.validation.budget import allowance, in_megabytes, note, noted

if TYPE_CHECKING:
    from dfq_deploy.refinement.block_learner import BlockLearner

__all__ = [
    "REFINEMENTS",
    "Refinement",
    "default_refinements",
    "in_order",
    "refine_encodings",
    "refine_weights",
    "some_of",
]

logger = logging.getLogger(__name__)

MOST_SAMPLES, MOST_BYTES = 1024, 2**26
"""At most so many samples are refined on, as in BRECQ and AdaRound, and fewer of large ones: memory does not grow with
the samples. At least :data:`FEWEST_SAMPLES`, where there are so many; a small ``--max-memory`` leaves less to either
(:mod:`dfq_deploy.validation.budget`)."""

FEWEST_SAMPLES = 64

FEWEST_AGAIN = 8
"""Samples below which a refinement that has run out of memory is not tried again, and of which a small budget leaves at
least as many."""

Refined = TypeVar("Refined", Prepared, Quantized)

FAILURES = (ModelError, RuntimeError, IndexError, MemoryError)
"""Exceptions of a refinement if the twin cannot run the graph, or memory does not suffice."""


@dataclass(frozen=True)
class Refinement:
    """One refinement, which runs before or after ranges are measured.

    Args:
        summary: one line for ``dfq-deploy methods``, with the source.
        weights: changes the weights of a prepared model in place, before ranges are measured, and returns it with its
            new placement.
        encodings: changes weights and biases in place, and returns the quantized model with its new encodings.

    Both receive a copy, which is dropped if they fail.
    """

    summary: str
    weights: Callable[[Prepared, Samples, str, Progress], Prepared] | None = None
    encodings: Callable[[Quantized, Samples, int, str, Progress], Quantized] | None = None


def _equalize(prepared: Prepared, samples: Samples, device: str, progress: Progress) -> Prepared:
    from dfq_deploy.refinement.cross_layer_equalization import equalize

    equalize(prepared.model, samples, device=device, progress=progress)
    return prepared


def _channels(prepared: Prepared, samples: Samples, device: str, progress: Progress) -> Prepared:
    from dfq_deploy.refinement.channel_ranges import equalize_channels

    return equalize_channels(prepared, samples, device=device, progress=progress)


def _closed_form(quantized: Quantized, samples: Samples, seed: int, device: str, progress: Progress) -> Quantized:
    from dfq_deploy.refinement.closed_form.layers import ClosedForm

    return _block_by_block(quantized, samples, seed, device, progress, ClosedForm)


def _reconstruct(quantized: Quantized, samples: Samples, seed: int, device: str, progress: Progress) -> Quantized:
    from dfq_deploy.refinement.block_learner import BlockLearner

    return _block_by_block(quantized, samples, seed, device, progress, BlockLearner)


def _block_by_block(
    quantized: Quantized, samples: Samples, seed: int, device: str, progress: Progress, learner: "type[BlockLearner]"
) -> Quantized:
    from dfq_deploy.graph.passes.own_biases import give_own_biases
    from dfq_deploy.refinement.reconstruction import reconstruct

    model = quantized.prepared.model
    give_own_biases(model)
    quantized = _with_biases(quantized)
    placement = quantized.prepared.placement
    learned = reconstruct(
        model, placement, quantized.encodings, samples, seed=seed, device=device, progress=progress, learner=learner
    )
    return replace(quantized, encodings=learned)


def _correct_biases(quantized: Quantized, samples: Samples, _: int, device: str, progress: Progress) -> Quantized:
    from dfq_deploy.refinement.bias_correction import correct_biases

    prepared = quantized.prepared
    correct_biases(
        prepared.model, quantized.encodings, samples.images, extra=samples.extra, device=device, progress=progress
    )
    return _with_biases(quantized)


def _with_biases(quantized: Quantized) -> Quantized:
    """Update the placement of ``quantized`` to the biases of its model."""
    prepared = quantized.prepared
    placement = with_biases(prepared.placement, prepared.model, prepared.target)
    return replace(quantized, prepared=replace(prepared, placement=placement))


REFINEMENTS = {
    "equalize": Refinement(
        "equalize the weight ranges of consecutive layers (Nagel et al. 2019, 4.1)", weights=_equalize
    ),
    "channels": Refinement("give the channels of activations equal ranges at one scale", weights=_channels),
    "closed-form": Refinement(
        "round weights layer by layer without descent (ridge regression of ERQ 2024, GPTQ 2023)",
        encodings=_closed_form,
    ),
    "reconstruct": Refinement(
        "learn rounding and steps block by block (AdaRound 2020, BRECQ 2021, QDrop 2022)",
        encodings=_reconstruct,
    ),
    "bias": Refinement(
        "correct the mean shift of each channel in the biases (Nagel et al. 2019, 4.2)", encodings=_correct_biases
    ),
}


def default_refinements(bits: Bits) -> tuple[str, ...]:
    """Return the default: ``bias`` at 8 bits and more, where learned rounding gains little; else ``reconstruct``."""
    return ("bias",) if bits.fewest >= 8 else ("reconstruct",)


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the refinements ``names`` in the order in which they run.

    Raises:
        PluginError: a name is not registered.
    """
    for name in names:
        if name not in REFINEMENTS:
            raise PluginError(f"no refinement '{name}'{did_you_mean(name, REFINEMENTS)}")
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
    """Run the refinements that come before ranges are measured; ``prepared`` is not changed.

    Args:
        optional: names of refinements that are skipped if they cannot run on the graph.

    Returns:
        the refined model, and one sentence for each refinement that was skipped.

    Raises:
        ModelError: a refinement that is not optional cannot run.
        DfqError: memory does not suffice for a refinement that is not optional.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].weights
        if step is not None:
            run = partial(_refined_weights, prepared, step, device, progress)
            try:
                prepared, notes = _with_fewer(name, run, samples)
                warnings += notes
            except FAILURES as error:
                warnings.append(_left_out(name, error, optional))
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
    """Run the refinements that come after ranges are measured; ``quantized`` is not changed.

    Arguments, return values and errors are those of :func:`refine_weights`.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].encodings
        if step is not None:
            run = partial(_refined_encodings, quantized, step, seed, device, progress)
            try:
                quantized, notes = _with_fewer(name, run, samples)
                warnings += notes
            except FAILURES as error:
                warnings.append(_left_out(name, error, optional))
    return quantized, tuple(warnings)


def _refined_weights(
    prepared: Prepared,
    step: Callable[[Prepared, Samples, str, Progress], Prepared],
    device: str,
    progress: Progress,
    samples: Samples,
) -> Prepared:
    return step(_copy(prepared), samples, device, progress)


def _refined_encodings(
    quantized: Quantized,
    step: Callable[[Quantized, Samples, int, str, Progress], Quantized],
    seed: int,
    device: str,
    progress: Progress,
    samples: Samples,
) -> Quantized:
    candidate = replace(quantized, prepared=_copy(quantized.prepared), encodings=dict(quantized.encodings))
    return step(candidate, samples, seed, device, progress)


def _with_fewer(name: str, run: Callable[[Samples], Refined], samples: Samples) -> tuple[Refined, tuple[str, ...]]:
    """Run a refinement, once more on every fourth sample where memory does not suffice; and what memory decided."""
    try:
        with noted() as notes:
            few = some_of(samples)
            refined = run(few)
        logger.info("refinement '%s' done on %d samples", name, len(few))
        return refined, tuple(notes)
    except FAILURES as error:
        samples = some_of(samples)
        fewer = samples.part(slice(None, None, 4))
        if not is_out_of_memory(error) or len(fewer) < FEWEST_AGAIN:
            raise
    refined = run(fewer)
    return refined, (f"refinement '{name}' ran out of memory on {len(samples)} samples, and took {len(fewer)} of them",)


def some_of(samples: Samples) -> Samples:
    """At most :data:`MOST_SAMPLES` of the samples, evenly spread."""
    size = max(1, samples.images[0].nbytes)
    usual = min(len(samples), MOST_SAMPLES, max(FEWEST_SAMPLES, MOST_BYTES // size))
    count = usual
    if allowance(MOST_BYTES) < MOST_BYTES:
        least = min(usual, FEWEST_AGAIN)
        count = max(least, min(usual, allowance(MOST_BYTES) // size))
    if count < usual:
        left = in_megabytes(allowance(MOST_BYTES))
        note(f"--max-memory leaves {left} to the samples of a refinement, so it took {count} instead of {usual}")
    return samples if len(samples) <= count else samples.part(np.arange(count) * len(samples) // count)


def _copy(prepared: Prepared) -> Prepared:
    """Return a copy to refine, so that a refinement that fails changes nothing; weights are shared until replaced."""
    return replace(prepared, model=prepared.model.clone())


def _left_out(name: str, error: Exception, optional: Collection[str]) -> str:
    """Return the warning for an optional refinement that failed; raise an error for any other."""
    reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
    logger.debug("refinement '%s' failed: %s: %s", name, type(error).__name__, reason)
    lacks_memory = is_out_of_memory(error)
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
