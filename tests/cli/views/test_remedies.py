"""What is printed of remedies."""

import pytest

from dfq_deploy.cli.views.remedies import show_remedies
from dfq_deploy.cli.views.tables import page
from dfq_deploy.pipeline.remedies.steps import Remedies, RemedyStep

STEPS = (
    RemedyStep("headroom", "twice the range", 91.0, 91.02, False, "it gains nothing", None, 0, 1.23),
    RemedyStep("equalize", "--refine equalize", 91.0, 98.44, True, "", 1.017, 1536, 2.0),
    RemedyStep("reconstruct", "--refine reconstruct", 98.44, None, False, "the time was up", None, None, 9.0),
)


def remedies(*steps: RemedyStep, reached: bool = False) -> Remedies:
    return Remedies("agreement=99", "%", 91.0, 98.44, reached, "max-time", "the time is up", 60.0, 1.15, 12.3, steps)


def test_each_step_has_its_gain_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    page(show_remedies(remedies(*STEPS).to_json()))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "remedies below the floor (agreement=99); latency and size against the first result",
        "remedy gain latency size took",
        "twice the range 91.0 % to 91.0 % 1.2 s dropped: it gains nothing",
        "--refine equalize 91.0 % to 98.4 % 1.02 times +1.5 kB 2.0 s kept",
        "--refine reconstruct 9.0 s dropped: the time was up",
        "The time is up, 12 s",
    ]


def test_nothing_is_printed_where_nothing_was_called_for() -> None:
    assert show_remedies(None) is None
    assert show_remedies(remedies(reached=True).to_json()) is None
    assert show_remedies(remedies().to_json()) is not None
