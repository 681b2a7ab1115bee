"""Worked numbers of the KL estimators and the controller's law, by exact enumeration.

Axes: V outcomes of one token. An expected gradient is sum_y pi_y grad term(y) with pi_y held
constant, as autograd sees a sampled batch.
"""

import math

import pytest
import torch

from grpo_dual.loss.grpo import objective_loss
from grpo_dual.loss.kl import (
    k1,
    k2,
    k3,
    k3_value_k2_gradient,
    next_beta,
    ratio_corrected_k3,
)

PI = (0.7, 0.2, 0.1)
REF = (0.5, 0.3, 0.2)


def log(values):
    return torch.tensor(values, dtype=torch.float64).log()


def expectation_and_gradient(term, *, policy=PI, sampler=None):
    """E_{y ~ sampler}[term(log pi_y, log ref_y)] and its gradient with respect to pi's logits."""
    logits_V = log(policy).requires_grad_()
    value = log(sampler or policy).exp() @ term(logits_V.log_softmax(-1), log(REF))
    return value.item(), torch.autograd.grad(value, logits_V)[0]


def true_gradient(divergence):
    logits_V = log(PI).requires_grad_()
    value = divergence(logits_V.log_softmax(-1), log(REF))
    return value.item(), torch.autograd.grad(value, logits_V)[0]


def reverse_kl(logp_V, logref_V):
    return (logp_V.exp() * (logp_V - logref_V)).sum()


def forward_kl(logp_V, logref_V):
    return (logref_V.exp() * (logref_V - logp_V)).sum()


def close(gradient_V, expected, atol=5.1e-6):
    expected_V = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(gradient_V, expected_V, rtol=0, atol=atol)


def test_t41_values():
    # .7 ln 1.4 + .2 ln(2/3) + .1 ln .5 = .235530 - .081093 - .069315 = .085123
    kl, _ = true_gradient(reverse_kl)
    assert kl == pytest.approx(0.085123, abs=5.1e-7)
    assert expectation_and_gradient(k1)[0] == pytest.approx(kl, abs=1e-12)
    assert expectation_and_gradient(k3)[0] == pytest.approx(kl, abs=1e-12)
    assert expectation_and_gradient(k3_value_k2_gradient)[0] == pytest.approx(kl, abs=1e-12)
    # .7 * .33647^2 / 2 + .2 * .40547^2 / 2 + .1 * .69315^2 / 2
    assert expectation_and_gradient(k2)[0] == pytest.approx(0.080088, abs=5.1e-7)
    # .5 ln(5/7) + .3 ln 1.5 + .2 ln 2
    assert true_gradient(forward_kl)[0] == pytest.approx(0.092033, abs=5.1e-7)


def test_t41_per_sample():
    # ln(.7/.5), ln(.2/.3), ln(.1/.2); and e^-d + d - 1 of each
    close(k1(log(PI), log(REF)), [0.33647, -0.40547, -0.69315])
    close(k3(log(PI), log(REF)), [0.05076, 0.09453, 0.30685])


def test_t41_variances():
    for term, expected in ((k1, 0.15293), (k2, 0.00295), (k3, 0.00576)):
        values_V, p_V = term(log(PI), log(REF)), torch.tensor(PI, dtype=torch.float64)
        mean = p_V @ values_V
        assert (p_V @ (values_V - mean).square()).item() == pytest.approx(expected, abs=5.1e-6)


def test_t41_gradients():
    # True: pi_v (d_v - KL) = .7 (.33647 - .08512), .2 (-.40547 - .08512), .1 (-.69315 - .08512)
    true = [0.17594, -0.09812, -0.07783]
    close(true_gradient(reverse_kl)[1], true)
    close(expectation_and_gradient(k2)[1], true)
    close(expectation_and_gradient(k3_value_k2_gradient)[1], true)
    # sum_y pi_y grad log pi_y = 0: pure noise
    close(expectation_and_gradient(k1)[1], [0.0, 0.0, 0.0], atol=1e-15)
    # pi - ref, the forward KL's
    close(expectation_and_gradient(k3)[1], [0.2, -0.1, -0.1])
    close(true_gradient(forward_kl)[1], [0.2, -0.1, -0.1])


@pytest.mark.parametrize("sampler", [PI, (0.6, 0.3, 0.1), (0.1, 0.1, 0.8)])
def test_t41_ratio_corrected_k3_is_right_on_and_off_policy(sampler):
    value, gradient_V = expectation_and_gradient(
        lambda logp, logref: ratio_corrected_k3(logp, logref, log(sampler)), sampler=sampler
    )
    kl, true_V = true_gradient(reverse_kl)
    assert value == pytest.approx(kl, abs=1e-12)
    close(gradient_V, true_V, atol=1e-12)


def test_t41_k2_gradient_is_wrong_off_policy():
    # Why several updates per batch need the ratio.
    _, gradient_V = expectation_and_gradient(k3_value_k2_gradient, sampler=(0.1, 0.1, 0.8))
    assert (gradient_V - true_gradient(reverse_kl)[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        # T4.4, K = .1, target .05: e = 1 -> .2, .3 * 1.02
        (0.10, 0.306),
        # e = .1, .3 * 1.01
        (0.055, 0.303),
        # e = -1 -> -.2, .3 * .98
        (0.0, 0.294),
    ],
)
def test_t44_one_move(kl, expected):
    assert next_beta(0.3, kl, target=0.05, gain=0.1) == pytest.approx(expected, abs=1e-12)


def test_t44_sequence():
    # factors .98, .98 (e = -.8 -> -.2), 1, 1.02 (e = .2), 1.02, 1.02
    beta, betas = 0.3, []
    for kl in (0.0, 0.01, 0.05, 0.06, 0.2, 0.2):
        beta = next_beta(beta, kl, target=0.05, gain=0.1)
        betas.append(beta)
    expected = [0.294, 0.28812, 0.28812, 0.293882, 0.29976, 0.305755]
    assert betas == pytest.approx(expected, abs=5.1e-7)


@pytest.mark.parametrize(
    ("trajectories", "change", "in_300_steps"),
    [
        # .2 * 512 / 10000 = .01024; 1.01024^300
        (512, 0.01024, 21.2515),
        # .2 * 64 / 10000 = .00128; 1.00128^300 = 1.468: such a controller is frozen
        (64, 0.00128, 1.4678),
    ],
)
def test_s43_a_gain_by_horizon_freezes_a_small_batch(trajectories, change, in_300_steps):
    beta = next_beta(1.0, 1e9, target=0.05, gain=trajectories / 10_000)
    assert beta - 1 == pytest.approx(change, abs=1e-12)
    assert beta**300 == pytest.approx(in_300_steps, rel=5.1e-5)


def test_s44_windup_at_zero_kl_and_time_to_double():
    # .3 * .98^n: .2451 at 10, .1093 at 50, below .03 first at 114 (ln .1 / ln .98 = 113.97)
    betas = [0.3]
    for _ in range(114):
        betas.append(next_beta(betas[-1], 0.0, target=0.05, gain=0.1))
    assert betas[10] == pytest.approx(0.2451, abs=5.1e-5)
    assert betas[50] == pytest.approx(0.1093, abs=5.1e-5)
    assert betas[113] > 0.03 > betas[114]
    # ln 2 / ln 1.02 = 35.003, ln .5 / ln .98 = 34.3
    assert math.log(2) / math.log(next_beta(1.0, 1.0, target=0.05, gain=0.1)) == pytest.approx(
        35.0, abs=0.01
    )


@pytest.mark.parametrize(("beta", "optimum"), [(1.0, 0.280), (0.3, 0.976), (0.04, 1.0)])
def test_s44_regularised_optimum_is_where_the_loss_stands_still(beta, optimum):
    # A = +-1, ref = .05: pi* = .05 e^(1/beta) / (.05 e^(1/beta) + .95 e^(-1/beta)). There the
    # expected gradient of PG + beta KL is 0; at the reference it is not.
    ref_V = torch.tensor([0.05, 0.95], dtype=torch.float64)
    tilted_V = ref_V * torch.tensor([1.0, -1.0], dtype=torch.float64).div(beta).exp()
    best_V = tilted_V / tilted_V.sum()
    assert best_V[0].item() == pytest.approx(optimum, abs=5.1e-4)

    def expected_gradient(policy_V):
        logits_V = policy_V.log().requires_grad_()
        logp_V = logits_V.log_softmax(-1)
        total = sum(
            policy_V[y]
            * objective_loss(
                logp_V[y : y + 1],
                None,
                ref_V[y : y + 1].log(),
                torch.tensor([1.0 - 2 * y], dtype=torch.float64),
                torch.ones(1, dtype=torch.bool),
                beta=beta,
                clip_low=0.2,
                clip_high=0.28,
                dual_clip=3.0,
                pg_denominator=1,
                kl_denominator=1,
            ).total
            for y in range(2)
        )
        return torch.autograd.grad(total, logits_V)[0]

    close(expected_gradient(best_V), [0.0, 0.0], atol=1e-12)
    assert expected_gradient(ref_V)[0] < -0.05
