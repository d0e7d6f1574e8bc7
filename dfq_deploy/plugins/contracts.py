"""The plug-in contract: the Protocols Synthesizer, Calibrator and Exporter.

A plug-in is a frozen dataclass whose fields are its options, each with a default. It subclasses its Protocol
explicitly: so it inherits the defaults of what it does not declare, and mypy checks it. :mod:`dfq_deploy.testing` has
the tests that a plug-in should pass. It is found through the entry-point groups ``dfq_deploy.synthesizers``,
``dfq_deploy.calibrators`` and ``dfq_deploy.exporters``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.preprocess import Preprocess

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import Generator, Tensor

    from dfq_deploy.samples.samples import Samples
    from dfq_deploy.twin import Twin

__all__ = [
    "BuildingExporter",
    "Calibrator",
    "EarlyStopping",
    "Exporter",
    "Generative",
    "ImplicitExporter",
    "Journal",
    "RangeFunction",
    "RangeSource",
    "Source",
    "Student",
    "SynthesisRequest",
    "Synthesizer",
    "Written",
]

Student: TypeAlias = "Callable[[Tensor], Tensor]"
"""A quantized network: images (N, ...) -> scores (N, K), both on its device; differentiable in the images."""


class Journal(Protocol):
    """Stores finished batches and the state of the running one, so that an interrupted synthesis can be resumed."""

    def load_batch(self, index: int) -> Mapping[str, Any] | None:
        """The contents of a finished batch, as passed to :meth:`save_batch`; None if it is not finished."""
        ...

    def save_batch(self, index: int, batch: Mapping[str, Any]) -> None:
        """Store a finished batch: arrays, tensors and plain values by name."""
        ...

    def is_due(self) -> bool:
        """True if :meth:`save_state` should be called again."""
        ...

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Store the state of the running batch, replacing the previous one."""
        ...

    def load_state(self) -> Mapping[str, Any] | None:
        """The state that :meth:`save_state` stored last; None if no state was saved since the last finished batch.

        A run that was killed at the end of a batch may leave the state of that one.
        """
        ...


RangeFunction: TypeAlias = "Callable[[Tensor], Tensor]"
"""Images (N, ...) -> minimum and maximum of each of T tensors, float32 (T, 2)."""


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """Early stopping of an inversion when the ranges of the tensors have converged.

    Args:
        measure_ranges: measures the ranges of a batch.
        tolerance: the ranges have converged if their ends move by less than this between two checks, as a fraction of
            the span of the range and as a mean over all tensors; between 0 and 1.
        messages: one sentence for each inversion that was stopped early.
    """

    measure_ranges: RangeFunction
    tolerance: float
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise OptionError(f"tolerance={self.tolerance:g} must lie between 0 and 1, e.g. 0.01")


@dataclass(frozen=True)
class SynthesisRequest:
    """The number and shape of the samples to synthesize, the seed, the device and optional services.

    Args:
        count: number of samples, at least 1.
        shape: shape of one sample in the model's input space, (C, H, W) for images.
        classes: number of classes of the model; None if it does not classify.
        preprocess: the normalisation of pixels to the input; None leaves the samples unbounded.
        seed: seed of the method's own random generator; the same seed gives the same samples.
        device: a torch device, e.g. ``cpu`` or ``cuda:0``.
        student: creates the quantized network for methods that search for samples on which it differs from the
            teacher; called once, and only by those methods. None if no student is available.
        journal: stores finished batches and the state of the running one; None stores nothing.
        early_stopping: ends an inversion whose ranges have converged; None runs every inversion to its end.
    """

    count: int
    shape: tuple[int, ...]
    classes: int | None = None
    preprocess: Preprocess | None = None
    seed: int = 0
    device: str = "cpu"
    student: Callable[[], Student] | None = field(default=None, compare=False)
    journal: Journal | None = field(default=None, compare=False)
    early_stopping: EarlyStopping | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise OptionError(f"samples: {self.count} requested, but at least 1 is required")


class Synthesizer(Protocol):
    """Synthesizes samples from teachers. Implementations are frozen dataclasses of hyper-parameters."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``, with the source."""
    needs_statistics: ClassVar[bool]
    """True if the teacher must contain at least one BatchNormalization."""
    needs_twin: ClassVar[bool] = False
    """True if the method runs teachers without BatchNormalization too; a method that needs neither gets no teachers."""
    needs_image: ClassVar[bool] = False
    """True if the input must be an image of one or three channels."""

    @property
    def name(self) -> str:
        """The name used in the samples, messages and the report: that of the entry point, in lower case."""
        return type(self).__name__.lower()

    @property
    def schedule(self) -> str:
        """``paper``, ``short`` or ``auto`` (:func:`dfq_deploy.plugins.options.is_paper`); an option of most methods.
        With ``--tolerance auto`` an inversion on the schedule ``paper`` ends when its ranges have converged."""
        return "short"

    @property
    def iterations(self) -> int | None:
        """A fixed number of iterations if the user sets one; ``--tolerance auto`` then disables early stopping."""
        return None

    def synthesize(
        self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT
    ) -> "Samples":
        """Synthesize ``request.count`` samples; the same request gives the same samples."""
        ...


class Source(Protocol):
    """An unlimited source of samples that can be trained against students, e.g. a generator network."""

    def draw(self, count: int, generator: "Generator") -> "tuple[Tensor, Tensor | None]":
        """New samples (count, ...) in the model's input space, without gradient, and their soft labels (count, K) or
        None; both on the source's device."""
        ...

    def adapt(self, students: Sequence[Student], generator: "Generator") -> dict[str, float]:
        """Take one training step towards samples on which ``students`` differ from the teacher.

        A source whose loss does not depend on the students takes a step on its own loss, or does nothing.

        Returns:
            the terms of the loss, by name.
        """
        ...

    def state(self) -> "dict[str, Any]":
        """Everything that is needed to resume: weights, optimizer and step; plain values and tensors."""
        ...

    def restore(self, state: "Mapping[str, Any]") -> None:
        """Load the state that :meth:`state` returned."""
        ...


@runtime_checkable
class Generative(Synthesizer, Protocol):
    """A synthesizer that draws its samples from a trained source, which can be saved and reused."""

    def prepare(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """Train the source up to the point where students are needed, or to the end if none are."""
        ...

    def source(self, teachers: "Sequence[Twin]", request: SynthesisRequest) -> Source:
        """The same source without training, for :meth:`Source.restore`."""
        ...


@runtime_checkable
class RangeSource(Synthesizer, Protocol):
    """A synthesizer that computes ranges without samples; its samples serve the tensors without a computed range."""

    def known_ranges(
        self,
        source: "ir.Model",
        teachers: "Sequence[ir.Model]",
        prepared: "ir.Model",
        tensors: Mapping[str, QuantType],
        preprocess: Preprocess | None = None,
    ) -> dict[str, Range]:
        """The ranges of those of ``tensors`` that can be computed; empty if the model contains no information.

        Args:
            source, teachers: the models as the user passed them, before BatchNormalization is folded.
            prepared: ``source``, folded and lowered for a target.
            tensors: names in ``prepared``.
            preprocess: the normalisation of pixels to the main input.
        """
        ...


class Calibrator(Protocol):
    """Determines the ranges of tensors from samples."""

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


class Written(NamedTuple):
    """The files that an exporter wrote.

    Args:
        files: their paths; each was written atomically.
        notes: sentences that the user should read before deploying the files.
        engine: what was compiled, as a JSON mapping for the report; None if nothing was.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    engine: Mapping[str, Any] | None = None


class Exporter(Protocol):
    """Writes the file that a runtime loads."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``."""
    suffix: ClassVar[str] = ".qdq.onnx"
    """Default ending of the file name."""

    def refuse(self, model: "ir.Model") -> None:
        """Refuse a float model that the runtime cannot run, before any work.

        Args:
            model: folded and lowered for the target; it is not changed. By default every model is accepted.

        Raises:
            TargetError: an operator is missing in the runtime; the message names the nodes.
            PluginError: a package that the exporter needs is not installed.
        """
        return  # mypy takes an empty body for an abstract one

    def export(self, model: "ir.Model", encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write ``model`` quantized by ``encodings`` (tensor and initializer names) to ``path``.

        A model that is quantized already is passed without encodings, and its Q and DQ are kept. ``calibrate`` passes
        the path ``model.qdq.onnx``: an exporter of another format writes its own files beside it.

        Returns:
            the files written, and notes on them.
        """
        ...


@runtime_checkable
class ImplicitExporter(Exporter, Protocol):
    """An exporter whose runtime also quantizes by itself, given the range of every tensor of the float model."""

    def write_ranges(self, ranges: Mapping[str, Range], folder: Path) -> tuple[Path, ...]:
        """Write the ranges of the float model's tensors into ``folder`` as the runtime reads them.

        Returns:
            the files written; each is written atomically.
        """
        ...

    def read_ranges(self, path: Path) -> dict[str, Range]:
        """Read the ranges, by tensor name, from a file that the runtime or :meth:`write_ranges` wrote."""
        ...


@runtime_checkable
class BuildingExporter(Exporter, Protocol):
    """An exporter that compiles its file on a machine that has the runtime."""

    def build(self, path: Path, samples: "Samples | None" = None, progress: Progress = SILENT) -> Written:
        """Compile what :meth:`export` wrote to ``path``, and compare it with ONNX Runtime on ``samples``.

        Returns:
            the files written beside ``path``, and notes: the result of the comparison, or why nothing was built and
            how to build it on the device.
        """
        ...
