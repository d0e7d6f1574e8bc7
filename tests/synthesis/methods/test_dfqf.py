"""The fixed set that DFQF distils with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.methods.dfqf import Dfqf, FixedSet
from dfq_deploy.twin import Twin


def numbered(count: int) -> FixedSet:
    """Images that carry their number, and their number as label."""
    numbers = np.arange(count, dtype=np.float32)
    return FixedSet(Samples(numbers[:, None, None, None], numbers[:, None]), "cpu")


def test_none_comes_twice_before_all_have_come() -> None:
    images, labels = numbered(5).draw(8, torch.Generator().manual_seed(0))
    assert sorted(images.flatten()[:5].tolist()) == [0, 1, 2, 3, 4]
    assert len(set(images.flatten()[5:].tolist())) == 3
    assert labels is not None
    assert torch.equal(images.flatten(), labels.flatten())


def test_no_student_changes_it() -> None:
    fixed = numbered(3)
    assert fixed.adapt([lambda images: images], torch.Generator()) == {}
    assert fixed.state()["images"].flatten().tolist() == [0, 1, 2]


def test_it_can_be_kept_and_taken_back() -> None:
    other = numbered(1)
    other.restore(numbered(4).state())
    images, _ = other.draw(4, torch.Generator().manual_seed(0))
    assert sorted(images.flatten().tolist()) == [0, 1, 2, 3]


def test_it_is_what_is_synthesized(digits_bn: Path) -> None:
    method = Dfqf(schedule="short", iterations=2, warmup=1, channels=4, batch=4)
    teacher = Twin.from_model(load(digits_bn))
    request = SynthesisRequest(6, (1, 16, 16), 10, student=lambda: lambda images: images.flatten(1)[:, :10])
    fixed, samples = method.prepare([teacher], request), method.synthesize([teacher], replace(request))
    images, labels = fixed.draw(6, torch.Generator().manual_seed(0))
    assert labels is not None
    order = [int(np.abs(samples.images - image.numpy()).sum((1, 2, 3)).argmin()) for image in images]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(images.numpy(), samples.images[order], atol=1e-6)
    assert isinstance(samples.labels, np.ndarray)
    np.testing.assert_allclose(labels.numpy(), samples.labels[order], atol=1e-6)
