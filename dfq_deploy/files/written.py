"""What the running command has written: its results, not its temporary files."""

from pathlib import Path

__all__ = ["forget_written", "note_written", "written"]

_places: list[Path] = []


def note_written(place: Path) -> None:
    """Note a result that is in place."""
    if place not in _places:
        _places.append(place)


def written() -> tuple[Path, ...]:
    """The results that are in place, in order."""
    return tuple(_places)


def forget_written() -> None:
    """Begin anew, at the start of a command."""
    _places.clear()
