"""Teachers with a preprocess of their own, against the same network on input that is prepared for it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from dfq_deploy.cli.main import main
from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.synthesis.teachers import Teacher, parse_teacher, read_teacher, renormalized

Model = Callable[..., onnx.ModelProto]

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)


def scores(model: bytes, images: np.ndarray) -> np.ndarray:
    (result,) = ort.InferenceSession(model).run(None, {"image": images})
    return np.asarray(result)


@pytest.mark.parametrize("own", ["imagenet", "zero-one", "minus-one-one", "raw"])
def test_a_teacher_sees_the_image_in_its_own_input_space(tiny: Model, own: str) -> None:
    given = PREPROCESSES["cifar10"]
    model = load(tiny())
    read = read_teacher(Teacher(tiny(), PREPROCESSES[own]), given)
    found = scores(to_bytes(read), given.apply(PICTURES))
    wanted = scores(to_bytes(model), PREPROCESSES[own].apply(PICTURES))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert sample_shape(read) == (3, 8, 8)


def test_one_that_sees_the_same_is_left_as_it_is(tiny: Model) -> None:
    model = load(tiny())
    assert renormalized(model, PREPROCESSES["imagenet"], PREPROCESSES["imagenet"]) is model


def test_channels_may_come_last(model_of: Model) -> None:
    nodes = "t = Transpose<perm=[0,3,1,2]>(image) y = GlobalAveragePool(t)"
    model = model_of("float[n,8,8,3] image", "float[n,3,1,1] y", nodes, {})
    given, own = PREPROCESSES["zero-one"], PREPROCESSES["imagenet"]
    read = read_teacher(Teacher(model, own), given)
    found = scores(to_bytes(read), given.apply(PICTURES).transpose(0, 2, 3, 1).copy())
    np.testing.assert_allclose(found[..., 0, 0], own.apply(PICTURES).mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_the_models_own_preprocess_must_be_known(tiny: Model) -> None:
    with pytest.raises(ModelError, match="that of the model is not given; give --preprocess too"):
        read_teacher(Teacher(tiny(), PREPROCESSES["imagenet"]), None)


def test_what_is_no_image_has_no_preprocess(model_of: Model) -> None:
    model = model_of("float[n,5] image", "float[n,5] y", "y = Relu(image)", {})
    with pytest.raises(ModelError, match="teacher input 'image' is not a float32 image"):
        read_teacher(Teacher(model, PREPROCESSES["raw"]), PREPROCESSES["imagenet"])


def test_the_command_line_names_file_and_preprocess(tmp_path: Path) -> None:
    assert parse_teacher("folder/a.onnx") == Path("folder/a.onnx")
    assert parse_teacher("C:\\nets\\a.onnx") == Path("C:\\nets\\a.onnx")
    named = parse_teacher("a.onnx:imagenet")
    assert isinstance(named, Teacher)
    assert (named.model, named.preprocess) == (Path("a.onnx"), PREPROCESSES["imagenet"])
    spelt = parse_teacher("a.onnx:0.1,0.2,0.3/1,2,3")
    assert isinstance(spelt, Teacher)
    assert spelt.preprocess == Preprocess((0.1, 0.2, 0.3), (1, 2, 3))
    (tmp_path / "odd:imagenet").touch()
    assert parse_teacher(str(tmp_path / "odd:imagenet")) == tmp_path / "odd:imagenet"


@pytest.mark.parametrize("tail", ["imagnet", "0.5", "0.5/0", "1,2/3", "a/b/c"])
def test_what_is_no_preprocess_is_refused(tail: str) -> None:
    with pytest.raises(
        OptionError,
        match=f"^--teacher 'a.onnx:{tail}': '{tail}' is not a preprocess; .*imagenet.*; means and standard ",
    ):
        parse_teacher(f"a.onnx:{tail}")


def test_a_wrong_preprocess_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["synthesize", "a.onnx", "--method", "lis", "--teacher", "b.onnx:imagnet"])
    assert result.exit_code == 2
    assert "error: --teacher 'b.onnx:imagnet': 'imagnet' is not a preprocess; did you mean imagenet?" in result.stderr
