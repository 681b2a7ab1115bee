"""Reductions: micro-batch shares add up to one batch, whatever the split. Axes: N tokens."""

import pytest
import torch

from grpo_dual.loss.reduce import (
    sequence_mean_length_norm,
    sequence_mean_token_mean,
    sequence_mean_token_sum,
    token_mean,
)

INDEX_N = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3, 3])
REDUCTIONS = {
    "token_mean": lambda v, i: token_mean(v, tokens=10),  # noqa: ARG005
    "sequence_mean_token_mean": lambda v, i: sequence_mean_token_mean(v, i, sequences=4),
    "sequence_mean_length_norm": lambda v, i: sequence_mean_length_norm(  # noqa: ARG005
        v, sequences=4, max_length=8
    ),
    "sequence_mean_token_sum": lambda v, i: sequence_mean_token_sum(v, sequences=4),  # noqa: ARG005
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 0], [2, 1]], [[0], [1], [2], [3]]])
def test_shares_of_micro_batches_add_up_in_value_and_gradient(name, parts):
    generator = torch.Generator().manual_seed(1)
    values_N = torch.randn(10, dtype=torch.float64, generator=generator, requires_grad=True)
    whole = REDUCTIONS[name](values_N, INDEX_N)
    masks = [torch.isin(INDEX_N, torch.tensor(sequences)) for sequences in parts]
    shares = sum(REDUCTIONS[name](values_N[m], INDEX_N[m]) for m in masks)
    torch.testing.assert_close(shares, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(shares, values_N)[0],
        torch.autograd.grad(whole, values_N)[0],
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("size", [0, 3])
def test_nothing_to_count_is_a_zero_that_can_be_propagated(size):
    values_N = torch.zeros(size, requires_grad=True)
    loss = token_mean(values_N, tokens=0)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(values_N.grad, torch.zeros(size))


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="cannot be -1"):
        token_mean(torch.zeros(2), tokens=-1)
