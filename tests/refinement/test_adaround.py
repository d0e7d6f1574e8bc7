"""Learned rounding, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.refinement.adaround import LearnedRounding

S4 = QuantType(4, signed=True, symmetric=True)
WEIGHT = torch.tensor([[0.25, -0.6], [2.0, 30.0]])
ENCODING = Encoding(np.array([0.5, 1.0], np.float32), np.zeros(2, np.int32), S4, 0)


def test_it_starts_from_the_weight_itself_where_that_is_not_clipped() -> None:
    rounding = LearnedRounding(WEIGHT, ENCODING)
    torch.testing.assert_close(rounding(WEIGHT), torch.tensor([[0.25, -0.6], [2.0, 7.0]]))
    # 0.25 / 0.5 lies halfway, -0.6 / 0.5 = -1.2 is 0.8 above -2, and 2 and 30 are integers.
    torch.testing.assert_close(rounding.offset().detach(), torch.tensor([[0.5, 0.8], [0.0, 0.0]]), atol=1e-5, rtol=0)


def test_what_is_decided_lies_on_the_grid() -> None:
    rounding = LearnedRounding(WEIGHT, ENCODING)
    with torch.no_grad():
        rounding.logit[0] = torch.tensor([-3.0, -3.0])  # both down
        rounding.logit[1] = torch.tensor([3.0, 3.0])  # both up
    torch.testing.assert_close(rounding.rounded(), torch.tensor([[0.0, -1.0], [3.0, 7.0]]))


def test_openness_is_what_the_paper_writes() -> None:
    rounding = LearnedRounding(WEIGHT, ENCODING)
    # h is 0.5, 0.8, 0, 0, so |2h - 1| is 0, 0.6, 1, 1 and its square 0, 0.36, 1, 1.
    assert float(rounding.regularization(2).detach()) == pytest.approx(1 - 2.36 / 4, abs=1e-5)


def test_the_step_is_learned_in_its_logarithm() -> None:
    rounding = LearnedRounding(WEIGHT, ENCODING)
    with torch.no_grad():
        rounding.log_step[1] = math.log(3)
    learned = rounding.encoding(ENCODING)
    np.testing.assert_allclose(learned.scale, [0.5, 3.0], rtol=1e-6)
    assert (learned.axis, learned.qtype) == (0, S4)
    torch.testing.assert_close(rounding.rounded()[1], torch.tensor([6.0, 21.0]))


def test_unsigned_weights_keep_their_zero_point() -> None:
    u8 = QuantType(8, signed=False, symmetric=False)
    encoding = Encoding(np.asarray(0.5, np.float32), np.asarray(10, np.int32), u8)
    weight = torch.tensor([[-5.0, 1.2, -9.0]])
    rounding = LearnedRounding(weight, encoding)
    torch.testing.assert_close(rounding(weight), torch.tensor([[-5.0, 1.2, -5.0]]))
    torch.testing.assert_close(rounding.rounded(), torch.tensor([[-5.0, 1.0, -5.0]]))
