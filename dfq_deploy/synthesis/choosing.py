"""What methods ask of the teachers that they are given."""

from collections.abc import Sequence

from dfq_deploy.errors import ModelError
from dfq_deploy.twin import Twin

__all__ = ["has_statistics", "only_first", "refuse_bare"]


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
