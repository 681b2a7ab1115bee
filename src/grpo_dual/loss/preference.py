"""The preference loss of pairs: DPO against a frozen reference, anchored on the accepted side.

Axes: P pairs of a micro-batch, each an accepted and a rejected reply to one prompt. The share of a
micro-batch is a sum over a denominator of the whole optimiser step, as everywhere in ``loss/``.
Numbers: tests/numerics/test_worked_numbers_preference.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class PreferenceParts(NamedTuple):
    """Of each pair; ``loss_P`` carries the gradient, the others are detached metrics."""

    loss_P: Tensor
    """dpo + nll x negative log-likelihood."""
    dpo_P: Tensor
    """-log sigmoid(margin); log 2 = .693 where policy and reference agree on the pair."""
    nll_P: Tensor
    """Negative log-likelihood of the accepted reply per token, nats, without its weight."""
    margin_P: Tensor
    """The pair's margin, beta included; above 0 it is preferred more than by the reference."""


def preference_loss(
    accepted_P: Tensor,
    rejected_P: Tensor,
    ref_accepted_P: Tensor,
    ref_rejected_P: Tensor,
    accepted_tokens_P: Tensor,
    rejected_tokens_P: Tensor,
    *,
    beta: float,
    nll: float,
    length_normalized: bool = False,
) -> PreferenceParts:
    """``-log sigmoid(m) - nll log pi(y+) / |y+|`` with the margin m of each pair.

        m = beta [(log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-))]

    DPO (Rafailov et al. 2023, arXiv 2305.18290, eq. 7) and the length-normalised negative
    log-likelihood of the accepted reply (Pang et al. 2024, arXiv 2404.19733, where ``nll`` is
    alpha), which holds log pi(y+) up: DPO alone is content to lower both sides. With
    ``length_normalized`` each bracket is divided by its reply's tokens (Tulu 3, Lambert et al.
    2024, arXiv 2411.15124); the margin is then one of nats per token, and beta larger to match.

    dL/dlog pi(y+) = -beta sigmoid(-m) - nll / |y+|, dL/dlog pi(y-) = +beta sigmoid(-m): no term
    ever raises the rejected side. The references are constants.

    Args:
        accepted_P: log pi(y+), summed over its tokens, nats, with gradient.
        rejected_P: log pi(y-) likewise.
        ref_accepted_P: log ref(y+), summed.
        ref_rejected_P: log ref(y-), summed.
        accepted_tokens_P: |y+|, end of turn included; at least 1.
        rejected_tokens_P: |y-| likewise.
        beta: How much a nat of the log-ratio counts, above 0; large keeps closer to the reference.
        nll: Weight of the anchor, 0 for none.
        length_normalized: Margins by the token.

    Returns:
        [P] parts.

    Raises:
        ValueError: Shapes do not agree, a log-prob is in 16 bit, a reply has no token, or beta or
            nll is out of its range.
    """
    if not (beta > 0 and nll >= 0):
        raise ValueError(f"beta {beta} must be above 0 and nll {nll} at least 0")
    _check(accepted_P, rejected_P, ref_accepted_P, ref_rejected_P)
    _check_tokens(accepted_P, accepted_tokens_P, rejected_tokens_P)
    rise_P = accepted_P - ref_accepted_P.detach()
    other_P = rejected_P - ref_rejected_P.detach()
    if length_normalized:
        rise_P, other_P = rise_P / accepted_tokens_P, other_P / rejected_tokens_P
    margin_P = beta * (rise_P - other_P)
    # log sigmoid and not log(sigmoid): a margin of -200 is a loss of 200, not infinity.
    dpo_P = -F.logsigmoid(margin_P)
    nll_P = -accepted_P / accepted_tokens_P
    return PreferenceParts(dpo_P + nll * nll_P, dpo_P.detach(), nll_P.detach(), margin_P.detach())


def _check(*values: Tensor) -> None:
    first = values[0]
    for value_P in values:
        if value_P.ndim != 1 or value_P.shape != first.shape:
            raise ValueError(f"log-probs are {[list(v.shape) for v in values]}, not all [P]")
        if value_P.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"log-probs are {value_P.dtype}, not fp32 or fp64; sums of 16 bit lose the margin"
            )


def _check_tokens(accepted_P: Tensor, *counts: Tensor) -> None:
    for tokens_P in counts:
        if tokens_P.shape != accepted_P.shape or not bool((tokens_P >= 1).all()):
            raise ValueError(
                f"token counts are {tokens_P.tolist()} for {len(accepted_P)} pairs; every reply "
                "has at least its end of turn"
            )
