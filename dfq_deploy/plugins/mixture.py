"""Mixtures of synthesis methods: ``procedural+photographs``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["SEPARATOR", "Mixture"]

SEPARATOR = "+"
"""Between the names of the methods of a mixture."""


@dataclass(frozen=True)
class Mixture(Synthesizer):
    """Samples of several methods in equal parts, in random order.

    Args:
        methods: at least two.
    """

    methods: tuple[Synthesizer, ...]

    def __post_init__(self) -> None:
        if len(self.methods) < 2:
            raise OptionError(f"mixture: {len(self.methods)} method(s); at least two are needed")

    @property
    def name(self) -> str:
        """The names of the methods, joined by ``+``."""
        return SEPARATOR.join(method.name for method in self.methods)

    @property
    def summary(self) -> str:  # type: ignore[override]
        """What is mixed."""
        return f"equal parts of {' and '.join(method.name for method in self.methods)}"

    @property
    def schedule(self) -> str:
        """``paper`` if every method that has a schedule is on it."""
        schedules = {method.schedule for method in self.methods if method.needs_statistics or method.needs_twin}
        return schedules.pop() if len(schedules) == 1 else "short"

    @property
    def needs_statistics(self) -> bool:  # type: ignore[override]
        """True if one of the methods does."""
        return any(method.needs_statistics for method in self.methods)

    @property
    def needs_twin(self) -> bool:  # type: ignore[override]
        """True if one of the methods does."""
        return any(method.needs_twin for method in self.methods)

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Synthesize ``request.count`` samples without labels; the first methods make one more if they cannot be equal.

        The journal of the request goes to the first method that runs teachers; the others start again if resumed.

        Raises:
            OptionError: fewer samples than methods are requested.
        """
        if request.count < len(self.methods):
            raise OptionError(f"{self.name}: {request.count} sample(s) of {len(self.methods)} methods; raise --samples")
        inverting = next((method for method in self.methods if method.needs_statistics or method.needs_twin), None)
        parts = []
        for index, method in enumerate(self.methods):
            share = len(range(index, request.count, len(self.methods)))
            own = replace(request, count=share, journal=request.journal if method is inverting else None)
            parts.append(method.synthesize(teachers, own, progress))
        order = np.random.default_rng([request.seed, len(self.methods)]).permutation(request.count)
        return Samples(
            np.concatenate([part.images for part in parts])[order],
            figures={name: value for part in parts for name, value in part.figures.items()},
            notes=tuple(note for part in parts for note in part.notes),
        )
