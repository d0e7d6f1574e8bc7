"""Overrides files: what they hold, and every way in which one is wrong."""

from pathlib import Path

import pytest

from dfq_deploy import OptionError
from dfq_deploy.encodings import Range
from dfq_deploy.quantization.overrides import Override
from dfq_deploy.quantization.overrides_file import read_overrides


def test_entries_keep_their_order_nodes_first(tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    file.write_text(
        '[[tensor]]\nmatch = "a*"\nrange = [-1, 2.5]\nbits = 4\n[[node]]\nmatch = "Conv"\ntype = "u16"\n'
        '[[tensor]]\nmatch = "b"\nsymmetric = true\n[[node]]\nmatch = "fc"\nfloat = true\n'
    )
    place = f"{file}: [["
    assert read_overrides(file) == (
        Override("node", "Conv", f"{place}node]] 1", type="u16"),
        Override("node", "fc", f"{place}node]] 2", is_float=True),
        Override("tensor", "a*", f"{place}tensor]] 1", range=Range(-1, 2.5), bits=4),
        Override("tensor", "b", f"{place}tensor]] 2", symmetric=True),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[tensor", "not a TOML file"),
        ("[[tensors]]", r"unknown 'tensors'; did you mean tensor\?; write \[\[node\]\] or \[\[tensor\]\]"),
        ("tensor = 3", "'tensor' is no list of entries"),
        ("[[tensor]]\nbits = 4", r"\[\[tensor\]\] 1: match = None is no name"),
        ('[[tensor]]\nmatch = ""\nbits = 4', r"match = '' is no name"),
        ('[[node]]\nmatch = "a"', "'a' is matched and nothing asked for"),
        (
            '[[node]]\nmatch = "a"\nbits = 4\n[[node]]\nmatch = "b"\nrange = [0, 1]',
            r"\[\[node\]\] 2: unknown key 'range'",
        ),
        ('[[tensor]]\nmatch = "a"\nwidth = 4', "unknown key 'width'; it has: match, type, bits"),
        ('[[tensor]]\nmatch = "a"\nbits = 9', "bits = 9 is not available; give 2 to 8, or 16"),
        ('[[tensor]]\nmatch = "a"\nbits = true', "bits = True is not available"),
        ('[[tensor]]\nmatch = "a"\ntype = "int8"', "type = 'int8' is not available; give u8, s8, u16"),
        ('[[tensor]]\nmatch = "a"\nsymmetric = 1', "symmetric = 1 is not available; give true or false"),
        ('[[tensor]]\nmatch = "a"\nrange = [1, 0]', r"range = \[1, 0\] is not available; give two finite numbers"),
        ('[[tensor]]\nmatch = "a"\nrange = [-1e300, 1e300]', r"range = \[-1e\+300, 1e\+300\] is not available"),
        ('[[tensor]]\nmatch = "a"\nrange = [0, inf]', r"range = \[0, inf\] is not available"),
        ('[[tensor]]\nmatch = "a"\nfloat = true\nbits = 4', "float = true leaves nothing to quantize"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "o.toml"
    file.write_text(text)
    with pytest.raises(OptionError, match=said) as caught:
        read_overrides(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_overrides(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="not a TOML file"):
        read_overrides(tmp_path / "binary.toml")
    (tmp_path / "deep.toml").write_text(f"a = {'[' * 5000}")
    with pytest.raises(OptionError, match="not a TOML file"):
        read_overrides(tmp_path / "deep.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * 2**21)
    with pytest.raises(OptionError, match="2097152 bytes are no overrides file"):
        read_overrides(tmp_path / "huge.toml")
