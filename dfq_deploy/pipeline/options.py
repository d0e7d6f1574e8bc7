"""Option groups that the steps share, and what options mean.

Each step takes a group as one argument, or any field of it as a keyword of its own::

    calibrate("model.onnx", synth="lis", synthesis=SynthesisOptions(teachers=("a.onnx", "b.onnx"), count=64))
    calibrate("model.onnx", synth="lis", teachers=("a.onnx", "b.onnx"), count=64)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import OptionError
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import InputShapes, input_values, state_main_input
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.task import state_task
from dfq_deploy.graph.torch_export import TorchSource, exported
from dfq_deploy.plugins.registry import AUTO
from dfq_deploy.quantization.bit_widths import Bits, Budget, bits_of
from dfq_deploy.quantization.dynamic import Activations
from dfq_deploy.quantization.overrides import Overrides
from dfq_deploy.quantization.overrides_file import read_overrides
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.npz import stored_shapes
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.teachers import TeacherSource, read_teacher
from dfq_deploy.targets.target import Target

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Synthesizer
    from dfq_deploy.synthesis.procedural.inputs import InputRanges

__all__ = [
    "ModelInputs",
    "Resume",
    "SynthesisOptions",
    "activations_of",
    "check_seed",
    "grouped",
    "names_of",
    "one_of_synth_and_data",
    "overrides_of",
    "preprocess_warning",
    "synth_or_data",
    "widths_of",
]

Group = TypeVar("Group", "ModelInputs", "SynthesisOptions", "Resume")


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """How the model is fed.

    Args:
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.
        input_shapes: input name -> shape with the batch, where a file leaves more open than the batch.
        input_ranges: input name -> smallest and largest value, for inputs that are drawn by rule.
        fix_shapes: close the sizes that the file leaves open for good, to those that it is measured at.
        main_input: name of the input that samples are made for; None finds it by use and name
            (:func:`dfq_deploy.graph.inputs.main_input`).
        task: what the model does: classify, detect, segment, regress or embed; None finds out whether it has class
            scores (:func:`dfq_deploy.graph.task.score_output`).
    """

    input_shape: tuple[int, ...] | None = None
    input_shapes: InputShapes | None = None
    input_ranges: "InputRanges | None" = None
    fix_shapes: bool = False
    main_input: str | None = None
    task: str | None = None

    def load(self, model: "ModelSource | TorchSource", data: "Samples | AnyPath | None" = None) -> tuple[ir.Model, str]:
        """The model, and its name in the report: that of its file, its graph, or the class of the module.

        Args:
            data: samples, or where they lie: sizes that the file leaves open are theirs, where they are arrays.

        Raises:
            ModelError: it cannot be read, exported or used, or has no such main input.
            OptionError: there is no such task.
        """
        source = exported(model, self.input_shape)
        loaded = load_sized(source, self.input_shapes, fix_shapes=self.fix_shapes, samples=_shapes_of(data))
        state_main_input(loaded, self.main_input)
        state_task(loaded, self.task)
        if isinstance(source, str | PathLike):
            return loaded, Path(source).name
        return loaded, source.graph.name or "model"

    def teacher(self, teacher: "TeacherSource", preprocess: Preprocess | None) -> ir.Model:
        """A teacher as a graph that takes the input of the model.

        Raises:
            ModelError: it cannot be read, or its own preprocess is given and the model's is not.
        """
        read = read_teacher(teacher, preprocess, self.input_shape, self.input_shapes)
        if self.main_input in [value.name for value in input_values(read)]:
            state_main_input(read, self.main_input)
        state_task(read, self.task)
        return read


def _shapes_of(data: "Samples | AnyPath | None") -> Mapping[str, tuple[int, ...]]:
    """Shape of one sample by the name of its input; the main input's name is empty."""
    if isinstance(data, Samples):
        return {"": data.images.shape[1:], **{name: rows.shape[1:] for name, rows in data.extra.items()}}
    return {} if data is None else stored_shapes(as_path(data, "data"))


@dataclass(frozen=True, eq=False)
class SynthesisOptions:
    """Options of synthesis that do not belong to a method.

    Args:
        teachers: the same network with its BatchNormalization kept, if the model has none; for ``lis`` several
            networks, each as a :class:`~dfq_deploy.Teacher` if its input is normalised differently from the model's.
        count: number of samples to make, or largest number to take from ``data`` if that is a path; None makes the
            default for the size of the input, and takes all.
        verifier: a second network with the same classes, which classifies the samples.
        tolerance: stop early when the calibration ranges change by less than this fraction of their span
            (:mod:`dfq_deploy.synthesis.inversion.early_stopping`); ``auto`` does so on a paper's schedule; None and 0
            run every iteration.
        statistics: name of the method whose pictures give the statistics to match where the model has no
            BatchNormalization; None draws pictures by rule in place of the samples.

    Raises:
        OptionError: a number is out of range.
    """

    teachers: "Sequence[TeacherSource]" = ()
    count: int | None = None
    verifier: "TeacherSource | None" = None
    tolerance: float | str | None = None
    statistics: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.teachers, str) or not isinstance(self.teachers, Sequence):
            object.__setattr__(self, "teachers", (self.teachers,))  # one alone
        if self.count is not None and not _is_count(self.count, 1):
            raise OptionError(f"samples: {self.count} requested, but at least 1 is required")
        if self.tolerance == 0:
            object.__setattr__(self, "tolerance", None)
        number = isinstance(self.tolerance, int | float) and 0 < self.tolerance < 1
        if self.tolerance not in (None, "auto") and not number:
            raise OptionError(f"tolerance={self.tolerance} must lie between 0 and 1, e.g. 0.01, or be 'auto'")


@dataclass(frozen=True, eq=False)
class Resume:
    """Where unfinished work is kept, and whether to continue it.

    Args:
        unfinished: a folder for finished batches and the state of the running one (docs/formats.md); ``calibrate``
            removes it at the end; after ``synthesize`` the caller removes it, when the samples are saved. None keeps
            nothing.
        resume: continue from ``unfinished``; the samples are identical to those of an uninterrupted run.

    Raises:
        OptionError: ``resume`` without ``unfinished``.
    """

    unfinished: AnyPath | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.unfinished is None:
            raise OptionError("resume: give the folder of the unfinished work as unfinished='...'")
        if self.unfinished is not None:
            as_path(self.unfinished, "unfinished")

    @property
    def folder(self) -> Path | None:
        """``unfinished`` as a path."""
        return None if self.unfinished is None else as_path(self.unfinished, "unfinished")


def activations_of(keywords: Mapping[str, Any], target: Target) -> Activations:
    """How activations are quantized.

    Raises:
        OptionError: there is no such way, or ``target`` has no kernel for it.
    """
    asked = keywords.get("activations", "auto")
    ways: tuple[Activations, ...] = get_args(Activations)
    if asked not in ways:
        raise OptionError(f"activations: '{asked}' is not known; choose {', '.join(ways)}")
    if asked == "dynamic" and not target.dynamic_ops:
        raise OptionError(f"activations: {target.runtime} has no dynamic kernels; choose static, or the target cpu")
    if asked == "float" and not target.block_ops:
        raise OptionError(f"activations: {target.runtime} reads no weights in blocks; choose static, or the target cpu")
    return ways[ways.index(asked)]


def grouped(kind: type[Group], given: Group | None, keywords: Mapping[str, Any]) -> Group:
    """``given``, or the defaults, with its fields replaced by ``keywords`` of the same name.

    Raises:
        OptionError: ``given`` is of another type, or a field has an invalid value.
    """
    if given is not None and not isinstance(given, kind):
        raise OptionError(f"expected {kind.__name__}, not {given!r}")
    names = {field.name for field in fields(kind)}
    return replace(given or kind(), **{name: value for name, value in keywords.items() if name in names})


def widths_of(
    bits: str | Bits | Budget | None,
    *,
    edge_bits: int | None = None,
    size: float | None = None,
    drop: float | None = None,
) -> Bits | Budget:
    """The requested widths, or a budget within which they are chosen.

    Raises:
        OptionError: they contradict each other, or are not supported.
    """
    if bits is not None and not isinstance(bits, str | Bits | Budget):
        raise OptionError(f"bits: '{bits}' is not of the form w4a8 (bits of weights, bits of activations), or fp8")
    if not isinstance(bits, Budget):
        return bits_of(bits, edge_bits, size, drop)
    if (edge_bits, size, drop) != (None, None, None):
        raise OptionError(f"bits: {bits} has its own widths; leave edge_bits, size and drop out")
    return bits


def names_of(refine: Sequence[str] | str | None) -> Sequence[str] | None:
    """Names of refinements; a single name may be a string, and ``none`` means no refinement.

    Raises:
        OptionError: they are not names.
    """
    if refine is None or isinstance(refine, str):
        return refine if refine is None else () if refine == "none" else (refine,)
    if not isinstance(refine, Sequence) or not all(isinstance(name, str) for name in refine):
        raise OptionError(f"refine: {refine!r} is not a list of names, such as ['bias']")
    return refine


def overrides_of(keywords: Mapping[str, Any]) -> Overrides:
    """What ``keep_float``, ``exclude`` and ``overrides`` among ``keywords`` ask for.

    Raises:
        OptionError: they are no names, no expression, or no file of overrides.
    """
    named, exclude, file = (keywords.get(key) for key in ("keep_float", "exclude", "overrides"))
    names = (named,) if isinstance(named, str) else () if named is None else named
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise OptionError(f"keep_float: {named!r} is no list of names, such as ['conv1', 'HardSwish']")
    if exclude is not None and not isinstance(exclude, str):
        raise OptionError(f"exclude: {exclude!r} is no regular expression, such as 'head.*'")
    return Overrides(tuple(names), exclude, () if file is None else read_overrides(as_path(file, "overrides")))


def one_of_synth_and_data(step: str, synth: object, data: object) -> None:
    """Require exactly one of ``synth`` and ``data``.

    Raises:
        OptionError: both are given, or neither.
    """
    if (synth is None) == (data is None):
        raise OptionError(f"{step} needs either a synthesis method or data, and not both")


def synth_or_data(step: str, synth: "str | Synthesizer | None", data: object) -> "str | Synthesizer | None":
    """The synthesis method, ``auto`` if neither it nor ``data`` is given.

    Raises:
        OptionError: both are given.
    """
    if synth is not None and data is not None:
        raise OptionError(f"{step} takes a synthesis method or data, and not both")
    return AUTO if synth is None and data is None else synth


def check_seed(seed: int) -> None:
    """Check that ``seed`` is valid.

    Raises:
        OptionError: it is not a whole number, or negative.
    """
    if not _is_count(seed, 0):
        raise OptionError(f"seed={seed!r} must be a whole number from 0 on")


def preprocess_warning(samples: Samples, preprocess: Preprocess | None) -> tuple[str, ...]:
    """A warning if the samples were made with another preprocess than the one given for the model."""
    made = samples.preprocess
    if made is None or preprocess is None:
        return ()
    channels = max(len(made.mean), len(preprocess.mean))
    pairs = ((made.mean, preprocess.mean), (made.std, preprocess.std))
    if all(np.allclose(np.resize(own, channels), np.resize(given, channels)) for own, given in pairs):
        return ()
    return (
        f"the samples were made with mean {made.mean} and std {made.std}, the preprocess has mean {preprocess.mean} "
        f"and std {preprocess.std}; one of the two is wrong",
    )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least
