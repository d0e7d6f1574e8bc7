"""Checks of options and teachers that synthesis methods share."""

from collections.abc import Sequence

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples import sizes
from dfq_deploy.twin import Twin

__all__ = ["SCHEDULES", "check_options", "has_statistics", "is_large", "is_paper", "only_first", "refuse_bare"]

SCHEDULES = ("auto", "paper", "short")


def check_options(method: str, schedule: str, **counts: int | None) -> None:
    """Refuse a schedule that there is not, and numbers below 1.

    Raises:
        OptionError: says which.
    """
    if schedule not in SCHEDULES:
        raise OptionError(f"{method}: schedule '{schedule}' is none of {', '.join(SCHEDULES)}")
    for name, count in counts.items():
        if count is not None and count < 1:
            raise OptionError(f"{method}: {name}={count} must be at least 1")


def is_paper(schedule: str, request: SynthesisRequest) -> bool:
    """True for the paper's schedule; ``auto`` is that on a GPU, and the short one elsewhere."""
    return schedule == "paper" or (schedule == "auto" and request.device.startswith("cuda"))


def is_large(request: SynthesisRequest) -> bool:
    """True for large images: they get the settings of the papers' ImageNet runs, others of CIFAR-10's."""
    return sizes.is_large(request.shape)


def has_statistics(teacher: Twin) -> bool:
    """True if a BatchNormalization is left."""
    return any(step.op_type == "BatchNormalization" for step in teacher.steps)


def refuse_bare(method: str, teachers: Sequence[Twin]) -> None:
    """Refuse teachers without BatchNormalization.

    Raises:
        ModelError: says which of several.
    """
    for index, teacher in enumerate(teachers):
        if not has_statistics(teacher):
            where = "the model" if len(teachers) == 1 else f"teacher {index + 1} of {len(teachers)}"
            raise ModelError(
                f"{method} needs BatchNormalization, and none is left in {where} (exporters fold it); give "
                "the same network with it kept as --teacher, or use --synth procedural"
            )


def only_first(method: str, teachers: Sequence[Twin]) -> tuple[str, ...]:
    """A note for a method that looks at one teacher and is given several."""
    if len(teachers) < 2:
        return ()
    return (f"{method} inverts the first of the {len(teachers)} teachers alone; lis inverts several together",)
