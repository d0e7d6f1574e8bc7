"""Name the option that mends a cause."""

from collections.abc import Collection

from dfq_deploy.targets.target import Target
from dfq_deploy.verdict.noise.causes import Cause

__all__ = ["remedy_for"]

SAMPLES = "take more samples (--samples), or real images (--data)"

EQUALIZE = "--refine equalize --refine bias"


def remedy_for(cause: Cause, node: str, target: Target, refine: Collection[str], *, is_weight: bool) -> str:
    """What to do about a cause, the cheapest first.

    Args:
        node: the layer's name.
        refine: the refinements that were used: none of them is named again.
    """
    first = {
        "pooled-gate": SAMPLES,
        "clipping": f"{SAMPLES}, or --calibrator minmax",
        "wide-range": "give samples that are like real inputs (--data, or another --synth), or --calibrator percentile",
        "outlier-values": "" if is_weight else "--calibrator percentile",
        "hard-swish": "--calibrator mse",
        "channel-spread": "" if "equalize" in refine else EQUALIZE,
        "outlier-channel": "" if "equalize" in refine else EQUALIZE,
        "few-bits": _more_bits(refine),
        "depthwise": _more_bits(refine),
    }.get(cause.kind, "")
    wide = not is_weight and any(activation == "u16" for activation, _ in target.pairs)
    steps = [first, "--bits w8a16" if wide and cause.kind != "few-bits" else "", f"--keep-float '{node}'"]
    return "; else ".join(step for step in steps if step)


def _more_bits(refine: Collection[str]) -> str:
    return "--edge-bits 8 or more --bits" if "reconstruct" in refine else "--refine reconstruct"
