"""Numbers on the command line."""

import click
import pytest

from dfq_deploy.cli.option_types import FractionType


@pytest.mark.parametrize(("text", "value"), [("18%", 0.18), ("0.18", 0.18), ("18", 0.18), ("1", 1.0), ("100 %", 1.0)])
def test_a_size_is_a_fraction_or_a_percentage(text: str, value: float) -> None:
    """``--size 30`` was refused as no fraction, where the help said PERCENT."""
    assert FractionType().convert(text, None, None) == pytest.approx(value)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(click.BadParameter, match=r"write 18% or 0\.18"):
        FractionType().convert("small", None, None)
