"""Quality figures of a sample set: statistics, classes, confidence, diversity."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import batch_normalizations, constant_of, score_count, score_logits
from dfq_deploy.graph.traversal import before
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from dfq_deploy.runtime.runner import Runner

__all__ = ["information_of", "probabilities", "quality", "with_quality"]

Floats = NDArray[np.float64]

SLICE_BYTES = 2**21
"""Bytes of images in one run: all inputs of BatchNormalization are in memory during the run."""

ASSESSED = 1024
"""Samples that are assessed, spread evenly over a larger set."""


def with_quality(
    samples: Samples, model: ir.Model, teachers: Sequence[ir.Model] = (), verifier: "Runner | None" = None
) -> Samples:
    """``samples`` with the figures of :func:`quality` added; if these are not available, a note says why.

    The reference is ``model``, or if it has no BatchNormalization the first of ``teachers`` that has.

    Raises:
        SamplesError, ModelError: the verifier does not take the samples, or gives other scores than the model.
    """
    if verifier is not None:
        verifier.check(samples.images.shape[1:])
    fits = (entry for entry in (model, *teachers) if batch_normalizations(entry))
    try:
        found = quality(samples, next(fits, model), verifier)
    except ModelError as problem:
        if verifier is not None:
            raise
        return replace(samples, notes=(*samples.notes, f"the samples could not be assessed: {problem}"))
    return replace(samples, figures={**samples.figures, **found})


def quality(samples: Samples, reference: ir.Model, verifier: "Runner | None" = None) -> dict[str, float]:
    """Quality of ``samples``, measured with the network that they are for, in ONNX Runtime, on at most 1,024 of them.

    Args:
        reference: the network, best with its BatchNormalization.
        verifier: a second network with the same classes, which takes the same input.

    Returns:
        ``statistics_distance``: over all layers and channels, the mean of ``|mean - running mean| / running std +
        |std / running std - 1|`` at the inputs of BatchNormalization; 0 for the training data itself.
        ``classes_seen``, ``class_coverage``: number and share of the classes that the network predicts;
        ``class_share_smallest``, ``class_share_largest``: shares of the samples with the rarest and the most frequent
        class; ``confidence``: mean probability of the predicted class; ``information``: what an answer says about its
        sample, in nats (:func:`information_of`).
        ``diversity``: mean distance between the inputs of the last weighted layer for two samples, in units of the
        mean norm of these inputs; 0 where all samples are the same.
        ``label_hit``: share of the samples that get the class of their label, where they have labels.
        ``verifier_agreement``: share that get the same class from the verifier; ``verifier_hit``: that get the class
        of their label from it.
        Figures that need BatchNormalization or classes are left out if the network has none.

    Raises:
        ModelError: ONNX Runtime fails on the samples.
    """
    from dfq_deploy.runtime.runner import Runner, slices

    samples = samples.part(np.arange(ASSESSED) * len(samples) // ASSESSED) if len(samples) > ASSESSED else samples
    watched = _watched(reference)
    runner = Runner(watched.model, name="the model")
    moments = [_Moments() for _ in watched.layers]
    scores, features, checked = [], [], []
    classes = score_count(reference)
    for part in (samples.part(chosen) for chosen in slices(samples.images, SLICE_BYTES)):
        # An output without a row for each sample is a tuple, and is not used here.
        outputs = zip(runner.output_names, runner.run(part), strict=True)
        arrays = {name: array for name, array in outputs if not isinstance(array, tuple)}
        for moment, layer in zip(moments, watched.layers, strict=True):
            moment.add(arrays.get(layer))
        answer, feature = arrays.get(watched.scores), arrays.get(watched.features)
        scores += [] if answer is None or classes is None else [answer.reshape(len(part), -1)]
        features += [] if feature is None else [_pooled(feature)]
        checked += [] if verifier is None else [_answers(verifier, part, classes)]
    found = {}
    if moments:
        found["statistics_distance"] = _distance(moments, watched)
    labels = samples.labels
    hard = labels.argmax(axis=1) if labels is not None and labels.ndim == 2 else labels
    if scores:
        found |= _class_figures(np.concatenate(scores), hard)
    if features:
        found["diversity"] = _diversity(np.concatenate(features))
    if verifier is not None and scores:
        answers = np.concatenate(checked)
        found["verifier_agreement"] = float((answers == np.concatenate(scores).argmax(axis=1)).mean())
        if hard is not None:
            found["verifier_hit"] = float((answers == hard).mean())
    return found


@dataclass(frozen=True, eq=False)
class _Watched:
    """A copy of the network whose outputs are the logits, the inputs of BatchNormalization, and the features."""

    model: ir.Model
    scores: str
    features: str
    layers: tuple[str, ...]
    means: tuple[Floats, ...]
    stds: tuple[Floats, ...]


def _watched(reference: ir.Model) -> _Watched:
    model = reference.clone()
    layers, means, stds = [], [], []
    for node in batch_normalizations(model):
        source, mean, var = node.inputs[0], constant_of(node.inputs[3]), constant_of(node.inputs[4])
        if source is not None and source.producer() is not None and mean is not None and var is not None:
            layers.append(source)
            means.append(mean.numpy().astype(np.float64))
            stds.append(np.sqrt(var.numpy().astype(np.float64)))
    logits = score_logits(model)
    scores = model.graph.outputs[0] if logits is None else logits.value
    last = _last_input(scores)
    watched = {value.name: value for value in (scores, *layers, *([] if last is None else [last]))}
    model.graph.outputs.clear()
    model.graph.outputs.extend(watched.values())
    names = tuple(str(layer.name) for layer in layers)
    return _Watched(model, str(scores.name), "" if last is None else str(last.name), names, tuple(means), tuple(stds))


def _last_input(scores: ir.Value) -> ir.Value | None:
    """The input of the last weighted layer before the scores; None if that is the network's own input."""
    last = scores.producer()
    for node in () if last is None else (last, *before(last)):
        if is_op(node, WEIGHTED_OPS) and constant_of(node.inputs[1]) is not None:
            source = node.inputs[0]
            return source if source is not None and source.producer() is not None else None
    return None


@dataclass
class _Moments:
    """Running sums of one tensor (N, C, ...), channel by channel."""

    count: int = 0
    total: Floats = field(default_factory=lambda: np.zeros(1))
    squares: Floats = field(default_factory=lambda: np.zeros(1))

    def add(self, array: NDArray[Any] | None) -> None:
        """Add a batch; one without a batch axis is ignored."""
        if array is None:
            return
        # Contiguous dot products in the array's own type are ten times as fast as sums over two axes in float64.
        rows = np.ascontiguousarray(array.reshape(*array.shape[:2], -1))
        self.count += rows.shape[0] * rows.shape[2]
        self.total = self.total + rows.sum(axis=2).sum(axis=0, dtype=np.float64)
        self.squares = self.squares + np.vecdot(rows, rows).sum(axis=0, dtype=np.float64)

    def mean_and_std(self) -> tuple[Floats, Floats]:
        """Of each channel; the standard deviation is the biased one."""
        mean = self.total / max(self.count, 1)
        return mean, np.sqrt(np.maximum(self.squares / max(self.count, 1) - mean**2, 0))


def _distance(moments: Sequence[_Moments], watched: _Watched) -> float:
    """Relative distance of the whole set's statistics (as losses.batch_norm_statistics.relative_distance has it)."""
    distances = []
    for moment, running_mean, running_std in zip(moments, watched.means, watched.stds, strict=True):
        mean, std = moment.mean_and_std()
        alive = running_std > 1e-3 * running_std.max()
        shift, stretch = np.abs(mean - running_mean)[alive], np.abs(std - running_std)[alive]
        distances.append(float(((shift + stretch) / running_std[alive]).mean()))
    return float(np.mean(distances))


def _answers(verifier: "Runner", samples: Samples, classes: int | None) -> NDArray[Any]:
    scores = verifier.run(samples)[0]
    found = 0 if isinstance(scores, tuple) else int(np.prod(scores.shape[1:]))
    if isinstance(scores, tuple) or found != classes:
        raise ModelError(
            f"{verifier.name}: it gives {found} scores for each sample, the model {classes}; a verifier needs the same "
            "classes"
        )
    answers: NDArray[Any] = scores.reshape(len(samples), -1).argmax(axis=1)
    return answers


def _class_figures(scores: NDArray[Any], labels: NDArray[Any] | None) -> dict[str, float]:
    answers = scores.argmax(axis=1)
    counts, shares = np.bincount(answers, minlength=scores.shape[1]), probabilities(scores)
    found = {
        "classes_seen": float((counts > 0).sum()),
        "class_coverage": float((counts > 0).mean()),
        "class_share_smallest": float(counts.min() / len(scores)),
        "class_share_largest": float(counts.max() / len(scores)),
        "confidence": float(shares.max(axis=1).mean()),
        "information": information_of(shares),
    }
    return found if labels is None else {**found, "label_hit": float((answers == labels).mean())}


def information_of(shares: Floats) -> float:
    """What an answer says about its sample, in nats: entropy of the mean answer less the mean entropy.

    The logarithm of the inception score (Salimans et al. 2016, arXiv 1606.03498): 0 where all answers are equal, the
    logarithm of the number of classes where the network is sure and all classes appear alike.

    Args:
        shares: class probabilities (N, K).
    """
    entropies = [-(rows * np.log(rows + 1e-12)).sum(axis=-1) for rows in (shares.mean(axis=0), shares)]
    return float(entropies[0] - entropies[1].mean())


def probabilities(scores: NDArray[Any]) -> Floats:
    """The softmax of logits (N, K), or the rows themselves if they are probabilities."""
    wide = scores.astype(np.float64)
    if wide.min() >= 0 and np.allclose(wide.sum(axis=1), 1, atol=1e-3):
        return wide
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _diversity(features: NDArray[Any]) -> float:
    """Mean distance between two of the features (N, F), in units of their mean norm."""
    rows = features.astype(np.float64)
    norms = np.square(rows).sum(axis=1)
    if len(rows) < 2 or not norms.any():
        return 0.0
    squares = norms[:, None] + norms[None, :] - 2 * rows @ rows.T
    np.fill_diagonal(squares, 0)
    distance = np.sqrt(np.maximum(squares, 0)).sum() / (len(rows) * (len(rows) - 1))
    return float(distance / np.sqrt(norms).mean())


def _pooled(feature: NDArray[Any]) -> NDArray[Any]:
    """(N, C), the mean over all other axes; (N, 1) of one number for each sample."""
    channels = feature.shape[1] if feature.ndim > 1 else 1
    pooled: NDArray[Any] = feature.reshape(len(feature), channels, -1).mean(axis=2)
    return pooled
