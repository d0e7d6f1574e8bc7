"""Validation of options and teachers, shared by the synthesis methods."""

from collections.abc import Sequence

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples import sizes
from dfq_deploy.twin import Twin

__all__ = [
    "SCHEDULES",
    "check_options",
    "has_statistics",
    "is_large",
    "is_paper",
    "require_batch_norm",
    "single_teacher_note",
]

SCHEDULES = ("auto", "paper", "short")


def check_options(method: str, schedule: str, **counts: int | None) -> None:
    """Check that the schedule exists and that the numbers are at least 1; None is allowed.

    Raises:
        OptionError: a value is invalid.
    """
    if schedule not in SCHEDULES:
        raise OptionError(f"{method}: schedule '{schedule}' is not one of {', '.join(SCHEDULES)}")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise OptionError(f"{method}: {name}={count} must be at least 1")


def is_paper(schedule: str, request: SynthesisRequest) -> bool:
    """True for the schedule ``paper``; ``auto`` is ``paper`` on a GPU and ``short`` elsewhere."""
    return schedule == "paper" or (schedule == "auto" and request.device.startswith("cuda"))


def is_large(request: SynthesisRequest) -> bool:
    """True for large images, which use the settings of the papers for ImageNet; others use those for CIFAR-10."""
    return sizes.is_large(request.shape)


def has_statistics(teacher: Twin) -> bool:
    """True if the teacher contains a BatchNormalization."""
    return any(step.op_type == "BatchNormalization" for step in teacher.steps)


def require_batch_norm(method: str, teachers: Sequence[Twin]) -> None:
    """Check that every teacher contains a BatchNormalization.

    Raises:
        ModelError: a teacher contains none.
    """
    for index, teacher in enumerate(teachers):
        if not has_statistics(teacher):
            where = "the model" if len(teachers) == 1 else f"teacher {index + 1} of {len(teachers)}"
            raise ModelError(
                f"{method} needs BatchNormalization, and none is left in {where} (exporters fold it); give "
                "the same network with it kept as --teacher, or use --synth procedural"
            )


def single_teacher_note(method: str, teachers: Sequence[Twin]) -> tuple[str, ...]:
    """A note that a method for one teacher ignores the others; empty if there are none."""
    if len(teachers) < 2:
        return ()
    return (f"{method} uses only the first of the {len(teachers)} teachers; lis uses several together",)
