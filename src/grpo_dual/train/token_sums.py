"""What a pass measures on its tokens: added up on the device, read once.

A read waits for all that was launched before it, so the sums of all micro-batches go into one
vector.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from grpo_dual.metrics.values import Max, Mean
from grpo_dual.model.head import TokenStats
from grpo_dual.model.packing import PackedBatch

STARTS = (1, 8)
"""Tokens 1, 2 to 8, and the rest, by which the largest probability is reported."""


class TokenTotals(NamedTuple):
    """Of all micro-batches of an objective."""

    loss: float
    entropy: Mean
    """Exact, T = 1."""
    entropy_sampling: Mean
    max_prob: Mean
    max_prob_first: Mean
    max_prob_start: Mean
    max_prob_later: Mean
    kl_model: Mean
    kl_sequence_max: Max


class TokenSums:
    """Sums over the micro-batches of one objective."""

    def __init__(self, device: torch.device) -> None:
        """Nothing yet."""
        self._sums_C = torch.zeros(11, dtype=torch.float64, device=device)
        self._kl_max = torch.zeros((), dtype=torch.float64, device=device)

    def add(
        self, batch: PackedBatch, stats: TokenStats, *, loss: Tensor, kl_N: Tensor, drift_N: Tensor
    ) -> None:
        """One micro-batch.

        Args:
            batch: Its N completion tokens.
            stats: Of them.
            loss: 0-d.
            kl_N: k3 at the sampling temperature.
            drift_N: k3 at temperature 1.
        """
        place_N = torch.bucketize(batch.token_offsets + 1, torch.tensor(STARTS, device=kl_N.device))
        at_3N = torch.stack([place_N == i for i in range(3)]).double()
        top_N = stats.max_prob.double()
        whole = [loss.detach(), stats.entropy, stats.entropy_sampling, top_N, drift_N]
        sums = [value.sum().double() for value in whole]
        self._sums_C += torch.cat([torch.stack(sums), at_3N @ top_N, at_3N.sum(-1)])
        own = torch.zeros(batch.num_sequences, dtype=torch.float64, device=kl_N.device)
        own.index_add_(0, batch.sequence_index, kl_N.double())
        self._kl_max = torch.maximum(self._kl_max, own.max())

    def read(self) -> TokenTotals:
        """The numbers; waits for the device."""
        *sums, kl_max = torch.cat([self._sums_C, self._kl_max[None]]).tolist()
        loss, entropy, sampling, top, drift, *by_place = sums
        first, start, later = map(Mean, by_place[:3], by_place[3:])
        tokens = sum(by_place[3:])
        return TokenTotals(
            loss=loss,
            entropy=Mean(entropy, tokens),
            entropy_sampling=Mean(sampling, tokens),
            max_prob=Mean(top, tokens),
            max_prob_first=first,
            max_prob_start=start,
            max_prob_later=later,
            kl_model=Mean(drift, tokens),
            kl_sequence_max=Max(kl_max),
        )
