"""Build a TensorRT engine from a QDQ file, with TensorRT's Python package and an NVIDIA GPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfq_deploy.errors import OptionError, TargetError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.tensorrt.package import Draft, add_profile, open_inputs, read_network, tensorrt_package

__all__ = ["EngineOptions", "build_engine", "monitor_of"]


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Args:
        batch: the batch size to optimize for, if the batch of the file is dynamic.
        max_batch: the largest batch size; 0 is ``batch``. The smallest is 1.
        workspace_mib: largest temporary device memory of a layer, in MiB; 0 is all memory of the device.
        timing_cache: file of TensorRT's timings; it is read if it exists, and always written. Empty for none.
        level: optimization level (duration of the search), 0 to 5; 3 is TensorRT's default.
    """

    batch: int = 1
    max_batch: int = 0
    workspace_mib: int = 0
    timing_cache: str = ""
    level: int = 3

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.max_batch and self.max_batch < self.batch):
            raise OptionError(
                f"tensorrt: batch={self.batch} with max_batch={self.max_batch}; give a batch of 1 or more, and a "
                "max_batch of 0 or not below batch"
            )
        if not 0 <= self.level <= 5 or self.workspace_mib < 0:
            raise OptionError(
                f"tensorrt: level={self.level} with workspace_mib={self.workspace_mib}; give a level of 0 to 5, and 0 "
                "or more MiB"
            )

    @property
    def is_fixed(self) -> bool:
        """True if a dynamic batch is fixed to 1."""
        return self.batch == 1 and self.max_batch in (0, 1)

    def profile(self, dims: tuple[int, ...], name: str) -> tuple[tuple[int, ...], ...]:
        """Return the smallest, usual and largest shape of an input whose dynamic dimensions are -1.

        Raises:
            TargetError: a dimension other than the batch is dynamic.
        """
        if any(dim < 0 for dim in dims[1:]):
            shown = ", ".join("?" if dim < 0 else str(dim) for dim in dims)
            raise TargetError(f"input '{name}' of shape ({shown}) is open beyond the batch; close it with --fix-shapes")
        return tuple((batch, *dims[1:]) for batch in (1, self.batch, self.max_batch or self.batch))


def build_engine(source: Path, options: EngineOptions, progress: Progress = SILENT) -> bytes:
    """Build a serialized engine of the QDQ file ``source``.

    The network is strongly typed: Q and DQ determine which layers run in integers.

    Raises:
        PluginError: TensorRT's package cannot be imported.
        ModelError: TensorRT cannot read the file.
        TargetError: TensorRT cannot build the engine.
        OutputError: the timing cache cannot be written.
    """
    trt = tensorrt_package()
    draft = read_network(trt, source.read_bytes(), strongly_typed=True, path=source)
    config = draft.config
    shapes = {value.name: options.profile(tuple(value.shape), value.name) for value in open_inputs(draft.network)}
    add_profile(draft, shapes)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.builder_optimization_level = options.level
    if options.timing_cache:
        _attach_timing_cache(draft, Path(options.timing_cache))
    monitor = monitor_of(trt, progress)
    config.progress_monitor = monitor
    try:
        plan: bytes = draft.build()
    except TargetError:
        if monitor.problem is None:
            raise
    if monitor.problem is not None:
        raise monitor.problem
    if options.timing_cache:
        with atomic_file(Path(options.timing_cache)) as partial:
            partial.write_bytes(bytes(config.get_timing_cache().serialize()))
    return plan


def _attach_timing_cache(draft: Draft, path: Path) -> None:
    config = draft.config
    content = path.read_bytes() if path.exists() else b""
    # False: timings of another GPU are rejected, and measured again.
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def monitor_of(trt: Any, progress: Progress) -> Any:
    """Create an ``IProgressMonitor`` that reports TensorRT's outermost phases, and stops the build if that fails.

    TensorRT ignores exceptions of its callbacks (such as an interrupt): ``problem`` keeps the exception.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.problem: BaseException | None = None
            self._phase = ""

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None and self.problem is None:
                self._phase = phase_name
                self._guard(lambda: progress.start(f"TensorRT: {phase_name}", num_steps))

        def step_complete(self, phase_name: str, _: int) -> bool:
            if phase_name == self._phase and self.problem is None:
                self._guard(progress.advance)
            return self.problem is None

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self._phase:
                self._phase = ""

        def _guard(self, report: Any) -> None:
            try:
                report()
            except BaseException as problem:
                self.problem = problem

    return Monitor()
