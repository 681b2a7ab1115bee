"""Worked numbers of the corrected cosine between two objectives' gradients."""

import pytest
import torch

from grpo_dual.diagnosis.control import corrected_cosine, full_batch_reliability
from grpo_dual.loss.conflict import cosines, gram_matrix, half_cosine


def test_t93_full_batch_reliabilities():
    # -.10 / sqrt(.2 * .25) = -.10 / .223607
    assert corrected_cosine(-0.10, 0.2, 0.25) == pytest.approx(-0.447214, abs=5.1e-7)


def test_t93_half_split_cosines():
    # Spearman-Brown: .4 / 1.2 = 1/3 and .5 / 1.25 = .4; -.10 / sqrt(.4 / 3) = -.273861
    a, b = full_batch_reliability(0.2), full_batch_reliability(0.25)
    assert (a, b) == pytest.approx((1 / 3, 0.4), abs=1e-12)
    assert corrected_cosine(-0.10, a, b) == pytest.approx(-0.273861, abs=5.1e-7)


def test_s35_gram_of_the_worked_pair():
    # g1 = (1, 0), g2 = (-1, 1): a = 1, b = -1, c = 2; cos = -1 / sqrt 2
    gram_OO = gram_matrix([[torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]])
    assert gram_OO.tolist() == [[1.0, -1.0], [-1.0, 2.0]]
    assert cosines(gram_OO)[0, 1].item() == pytest.approx(-(0.5**0.5), abs=1e-12)


def test_half_cosine():
    # Halves (3, 4) and (4, 3): 24 / 25.
    assert half_cosine(torch.tensor([3.0, 4.0]), torch.tensor([7.0, 7.0])) == pytest.approx(0.96)
    assert half_cosine(torch.zeros(2), torch.tensor([1.0, 0.0])) is None
