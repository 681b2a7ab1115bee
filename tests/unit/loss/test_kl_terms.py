"""KL terms: signs, values near and far from the reference, what moves. Axes: N tokens."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.loss.kl import k1, k2, k3, k3_value_k2_gradient, ratio_corrected_k3


def leaf(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


@given(st.floats(-50, 50))
def test_k3_is_never_negative_and_finite(d):
    for dtype in (torch.float32, torch.float64):
        value = k3(torch.tensor([d], dtype=dtype), torch.zeros(1, dtype=dtype))
        assert value >= 0
        assert torch.isfinite(value)


def test_k3_near_zero_keeps_its_digits_in_fp32():
    # d = 1e-3: d^2/2 - d^3/6 = 4.998334e-7, here within one fp32 step of d (1.2e-10).
    # exp(-d) + d - 1 written out is only known to 6e-8, a tenth of the value.
    value = k3(torch.tensor([1e-3]), torch.zeros(1))
    assert abs(value.item() - 4.998334e-7) < 1.2e-10


def test_equal_policies_have_zero_value_and_zero_gradient():
    for term in (k1, k2, k3, k3_value_k2_gradient):
        logprobs_N = leaf(-1.0, -2.0)
        value_N = term(logprobs_N, logprobs_N.detach())
        assert (value_N == 0).all()
        if term is not k1:
            assert (torch.autograd.grad(value_N.sum(), logprobs_N)[0] == 0).all()


@given(st.floats(-18, 18))
def test_straight_through_has_the_value_of_k3_and_the_gradient_of_k2(d):
    logprobs_N, ref_N = leaf(d), torch.zeros(1, dtype=torch.float64)
    both = k3_value_k2_gradient(logprobs_N, ref_N)
    assert torch.equal(both.detach(), k3(logprobs_N, ref_N).detach())
    assert torch.autograd.grad(both.sum(), logprobs_N)[0].item() == d


def test_far_from_the_reference_the_k2_gradient_still_pulls():
    logprobs_N = leaf(-30.0, 30.0)
    value_N = k3_value_k2_gradient(logprobs_N, torch.zeros(2, dtype=torch.float64))
    assert torch.isfinite(value_N).all()
    assert torch.autograd.grad(value_N.sum(), logprobs_N)[0].tolist() == [-30.0, 30.0]


def test_ratio_in_the_corrected_k3_is_not_detached():
    # d/dlp (r k3) = r (k3 + 1 - exp(-d)); detached it would be r (1 - exp(-d)).
    logprobs_N, ref_N, old_N = leaf(-1.0), leaf(-1.5), leaf(-1.2)
    value_N = ratio_corrected_k3(logprobs_N, ref_N.detach(), old_N.detach())
    gradient = torch.autograd.grad(value_N.sum(), logprobs_N)[0]
    # r = e^.2, d = .5: e^.2 (k3 + 1 - e^-.5) with k3 = e^-.5 + .5 - 1 leaves .5 e^.2
    assert abs(gradient[0].item() - 0.5 * math.exp(0.2)) < 1e-12
