"""Name pictures of 16 bits that use only the lowest of them, and so look almost black."""

from dataclasses import replace

from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding, Level

__all__ = ["depth_finding", "with_scaling"]

FOLLOWS = frozenset({"samples-range", "samples-constant"})
"""Codes of what follows from it, and has the same way out."""

FEW = 0.05
"""A smaller share of the set changes little."""


def depth_finding(samples: Samples) -> Finding | None:
    """Whether pictures of 16 bits hold values of 8, 10, 12 or 14 bits; None where they do not, or there are none.

    No picture is scaled for it: a dark one of 16 bits looks the same. Those of 14 bits are a quarter as bright as they
    should be, and are named only where they were clipped at exactly that depth.
    """
    originals = samples.originals
    if originals is None or originals.bits is None:
        return None
    level: Level = "OK" if originals.deep < FEW * originals.count else "CHECK"
    most = 2**originals.bits - 1
    message = (
        f"{originals.deep} of {originals.count} picture(s) are stored in 16 bits and hold no value above "
        f"{originals.largest}, as sensors of {originals.bits} bits give: where 65535 is white, they are "
        f"{'dark' if originals.bits > 12 else 'almost black'}"
    )
    remedy = f"scale them to the full range (value / {most} * 65535), or give an .npz of uint8 'images'"
    figures = {"bits": originals.bits, "largest": originals.largest, "deep": originals.deep}
    if level == "OK":
        return Finding("samples-bits", level, message, "", figures)
    return Finding("samples-bits", level, message, remedy, figures, "--data FOLDER")


def with_scaling(finding: Finding, depth: Finding | None) -> Finding:
    """``finding`` with the remedy of ``depth``, where it follows from that."""
    if depth is None or depth.level == "OK" or finding.level == "OK" or finding.code not in FOLLOWS:
        return finding
    return replace(finding, remedy=depth.remedy, options=depth.options)
