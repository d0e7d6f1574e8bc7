"""Import TensorRT, parse a network, collect its log.

The package is not a requirement of this project: it is installed with TensorRT. Versions 10 and 11 are supported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfq_deploy.errors import ModelError, PluginError, TargetError, first_line

__all__ = ["Draft", "add_profile", "gpu_obstacle", "log_of", "open_inputs", "read_network", "tensorrt_package"]

OLDEST = 10


def tensorrt_package() -> Any:
    """Import the package ``tensorrt``.

    Raises:
        PluginError: it is not installed, its libraries cannot be loaded, or it is older than version 10.
    """
    try:
        import tensorrt
    except ImportError as problem:
        raise PluginError(
            f"TensorRT's Python package does not load ({first_line(problem)}); install TensorRT on a machine with an "
            "NVIDIA GPU, or build there from the files that --target tensorrt writes"
        ) from None
    if int(tensorrt.__version__.partition(".")[0]) < OLDEST:
        raise PluginError(
            f"TensorRT {tensorrt.__version__} is too old: {OLDEST} or newer is needed here; build with its trtexec "
            "from the calibration.cache that --target tensorrt writes"
        )
    return tensorrt


def gpu_obstacle() -> str:
    """Return the reason why no CUDA device can be used; empty if one can."""
    import torch

    return "" if torch.cuda.is_available() else "torch finds no NVIDIA GPU"


def log_of(trt: Any) -> Any:
    """Create a logger for TensorRT that prints nothing.

    It collects ``errors`` and ``warnings`` as lists of lines, and in ``layers`` the messages that list an engine's
    layers.
    """

    class Log(trt.ILogger):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(first_line(message))
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(first_line(message))
            elif message.startswith("Layers:") or "\nLayers:" in message:
                self.layers.append(message)

    return Log()


@dataclass(frozen=True, eq=False)
class Draft:
    """A network that TensorRT has parsed, with its builder and configuration.

    Args:
        trt: the package.
        log: the logger of :func:`log_of`.
        builder, network, config: TensorRT's objects; the builder must outlive the others.
        parser: owns weights to which the network refers.
    """

    trt: Any
    log: Any
    builder: Any
    network: Any
    config: Any
    parser: Any

    def build(self) -> bytes:
        """Build the engine and return it serialized.

        Raises:
            TargetError: TensorRT cannot build it; the message has its first error.
        """
        plan = self.builder.build_serialized_network(self.network, self.config)
        if plan is None:
            reason = self.log.errors[0] if self.log.errors else "it gives no reason"
            raise TargetError(f"TensorRT {self.trt.__version__} cannot build the engine: {reason}")
        return bytes(plan)


def read_network(trt: Any, model: bytes, *, strongly_typed: bool, path: Path | None = None) -> Draft:
    """Parse a serialized ONNX model with TensorRT.

    Args:
        strongly_typed: use the types of the file, Q and DQ included; otherwise TensorRT chooses (version 10 only).
        path: path of the file, for external weights.

    Raises:
        ModelError: TensorRT cannot parse it; the message has all errors of the parser on one line.
    """
    log = log_of(trt)
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if strongly_typed else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model, None if path is None else str(path)):
        errors = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ModelError(f"TensorRT {trt.__version__} cannot read the model: {'; '.join(errors) or 'no reason given'}")
    return Draft(trt, log, builder, network, builder.create_builder_config(), parser)


def open_inputs(network: Any) -> Iterator[Any]:
    """Yield the inputs of a network with a dynamic shape."""
    for index in range(network.num_inputs):
        value = network.get_input(index)
        if any(dim < 0 for dim in value.shape):
            yield value


def add_profile(draft: Draft, shapes: Mapping[str, tuple[tuple[int, ...], ...]]) -> Any | None:
    """Add an optimization profile for dynamic inputs to ``draft``: name -> smallest, usual and largest shape.

    Returns:
        the profile; None if no input is dynamic.

    Raises:
        TargetError: ``shapes`` has no entry for a dynamic input, or one does not fit.
    """
    profile = draft.builder.create_optimization_profile()
    names = [value.name for value in open_inputs(draft.network)]
    for name in names:
        if name not in shapes:
            raise TargetError(
                f"input '{name}' is dynamic and has no profile; give its smallest, usual and largest shape"
            )
        try:
            profile.set_shape(name, *shapes[name])
        except ValueError as problem:
            shown = ", ".join(str(shape) for shape in shapes[name])
            raise TargetError(f"input '{name}': TensorRT rejects the shapes {shown} ({first_line(problem)})") from None
    if not names:
        return None
    draft.config.add_optimization_profile(profile)
    return profile


def _parser_error(error: Any) -> str:
    operator, name = error.node_operator(), error.node_name()
    where = f"{operator} '{name}': " if operator else ""
    return where + first_line(error.desc())
