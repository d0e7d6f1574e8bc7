"""A check that fails leaves a sentence with the exception's name, and the others go on."""

from collections.abc import Callable

import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.attempts import Attempts


def raising(problem: BaseException) -> Callable[[], int]:
    def check() -> int:
        raise problem

    return check


def test_what_raises_is_named_and_what_does_not_is_returned() -> None:
    attempts = Attempts()
    assert attempts.run("the nodes", lambda: 3) == 3
    assert not attempts.sentences
    assert attempts.run("the biases", raising(KeyError("x"))) is None
    assert attempts.sentences == ("the biases of the quantized file were not checked: KeyError: 'x'",)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (ModelError("m.onnx: no such file."), "m.onnx: no such file"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError"),
        (MemoryError("3 GB"), "not enough memory (MemoryError)"),
    ],
)
def test_reasons(problem: Exception, reason: str) -> None:
    attempts = Attempts()
    attempts.run("the biases", raising(problem))
    assert attempts.sentences == (f"the biases of the quantized file were not checked: {reason}",)


def test_one_reason_is_said_once() -> None:
    attempts = Attempts()
    for subject in ("the weights", "the biases", "the nodes"):
        attempts.run(subject, raising(ValueError("odd")))
    attempts.leave_out("the activations", "no float values")
    assert attempts.sentences == (
        "the weights, the biases and the nodes of the quantized file were not checked: ValueError: odd",
        "the activations of the quantized file were not checked: no float values",
    )


def test_an_interruption_ends_all() -> None:
    with pytest.raises(KeyboardInterrupt):
        Attempts().run("the biases", raising(KeyboardInterrupt()))
