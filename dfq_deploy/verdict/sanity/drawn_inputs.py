"""Say which inputs were drawn from a guess, because nothing in the model tells their values."""

from collections.abc import Sequence

import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input, model_inputs
from dfq_deploy.graph.query import batch_normalizations
from dfq_deploy.samples.feature_statistics import feature_statistics
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.bounds import sample_bounds
from dfq_deploy.synthesis.procedural.inputs import InputRanges, rule_of
from dfq_deploy.synthesis.session import RULE
from dfq_deploy.verdict.finding import Finding

__all__ = ["guessed_finding", "unknown_finding"]


def guessed_finding(model: ir.Model, samples: Samples, ranges: InputRanges) -> Finding | None:
    """``CHECK`` where integers other than indices of a table were drawn; None where no input is such a one.

    Args:
        samples: drawn or synthesized ones; of others nothing is said.
        ranges: what the caller states of inputs, by name.
    """
    ports = model_inputs(model)
    main = main_input(ports)
    drawn = [port for port in ports if samples.method and (port != main or samples.method == RULE)]
    guesses = [rule for rule in (rule_of(model, port, ranges) for port in drawn) if rule.is_guess]
    if not guesses:
        return None
    names, verb = ", ".join(f"'{rule.port.name}'" for rule in guesses), "takes" if len(guesses) == 1 else "take"
    message = f"{names} {verb} integers, and nothing in the model tells which: 0 and 1 were drawn"
    options = " ".join(f"--input-range {rule.port.name}:LO,HI" for rule in guesses)
    remedy = "give the range of each such input with --input-range NAME:LO,HI, or real inputs as FILE.npz with --data"
    return Finding("inputs-guessed", "CHECK", message, remedy, options=options)


def unknown_finding(
    model: ir.Model, samples: Samples, ranges: InputRanges, teachers: Sequence[ir.Model] = ()
) -> Finding | None:
    """``CHECK`` where floats that are no picture were drawn, and nothing tells of what size they are in training.

    Features in other units, or with long tails, are clipped to the ranges that drawn ones of mean 0 and deviation 1
    have, and no figure of drawn inputs shows it. None where a BatchNormalization, the graph before the first layer, the
    kind of the input (sound) or the caller tells.

    Args:
        samples: drawn or synthesized ones; of others nothing is said.
    """
    main = main_input(model_inputs(model))
    if not samples.method or not main.is_float or sample_bounds(model, None, ranges, teachers) is not None:
        return None
    if any(batch_normalizations(entry) for entry in (model, *teachers)) or feature_statistics(model) is not None:
        return None
    message = (
        f"nothing in the model tells which values its input '{main.name}' has: samples of mean 0 and deviation 1 were "
        "drawn, and all ranges fit such inputs alone"
    )
    remedy = (
        f"give real inputs as FILE.npz with --data, or their range with --input-range {main.name}:LO,HI; or scale them "
        "to mean 0 and deviation 1 before the model"
    )
    return Finding("inputs-guessed", "CHECK", message, remedy, options="--data FILE.npz")
