"""The loss of one objective's micro-batch: its policy term and its KL branch.

Axes: N completion tokens of the micro-batch, flat, all of one objective. The whole loss of a step
is L = sum_k w_k (PG_k + beta_k KL_k) over objectives k; w_k is the caller's
(``advantages/combine.py``), as each objective's gradient is accumulated on its own.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from grpo_dual.loss.kl import k3, k3_value_k2_gradient, ratio_corrected_k3
from grpo_dual.loss.ratio import clipped_surrogate
from grpo_dual.loss.reduce import token_mean


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums and maxima of one micro-batch, 0-d without gradient; ``merge`` adds micro-batches up."""

    tokens: Tensor
    """Completion tokens."""
    live_tokens: Tensor
    """Tokens in the policy term."""
    kl_sum: Tensor
    """Sum of plain k3 over the completion tokens, nats, never weighted by the ratio; 0 without a
    reference."""
    kl_max: Tensor
    """Largest k3 of a token; 0 without tokens or reference."""
    clipped: Tensor
    """Live tokens whose policy gradient was cut; over ``live_tokens`` it is clip_frac."""
    ratio_sum: Tensor
    """Sum of pi / pi_old over live tokens."""
    ratio_max: Tensor
    """Largest ratio of a live token; 0 without one."""

    def merge(self, other: "LossSums") -> "LossSums":
        """Of both micro-batches together: sums add, maxima compete."""
        return LossSums(
            **{
                f.name: (torch.maximum if f.name.endswith("_max") else torch.add)(
                    getattr(self, f.name), getattr(other, f.name)
                )
                for f in fields(self)
            }
        )


class LossParts(NamedTuple):
    """One micro-batch's share of PG_k, of KL_k and of PG_k + beta_k KL_k, 0-d with gradient."""

    policy: Tensor
    kl: Tensor
    """Without its coefficient."""
    total: Tensor
    """policy + beta kl."""
    sums: LossSums


def objective_loss(
    logprobs_N: Tensor,
    old_N: Tensor | None,
    ref_N: Tensor | None,
    advantages_N: Tensor,
    live_N: Tensor,
    *,
    beta: float,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    pg_denominator: float,
    kl_denominator: float,
) -> LossParts:
    """``PG + beta KL``: live l_t summed over pg_denominator, all kl_t over kl_denominator.

    l is ``clipped_surrogate``. kl is ``k3_value_k2_gradient`` when each sample is used in one
    update (old is None) and ``ratio_corrected_k3`` otherwise; the ratio there is the unclipped
    per-token one. Both denominators count the whole optimiser step, so the shares of its
    micro-batches add up to the step's token means. A dead group's tokens are in neither numerator
    nor denominator of PG (else its share would lower the effective learning rate), but they do
    count in KL.

    The gradient moves ``logprobs_N`` only: old, reference and advantages are constants.

    Args:
        logprobs_N: log pi of the sampled tokens at the training temperature, fp32 or fp64.
        old_N: The same before the first update on this batch; None means sg[logprobs], the ratio is
            exactly 1.
        ref_N: Log-prob under the reference at the same temperature; None leaves KL out and needs
            beta 0.
        advantages_N: The completion's advantage on each of its tokens.
        live_N: bool, tokens of scored completions in live groups.
        beta: Coefficient of the KL branch in this step.
        clip_low: See ``clipped_surrogate``.
        clip_high: See ``clipped_surrogate``.
        dual_clip: See ``clipped_surrogate``.
        pg_denominator: Live tokens of the objective in the optimiser step; 0 gives a PG of 0.
        kl_denominator: All its completion tokens in the step.

    Returns:
        The parts; with no live token ``policy`` is a 0 that can be propagated backwards.

    Raises:
        ValueError: Shapes or dtypes do not agree, or beta is not 0 and there is no reference.
    """
    _check(logprobs_N, old_N, ref_N, advantages_N, live_N)
    if ref_N is None and beta != 0:
        raise ValueError(f"beta is {beta} but there are no reference log-probs")
    surrogate = clipped_surrogate(
        logprobs_N,
        (logprobs_N if old_N is None else old_N).detach(),
        advantages_N.detach(),
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    policy = token_mean(torch.where(live_N, surrogate.loss_N, 0.0), tokens=pg_denominator)
    if ref_N is None:
        kl_N, k3_N = logprobs_N * 0.0, torch.zeros_like(logprobs_N)
    else:
        constant_N = ref_N.detach()
        kl_N = (
            k3_value_k2_gradient(logprobs_N, constant_N)
            if old_N is None
            else ratio_corrected_k3(logprobs_N, constant_N, old_N.detach())
        )
        k3_N = k3(logprobs_N.detach(), constant_N)
    kl = token_mean(kl_N, tokens=kl_denominator)
    ratio_N = torch.where(live_N, surrogate.ratio_N.detach(), 0.0)
    sums = LossSums(
        tokens=torch.full((), len(logprobs_N), device=logprobs_N.device),
        live_tokens=live_N.sum(),
        kl_sum=k3_N.sum(),
        kl_max=_max(k3_N),
        clipped=(surrogate.cut_N & live_N).sum(),
        ratio_sum=ratio_N.sum(),
        ratio_max=_max(ratio_N),
    )
    return LossParts(policy, kl, policy + beta * kl, sums)


def _max(values_N: Tensor) -> Tensor:
    return values_N.max() if values_N.numel() else values_N.new_zeros(())


def _check(
    logprobs_N: Tensor,
    old_N: Tensor | None,
    ref_N: Tensor | None,
    advantages_N: Tensor,
    live_N: Tensor,
) -> None:
    if logprobs_N.ndim != 1 or logprobs_N.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"logprobs must be [N] in fp32 or fp64, got {list(logprobs_N.shape)} "
            f"{logprobs_N.dtype}; in bf16 the ratio would carry several percent of noise"
        )
    others = {"old": old_N, "reference": ref_N, "advantages": advantages_N, "live": live_N}
    for name, values_N in others.items():
        if values_N is not None and values_N.shape != logprobs_N.shape:
            raise ValueError(f"{name} is {list(values_N.shape)}, logprobs {list(logprobs_N.shape)}")
    if live_N.dtype != torch.bool:
        raise ValueError(f"live must be bool, got {live_N.dtype}")
