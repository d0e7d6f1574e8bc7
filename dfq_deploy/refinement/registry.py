"""Refinements by name, in their order.

``equalize`` changes weights before ranges are measured, ``reconstruct`` learns roundings and steps once there
are encodings, and ``bias`` takes out what is left of the shift.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from dfq_deploy.errors import ModelError, PluginError
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Prepared, Quantized
from dfq_deploy.quantization.placement.place import with_biases
from dfq_deploy.samples.samples import Samples

__all__ = ["REFINEMENTS", "Refinement", "default_refinements", "in_order", "refine_encodings", "refine_weights"]


@dataclass(frozen=True)
class Refinement:
    """One refinement; it works on the prepared weights, or on what is quantized.

    Args:
        summary: one line for ``dfq-deploy methods``, with the source.
        weights: changes the weights of a prepared model in place, before ranges are measured.
        encodings: changes weights and biases in place, and returns what is quantized with its new encodings.
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
) -> tuple[str, ...]:
    """Run what comes before ranges, in place.

    Args:
        optional: names of those that are left out where the graph does not let them run.

    Returns:
        a sentence for each that was left out.

    Raises:
        ModelError: one that is not optional cannot run.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].weights
        if step is not None:
            try:
                step(prepared, samples, device, progress)
            except (ModelError, RuntimeError, IndexError) as problem:
                warnings.append(_left_out(name, problem, optional))
    return tuple(warnings)


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
    """Run what comes behind ranges: what is quantized then, and a sentence for each that was left out.

    Arguments and errors are those of :func:`refine_weights`.
    """
    warnings: list[str] = []
    for name in names:
        step = REFINEMENTS[name].encodings
        if step is not None:
            try:
                quantized = step(quantized, samples, seed, device, progress)
            except (ModelError, RuntimeError, IndexError) as problem:
                warnings.append(_left_out(name, problem, optional))
    return quantized, tuple(warnings)


def _left_out(name: str, problem: Exception, optional: Collection[str]) -> str:
    reason = str(problem).splitlines()[0].rstrip(".")
    if name not in optional:
        raise ModelError(f"refinement '{name}' cannot run: {reason}; leave it out with --refine none") from None
    return f"refinement '{name}' was left out, since the twin cannot run the model ({reason})"
