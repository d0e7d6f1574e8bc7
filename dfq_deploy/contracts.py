"""What a plug-in is: the three kinds, as Protocols. Subclass them explicitly, so that mypy checks.

A plug-in is a frozen dataclass whose fields are its options, found through the entry-point groups
``dfq_deploy.synthesizers``, ``dfq_deploy.calibrators`` and ``dfq_deploy.exporters``.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx_ir as ir

    from dfq_deploy.samples import Samples
    from dfq_deploy.synthesis.request import SynthesisRequest
    from dfq_deploy.twin import Twin

__all__ = ["Calibrator", "Exporter", "Feeds", "Synthesizer"]

Feeds = Mapping[str, NDArray[Any]]
"""One batch: input name -> array, as ONNX Runtime takes it."""


class Synthesizer(Protocol):
    """Makes samples from teachers. Implementations are frozen dataclasses of hyper-parameters."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``, with the source."""
    needs_statistics: ClassVar[bool]
    """True if at least one BatchNormalization must be left in the teacher."""

    def synthesize(
        self, teachers: "Sequence[Twin]", request: "SynthesisRequest", progress: Progress = SILENT
    ) -> "Samples":
        """Make ``request.count`` samples; the same request gives the same samples."""
        ...


class Calibrator(Protocol):
    """Gives ranges for tensors, from samples."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``, with the source."""

    def ranges(
        self,
        model: "ir.Model",
        tensors: Mapping[str, QuantType],
        batches: Iterable[Feeds],
        progress: Progress = SILENT,
    ) -> dict[str, Range]:
        """The range of each of ``tensors`` (names in ``model``) over all ``batches``.

        Memory must not grow with the number of batches, and batches may differ in length.
        """
        ...


class Exporter(Protocol):
    """Writes what a runtime loads."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``."""

    def export(self, model: "ir.Model", encodings: Mapping[str, Encoding], path: Path) -> tuple[Path, ...]:
        """Write ``model`` quantized by ``encodings`` (tensor and initializer names) to ``path``.

        Returns:
            the files written; each appears whole or not at all.
        """
        ...
