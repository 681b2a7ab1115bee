"""Defects measured in other trainers, each held off by a test.

TRL 1.16 and relatives, on groups of disjoint tasks: a weight that cancels, whitening that couples
objectives, a dead-group share that reads 0, fp32 residues that become advantages, dead tokens that
dilute the loss.
"""

import pytest
import torch

from grpo_dual.advantages.combine import objective_weights
from grpo_dual.advantages.group import group_advantages
from grpo_dual.loss.grpo import objective_loss

CONSTANTS = (0.1, 0.2, 0.35, 0.6, 0.7, 0.9)


def advantages(rewards_PK, **options):
    return group_advantages(rewards_PK, rewards_PK, ~rewards_PK.isnan(), **options)


@pytest.mark.parametrize("mode", ["group", "none", "batch"])
@pytest.mark.parametrize("size", [4, 6, 8, 10, 12, 16])
def test_constant_groups_in_fp32_are_exactly_zero(mode, size):
    # The fp32 mean of six .1s is not .1; TRL's normalize_then_sum makes 1.46 of that residue at
    # G = 6 and 1.25 at G = 12, ms-swift's gdpo 1.87 and 1.73.
    rewards_PK = torch.tensor(CONSTANTS)[:, None].repeat(1, size)
    out = advantages(rewards_PK, normalization=mode)
    assert (out.advantages_PK == 0).all()
    assert out.dead_P.all()
    assert (out.std_P == 0).all()


def test_the_residue_is_real():
    # Guards the test above: with std instead of max == min these groups would not be dead.
    rewards_PK = torch.tensor(CONSTANTS)[:, None].repeat(1, 6)
    assert (rewards_PK - rewards_PK.mean(-1, keepdim=True)).abs().max() > 0


def test_residue_on_all_but_one_singleton_group_stays_small():
    # NeMo-RL 4158: one odd member in a group made the residue of its equals 7428 advantages. With
    # ddof 1 and K members no advantage can exceed (K - 1) / sqrt K: 2.4749 at K = 8.
    rewards_PK = torch.full((1, 8), 0.7)
    rewards_PK[0, 3] = torch.nextafter(rewards_PK[0, 3], torch.tensor(1.0))
    assert advantages(rewards_PK, eps=0.0).advantages_PK.abs().max() <= 7 / 8**0.5 + 1e-5


@pytest.mark.parametrize("mode", ["group", "none", "batch"])
def test_dead_share_is_the_share_of_equal_groups_in_every_mode(mode):
    # TRL reads 0 of 97 % here, as it tests the batch's std.
    rewards_PK = torch.zeros(32, 8)
    rewards_PK[0, 0] = 1.0
    out = advantages(rewards_PK, normalization=mode)
    assert out.dead_P.sum() == 31
    assert out.live_P.sum() == 1


@pytest.mark.parametrize("mode", ["group", "none", "batch"])
def test_dying_groups_do_not_inflate_the_living(mode):
    # 32 groups of 8, live 32, 16, 8, 4, 2, 1: GDPO's whitening gives max|A| 1.00 to 5.64.
    largest = []
    for live in (32, 16, 8, 4, 2, 1):
        rewards_PK = torch.zeros(32, 8, dtype=torch.float64)
        rewards_PK[:live, :4] = 1.0
        largest.append(float(advantages(rewards_PK, normalization=mode).advantages_PK.abs().max()))
    # group and none: equal to the bit. batch: the std of n values half 0, half 1 is
    # sqrt(n / (4 (n - 1))), within 1 / 14 of .5 from n = 8 to n = 256.
    assert max(largest) / min(largest) <= (1.0 if mode != "batch" else (8 / 7) ** 0.5)


@pytest.mark.parametrize("mode", ["group", "none", "batch"])
def test_a_dead_objective_does_not_move_the_others_advantages(mode):
    # Each objective is a call of its own; nothing of fairness reaches hallucination.
    hallucination_PK = torch.tensor([[1.0, 1, 0, 0], [0.3, 0.9, -0.5, 1]])
    runs = []
    for fairness_PK in (
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.zeros(1, 4),
        torch.full((1, 4), torch.nan),
    ):
        by_objective = {
            name: advantages(rewards_PK, normalization=mode).advantages_PK
            for name, rewards_PK in (("fairness", fairness_PK), ("hallucination", hallucination_PK))
        }
        runs.append(by_objective["hallucination"])
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


def test_reward_scale_cancels_before_the_std_and_acts_as_a_weight():
    # The no-op: scaling an objective's rewards by 10 leaves its advantages where they were ...
    rewards_PK = torch.tensor([[1.0, 0, 0, 1]], dtype=torch.float64)
    a = advantages(rewards_PK, eps=0.0).advantages_PK
    b = advantages(10 * rewards_PK, eps=0.0).advantages_PK
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    # ... so the scale is a factor of the loss weight: .7 against 1 is 7/17 against 10/17.
    w = objective_weights({"f": 1.0, "h": 1.0}, {"f": 0.7, "h": 1.0})
    assert w["f"] == pytest.approx(7 / 17, abs=1e-12)


def test_dead_tokens_do_not_dilute_the_policy_term():
    # TRL's dapo divides by all tokens: with half of them dead the effective learning rate halves.
    logprobs_N = torch.tensor([-1.0, -2.0, -0.5, -0.7], dtype=torch.float64, requires_grad=True)
    advantages_N = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    live_N = torch.tensor([True, True, False, False])

    def gradient(tokens):
        parts = objective_loss(
            logprobs_N[tokens],
            None,
            None,
            advantages_N[tokens],
            live_N[tokens],
            beta=0.0,
            clip_low=0.2,
            clip_high=0.28,
            dual_clip=3.0,
            pg_denominator=float(live_N[tokens].sum()),
            kl_denominator=float(len(live_N[tokens])),
        )
        return torch.autograd.grad(parts.total, logprobs_N)[0]

    assert torch.equal(gradient(slice(None)), gradient(slice(2)))
