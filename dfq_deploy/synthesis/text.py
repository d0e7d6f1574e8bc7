"""Samples of a model of tokens from lines of text, or from its vocabulary."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.index_tables import table_of
from dfq_deploy.graph.inputs import ModelInput, main_input, model_inputs, other_inputs, sample_shape
from dfq_deploy.samples.image_folder import samples_for
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.samples.vocabulary import (
    NAMES,
    TEXT,
    Vocabulary,
    encoded,
    find_vocabulary,
    read_lines,
    read_vocabulary,
)
from dfq_deploy.synthesis.procedural.inputs import rule_of
from dfq_deploy.synthesis.procedural.sequences import Part, cut, lengths, part_of

__all__ = ["data_for", "is_text"]


def is_text(path: Path) -> bool:
    """True for a text file or a vocabulary, by its name."""
    return path.is_file() and (path.name in NAMES or path.suffix.lower() in TEXT)


def data_for(
    data: Samples | AnyPath,
    model: ir.Model,
    preprocess: Preprocess | None,
    limit: int | None = None,
    labels: AnyPath | None = None,
    *,
    beside: object = None,
    seed: int = 0,
) -> Samples:
    """Return what ``data`` holds as samples (:func:`dfq_deploy.samples.image_folder.samples_for`), text included.

    Each line of a text file is a sample. Its tokens are those of the vocabulary that lies beside it, or beside the
    model. A vocabulary as ``data`` gives samples of random words, of lengths from 1 to the longest. Masks, types and
    positions agree with the lengths.

    Args:
        limit: largest number of samples; None takes all lines, or draws the default number of words.
        beside: the model's file.
        seed: of the words that are drawn.

    Raises:
        SamplesError: it cannot be read, or does not fit the model.
    """
    path = None if isinstance(data, Samples) else as_path(data, "data")
    if path is None or not is_text(path):
        return samples_for(data, model, preprocess, limit, labels)
    main = main_input(model_inputs(model))
    if main.is_float or len(main.sample) != 1:
        raise SamplesError(
            f"{path}: text is for models of token ids, and the main input '{main.name}' is {main.dtype} of shape "
            f"{main.shape}; give an .npz or .npy of its own values"
        )
    longest = sample_shape(model)[0]
    if path.name in NAMES:
        vocabulary = read_vocabulary(path)
        count = default_count((longest,)) if limit is None else limit
        rows = vocabulary.drawn(lengths(count, longest, seed), seed)
        return _samples(model, main, rows, vocabulary, "vocabulary")
    folders = [path.parent, *([Path(str(beside)).parent] if isinstance(beside, str | Path) else [])]
    found = find_vocabulary(*folders)
    if found is None:
        raise SamplesError(
            f"{path}: no {' or '.join(NAMES)} beside it or beside the model to make tokens of it with; put it there"
        )
    vocabulary = read_vocabulary(found)
    return _samples(model, main, encoded(read_lines(path, limit), vocabulary, longest), vocabulary, "")


def _samples(model: ir.Model, main: ModelInput, rows: list[list[int]], vocabulary: Vocabulary, method: str) -> Samples:
    longest = sample_shape(model)[0]
    ids = np.full((len(rows), longest), vocabulary.pad, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    table = table_of(model, main.name)
    if table is not None and ids.max(initial=0) >= table[1]:
        raise SamplesError(
            f"{vocabulary.path}: it has token {ids.max()}, and the model's table '{table[0]}' has {table[1]} rows: "
            "it belongs to another model"
        )
    ends = np.array([len(row) for row in rows])
    ports = model_inputs(model)
    extra = {}
    for port in other_inputs(ports):
        part = part_of(port, ports)
        values = rule_of(model, port, {}).draw(len(rows), 0)
        if part is not None and part[0] is not Part.POSITIONS:
            whole = np.zeros_like(values) if part[0] is Part.TYPES else np.ones_like(values)
            values = cut(part[0], whole, ends)
        extra[port.name] = values
    note = f"samples of 1 to {longest} tokens, of {vocabulary.path.name}; masks end where they end"
    return Samples(ids.astype(np.float32), method=method, synthetic=bool(method), notes=(note,), extra=extra)
