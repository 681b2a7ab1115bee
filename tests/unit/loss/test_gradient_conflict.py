"""Scalars of two objectives' gradients."""

import pytest
import torch

from grpo_dual.diagnosis.control import corrected_cosine, full_batch_reliability
from grpo_dual.loss.conflict import cosines, gradient_norms, gram_matrix


def test_gram_of_two_gradients_over_several_parameters():
    # a.a = 1 + 4 + 9 = 14, a.b = 4 - 10 + 18 = 12, b.b = 16 + 25 + 36 = 77
    first = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    second = [torch.tensor([4.0, -5.0]), torch.tensor([[6.0]])]
    gram_OO = gram_matrix([first, second])
    assert gram_OO.tolist() == [[14.0, 12.0], [12.0, 77.0]]
    assert gram_OO.dtype == torch.float64
    assert gradient_norms(gram_OO).tolist() == pytest.approx([14**0.5, 77**0.5], abs=1e-12)
    assert cosines(gram_OO)[0, 1].item() == pytest.approx(12 / (14 * 77) ** 0.5, abs=1e-12)


def test_none_counts_as_zeros():
    first = [torch.tensor([1.0, 1.0]), None]
    second = [None, torch.tensor([2.0])]
    assert gram_matrix([first, second]).tolist() == [[2.0, 0.0], [0.0, 4.0]]


def test_a_zero_gradient_has_no_cosine():
    gram_OO = gram_matrix([[torch.zeros(3)], [torch.ones(3)]])
    assert cosines(gram_OO).isnan().tolist() == [[True, True], [True, False]]
    assert gram_matrix([[None], [None]]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_sums_in_fp64_where_fp32_would_lose_them():
    # 1e4^2 + 1 - 1e4^2 = 1: in fp32 1e8 + 1 = 1e8 and the product would be 0
    first = [torch.tensor([1e4, 1.0, 1e4])]
    second = [torch.tensor([1e4, 1.0, -1e4])]
    assert gram_matrix([first, second])[0, 1].item() == 1.0


def test_three_objectives():
    basis = torch.eye(3)
    gram_OO = gram_matrix([[basis[0]], [basis[1]], [-basis[0]]])
    assert cosines(gram_OO).tolist() == [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]


def test_noise_only_has_no_corrected_cosine():
    assert full_batch_reliability(-0.3) == 0.0
    assert corrected_cosine(-0.1, 0.0, 0.5) is None


def test_gradients_that_do_not_compare_are_refused():
    with pytest.raises(ValueError, match="parameters"):
        gram_matrix([[torch.ones(1)], []])
    with pytest.raises(ValueError, match="shape"):
        gram_matrix([[torch.ones(2)], [torch.ones(3)]])
    with pytest.raises(ValueError, match="at least one"):
        gram_matrix([])
