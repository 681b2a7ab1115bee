"""Objective weights: they act, and only they."""

import pytest
import torch

from grpo_dual.advantages.combine import objective_weights
from grpo_dual.advantages.group import group_advantages
from grpo_dual.loss.conflict import gradient_norms, gram_matrix
from grpo_dual.loss.grpo import objective_loss

ONE = {"f": 1.0, "h": 1.0}


def test_hand_off_scales():
    # weight 1, 1; scales .7, 1.0: .7 / 1.7 and 1 / 1.7
    w = objective_weights(ONE, {"f": 0.7, "h": 1.0})
    assert w == pytest.approx({"f": 0.411764705882, "h": 0.588235294118}, abs=1e-12)


def test_all_three_factors_multiply_before_the_normalisation():
    # 2 * .7 * .5 = .7 and 1 * 1 * 1.5 = 1.5: over 2.2
    w = objective_weights({"f": 2.0, "h": 1.0}, {"f": 0.7, "h": 1.0}, {"f": 0.5, "h": 1.5})
    assert w == pytest.approx({"f": 0.7 / 2.2, "h": 1.5 / 2.2}, abs=1e-12)


def test_a_weight_of_zero_switches_an_objective_off():
    assert objective_weights({"f": 0.0, "h": 3.0}, ONE) == {"f": 0.0, "h": 1.0}


def test_a_third_objective_is_one_more_entry():
    w = objective_weights(dict.fromkeys("abc", 1.0), dict.fromkeys("abc", 1.0))
    assert sum(w.values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("weight", "scale", "balance"),
    [
        ({"f": 0.0, "h": 0.0}, ONE, None),
        ({"f": -1.0, "h": 1.0}, ONE, None),
        (ONE, {"f": 0.0, "h": 1.0}, None),
        (ONE, {"f": float("nan"), "h": 1.0}, None),
        (ONE, {"f": 1.0}, None),
        (ONE, ONE, {"f": 1.0, "g": 1.0}),
    ],
)
def test_refusals(weight, scale, balance):
    with pytest.raises(ValueError, match=r"objective|weight"):
        objective_weights(weight, scale, balance)


def policy_gradients(weight):
    """Each objective's weighted policy gradient on one linear policy, with features of its own."""
    generator = torch.Generator().manual_seed(0)
    theta_DV = torch.randn(5, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    w = objective_weights(weight, ONE)
    gradients = []
    for name in ("f", "h"):
        rewards_PK = torch.randn(6, 4, dtype=torch.float64, generator=generator)
        features_ND = torch.randn(24, 5, dtype=torch.float64, generator=generator)
        tokens_N = torch.randint(0, 7, (24,), generator=generator)
        scored_PK = torch.ones_like(rewards_PK, dtype=torch.bool)
        group = group_advantages(rewards_PK, rewards_PK, scored_PK)
        logprobs_N = (features_ND @ theta_DV).log_softmax(-1).gather(-1, tokens_N[:, None])[:, 0]
        parts = objective_loss(
            logprobs_N,
            None,
            None,
            group.advantages_PK.flatten(),
            group.counted_PK.flatten(),
            beta=0.0,
            clip_low=0.2,
            clip_high=0.28,
            dual_clip=3.0,
            pg_denominator=24,
            kl_denominator=24,
        )
        gradients.append(torch.autograd.grad(w[name] * parts.total, theta_DV))
    return gradients


def test_ten_times_the_weight_is_ten_times_the_gradient_ratio():
    def ratio(weight):
        f, h = gradient_norms(gram_matrix(policy_gradients(weight)))
        return float(f / h)

    assert ratio({"f": 10.0, "h": 1.0}) / ratio(ONE) == pytest.approx(10.0, rel=1e-12)
    assert ratio({"f": 1.0, "h": 10.0}) / ratio(ONE) == pytest.approx(0.1, rel=1e-12)
