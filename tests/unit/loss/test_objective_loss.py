"""One objective's loss: denominators, what moves, what must not. Axes: N tokens; D, V of a toy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.advantages.group import group_advantages
from grpo_dual.loss.grpo import objective_loss

CLIPS = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}


def batch(tokens=40, seed=0, dtype=torch.float64):
    """Random tokens: log-probs as a leaf, old and reference near it, a quarter of them dead."""
    generator = torch.Generator().manual_seed(seed)

    def normal(scale):
        return scale * torch.randn(tokens, dtype=dtype, generator=generator)

    logprobs_N = -1 + normal(0.5)
    live_N = torch.rand(tokens, generator=generator) > 0.25
    return {
        "logprobs_N": logprobs_N.requires_grad_(),
        "old_N": logprobs_N.detach() + normal(0.3),
        "ref_N": logprobs_N.detach() + normal(0.3),
        "advantages_N": torch.where(live_N, normal(1.0), 0.0),
        "live_N": live_N,
    }


def loss_of(data, *, beta=0.3, **options):
    plain = {
        "pg_denominator": float(data["live_N"].sum()),
        "kl_denominator": float(len(data["live_N"])),
    }
    return objective_loss(**data, beta=beta, **(CLIPS | plain | options))


def gradient(loss, leaf):
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0]


def take(data, index):
    return {k: None if v is None else v[index] for k, v in data.items()}


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("splits", [2, 3, 7])
def test_micro_batches_equal_one_batch(old, splits):
    data = batch() | ({} if old else {"old_N": None})
    counts = {
        "pg_denominator": float(data["live_N"].sum()),
        "kl_denominator": float(len(data["live_N"])),
    }
    whole = loss_of(data)
    shares = [loss_of(take(data, i), **counts) for i in torch.arange(40).tensor_split(splits)]
    for name in ("policy", "kl", "total"):
        together = sum(getattr(share, name) for share in shares)
        torch.testing.assert_close(together, getattr(whole, name), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            gradient(together, data["logprobs_N"]),
            gradient(getattr(whole, name), data["logprobs_N"]),
            rtol=0,
            atol=1e-12,
        )
    sums = shares[0].sums
    for share in shares[1:]:
        sums = sums.merge(share.sums)
    for name in ("tokens", "live_tokens", "clipped", "kl_max", "ratio_max"):
        assert torch.equal(getattr(sums, name), getattr(whole.sums, name))
    for name in ("kl_sum", "ratio_sum"):
        torch.testing.assert_close(
            getattr(sums, name), getattr(whole.sums, name), rtol=0, atol=1e-12
        )


def test_on_policy_every_clip_is_inert_and_the_ratio_is_exactly_one():
    data = batch() | {"old_N": None}
    wide = loss_of(data)
    tight = loss_of(data, clip_low=0.0, clip_high=0.0, dual_clip=1.0001)
    assert torch.equal(
        gradient(wide.total, data["logprobs_N"]), gradient(tight.total, data["logprobs_N"])
    )
    assert torch.equal(wide.sums.ratio_sum, wide.sums.live_tokens.double())
    assert wide.sums.ratio_max == 1
    assert wide.sums.clipped == 0
    # REINFORCE: -A / denominator on live tokens, 0 elsewhere
    expected = torch.where(data["live_N"], -data["advantages_N"], 0.0) / data["live_N"].sum()
    torch.testing.assert_close(
        gradient(wide.policy, data["logprobs_N"]), expected, rtol=0, atol=1e-15
    )


def test_old_equal_to_the_policy_is_the_same_policy_term_to_the_bit():
    data = batch()
    data["old_N"] = data["logprobs_N"].detach().clone()
    given_old, without = loss_of(data), loss_of(data | {"old_N": None})
    assert torch.equal(
        gradient(given_old.policy, data["logprobs_N"]), gradient(without.policy, data["logprobs_N"])
    )


@pytest.mark.parametrize("constant", ["old_N", "ref_N", "advantages_N"])
@pytest.mark.parametrize("term", ["policy", "kl", "total"])
def test_no_term_moves_old_reference_or_advantages(constant, term):
    data = batch()
    data[constant] = data[constant].clone().requires_grad_()
    loss = getattr(loss_of(data), term)
    assert torch.autograd.grad(loss, data[constant], allow_unused=True)[0] is None


def test_policy_term_does_not_see_reference_or_beta():
    data = batch()
    a = loss_of(data, beta=0.3).policy
    b = loss_of(data | {"ref_N": data["ref_N"] + 1.0}, beta=0.9).policy
    assert torch.equal(a, b)


def test_kl_term_does_not_see_advantages_or_clips():
    data = batch()
    a = loss_of(data)
    b = loss_of(
        data | {"advantages_N": -data["advantages_N"]}, clip_low=0.0, clip_high=0.0, dual_clip=None
    )
    assert torch.equal(a.kl, b.kl)
    assert torch.equal(gradient(a.kl, data["logprobs_N"]), gradient(b.kl, data["logprobs_N"]))


def test_dead_tokens_move_kl_and_not_policy():
    data = batch() | {"old_N": None}
    data["advantages_N"] = torch.ones(
        40, dtype=torch.float64
    )  # even if someone left a number there
    parts = loss_of(data)
    dead_N = ~data["live_N"]
    assert (gradient(parts.policy, data["logprobs_N"])[dead_N] == 0).all()
    assert (gradient(parts.kl, data["logprobs_N"])[dead_N] != 0).all()


def test_clip_count_and_ratio_statistics_are_of_live_tokens():
    # r = 1.5, .5, 1.1 live and 9 dead, all with A = 1: only the first is cut
    ratio_N = torch.tensor([1.5, 0.5, 1.1, 9.0], dtype=torch.float64)
    data = {
        "logprobs_N": ratio_N.log() - 1,
        "old_N": torch.full((4,), -1.0, dtype=torch.float64),
        "ref_N": None,
        "advantages_N": torch.ones(4, dtype=torch.float64),
        "live_N": torch.tensor([True, True, True, False]),
    }
    sums = loss_of(data, beta=0.0).sums
    assert (sums.clipped, sums.live_tokens, sums.tokens) == (1, 3, 4)
    assert sums.ratio_sum.item() == pytest.approx(3.1, abs=1e-12)
    assert sums.ratio_max.item() == pytest.approx(1.5, abs=1e-12)


def test_without_a_live_token_there_is_a_zero_to_propagate():
    data = batch()
    data["live_N"] = torch.zeros(40, dtype=torch.bool)
    parts = loss_of(data, pg_denominator=0.0)
    assert parts.policy.item() == 0.0
    assert (gradient(parts.policy, data["logprobs_N"]) == 0).all()
    torch.testing.assert_close(
        gradient(parts.total, data["logprobs_N"]),
        0.3 * gradient(parts.kl, data["logprobs_N"]),
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize("ref", [True, False])
def test_an_empty_micro_batch_is_a_zero_to_propagate(ref):
    data = take(batch(), slice(0))
    data |= {} if ref else {"ref_N": None}
    parts = loss_of(data, beta=0.3 if ref else 0.0)
    parts.total.backward()
    assert parts.total.item() == 0.0
    assert parts.sums.kl_max == parts.sums.ratio_max == parts.sums.tokens == 0


def test_beta_zero_equals_no_reference():
    data = batch()
    a, b = loss_of(data, beta=0.0), loss_of(data | {"ref_N": None}, beta=0.0)
    assert torch.equal(a.total, b.total)
    assert torch.equal(gradient(a.total, data["logprobs_N"]), gradient(b.total, data["logprobs_N"]))
    assert b.sums.kl_sum == 0


def test_reported_kl_is_plain_k3_and_not_weighted_by_the_ratio():
    # TRL reports r k3; here only the gradient's term is weighted.
    data = batch()
    assert torch.equal(loss_of(data).sums.kl_sum, loss_of(data | {"old_N": None}).sums.kl_sum)
    on_policy = loss_of(data | {"old_N": None})
    torch.testing.assert_close(on_policy.sums.kl_sum / 40, on_policy.kl, rtol=0, atol=1e-14)


def test_nan_in_a_log_prob_reaches_the_loss():
    data = batch()
    with torch.no_grad():
        data["logprobs_N"][3] = float("nan")
    assert loss_of(data).total.isnan()


def test_identical_completions_give_exactly_no_policy_gradient():
    # K copies of one completion earn one reward: the group is dead, the gradient exactly 0.
    theta_DV = torch.randn(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True
    )
    features_TD = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    tokens_T = torch.tensor([1, 4, 0, 2, 6, 3])
    logprobs_T = (features_TD @ theta_DV).log_softmax(-1).gather(-1, tokens_T[:, None])[:, 0]
    rewards_PK = torch.full((1, 8), 0.1, dtype=torch.float64)
    group = group_advantages(rewards_PK, rewards_PK, torch.ones(1, 8, dtype=torch.bool))
    parts = objective_loss(
        logprobs_T.repeat(8),
        None,
        None,
        group.advantages_PK[0].repeat_interleave(6),
        group.counted_PK[0].repeat_interleave(6),
        beta=0.0,
        **CLIPS,
        pg_denominator=float(group.counted_PK.sum() * 6),
        kl_denominator=48.0,
    )
    assert (gradient(parts.policy, theta_DV) == 0).all()


def test_identical_completions_with_noisy_rewards_cancel():
    # A judge that scores equal texts differently: advantages sum to 0, so the gradient does too.
    logprobs_N = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    rewards_PK = torch.tensor([[1.0, 0.2, -0.7, 1.0]], dtype=torch.float64)
    group = group_advantages(rewards_PK, rewards_PK, torch.ones(1, 4, dtype=torch.bool))
    data = {"logprobs_N": logprobs_N, "old_N": None, "ref_N": None}
    data |= {"advantages_N": group.advantages_PK[0], "live_N": group.counted_PK[0]}
    per_token_N = gradient(loss_of(data, beta=0.0).policy, logprobs_N)
    assert abs(per_token_N.sum().item()) < 1e-15


@given(st.integers(0, 10_000), st.booleans())
def test_order_of_tokens_does_not_act(seed, old):
    data = batch(tokens=12, seed=seed) | ({} if old else {"old_N": None})
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    a, b = loss_of(data), loss_of(take(data, order))
    torch.testing.assert_close(a.total, b.total, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        gradient(a.total, data["logprobs_N"]),
        gradient(b.total, data["logprobs_N"]),
        rtol=0,
        atol=1e-12,
    )


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_width_of_the_padding_does_not_act(seed, extra):
    # The same two sequences in a padded [2, T] batch, flattened by its mask.
    data = batch(tokens=9, seed=seed)
    lengths = torch.tensor([3, 6])

    def flat_from_padded(width):
        mask_ST = torch.arange(width) < lengths[:, None]
        flat = {}
        for name, values_N in data.items():
            padded_ST = torch.full((2, width), 77, dtype=values_N.dtype)
            padded_ST = padded_ST.masked_scatter(mask_ST, values_N)
            flat[name] = padded_ST[mask_ST]
        return flat

    a = loss_of(flat_from_padded(6))
    b = loss_of(flat_from_padded(6 + extra))
    assert torch.equal(a.total, b.total)
    assert torch.equal(gradient(a.total, data["logprobs_N"]), gradient(b.total, data["logprobs_N"]))


def test_fp32_agrees_with_fp64():
    wide = loss_of(batch())
    narrow_data = {
        k: v if v.dtype == torch.bool else v.detach().float() for k, v in batch().items()
    }
    narrow_data["logprobs_N"].requires_grad_()
    narrow = loss_of(narrow_data)
    for name in ("policy", "kl", "total"):
        assert getattr(narrow, name).item() == pytest.approx(getattr(wide, name).item(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ref_N": None}, "no reference"),
        ({"old_N": torch.zeros(3)}, "old is"),
        ({"live_N": torch.ones(40)}, "bool"),
        ({"logprobs_N": torch.zeros(40, dtype=torch.bfloat16)}, "fp32 or fp64"),
        ({"logprobs_N": torch.zeros(5, 8)}, "must be"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        loss_of(batch() | change)
