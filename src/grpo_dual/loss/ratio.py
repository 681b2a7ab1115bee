"""The clipped policy-gradient surrogate, token by token.

Axes: N completion tokens of any number of sequences, flat. Functions detach nothing: the caller
decides what is a constant (``loss/grpo.py`` does).
Numbers: tests/numerics/test_worked_numbers_surrogate.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to +-20 before exp: e^20 = 4.9e8 still squares within fp32."""


class Surrogate(NamedTuple):
    """Per-token loss with what the metrics need."""

    loss_N: Tensor
    ratio_N: Tensor
    """r = pi / pi_old, after the clamp of its log."""
    cut_N: Tensor
    """bool: the token's advantage is not 0, but clip, dual clip or clamp took its whole
    gradient."""


def clamped_log_ratio(logprobs_N: Tensor, other_N: Tensor) -> Tensor:
    """``log pi - log other``, clamped to [-20, 20]; beyond the clamp the gradient is 0.

    Args:
        logprobs_N: log pi of the sampled tokens, nats.
        other_N: Log-prob of the same tokens under the other policy, nats.

    Returns:
        The log-ratio [N].
    """
    return (logprobs_N - other_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def clipped_surrogate(
    logprobs_N: Tensor,
    old_N: Tensor,
    advantages_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Surrogate:
    """``l = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)``, at most -dual_clip A if A < 0.

    PPO's clip (arXiv 1707.06347) with two bounds (clip-higher, DAPO, arXiv 2503.14476) and the dual
    clip (arXiv 1912.09729). Minimising l raises log pi where A > 0 and lowers it where A < 0:
    dl/dlog pi = -r A, and 0 exactly where (A > 0 and r > 1 + clip_high) or (A < 0 and (r < 1 -
    clip_low or r > dual_clip)).

    With ``old = logprobs.detach()`` r is exactly 1, both clips are inert and the gradient is
    REINFORCE's -A.

    Args:
        logprobs_N: log pi of the sampled tokens, with gradient.
        old_N: Log-prob under the policy before the first update on this batch.
        advantages_N: The sequence's advantage on each of its tokens.
        clip_low: Lower clip, in [0, 1].
        clip_high: Upper clip, at least 0.
        dual_clip: Ratio from which a negative advantage stops to act, above 1; None switches it
            off.

    Returns:
        Loss, ratio and which tokens lost their gradient.

    Raises:
        ValueError: A bound is out of its range.
    """
    if not (0 <= clip_low <= 1 and clip_high >= 0 and (dual_clip is None or dual_clip > 1)):
        raise ValueError(
            f"clip_low {clip_low} must be in [0, 1], clip_high {clip_high} at least 0 and "
            f"dual_clip {dual_clip} above 1 or None"
        )
    ratio_N = clamped_log_ratio(logprobs_N, old_N).exp()
    bounded_N = ratio_N.clamp(1 - clip_low, 1 + clip_high)
    loss_N = -torch.minimum(ratio_N * advantages_N, bounded_N * advantages_N)
    too_high_N = (advantages_N > 0) & (ratio_N > 1 + clip_high)
    too_low_N = (advantages_N < 0) & (ratio_N < 1 - clip_low)
    cut_N = too_high_N | too_low_N
    if dual_clip is not None:
        negative_N = advantages_N < 0
        loss_N = torch.where(negative_N, torch.minimum(loss_N, -dual_clip * advantages_N), loss_N)
        cut_N = cut_N | (negative_N & (ratio_N > dual_clip))
    clamped_N = (logprobs_N - old_N).abs() > LOG_RATIO_LIMIT
    return Surrogate(loss_N, ratio_N, cut_N | (clamped_N & (advantages_N != 0)))
