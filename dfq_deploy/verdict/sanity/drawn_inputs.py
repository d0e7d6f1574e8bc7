"""Say which inputs were drawn from a guess, because nothing in the model tells their values."""

import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input, model_inputs
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges, rule_of
from dfq_deploy.synthesis.session import RULE
from dfq_deploy.verdict.finding import Finding

__all__ = ["guessed_finding"]


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
