"""KL to the reference, estimated on sampled tokens, and the controller of its coefficient.

Axes: N completion tokens, flat. d = log pi - log ref of the sampled token. Notation k1, k2, k3 as
in Schulman, joschu.net/blog/kl-approx. What each does as a loss, on tokens sampled from pi (arXiv
2506.09477, arXiv 2510.01555; tests/numerics/test_worked_numbers_kl.py enumerates it):

| term | value | its expected gradient |
|---|---|---|
| k1 = d | KL, unbiased, noisy, any sign | 0: pure noise |
| k2 = d^2 / 2 | biased | that of KL(pi, ref), right |
| k3 = exp(-d) + d - 1 | KL, unbiased, >= 0 | that of KL(ref, pi), the wrong direction |
| ``k3_value_k2_gradient`` | k3's | k2's, right |
| ``ratio_corrected_k3`` = r k3 | KL of pi on tokens of an older policy | right, also off policy |

All are per-token: the effect of a token on later states is left out, as everywhere in this family.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from grpo_dual.loss.ratio import clamped_log_ratio

CLIP_ERROR = 0.2
"""Bound on the controller's relative error (Ziegler et al., arXiv 1909.08593)."""
SLOW_BELOW = 0.25
"""Below this share of the target, a decrease takes a quarter of the gain."""
EMERGENCY = 4.0
"""KL above this many targets, three observations running, is an emergency."""
EMERGENCY_RUN = 3
PINNED_RUN = 20
"""Moves stopped by a bound in a row before the alarm: learning rate wrong or target infeasible."""


def k1(logprobs_N: Tensor, ref_N: Tensor) -> Tensor:
    """``k1 = log pi - log ref``. For reporting; as a loss its expected gradient is 0.

    Args:
        logprobs_N: log pi of the sampled tokens.
        ref_N: log ref of the same tokens.

    Returns:
        Nats per token [N], unbiased for KL(pi, ref) when sampled from pi.
    """
    return logprobs_N - ref_N


def k2(logprobs_N: Tensor, ref_N: Tensor) -> Tensor:
    """``k2 = (log pi - log ref)^2 / 2``. Biased value, right gradient: d times grad log pi.

    Args:
        logprobs_N: log pi of the sampled tokens.
        ref_N: log ref of the same tokens.

    Returns:
        Nats per token [N].
    """
    return (logprobs_N - ref_N).square() / 2


def k3(logprobs_N: Tensor, ref_N: Tensor) -> Tensor:
    """``k3 = exp(-d) + d - 1`` >= 0 with d = log pi - log ref clamped to +-20.

    Unbiased and of low variance.
    As a loss its gradient is that of the forward KL(ref, pi); use it as a value.

    Args:
        logprobs_N: log pi of the sampled tokens.
        ref_N: log ref of the same tokens.

    Returns:
        Nats per token [N].
    """
    d_N = clamped_log_ratio(logprobs_N, ref_N)
    # expm1: near d = 0 the exponential's rounding (1e-7 in fp32) would drown d^2 / 2.
    return (torch.expm1(-d_N) + d_N).clamp(min=0)


def k3_value_k2_gradient(logprobs_N: Tensor, ref_N: Tensor) -> Tensor:
    """Value of k3, gradient of k2, by straight-through: k2 - sg(k2) + sg(k3).

    For one update per batch (verl's "k3+"). k2 is not clamped, so a token far from the reference is
    still pulled back.

    Args:
        logprobs_N: log pi of the sampled tokens, with gradient.
        ref_N: log ref of the same tokens.

    Returns:
        Nats per token [N]; d/dlog pi = log pi - log ref.
    """
    k2_N = k2(logprobs_N, ref_N)
    return k2_N - k2_N.detach() + k3(logprobs_N, ref_N).detach()


def ratio_corrected_k3(logprobs_N: Tensor, ref_N: Tensor, old_N: Tensor) -> Tensor:
    """``r k3`` with r = pi / pi_old per token, not detached, clamped at e^+-20 only.

    For several updates per batch: sum_y pi_old r k3 = KL(pi, ref), so value and gradient are right
    while pi moves away from the policy that sampled (DeepSeek-V3.2, arXiv 2512.02556).

    Args:
        logprobs_N: log pi of the sampled tokens, with gradient.
        ref_N: log ref of the same tokens.
        old_N: log pi_old of the same tokens.

    Returns:
        Nats per token [N], weighted; report ``k3`` instead.
    """
    return clamped_log_ratio(logprobs_N, old_N).exp() * k3(logprobs_N, ref_N)


def next_beta(beta: float, kl: float, *, target: float, gain: float) -> float:
    """``beta (1 + gain clip(kl / target - 1, -.2, .2))``: Ziegler et al., arXiv 1909.08593, 2.2.

    Their gain is batch / horizon for each step; with small batches that freezes beta for a whole
    run, so it is a number here. No gates, no bounds: those are ``KlController``'s.

    Args:
        beta: Current coefficient.
        kl: Nats per token.
        target: Nats per token.
        gain: K; .1 doubles beta in 35 steps.

    Returns:
        The next coefficient.
    """
    return beta * (1 + gain * min(max(kl / target - 1, -CLIP_ERROR), CLIP_ERROR))


@dataclass(frozen=True, slots=True)
class KlMove:
    """What one update did."""

    beta: float
    """Coefficient for the next optimiser step."""
    kl: float | None
    """Token mean that was observed, nats; None while tokens are still being gathered."""
    average: float | None
    """The average the law reads; None before the first observation."""
    skipped: bool = False
    """The step's KL was not finite and was left out."""
    halve_learning_rate: bool = False
    """Emergency: beta rose by half within its bounds; the learning rate should fall by half."""
    pinned: bool = False
    """Alarm: the law has wanted to leave the bounds for 20 moves."""


@dataclass(slots=True)
class _State:
    beta: float
    average: float | None = None
    steps: int = 0
    gathered_kl: float = 0.0
    gathered_tokens: int = 0
    high_run: int = 0
    pinned_run: int = 0
    skipped: int = 0


class KlController:
    """Keeps the KL of one objective near its target by moving its coefficient once a step.

    ``beta`` used in step s comes from the KL up to s - 1. The law is ``next_beta`` on an average of
    the token mean of k3; around it:

    - tokens are gathered over steps until there are ``min_tokens``, then beta moves once;
    - no decrease in the first ``no_decrease_steps`` steps: a fresh LoRA has KL = 0, and the bare
      law would take beta from .30 to .03 in 114 steps, just when drift begins; later decreases take
      a quarter of the gain while KL is below a quarter of the target (a hard hold there would keep
      a too strong beta for ever);
    - a KL that is not finite is skipped and counted;
    - above 4 targets three times running: beta rises by half, and the caller is asked to halve the
      learning rate;
    - beta stays within [beta_min, beta_max]; stopped there 20 times in a row raises the alarm.

    Args of the constructor carry the names and meaning of the configuration's KL section; nats per
    token.
    """

    def __init__(
        self,
        *,
        beta: float,
        adaptive: bool = True,
        target: float = 0.05,
        gain: float = 0.1,
        beta_min: float = 0.03,
        beta_max: float = 1.0,
        no_decrease_steps: int = 20,
        min_tokens: int = 256,
        smoothing: float = 0.8,
    ) -> None:
        if adaptive and not beta_min <= beta <= beta_max:
            raise ValueError(
                f"beta {beta} is not between beta_min {beta_min} and beta_max {beta_max}"
            )
        self._adaptive = adaptive
        self._target = target
        self._gain = gain
        self._bounds = (beta_min, beta_max)
        self._no_decrease_steps = no_decrease_steps
        self._min_tokens = min_tokens
        self._smoothing = smoothing
        self._state = _State(beta=beta)

    @property
    def beta(self) -> float:
        """Coefficient to use in the current optimiser step."""
        return self._state.beta

    @property
    def skipped(self) -> int:
        """Steps left out so far because their KL was not finite."""
        return self._state.skipped

    def update(self, kl_sum: float, tokens: int) -> KlMove:
        """Take one optimiser step's KL: summed over all micro-batches and ranks.

        Args:
            kl_sum: Sum of k3 over the objective's completion tokens, nats.
            tokens: Number of those tokens; 0 when the objective had none.

        Returns:
            What happened; ``beta`` is already moved.
        """
        state = self._state
        state.steps += 1
        if not math.isfinite(kl_sum):
            state.skipped += 1
            return self._report(kl=None, skipped=True)
        state.gathered_kl += kl_sum
        state.gathered_tokens += tokens
        if state.gathered_tokens < self._min_tokens:
            return self._report(kl=None)
        kl = state.gathered_kl / state.gathered_tokens
        state.gathered_kl, state.gathered_tokens = 0.0, 0
        self._observe(kl)
        return self._report(kl=kl, halve_learning_rate=self._adaptive and self._move())

    def _observe(self, kl: float) -> None:
        state = self._state
        state.high_run = state.high_run + 1 if kl > EMERGENCY * self._target else 0
        # The law's error saturates at 1.2 targets. One token with d = -8 (k3 = 2972) among 256
        # would otherwise hold the average above that for 24 moves.
        heard = min(kl, EMERGENCY * self._target)
        old = heard if state.average is None else state.average
        state.average = self._smoothing * old + (1 - self._smoothing) * heard

    def _move(self) -> bool:
        """Move beta after an observation; True when it was an emergency."""
        state = self._state
        assert state.average is not None
        emergency = state.high_run >= EMERGENCY_RUN
        if emergency:
            state.high_run = 0
            wanted = 1.5 * state.beta
        else:
            wanted = next_beta(
                state.beta, state.average, target=self._target, gain=self._gain_at(state.average)
            )
        low, high = self._bounds
        state.pinned_run = 0 if low <= wanted <= high else state.pinned_run + 1
        state.beta = min(max(wanted, low), high)
        return emergency

    def _gain_at(self, average: float) -> float:
        if average < self._target and self._state.steps <= self._no_decrease_steps:
            return 0.0
        return self._gain / 4 if average < SLOW_BELOW * self._target else self._gain

    def _report(
        self, *, kl: float | None, skipped: bool = False, halve_learning_rate: bool = False
    ) -> KlMove:
        return KlMove(
            beta=self._state.beta,
            kl=kl,
            average=self._state.average,
            skipped=skipped,
            halve_learning_rate=halve_learning_rate,
            pinned=self._state.pinned_run >= PINNED_RUN,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves, JSON-able."""
        return asdict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ValueError: The state is of another class or version.
        """
        own = asdict(self._state)
        if state.keys() != own.keys():
            raise ValueError(f"KL controller state has the keys {sorted(state)}, not {sorted(own)}")
        self._state = _State(**state)
