"""The loss, worked out by hand with numpy."""

import numpy as np
import pytest
import torch

from dfq_deploy.errors import OptionError
from dfq_deploy.qat.distillation import Distillation, DistillationLoss

STUDENT = np.array([[1.0, 2.0, 0.0], [0.5, -1.0, 3.0]])
TEACHER = np.array([[2.0, 2.0, -1.0], [0.0, 0.0, 2.0]])


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits)
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def lesson(scores: str | None = "y", features: tuple[str, ...] = (), **terms: float) -> DistillationLoss:
    return DistillationLoss(Distillation(**terms), scores, ("y",), features)


def tensors(array: np.ndarray, **more: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in {"y": array, **more}.items()}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence(temperature: float) -> None:
    given, wanted = softmax(STUDENT / temperature), softmax(TEACHER / temperature)
    expected = temperature**2 * (wanted * np.log(wanted / given)).sum(1).mean()
    found = lesson(temperature=temperature).loss(tensors(STUDENT), tensors(TEACHER))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_soft_labels_and_features_are_added() -> None:
    labels = np.array([[0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], np.float32)
    plain = float(lesson().loss(tensors(STUDENT), tensors(TEACHER)))
    classes = -(labels * np.log(softmax(STUDENT))).sum(1).mean()
    found = lesson(class_weight=0.5).loss(tensors(STUDENT), tensors(TEACHER), torch.from_numpy(labels))
    assert float(found) == pytest.approx(plain + 0.5 * classes, rel=1e-5)
    f = {"f": np.array([1.0, 2.0]), "g": np.array([3.0])}
    t = {"f": np.array([1.0, 4.0]), "g": np.array([2.0])}
    aligned = lesson(features=("f", "g"), feature_weight=2.0)
    assert aligned.kept_tensors == ("f", "g")
    found = aligned.loss(tensors(STUDENT, **f), tensors(TEACHER, **t))
    assert float(found) == pytest.approx(plain + 2 * (4 / 17 + 1 / 4) / 2, rel=1e-5)


def test_outputs_that_are_no_scores() -> None:
    regression = lesson(scores=None)
    found = regression.loss(tensors(STUDENT), tensors(TEACHER))
    assert float(found) == pytest.approx(((STUDENT - TEACHER) ** 2).sum() / (TEACHER**2).sum(), rel=1e-5)
    decibel = 10 * np.log10((TEACHER**2).sum() / ((STUDENT - TEACHER) ** 2).sum())
    assert regression.agreement(torch.from_numpy(STUDENT), torch.from_numpy(TEACHER)) == pytest.approx(decibel)


def test_agreement_counts_equal_classes() -> None:
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 1.0]])
    given = torch.tensor([[5.0, 0.0], [1.0, 0.0], [3.0, 1.0], [0.0, 9.0]])
    assert lesson().agreement(given, wanted) == 75


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"class_weight": -1.0}])
def test_terms_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="temperature is above 0"):
        Distillation(**wrong)
