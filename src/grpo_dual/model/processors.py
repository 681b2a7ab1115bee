"""The distribution that tokens are really sampled from: drawn by the engine, replayed in training.

Order and definitions are those of Transformers' ``generate``: repetition penalty over every id seen
in prompt or completion, forbidden EOS, temperature, top-k, top-p. Penalty and EOS follow from the
prefix and are computed again; what top-k and top-p kept is recorded by the engine and never
recomputed, because updated weights could drop the sampled token (``keep sampling mask``,
DeepSeek-V3.2 section 3.1).

    z'_v = z_v / rp or z_v rp for seen v (by the sign of z_v),  -inf for a forbidden EOS
    mu(y) = exp(z'_y / T) / sum over kept v of exp(z'_v / T)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.packing import PackedBatch


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Repetition penalty (CTRL, 1909.05858): seen ids get ``z / rp`` if z >= 0, else ``z rp``.

    Args:
        logits: [M, V].
        seen: [M, V] bool, ids in prompt or completion so far.
        penalty: rp >= 1.

    Returns:
        [M, V].
    """
    return logits * penalty_slope(logits, seen, penalty)


def penalty_slope(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """[M, V] derivative of :func:`penalise`: 1/rp, rp, or 1 where the id was not seen."""
    slope = torch.ones_like(logits).masked_fill_(seen & (logits < 0), penalty)
    return slope.masked_fill_(seen & (logits >= 0), 1.0 / penalty)


def keep_mask(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Which ids survive top-k, then top-p, as Transformers decides (ties at the k-th value stay).

    Args:
        logits: [M, V] after penalty, EOS mask and temperature.
        top_k: 0 switches it off.
        top_p: 1 switches it off.

    Returns:
        [M, V] bool, at least one True per row.
    """
    kept = torch.isfinite(logits)
    if top_k:
        kth = torch.topk(logits, min(top_k, logits.shape[-1])).values[..., -1, None]
        kept &= logits >= kth
    if top_p < 1.0:
        ascending, order = torch.sort(logits.masked_fill(~kept, -torch.inf), descending=False)
        dropped = ascending.softmax(-1).cumsum(-1) <= 1.0 - top_p
        dropped[..., -1] = False
        kept &= ~torch.zeros_like(kept).scatter(-1, order, dropped)
    return kept


def seen_ids(batch: PackedBatch, start: int, stop: int, vocabulary: int) -> Tensor:
    """[M, V] bool: ids in the prefix (prompt, own completion) of the M tokens ``start:stop``."""
    width = batch.input_ids.shape[1]
    states = batch.hidden_index[start:stop]
    rows, queries = states // width, states % width
    # What a token was drawn after is what its predicting state may attend to.
    ids = batch.input_ids[rows].masked_fill(~batch.visible(rows, queries), vocabulary)
    seen = torch.zeros(len(states), vocabulary + 1, dtype=torch.bool, device=ids.device)
    return seen.scatter_(1, ids, True)[:, :vocabulary]


class Replay:
    """The recorded processing of one batch, a :class:`grpo_dual.model.head.Processor`.

    The reference may be scored with the same object: its KL is then taken on the same support as
    the policy's.
    """

    def __init__(
        self,
        batch: PackedBatch,
        sampling: SamplingConfig,
        eos_ids: Sequence[int],
        kept_ids: Sequence[Sequence[int]] | None,
    ) -> None:
        """Bind the processing to a batch.

        Args:
            batch: on the policy's device.
            sampling: as the engine used it.
            eos_ids: ids that end a completion.
            kept_ids: for each of the N tokens, the ids that survived; None when nothing was
                truncated.

        Raises:
            ModelError: kept ids are absent though sampling truncates, do not number N, or miss a
                sampled token.
        """
        truncates = sampling.top_k > 0 or sampling.top_p < 1.0
        if truncates and kept_ids is None:
            raise ModelError(
                "sampling truncates (top_k or top_p), but the rollouts carry no kept ids; use an "
                "engine that records them, or set rollout.sampling.top_k: 0 and top_p: 1"
            )
        self._batch = batch
        self._sampling = sampling
        self._eos = torch.tensor(list(eos_ids), device=batch.targets.device)
        self._offsets = batch.token_offsets
        self._kept = None if kept_ids is None else _pad_kept(kept_ids, batch)

    def __call__(self, logits: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Process the logits of tokens ``start:stop``; see :class:`head.Processor`."""
        slope = None
        processed = logits
        if self._sampling.repetition_penalty != 1.0:
            seen = seen_ids(self._batch, start, stop, logits.shape[1])
            slope = penalty_slope(logits, seen, self._sampling.repetition_penalty)
            processed = logits * slope
        early = self._offsets[start:stop] < self._sampling.min_new_tokens
        forbidden = torch.zeros_like(logits, dtype=torch.bool)
        forbidden[:, self._eos] = early[:, None]
        if self._kept is not None:
            ids = self._kept[start:stop]
            kept = torch.zeros(len(ids), logits.shape[1] + 1, dtype=torch.bool, device=ids.device)
            # Padding of the kept ids points at a column of its own, cut off again.
            kept.scatter_(1, ids.masked_fill(ids < 0, logits.shape[1]), True)
            forbidden |= ~kept[:, : logits.shape[1]]
        return processed.masked_fill(forbidden, -torch.inf), slope


def _pad_kept(kept_ids: Sequence[Sequence[int]], batch: PackedBatch) -> Tensor:
    """[N, most kept] ids, -1 on padding."""
    if len(kept_ids) != batch.num_tokens:
        raise ModelError(
            f"{len(kept_ids)} lists of kept ids for {batch.num_tokens} completion tokens"
        )
    for number, (ids, target) in enumerate(zip(kept_ids, batch.targets.tolist(), strict=True)):
        if target not in ids:
            raise ModelError(
                f"token {number} (id {target}) is not among its {len(ids)} kept ids, so it cannot "
                "have been sampled; rollouts and kept ids are not in the same order"
            )
    width = max(len(ids) for ids in kept_ids)
    padded = [list(ids) + [-1] * (width - len(ids)) for ids in kept_ids]
    return torch.tensor(padded, device=batch.targets.device)
