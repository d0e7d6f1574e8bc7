"""Samples of token ids from a vocabulary and from lines of text."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy.errors import SamplesError
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.synthesis.text import data_for

TOKENS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "sat", "on", "##s", "mat", "."]

TEXT = "(int64[n,8] input_ids, int64[n,8] attention_mask, int64[n,8] token_type_ids) => (float[n,8,4] y)"


def encoder(rows: int = len(TOKENS)) -> onnx.ModelProto:
    """A table, and a mask that is used."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g {TEXT} <int64[1] last = {{-1}}> {{ e = Gather(table, input_ids) '
        "t = Gather(types, token_type_ids) s = Add(e, t) m = Cast <to = 1> (attention_mask) u = Unsqueeze(m, last) "
        "y = Mul(s, u) }"
    )
    tables = {"table": np.zeros((rows, 4), np.float32), "types": np.zeros((2, 4), np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tables.items())
    return proto


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """vocab.txt, a token a line."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(TOKENS), encoding="utf-8")
    return path


def ends(samples: Samples) -> list[int]:
    """Where the samples end; masks and types must agree with it."""
    found = samples.extra["attention_mask"].sum(1)
    steps = np.arange(8) < found[:, None]
    np.testing.assert_array_equal(samples.extra["attention_mask"], steps)
    np.testing.assert_array_equal(samples.images != 0, steps)
    assert not samples.extra["token_type_ids"].any()
    return [int(end) for end in found]


def test_words_of_a_vocabulary_stand_between_its_marks(vocabulary: Path) -> None:
    samples = data_for(vocabulary, load_sized(encoder()), None, 16)
    lengths = ends(samples)
    assert (min(lengths), max(lengths), samples.is_synthetic) == (1, 8, True)
    for row, end in zip(samples.images, lengths, strict=True):
        if end > 2:
            assert (row[0], row[end - 1]) == (TOKENS.index("[CLS]"), TOKENS.index("[SEP]"))
            assert row[1 : end - 1].min() > TOKENS.index("[SEP]")
    np.testing.assert_array_equal(samples.images, data_for(vocabulary, load_sized(encoder()), None, 16).images)


def test_a_tokenizer_file_tells_its_marks_too(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    added = [{"id": index, "content": token} for index, token in enumerate(("<pad>", "<s>", "</s>"))]
    vocab = [[token, -1.0] for token in ("<pad>", "<s>", "</s>", "cat", "mat")]
    path.write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}), encoding="utf-8")
    samples = data_for(path, load_sized(encoder()), None, 8)
    longest = samples.images[int(np.argmax(ends(samples)))]
    assert longest[0] == 1
    assert longest[-1] == 2
    assert set(longest[1:-1]) <= {3, 4}


def test_lines_of_text_become_tokens(vocabulary: Path) -> None:
    pytest.importorskip("tokenizers")
    text = vocabulary.with_name("lines.txt")
    text.write_text("A cat sat on mats.\n\nmat\na cat sat on a mat . a cat sat on a mat\n", encoding="utf-8")
    samples = data_for(text, load_sized(encoder()), None)
    assert ends(samples) == [8, 3, 8]
    words = [[TOKENS[int(token)] for token in row if token] for row in samples.images]
    assert words[0] == ["[CLS]", "a", "cat", "sat", "on", "mat", "##s", "[SEP]"]
    assert words[1] == ["[CLS]", "mat", "[SEP]"]
    assert not samples.is_synthetic


def test_what_does_not_fit_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    model = load_sized(encoder())
    alone = tmp_path / "apart" / "lines.txt"
    alone.parent.mkdir()
    alone.write_text("a cat\n", encoding="utf-8")
    broken = alone.with_name("tokenizer.json")
    broken.write_text("{}", encoding="utf-8")
    with pytest.raises(SamplesError, match="belongs to another model"):
        data_for(vocabulary, load_sized(encoder(rows=6)), None)
    with pytest.raises(SamplesError, match=r"not a tokenizer\.json"):
        data_for(broken, model, None)
    broken.unlink()
    with pytest.raises(SamplesError, match=r"no tokenizer\.json or vocab\.txt beside it"):
        data_for(alone, model, None)
    alone.write_text("\n", encoding="utf-8")
    vocabulary.rename(alone.with_name("vocab.txt"))
    with pytest.raises(SamplesError, match="no text in it"):
        data_for(alone, model, None)


@pytest.mark.parametrize(
    "nodes",
    ["y = OneHot <axis = -1> (ids, depth, ends)", "u = Unsqueeze(ids, last) b = Equal(u, steps) y = Cast <to = 1> (b)"],
)
def test_the_columns_of_a_one_hot_encoding_are_the_tokens(nodes: str) -> None:
    constants = "int64 depth = {5}, float[2] ends = {0, 1}, int64[1] last = {-1}, int64[5] steps = {0, 1, 2, 3, 4}"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (int64[n,8] ids) => (float[n,8,5] y) <{constants}> {{ {nodes} }}'
    )
    samples = synthesize_from(load_sized(proto), "procedural", (), count=16, preprocess=None, seed=0, device="cpu")
    assert set(samples.images.ravel()) == {0, 1, 2, 3, 4}
