"""Token ids from text and from vocabularies: ``vocab.txt``, ``tokenizer.json``, lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError, first_line
from dfq_deploy.files.json_text import parsed_json

__all__ = ["NAMES", "TEXT", "Vocabulary", "encoded", "find_vocabulary", "read_lines", "read_vocabulary"]

NAMES = ("tokenizer.json", "vocab.txt")
"""File names of vocabularies, in the order in which they are looked for."""

TEXT = (".txt", ".text", ".md")
"""Endings of text files, of which each line is a sample."""

BEGIN, END, PAD = ("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[PAD]", "<pad>")

LARGEST_BYTES = 2**28
"""Largest text file or vocabulary that is read."""


@dataclass(frozen=True)
class Vocabulary:
    """What a model's token ids stand for.

    Args:
        words: ids of the tokens that text is made of.
        begin, end: ids around a sample; None where there are none.
        pad: the id after the end of a sample.
        path: where it was read from.
    """

    words: tuple[int, ...]
    begin: int | None
    end: int | None
    pad: int
    path: Path

    def framed(self, ids: Sequence[int], longest: int) -> list[int]:
        """At most ``longest`` ids with the tokens for begin and end around them, where these exist and fit."""
        frame = [token for token in (self.begin, self.end) if token is not None]
        if longest <= len(frame):
            return list(ids[:longest])
        kept = list(ids[: longest - len(frame)])
        return [*([] if self.begin is None else [self.begin]), *kept, *([] if self.end is None else [self.end])]

    def drawn(self, lengths: NDArray[np.int64], seed: int) -> list[list[int]]:
        """Ids of random words, for each length."""
        generator = np.random.default_rng(seed)
        return [self.framed(generator.choice(self.words, length).tolist(), int(length)) for length in lengths]


def find_vocabulary(*folders: Path) -> Path | None:
    """The first vocabulary that lies in one of ``folders``."""
    return next((folder / name for folder in folders for name in NAMES if (folder / name).is_file()), None)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read ``vocab.txt`` (a token a line) or ``tokenizer.json`` (of the library ``tokenizers``).

    Raises:
        SamplesError: it is neither, or has no token.
    """
    text = _read(path)
    if path.suffix == ".json":
        ids, special = _of_json(path, text)
    else:
        lines = text.splitlines()
        ids = {line.strip(): index for index, line in enumerate(lines) if line.strip()}
        special = {index for token, index in ids.items() if token.startswith("[") and token.endswith("]")}
    named = [next((ids[token] for token in tokens if token in ids), None) for tokens in (BEGIN, END, PAD)]
    words = tuple(sorted(set(ids.values()) - special - {index for index in named if index is not None}))
    if not words:
        raise SamplesError(f"{path}: no tokens in it; give the vocab.txt or tokenizer.json that came with the model")
    begin, end, pad = named
    return Vocabulary(words, begin, end, pad or 0, path)


def _of_json(path: Path, text: str) -> tuple[Mapping[str, int], set[int]]:
    """Token -> id, and the ids of tokens that are no text."""
    try:
        held: Any = parsed_json(text)
        listed = held["model"]["vocab"]
        ids = listed if isinstance(listed, dict) else {token: index for index, (token, _) in enumerate(listed)}
        added = {str(entry["content"]): int(entry["id"]) for entry in held.get("added_tokens", ())}
        ids = {str(token): int(index) for token, index in ids.items()} | added
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as problem:
        reason = first_line(problem)
        raise SamplesError(f"{path}: not a tokenizer.json of the library tokenizers ({reason}); give another") from None
    return ids, {*added.values(), *(index for token, index in ids.items() if token.startswith("[unused"))}


def read_lines(path: Path, limit: int | None) -> list[str]:
    """The lines of a text file that are not empty; at most ``limit``, spread evenly.

    Raises:
        SamplesError: it cannot be read, or has no line.
    """
    lines = [line.strip() for line in _read(path).splitlines() if line.strip()]
    if not lines:
        raise SamplesError(f"{path}: no text in it; give a file with a sentence or a paragraph on each line")
    step = 1.0 if limit is None else max(1.0, len(lines) / limit)
    return [lines[int(index * step)] for index in range(min(len(lines), limit or len(lines)))]


def encoded(lines: Sequence[str], vocabulary: Vocabulary, longest: int) -> list[list[int]]:
    """Token ids of each line, cut to ``longest``.

    Raises:
        SamplesError: the library ``tokenizers`` is not installed, or cannot read the vocabulary.
    """
    try:
        import tokenizers
    except ImportError:
        raise SamplesError(
            "text as --data needs the library tokenizers: pip install dfq-deploy[text], or give the vocabulary itself "
            f"as --data ({vocabulary.path}), from which words are drawn"
        ) from None
    path = str(vocabulary.path)
    try:
        if vocabulary.path.suffix == ".json":
            tokenizer = tokenizers.Tokenizer.from_file(path)
            tokenizer.no_padding()
            tokenizer.no_truncation()
        else:
            tokenizer = tokenizers.BertWordPieceTokenizer(path)
    except Exception as problem:  # the library raises Exception itself
        raise SamplesError(f"{path}: the library tokenizers cannot read it ({first_line(problem)})") from None
    rows = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    return [vocabulary.framed(row, longest) for row in rows if row]


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise SamplesError(f"{path}: {path.stat().st_size / 1e6:.0f} MB; give at most {LARGEST_BYTES / 1e6:.0f} MB")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SamplesError(f"{path}: not text in UTF-8; convert it, or give an .npz of token ids") from None
    except OSError as problem:
        raise SamplesError(f"{path}: cannot be read ({problem.strerror})") from None
