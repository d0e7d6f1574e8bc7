"""The summary of a calibration: which method made the samples, and which one was asked for."""

import pytest

from dfq_deploy.cli.views.results import _samples_text


@pytest.mark.parametrize(
    ("asked", "method", "said"),
    [
        ("deepinversion", "procedural", "16 by procedural instead of deepinversion (see the warning), seed 0"),
        ("deepinversion", "deepinversion", "16 by deepinversion, seed 0"),
        ("<DeepInversion>", "deepinversion", "16 by deepinversion, seed 0"),
        ("procedural", "procedural+photographs", "16 by procedural+photographs, seed 0"),
        ("auto", "anchored", "16 by anchored, seed 0"),
    ],
)
def test_the_method_that_was_asked_for_is_named_where_it_is_another(asked: str, method: str, said: str) -> None:
    assert _samples_text(16, {"method": method, "seed": 0}, {"options": {"synth": asked}}) == said
