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
    "RangeMeter",
    "RangeSource",
    "Source",
    "Student",
    "SynthesisRequest",
    "Synthesizer",
    "Written",
]

Student: TypeAlias = "Callable[[Tensor], Tensor]"
"""A quantized network: images (N, ...) -> scores (N, K), both on its device; gradients pass to the images."""


class Journal(Protocol):
    """Finished batches and the state of the running one, kept so that an interrupted synthesis can be resumed."""

    def batch(self, index: int) -> Mapping[str, Any] | None:
        """The arrays and numbers of a finished batch, as :meth:`keep` was given them; None where it is not finished."""
        ...

    def keep(self, index: int, batch: Mapping[str, Any]) -> None:
        """Batch ``index`` is finished: arrays, tensors and plain values by name."""
        ...

    def due(self) -> bool:
        """True when it is time for another :meth:`note`."""
        ...

    def note(self, state: Mapping[str, Any]) -> None:
        """Keep the state of the running batch; the note before it is replaced."""
        ...

    def noted(self) -> Mapping[str, Any] | None:
        """The last :meth:`note`; None where no batch has begun since."""
        ...


RangeMeter: TypeAlias = "Callable[[Tensor], Tensor]"
"""Images (N, ...) -> lower and upper ends of tensors, float32 (T, 2)."""


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """When a descent may end before its last iteration.

    Args:
        meter: measures the ranges of a batch.
        tolerance: largest movement of a range's ends between two checks, in parts of its span and as a mean over all
            tensors, that counts as none.
        messages: sentences on the descents that ended early.
    """

    meter: RangeMeter
    tolerance: float
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise OptionError(f"tolerance={self.tolerance:g} must lie between 0 and 1, e.g. 0.01")


@dataclass(frozen=True)
class SynthesisRequest:
    """How many samples of which shape, from which seed, on which device.

    Args:
        count: number of samples, at least 1.
        shape: one sample in the model's input space, (C, H, W) for images.
        classes: width of the model's class scores; None where it does not classify.
        preprocess: what turns pixels into the input; None leaves the samples unbounded.
        seed: of the method's own generator; the same seed gives the same samples.
        device: a torch device, e.g. ``cpu`` or ``cuda:0``.
        student: makes the quantized network for methods that search for samples on which it differs from the
            teacher; called once, and only by those. None where there is none.
        journal: keeps finished batches and the state of the running one; None keeps nothing.
        early_stopping: ends a descent whose ranges have converged; None lets it run to its end.
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
            raise OptionError(f"samples: {self.count} asked for, at least 1 is needed")


class Synthesizer(Protocol):
    """Makes samples from teachers. Implementations are frozen dataclasses of hyper-parameters."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``, with the source."""
    needs_statistics: ClassVar[bool]
    """True if at least one BatchNormalization must be left in the teacher."""
    needs_twin: ClassVar[bool] = False
    """True if it runs the teacher without BatchNormalization too; a method that needs neither is handed no teachers."""

    @property
    def name(self) -> str:
        """What the samples, messages and the report call it: the name of its entry point, in lower case."""
        return type(self).__name__.lower()

    @property
    def schedule(self) -> str:
        """``paper``, ``short`` or ``auto`` (:func:`dfq_deploy.plugins.options.is_paper`); most methods have it as an
        option. With ``--tolerance auto`` a descent on the paper's schedule ends when its ranges have converged."""
        return "short"

    @property
    def iterations(self) -> int | None:
        """A fixed number of iterations, where the user asks for one; ``--tolerance auto`` then never ends it early."""
        return None

    def synthesize(
        self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT
    ) -> "Samples":
        """Make ``request.count`` samples; the same request gives the same samples."""
        ...


class Source(Protocol):
    """Draws samples without end, and can be trained against students: a generator on its teachers."""

    def draw(self, count: int, generator: "Generator") -> "tuple[Tensor, Tensor | None]":
        """Fresh samples (count, ...) in the model's input space without gradient, and their soft labels (count, K)
        where the method knows them; both on the source's device."""
        ...

    def adapt(self, students: Sequence[Student], generator: "Generator") -> dict[str, float]:
        """One step towards samples on which ``students`` differ from the teacher; the loss terms by name.

        A source that no student changes takes a step of its own losses, or none.
        """
        ...

    def state(self) -> "dict[str, Any]":
        """Everything that goes on where it stopped: weights, optimizer, step; plain values and tensors."""
        ...

    def restore(self, state: "Mapping[str, Any]") -> None:
        """Take the state that :meth:`state` gave back."""
        ...


@runtime_checkable
class Generative(Synthesizer, Protocol):
    """A synthesizer whose samples come from something trained, which can be kept and drawn from again."""

    def prepare(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """Train the source up to the point where a student joins, or to the end where none does."""
        ...

    def source(self, teachers: "Sequence[Twin]", request: SynthesisRequest) -> Source:
        """The same source untrained, for :meth:`Source.restore`."""
        ...


@runtime_checkable
class RangeSource(Synthesizer, Protocol):
    """A synthesizer that knows ranges without samples; its samples serve what it does not know."""

    def known_ranges(
        self,
        source: "ir.Model",
        teachers: "Sequence[ir.Model]",
        prepared: "ir.Model",
        tensors: Mapping[str, QuantType],
        preprocess: Preprocess | None = None,
    ) -> dict[str, Range]:
        """The ranges of those of ``tensors`` that it knows; none where the model tells nothing.

        Args:
            source, teachers: as they were given, with whatever BatchNormalization they have.
            prepared: ``source``, folded and lowered for a target.
            tensors: names in ``prepared``.
            preprocess: what turns pixels into the main input.
        """
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


class Written(NamedTuple):
    """What an exporter wrote.

    Args:
        files: each appears whole or not at all.
        notes: sentences on what a user should know before the files go to the device.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """Writes what a runtime loads."""

    summary: ClassVar[str]
    """One line for ``dfq-deploy methods``."""
    suffix: ClassVar[str] = ".qdq.onnx"
    """How the name of its file ends where no other is asked for."""

    def export(self, model: "ir.Model", encodings: Mapping[str, Encoding], path: Path) -> Written:
        """Write ``model`` quantized by ``encodings`` (tensor and initializer names) to ``path``.

        A model that is quantized already comes with no encodings, and keeps its Q and DQ as they are. ``calibrate``
        asks for ``model.qdq.onnx``: an exporter of another format writes its own files beside it.

        Returns:
            the files written, and what is to be said of them.
        """
        ...


@runtime_checkable
class ImplicitExporter(Exporter, Protocol):
    """An exporter whose runtime also quantizes by itself, given the range of every tensor of the float model."""

    def write_ranges(self, ranges: Mapping[str, Range], folder: Path) -> tuple[Path, ...]:
        """Write the ranges of the float model's tensors into ``folder`` as the runtime reads them.

        Returns:
            the files written; each appears whole or not at all.
        """
        ...

    def read_ranges(self, path: Path) -> dict[str, Range]:
        """The ranges by tensor name of a file that the runtime, or :meth:`write_ranges`, wrote."""
        ...


@runtime_checkable
class BuildingExporter(Exporter, Protocol):
    """An exporter that compiles its file on a machine that has the runtime."""

    def build(self, path: Path, samples: "Samples | None" = None, progress: Progress = SILENT) -> Written:
        """Compile what :meth:`export` wrote to ``path``, and compare it with ONNX Runtime on ``samples``.

        Returns:
            the files written beside ``path``; and how the two compare, or why nothing was built and how to build it on
            the device.
        """
        ...
