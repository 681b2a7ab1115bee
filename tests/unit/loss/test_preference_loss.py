"""The preference loss: what its gradient moves, and in which direction. Axes: P pairs."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grpo_dual.loss.preference import preference_loss
from grpo_dual.loss.reduce import sequence_sums

SETTINGS = [
    {"beta": 0.1, "nll": 1.0},
    {"beta": 2.0, "nll": 0.0},
    {"beta": 5.0, "nll": 0.3, "length_normalized": True},
]


def pairs(count: int = 5, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Four log-probs of each pair, fp64, and the two token counts."""
    generator = torch.Generator().manual_seed(seed)
    logprobs = [-10 * torch.rand(count, dtype=torch.float64, generator=generator) for _ in range(4)]
    counts = [torch.randint(1, 9, (count,), generator=generator) for _ in range(2)]
    return logprobs, counts


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradient_is_that_of_finite_differences(settings: dict[str, Any]):
    (accepted, rejected, *references), counts = pairs()

    def total(own: Tensor, other: Tensor) -> Tensor:
        return preference_loss(own, other, *references, *counts, **settings).loss_P.sum()

    inputs = accepted.requires_grad_(), rejected.requires_grad_()
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", SETTINGS)
def test_references_and_metrics_carry_no_gradient(settings: dict[str, Any]):
    logprobs, counts = pairs()
    inputs = [value.requires_grad_() for value in logprobs]
    parts = preference_loss(*inputs, *counts, **settings)
    assert not any(p.requires_grad for p in (parts.dpo_P, parts.nll_P, parts.margin_P))
    parts.loss_P.sum().backward()
    assert [value.grad is None for value in inputs] == [False, False, True, True]


logprob = st.floats(-1000, 0)


@given(
    logprobs=st.tuples(logprob, logprob, logprob, logprob),
    counts=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    beta=st.floats(0.01, 10),
    nll=st.floats(0, 5),
    by_token=st.booleans(),
)
def test_no_term_ever_raises_the_rejected_side(
    logprobs: tuple[float, ...], counts: tuple[int, int], beta: float, nll: float, by_token: bool
):
    values = [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in logprobs]
    tokens = [torch.tensor([c]) for c in counts]
    parts = preference_loss(*values, *tokens, beta=beta, nll=nll, length_normalized=by_token)
    accepted, rejected = torch.autograd.grad(parts.loss_P.sum(), values[:2])
    assert torch.isfinite(parts.loss_P).all()
    # Descent lowers log pi(y-), or leaves it where the margin is won, and raises log pi(y+).
    assert rejected.item() >= 0
    assert accepted.item() <= -nll / counts[0]


def test_the_anchor_does_not_see_the_rejected_side():
    (accepted, rejected, *references), counts = pairs()
    rejected.requires_grad_()
    grads = [
        torch.autograd.grad(
            preference_loss(
                accepted, rejected, *references, *counts, beta=0.1, nll=nll
            ).loss_P.sum(),
            rejected,
        )[0]
        for nll in (0.0, 1.0, 50.0)
    ]
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_what_both_models_share_cancels():
    # A token that policy and reference find equally likely, in both replies, changes no margin.
    (accepted, rejected, *references), counts = pairs()
    shifted = preference_loss(
        accepted - 3, rejected - 3, *(r - 3 for r in references), *counts, beta=0.4, nll=0.0
    )
    plain = preference_loss(accepted, rejected, *references, *counts, beta=0.4, nll=0.0)
    torch.testing.assert_close(shifted.margin_P, plain.margin_P, rtol=0, atol=1e-12)


def test_exchanged_sides_have_the_opposite_margin():
    (a, b, ref_a, ref_b), (n, m) = pairs()
    here = preference_loss(a, b, ref_a, ref_b, n, m, beta=0.7, nll=0.0, length_normalized=True)
    there = preference_loss(b, a, ref_b, ref_a, m, n, beta=0.7, nll=0.0, length_normalized=True)
    torch.testing.assert_close(here.margin_P, -there.margin_P, rtol=0, atol=1e-12)
    # log sigmoid(m) - log sigmoid(-m) = m
    torch.testing.assert_close(there.dpo_P - here.dpo_P, here.margin_P, rtol=0, atol=1e-10)


def test_a_lost_pair_is_finite():
    # m = -2000: the loss is 2000, where log(sigmoid) would be -inf.
    parts = preference_loss(
        torch.tensor([-2000.0]),
        torch.tensor([0.0]),
        *(torch.tensor([0.0]) for _ in range(2)),
        *(torch.tensor([1]) for _ in range(2)),
        beta=1.0,
        nll=0.0,
    )
    assert parts.loss_P.item() == 2000.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta 0.0 must be above 0"),
        ({"nll": -1.0}, "nll -1.0"),
        ({"accepted": torch.zeros(5, dtype=torch.bfloat16)}, "bfloat16"),
        ({"accepted": torch.zeros(4)}, "not all"),
        ({"counts": torch.zeros(5, dtype=torch.int64)}, "token counts"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str):
    (accepted, rejected, *references), (count, other) = pairs()
    with pytest.raises(ValueError, match=message):
        preference_loss(
            change.get("accepted", accepted),
            rejected,
            *references,
            change.get("counts", count),
            other,
            beta=change.get("beta", 0.1),
            nll=change.get("nll", 1.0),
        )


def test_sums_of_sequences():
    # Tokens 1 + 2 of the first, 4 of the third; the second has none.
    values_N = torch.tensor([1.0, 4.0, 2.0], requires_grad=True)
    sums = sequence_sums(values_N, torch.tensor([0, 2, 0]), sequences=3)
    assert sums.tolist() == [3.0, 0.0, 4.0]
    (grad,) = torch.autograd.grad(sums[0] + 10 * sums[2], values_N)
    assert grad.tolist() == [1.0, 10.0, 1.0]
