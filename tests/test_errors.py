"""The exception tree and its one composed message."""

import inspect
from pathlib import Path

import pytest

from dfq_deploy import errors
from dfq_deploy.errors import (
    DfqError,
    ModelError,
    UnsupportedOperators,
    did_you_mean,
    first_line,
    one_line,
    printable,
    similar_file,
)

FUNCTIONS = {"did_you_mean", "first_line", "is_out_of_memory", "one_line", "printable", "similar_file"}


def test_docstring_draws_the_tree() -> None:
    drawn = {name: line for line in str(errors.__doc__).splitlines() for name in errors.__all__ if f" {name} " in line}
    classes = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, Exception)}
    assert set(classes) | FUNCTIONS == set(errors.__all__)
    assert set(classes) == set(drawn)
    for name, cls in classes.items():
        depth = len(cls.__mro__) - len(DfqError.__mro__)
        assert drawn[name].index(name) == 4 * (depth + 1), f"{name} is drawn at another depth than it has"


def test_one_handler_catches_everything() -> None:
    for name in set(errors.__all__) - FUNCTIONS:
        assert issubclass(getattr(errors, name), DfqError)


@pytest.mark.parametrize(
    ("message", "first", "whole"),
    [
        ("no such file.", "no such file", "no such file"),
        ("\n  shapes differ:\n\ta\n\tb.\n", "shapes differ:", "shapes differ: a b"),
        ("", "OSError", ""),
    ],
)
def test_messages_of_others_on_one_line(message: str, first: str, whole: str) -> None:
    assert first_line(OSError(message)) == first
    assert one_line(OSError(message)) == whole
    assert one_line(OSError(message), 4) == whole[:4]


def test_a_terminal_obeys_no_name_in_a_message() -> None:
    message = str(ModelError("m.onnx: tensor '\x1b[2J\x9b\u202e\udcff' is \u00e9"))
    assert message == r"m.onnx: tensor '\x1b[2J\x9b\u202e\udcff' is é"
    assert printable("two\nlines\tand a tab") == "two\nlines\tand a tab"


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("tensort", "; did you mean tensorrt?"),
        ("CPU", "; did you mean cpu?"),
        ("abacus", "; installed: cpu, tensorrt"),
        ("tpu", "; installed: cpu, tensorrt"),
        ("", "; installed: cpu, tensorrt"),
    ],
)
def test_a_similar_name_is_meant(name: str, end: str) -> None:
    assert did_you_mean(name, ["cpu", "tensorrt"]) == end
    assert did_you_mean(name, []) == "; installed: none"


def test_a_similar_file_is_meant(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    assert similar_file(tmp_path / "modle.onnx") == f"; did you mean {tmp_path}/model.onnx?"
    assert similar_file(tmp_path / "model.onx") == f"; did you mean {tmp_path}/model.onnx?"
    assert similar_file(tmp_path / "other.onnx") == ""
    assert similar_file(tmp_path / "gone" / "model.onnx") == ""


def test_unsupported_operators_lists_every_node() -> None:
    nodes = iter([("stft", "ai.onnx::STFT-17"), ("rnn/0", "com.acme::Cell-1")])
    with pytest.raises(ModelError) as caught:
        raise UnsupportedOperators(nodes)
    assert str(caught.value) == (
        "the twin does not support 2 node(s) of this graph: ai.onnx::STFT-17 (stft), com.acme::Cell-1 (rnn/0); a "
        "method that needs no gradient (--synth procedural) or real images (--data) do without it"
    )
