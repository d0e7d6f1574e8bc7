"""Say which input of a graph is the main one, by its name and its use.

The choice is kept in the model's metadata (:data:`MAIN_INPUT`), which a quantized file and a session of ONNX Runtime
have too: all of them agree on it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.traversal import walk

__all__ = [
    "MAIN_INPUT",
    "RECURRENT_OPS",
    "SAMPLE_RATE",
    "InputUse",
    "says_auxiliary",
    "says_cache",
    "says_main",
    "says_sample_rate",
    "says_sound",
    "uses_of",
    "words_of",
]

MAIN_INPUT = "dfq_deploy.main_input"
"""The metadata entry that names the main input of a model with several."""

CACHES = frozenset({"cache", "caches", "hidden", "past", "state", "states"})
"""Words in the names of inputs that come back from the step before; of four dimensions, they are no pictures."""

SAMPLE_RATE = 16000
"""Of sound: what speech models take."""

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

AUXILIARY = frozenset(
    {"cache", "hidden", "past", "mask", "scale", "shape", "size", "state", "type"}
    | {"caches", "masks", "scales", "shapes", "sizes", "states"}
    | {"len", "length", "lengths", "lens", "position", "positions"}
)
"""Words in the names of inputs that go beside the main one."""

MAIN = frozenset(
    {"audio", "image", "images", "img", "input", "pixel", "pixels", "signal", "speech", "wave", "waveform", "x"}
    | {"feature", "features", "ids"}
)
"""Words in the names of main inputs."""

SOUND = frozenset({"audio", "pcm", "speech", "wav", "wave", "waveform", "waveforms", "wavs"})
"""Words in the names of inputs of sound, whose values are from -1 to 1."""

SOUND_FEATURES = frozenset(
    {"code", "codes", "emb", "embed", "embedding", "embeddings", "embeds", "encoding", "encodings", "fbank", "fbanks"}
    | {"feat", "feats", "feature", "features", "latent", "latents", "logmel", "mel", "mels", "melspec", "mfcc", "mfccs"}
    | {"spec", "spectrogram", "spectrum", "token", "tokens", "vector", "xvector"}
)
"""Words in the names of what is computed from sound, such as ``audio_features``, whose values have no known range."""

CARRYING_OPS = frozenset(
    {"Cast", "Concat", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
    | {"DequantizeLinear", "QuantizeLinear"}
)
"""What a cache passes through before it is returned."""

RECURRENT_OPS = frozenset({"GRU", "LSTM", "RNN"})

INITIAL_STATE = 5
"""The input of a recurrent operator from which on its initial states stand."""


@dataclass(frozen=True)
class InputUse:
    """What a graph does with an input.

    Args:
        carried: it is a cache or a state: what is returned with its shape is cut out of it, or a recurrent operator
            starts from it.
        leads: a weighted operator or a table reads it before anything else is mixed in.
    """

    carried: bool = False
    leads: bool = False


def words_of(name: str) -> frozenset[str]:
    """The words of a name in ``snake_case`` or ``camelCase``, in lower case and without numbers."""
    return frozenset(word.lower() for word in WORD.findall(name))


def says_auxiliary(name: str) -> bool:
    """True where a name says that the input is a cache, a state, a mask, a length, a size or the like."""
    return not AUXILIARY.isdisjoint(words_of(name))


def says_cache(name: str) -> bool:
    """True where a name says that the input is what the model remembers of the steps before."""
    return not CACHES.isdisjoint(words_of(name))


def says_main(name: str) -> bool:
    """True where a name says that the input is a picture, a sound, token ids or the like."""
    return not MAIN.isdisjoint(words_of(name))


def says_sample_rate(name: str) -> bool:
    """True where a name says that a single number is the sample rate of sound."""
    return not words_of(name).isdisjoint({"rate", "sr", "samplerate"})


def says_sound(name: str) -> bool:
    """True where a name says that the input is a waveform, and not what is computed from one."""
    words = words_of(name)
    return not SOUND.isdisjoint(words) and SOUND_FEATURES.isdisjoint(words)


def uses_of(graph: ir.Graph, values: Iterable[ir.Value]) -> dict[str, InputUse]:
    """The use of each of ``values``, the inputs that a caller feeds, by name."""
    given = list(values)
    fed = _computed_from(graph, given)
    return {str(value.name): InputUse(_is_carried(value), _leads(graph, value, fed)) for value in given}


def _computed_from(graph: ir.Graph, values: Iterable[ir.Value]) -> set[ir.Value]:
    """``values`` and everything that depends on one of them."""
    found = set(values)
    for node in graph:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _is_carried(value: ir.Value) -> bool:
    """True for a cache that is returned with its shape, and for the initial state of a recurrent operator."""

    def carried(value: ir.Value) -> Iterator[ir.Value]:
        for node in {use.node for use in value.uses()}:
            if is_op(node, CARRYING_OPS):
                yield from node.outputs

    reached = list(walk([value], carried))
    starts = any(is_op(node, RECURRENT_OPS) and index >= INITIAL_STATE for one in reached for node, index in one.uses())
    joins = {use.node for one in reached for use in one.uses() if is_op(use.node, "Concat")}
    behind = walk([output for node in joins for output in node.outputs], carried)
    returned = any(one.is_graph_output() and one.shape == value.shape for one in behind)
    return starts or (returned and value.shape is not None)


def _leads(graph: ir.Graph, value: ir.Value, fed: set[ir.Value]) -> bool:
    """True if a weighted operator, a recurrent one or a table reads ``value`` alone, moved or computed with constants.

    Args:
        fed: everything that depends on an input; what does not is constant.
    """
    alone = {value}
    for node in graph:
        if alone.isdisjoint(node.inputs):
            continue
        read = [one for one in node.inputs if one is not None]
        if is_op(node, WEIGHTED_OPS) or (is_op(node, RECURRENT_OPS) and read[0] in alone):
            return True
        if is_op(node, "Gather") and read[1] in alone and read[0] not in fed:
            return True
        if not is_op(node, "Shape") and all(one in alone for one in read if one in fed):
            alone.update(node.outputs)
    return False
