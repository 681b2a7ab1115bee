"""The clipped surrogate: where its gradient is, and where it is not. Axes: N tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.loss.ratio import clamped_log_ratio, clipped_surrogate

BOUNDS = {"clip_low": 0.2, "clip_high": 0.28}


def surrogate(log_ratios, advantages, **options):
    logprobs_N = torch.tensor(log_ratios, dtype=torch.float64, requires_grad=True)
    old_N = torch.zeros_like(logprobs_N, requires_grad=False)
    advantages_N = torch.tensor(advantages, dtype=torch.float64)
    out = clipped_surrogate(logprobs_N, old_N, advantages_N, **(BOUNDS | options))
    return out, torch.autograd.grad(out.loss_N.sum(), logprobs_N)[0]


@given(
    st.lists(
        st.tuples(st.floats(-25, 25), st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0])), min_size=1
    ),
    st.sampled_from([None, 3.0]),
)
def test_cut_is_where_the_gradient_is_zero(tokens, dual_clip):
    log_ratios, advantages = zip(*tokens, strict=True)
    out, gradient_N = surrogate(log_ratios, advantages, dual_clip=dual_clip)
    has_advantage_N = torch.tensor(advantages) != 0
    assert torch.equal(out.cut_N, (gradient_N == 0) & has_advantage_N)


@given(st.floats(-25, 25), st.sampled_from([-1.0, 1.0]))
def test_where_it_is_not_cut_the_gradient_is_minus_r_times_a(log_ratio, advantage):
    out, gradient_N = surrogate([log_ratio], [advantage], dual_clip=3.0)
    if not out.cut_N[0]:
        assert gradient_N[0].item() == pytest.approx(-math.exp(log_ratio) * advantage, rel=1e-12)


def test_dual_clip_none_leaves_large_ratios_of_negative_advantages_alone():
    # r = 4, A = -1: the loss is 4 without a dual clip, 3 with c = 3
    assert surrogate([math.log(4)], [-1.0])[0].loss_N.item() == pytest.approx(4.0, abs=1e-12)
    out, _ = surrogate([math.log(4)], [-1.0], dual_clip=3.0)
    assert out.loss_N.item() == pytest.approx(3.0, abs=1e-12)


@pytest.mark.parametrize("log_ratio", [-700.0, 700.0])
def test_clamp_keeps_ratio_and_gradient_finite(log_ratio):
    for advantage in (-1.0, 1.0):
        out, gradient_N = surrogate([log_ratio], [advantage])
        assert torch.isfinite(out.loss_N).all()
        assert torch.isfinite(gradient_N).all()
        assert out.cut_N.all()


def test_clamp_is_at_twenty():
    d_N = clamped_log_ratio(torch.tensor([-25.0, -19.0, 0.0, 25.0]), torch.zeros(4))
    assert d_N.tolist() == [-20.0, -19.0, 0.0, 20.0]


def test_nan_is_not_hidden():
    out, _ = surrogate([float("nan")], [1.0])
    assert out.loss_N.isnan().all()


@pytest.mark.parametrize(
    "bounds", [{"clip_low": -0.1}, {"clip_low": 1.1}, {"clip_high": -0.1}, {"dual_clip": 1.0}]
)
def test_bounds_out_of_range_are_refused(bounds):
    with pytest.raises(ValueError, match="clip_low"):
        surrogate([0.0], [1.0], **bounds)
