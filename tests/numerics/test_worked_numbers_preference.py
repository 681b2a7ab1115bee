"""Worked numbers of the preference loss on one pair.

log pi(y+) = -2 over 4 tokens, log ref(y+) = -3, log pi(y-) = -4 over 2 tokens, log ref(y-) = -2.5:
the policy finds y+ by 1 nat likelier than the reference does, and y- by 1.5 less likely.
"""

import math

import pytest
import torch
from torch import Tensor

from grpo_dual.loss.preference import PreferenceParts, preference_loss


def pair(*, requires_grad: bool = False) -> tuple[Tensor, Tensor]:
    own = (torch.tensor([value], dtype=torch.float64) for value in (-2.0, -4.0))
    accepted, rejected = (value.requires_grad_(requires_grad) for value in own)
    return accepted, rejected


def loss_of(accepted: Tensor, rejected: Tensor, **settings: float) -> PreferenceParts:
    return preference_loss(
        accepted,
        rejected,
        torch.tensor([-3.0], dtype=torch.float64),
        torch.tensor([-2.5], dtype=torch.float64),
        torch.tensor([4]),
        torch.tensor([2]),
        **{"beta": 0.1, "nll": 1.0, **settings},  # type: ignore[arg-type]
    )


def test_one_pair():
    # m = .1 (1 - (-1.5)) = .25; -log sigmoid(.25) = log(1 + e^-.25) = log 1.7788008 = .5759395;
    # the anchor is 2 / 4 = .5 nats a token; together 1.0759395
    parts = loss_of(*pair())
    assert parts.margin_P.item() == pytest.approx(0.25, abs=1e-12)
    assert parts.dpo_P.item() == pytest.approx(0.5759394198788437, abs=1e-12)
    assert parts.dpo_P.item() == pytest.approx(math.log(1 + math.exp(-0.25)), abs=1e-12)
    assert parts.nll_P.item() == 0.5
    assert parts.loss_P.item() == pytest.approx(1.0759394198788437, abs=1e-12)


def test_the_anchor_has_its_weight():
    # .5759395 + .2 x .5
    assert loss_of(*pair(), nll=0.2).loss_P.item() == pytest.approx(0.6759394198788437, abs=1e-12)
    assert loss_of(*pair(), nll=0.0).loss_P.item() == pytest.approx(0.5759394198788437, abs=1e-12)


def test_one_pair_by_the_token():
    # m = .1 (1 / 4 - (-1.5 / 2)) = .1 (.25 + .75) = .1; log(1 + e^-.1) = log 1.9048374 = .6443967
    parts = loss_of(*pair(), length_normalized=True, nll=0.0)
    assert parts.margin_P.item() == pytest.approx(0.1, abs=1e-12)
    assert parts.loss_P.item() == pytest.approx(0.6443966600735709, abs=1e-12)


def test_gradient_of_one_pair():
    # sigmoid(-.25) = 1 / (1 + e^.25) = .4378235: dL/dlog pi(y+) = -.1 x .4378235 - 1 / 4,
    # dL/dlog pi(y-) = +.1 x .4378235
    accepted, rejected = pair(requires_grad=True)
    loss_of(accepted, rejected).loss_P.sum().backward()
    assert accepted.grad is not None
    assert rejected.grad is not None
    assert accepted.grad.item() == pytest.approx(-0.2937823499114202, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(0.0437823499114202, abs=1e-12)


def test_gradient_by_the_token():
    # sigmoid(-.1) = .4750208: -.1 x .4750208 / 4 for y+, +.1 x .4750208 / 2 for y-, no anchor
    accepted, rejected = pair(requires_grad=True)
    loss_of(accepted, rejected, length_normalized=True, nll=0.0).loss_P.sum().backward()
    assert accepted.grad is not None
    assert rejected.grad is not None
    assert accepted.grad.item() == pytest.approx(-0.01187552031253, abs=1e-12)
    assert rejected.grad.item() == pytest.approx(0.02375104062507, abs=1e-12)


def test_where_policy_is_reference_the_loss_is_log_two():
    same = torch.tensor([-7.0, -1.0])
    counts = torch.tensor([3, 1])
    parts = preference_loss(same, 2 * same, same, 2 * same, counts, counts, beta=0.5, nll=0.0)
    assert parts.margin_P.tolist() == [0.0, 0.0]
    assert parts.loss_P.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-7)
