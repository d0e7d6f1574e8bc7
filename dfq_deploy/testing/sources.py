"""Check what a generative method trains: draws, state, steps."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from dfq_deploy.plugins.contracts import Generative, Source, SynthesisRequest
from dfq_deploy.testing.options import require
from dfq_deploy.twin import Twin

__all__ = ["check_source"]

DRAWN = 4


def check_source(method: Generative, teachers: Sequence[Twin], request: SynthesisRequest) -> None:
    """Check the source of ``method``: it draws what is asked for, and a restored one draws the same.

    Raises:
        AssertionError: says what is wrong.
    """
    request = replace(request, journal=None)
    source = method.prepare(teachers, request)
    images = _drawn(method, source, request)
    require(torch.equal(_drawn(method, source, request), images), method, "draws other samples from the same generator")
    state = _through_a_file(method, source.state())
    restored = method.source(teachers, request)
    restored.restore(state)
    same = torch.equal(_drawn(method, restored, request), images)
    require(same, method, "draws other samples after restore(state()); the state must hold all that decides them")
    if request.student is not None:
        terms = source.adapt([request.student()], torch.Generator().manual_seed(0))
        fits = isinstance(terms, dict) and all(isinstance(value, float) for value in terms.values())
        require(fits, method, f"adapt returns {terms!r}; the terms of the loss by name are needed, as floats")


def _drawn(method: Generative, source: Source, request: SynthesisRequest) -> torch.Tensor:
    images, labels = source.draw(DRAWN, torch.Generator().manual_seed(3))
    wanted = (DRAWN, *request.shape)
    require(tuple(images.shape) == wanted, method, f"draws samples of shape {tuple(images.shape)}, not {wanted}")
    require(not images.requires_grad, method, "draws samples with a gradient; detach them")
    if labels is not None:
        fits = tuple(labels.shape) == (DRAWN, request.classes)
        require(fits, method, f"draws labels of shape {tuple(labels.shape)}, not {(DRAWN, request.classes)}")
    return images.clone()


def _through_a_file(method: Generative, state: dict[str, Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(stream, weights_only=True)
    except Exception as problem:  # torch raises whatever its reader meets
        reason = " ".join(str(problem).split())[:160]
        raise AssertionError(
            f"{type(method).__name__}: its state holds more than tensors and plain values ({reason})"
        ) from problem
    return loaded
