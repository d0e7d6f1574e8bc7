"""Mix inputs of another kind into the samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfq_deploy.samples.photographs import CALIBRATION
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.agreement.held_out import (
    BY_RULE,
    PHOTOGRAPHS,
    HeldOut,
    as_photographs,
    kinds_of,
    takes_photographs,
)

__all__ = ["mixable", "mixed"]

STREAM = {BY_RULE: 11, PHOTOGRAPHS: 12}
"""Apart from what held-out inputs are drawn from."""


def mixable(model: ir.Model, samples: Samples, sets: Sequence[HeldOut]) -> tuple[str, ...]:
    """Kinds that can be mixed in and leave another kind to judge: none of real data, which are better than both."""
    if not samples.is_synthetic:
        return ()
    judging = {held.kind for held in sets if not held.calibrated}
    known = kinds_of(samples)
    kinds = (BY_RULE, PHOTOGRAPHS) if takes_photographs(model) else (BY_RULE,)
    return tuple(kind for kind in kinds if kind not in known and judging - {kind})


def mixed(
    model: ir.Model, samples: Samples, kind: str, preprocess: Preprocess | None, seed: int, ranges: InputRanges | None
) -> Samples:
    """``samples``, and as many inputs of ``kind`` behind them; labels are dropped."""
    own = int(np.random.SeedSequence([seed, STREAM[kind]]).generate_state(1)[0])
    drawn = synthesize_from(
        model, BY_RULE, (), count=len(samples), preprocess=preprocess, seed=own, device="cpu", ranges=ranges
    )
    drawn = drawn.part(np.arange(len(samples)) % len(drawn))
    more = drawn if kind == BY_RULE else as_photographs(model, drawn, preprocess, ranges, own, CALIBRATION)
    return replace(
        samples,
        images=np.concatenate([samples.images, more.images]),
        extra={name: np.concatenate([rows, more.extra[name]]) for name, rows in samples.extra.items()},
        labels=None,
        method=f"{samples.method}+{kind}",
    )
