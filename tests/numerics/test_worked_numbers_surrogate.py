"""Worked numbers of the clipped surrogate, of its reductions, and r = 1. Axes: N tokens."""

import math

import pytest
import torch

from grpo_dual.loss.ratio import clipped_surrogate
from grpo_dual.loss.reduce import (
    sequence_mean_length_norm,
    sequence_mean_token_mean,
    sequence_mean_token_sum,
    token_mean,
)


@pytest.mark.parametrize(
    ("ratio", "advantage", "dual_clip", "loss", "gradient"),
    [
        # T1.2, clip [.8, 1.28]; gradient with respect to log pi is -r A where it is on.
        # min(1.5, 1.28) = 1.28: already raised enough
        (1.5, 1.0, None, -1.28, 0.0),
        # min(.5, .8) = .5: a good token that fell is pulled back up
        (0.5, 1.0, None, -0.5, -0.5),
        # min(-1.5, -1.28) = -1.5: a bad token that rose is pushed down
        (1.5, -1.0, None, 1.5, 1.5),
        # min(-.5, -.8) = -.8: already lowered enough
        (0.5, -1.0, None, 0.8, 0.0),
        # min(4, -c A) = 3: the dual clip
        (4.0, -1.0, 3.0, 3.0, 0.0),
    ],
)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_t12(ratio, advantage, dual_clip, loss, gradient, dtype, atol):
    logprobs_N = torch.tensor([math.log(ratio) - 1.0], dtype=dtype, requires_grad=True)
    out = clipped_surrogate(
        logprobs_N,
        torch.tensor([-1.0], dtype=dtype),
        torch.tensor([advantage], dtype=dtype),
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=dual_clip,
    )
    assert out.loss_N.item() == pytest.approx(loss, abs=atol)
    got = torch.autograd.grad(out.loss_N.sum(), logprobs_N)[0].item()
    assert got == pytest.approx(gradient, abs=atol)
    assert out.cut_N.item() is (gradient == 0.0)


def test_t13():
    # r = 1: l = -A. Sequence 1: A = +1, 2 tokens of l = -1; sequence 2: A = -1, 4 tokens of l = +1.
    values_N = torch.tensor([-1.0, -1, 1, 1, 1, 1], dtype=torch.float64)
    index_N = torch.tensor([0, 0, 1, 1, 1, 1])
    # a) (-1 + 1) / 2
    assert sequence_mean_token_mean(values_N, index_N, sequences=2).item() == 0.0
    # b) (-2 + 4) / 6
    assert token_mean(values_N, tokens=6).item() == pytest.approx(1 / 3, abs=1e-15)
    # c) (-2 + 4) / (2 * 8)
    assert sequence_mean_length_norm(values_N, sequences=2, max_length=8).item() == 0.125
    # d) (-2 + 4) / 2
    assert sequence_mean_token_sum(values_N, sequences=2).item() == 1.0


def test_s17_on_policy_all_clips_are_inert():
    # 1.7: old = sg[log pi] makes r exactly 1, so even bounds that leave no room do nothing.
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        logprobs_N = (-10 * torch.rand(1000, dtype=dtype, generator=generator)).requires_grad_()
        advantages_N = torch.randn(1000, dtype=dtype, generator=generator)
        out = clipped_surrogate(
            logprobs_N, logprobs_N.detach(), advantages_N, clip_low=0, clip_high=0, dual_clip=1.01
        )
        assert (out.ratio_N == 1).all()
        assert not out.cut_N.any()
        gradient_N = torch.autograd.grad(out.loss_N.sum(), logprobs_N)[0]
        assert torch.equal(gradient_N, -advantages_N)
