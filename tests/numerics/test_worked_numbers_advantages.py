"""Worked numbers of the group advantage and of the balance. Axes: P groups, K completions."""

import math

import pytest
import torch

from grpo_dual.advantages.balance import balance_factors
from grpo_dual.advantages.group import group_advantages


def advantages(*rows, dtype=torch.float64, **options):
    rewards_PK = torch.tensor(rows, dtype=dtype)
    return group_advantages(
        rewards_PK, rewards_PK, torch.ones_like(rewards_PK, dtype=torch.bool), **options
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # T1.1. Mean .5, squares 4 * .25 = 1, std sqrt(1/3) = .577350: .5 / .577450
        ([1, 0, 0, 1], [0.865875, -0.865875, -0.865875, 0.865875]),
        # Mean .25, squares .75^2 + 3 * .25^2 = .75, std .5: .75 / .5001, -.25 / .5001. A lone
        # success is worth 1.5: the difficulty bias of the std.
        ([1, 0, 0, 0], [1.499700, -0.499900, -0.499900, -0.499900]),
        # Mean .5, squares .16 + .01 + .04 + .09 = .30, std sqrt .1 = .316228
        ([0.9, 0.6, 0.3, 0.2], [1.264511, 0.316128, -0.632256, -0.948383]),
    ],
)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 5.1e-7), (torch.float32, 1e-5)])
def test_t11_group(row, expected, dtype, atol):
    out = advantages(row, dtype=dtype).advantages_PK[0]
    # the expected numbers are rounded to six digits
    torch.testing.assert_close(out, torch.tensor(expected, dtype=dtype), rtol=0, atol=atol)


def test_t11_closed_form_in_fp64():
    out = advantages([1, 0, 0, 1]).advantages_PK[0, 0].item()
    assert out == pytest.approx(0.5 / (math.sqrt(1 / 3) + 1e-4), abs=1e-12)


def test_t11_none_is_the_centred_reward():
    # Dr. GRPO: +-.5, and it is not ddof 0, which would give +-.9998
    out = advantages([1, 0, 0, 1], normalization="none").advantages_PK[0]
    assert out.tolist() == [0.5, -0.5, -0.5, 0.5]


@pytest.mark.parametrize("mode", ["group", "none", "batch"])
def test_t11_edges(mode):
    out = advantages([0.5] * 4, [1, 0, 0, 1], normalization=mode)
    assert (out.advantages_PK[0] == 0).all()
    assert out.dead_P.tolist() == [True, False]


def test_t31a_group_of_two():
    # (0, 2): 1 / (sqrt 2 + 1e-4) = .707057; (0, 1): .5 / (sqrt .5 + 1e-4) = .707007. The sum of two
    # rewards is worth as much as one: within a group the scale cancels.
    out = advantages([0, 2], [0, 1]).advantages_PK
    expected = torch.tensor([[-0.707057, 0.707057], [-0.707007, 0.707007]], dtype=torch.float64)
    torch.testing.assert_close(out, expected, rtol=0, atol=5.1e-7)


def test_t31b_c_a_dead_branch_does_not_touch_the_other():
    # h = [1, 1, 0, 0] is +-.86588 whether f = [1, 0, 0, 0] or all 0; batch whitening over both
    # branches makes it +-.93533 and +-1.32267.
    h = advantages([1, 1, 0, 0]).advantages_PK
    expected = torch.tensor([[0.86588, 0.86588, -0.86588, -0.86588]], dtype=torch.float64)
    torch.testing.assert_close(h, expected, rtol=0, atol=5.1e-6)
    assert (advantages([0, 0, 0, 0]).advantages_PK == 0).all()


def binomial(size, p):
    """Every count of successes with its probability."""
    return [(c, math.comb(size, c) * p**c * (1 - p) ** (size - c)) for c in range(size + 1)]


@pytest.mark.parametrize(
    ("size", "numbers"),
    [
        # 9.1: expected std within a group of i.i.d. binary rewards at p = .5, .7, .8, .9, .95
        (8, [0.496, 0.441, 0.360, 0.224, 0.126]),
        (4, [0.467, 0.396, 0.306, 0.176, 0.094]),
    ],
)
def test_s91_expected_std_within_groups(size, numbers):
    for p, expected in zip((0.5, 0.7, 0.8, 0.9, 0.95), numbers, strict=True):
        std_P = advantages(*([1.0] * c + [0.0] * (size - c) for c in range(size + 1))).std_P
        mean = sum(w * std_P[c].item() for c, w in binomial(size, p))
        assert mean == pytest.approx(expected, abs=5.1e-4)


def test_s92_expected_size_of_the_advantage():
    # 9.2: E|A| at G = 8 and p = .5, .7, .8, .9, .95, by enumeration of the counts. The std does not
    # keep the signal constant: sure prompts give a quarter of it.
    for p, expected in zip(
        (0.5, 0.7, 0.8, 0.9, 0.95), (0.868, 0.771, 0.630, 0.392, 0.220), strict=True
    ):
        rows = [[1.0] * c + [0.0] * (8 - c) for c in range(9)]
        size_P = advantages(*rows).advantages_PK.abs().mean(-1)
        assert sum(w * size_P[c].item() for c, w in binomial(8, p)) == pytest.approx(
            expected, abs=5.1e-4
        )


@pytest.mark.parametrize(
    ("size", "numbers"),
    [
        # 9.1: p^G + (1 - p)^G, the share of dead groups
        (8, [0.008, 0.058, 0.168, 0.430, 0.663]),
        (4, [0.125, 0.248, 0.411, 0.656, 0.815]),
    ],
)
def test_s91_share_of_dead_groups(size, numbers):
    for p, expected in zip((0.5, 0.7, 0.8, 0.9, 0.95), numbers, strict=True):
        dead_P = advantages(*([1.0] * c + [0.0] * (size - c) for c in range(size + 1))).dead_P
        share = sum(w for c, w in binomial(size, p) if dead_P[c])
        assert share == pytest.approx(expected, abs=5.1e-4)


def test_t33_balance():
    # s = (.8, .2): mean .5, ratios .625, 2.5, square roots .790569, 1.581139 (1 : 2), sum to 2
    assert balance_factors({"f": 0.8, "h": 0.2}, alpha=0.5) == pytest.approx(
        {"f": 2 / 3, "h": 4 / 3}, abs=1e-12
    )
