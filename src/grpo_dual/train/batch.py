"""Scored groups of one objective -> the tensors of its loss, in micro-batches of packed rows.

Axes: P prompts, K completions of each, N completion tokens of a micro-batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from grpo_dual.advantages.group import (
    GroupAdvantages,
    GroupClasses,
    Normalization,
    classify_groups,
    group_advantages,
)
from grpo_dual.config.schema import SamplingConfig
from grpo_dual.model.packing import PackedBatch, flatten, pack, unpack
from grpo_dual.model.processors import Replay
from grpo_dual.types import RolloutGroup, Score

Layout = Literal["packed", "flat", "plain"]
ROW_MULTIPLE = 8
"""Row lengths are rounded up to it: CUDA's masked attention wants aligned rows."""


@dataclass(frozen=True, slots=True)
class PassLimit:
    """How much goes into a forward pass."""

    prompts: int
    tokens: int | None = None
    """Instead of ``prompts``: as many as fit, one at least."""

    @property
    def halved(self) -> "PassLimit | None":
        """Half of it; None where that is nothing."""
        if self.tokens is not None:
            return PassLimit(self.prompts, self.tokens // 2) if self.tokens > 1 else None
        return PassLimit(self.prompts // 2) if self.prompts > 1 else None

    def __str__(self) -> str:
        if self.tokens is not None:
            return f"{self.tokens:,} tokens (train.microbatch_tokens: {self.tokens})"
        return f"{self.prompts} prompts (train.microbatch_prompts: {self.prompts})"

    def split(self, groups: Sequence[RolloutGroup]) -> list[list[RolloutGroup]]:
        """Groups in order, pass by pass."""
        passes: list[list[RolloutGroup]] = []
        used = 0
        for group in groups:
            size = len(group.prompt.token_ids) + sum(len(r.token_ids) for r in group.rollouts)
            if self.tokens is None:
                full = bool(passes) and len(passes[-1]) >= self.prompts
            else:
                full = used + size > self.tokens
            if full or not passes:
                passes.append([])
                used = 0
            passes[-1].append(group)
            used += size
        return passes


@dataclass(slots=True)
class MicroBatch:
    """Packed rows of some prompts of one objective, and what the loss needs on their tokens."""

    batch: PackedBatch
    behaviour_N: Tensor
    """Log-prob under the behaviour policy, as the engine recorded it."""
    processor: Replay | None
    """Replays processed sampling; None when sampling is temperature only."""
    advantages_N: Tensor | None = None
    """Filled once the groups are scored."""
    live_N: Tensor | None = None
    """bool: tokens of scored completions in live groups; filled with the advantages."""
    reference_N: Tensor | None = None
    """Log-prob under the reference, filled once a step."""
    reference_model_N: Tensor | None = None
    """The same at temperature 1, without processors."""
    old_N: Tensor | None = None
    """Log-prob before the first update, filled when samples serve several updates."""


@dataclass(frozen=True, slots=True)
class PackedGroups:
    """One objective's groups as tensors. It knows no scores: these may still be on their way."""

    name: str
    groups: tuple[RolloutGroup, ...]
    micro: tuple[MicroBatch, ...]


@dataclass(frozen=True, slots=True)
class ObjectiveBatch:
    """One objective's share of a step."""

    name: str
    groups: tuple[RolloutGroup, ...]
    scores: tuple[tuple[Score, ...], ...]
    advantages: GroupAdvantages
    classes: GroupClasses
    micro: tuple[MicroBatch, ...]
    live_tokens: int
    """Denominator of the policy term: tokens of scored completions in live groups."""
    tokens: int
    """Denominator of the KL term: all completion tokens."""


def pack_groups(
    name: str,
    groups: Sequence[RolloutGroup],
    *,
    sampling: SamplingConfig,
    eos_ids: Sequence[int],
    pad_id: int,
    limit: PassLimit,
    layout: Layout,
    device: torch.device,
) -> PackedGroups:
    """Micro-batches of P groups.

    Args:
        name: The objective.
        groups: P groups of K rollouts.
        sampling: The behaviour policy, replayed unless plain.
        eos_ids: Ids that end a completion.
        pad_id: Any valid id.
        limit: What goes into a forward pass.
        layout: One row for each prompt, one for all (on CUDA), or one for each completion, which is
            the oracle.
        device: Where the policy is.

    Returns:
        The micro-batches, without advantages, reference and old log-probs.
    """
    micro = [
        _micro_batch(
            own,
            sampling=sampling,
            eos_ids=eos_ids,
            pad_id=pad_id,
            layout=layout,
            device=device,
        )
        for own in limit.split(groups)
    ]
    return PackedGroups(name, tuple(groups), tuple(micro))


def score_groups(
    packed: PackedGroups,
    scores: Sequence[tuple[Score, ...]],
    best: Sequence[float],
    *,
    normalization: Normalization,
    eps: float,
) -> ObjectiveBatch:
    """Advantages of P groups, spread over the tokens of their micro-batches.

    Args:
        packed: P groups of K rollouts; its micro-batches get their advantages.
        scores: P x K scores.
        best: [P] best attainable task part.
        normalization: See ``group_advantages``.
        eps: See ``group_advantages``.
    """
    groups = packed.groups
    scored_PK = torch.tensor([[s.total is not None for s in row] for row in scores])
    advantages = group_advantages(
        _values([[s.total for s in row] for row in scores]),
        _values([[s.judged for s in row] for row in scores]),
        scored_PK,
        normalization=normalization,
        eps=eps,
    )
    task_PK = _values([[s.parts.get("task") for s in row] for row in scores])
    classes = classify_groups(task_PK, scored_PK, torch.tensor(best))
    lengths_PK = torch.tensor([[len(r.token_ids) for r in g.rollouts] for g in groups])
    start = 0
    flat, counted = advantages.advantages_PK.flatten(), advantages.counted_PK.flatten()
    for micro in packed.micro:
        index_N = micro.batch.sequence_index
        stop = start + micro.batch.num_sequences
        micro.advantages_N = flat[start:stop].to(index_N.device)[index_N]
        micro.live_N = counted[start:stop].to(index_N.device)[index_N]
        start = stop
    return ObjectiveBatch(
        name=packed.name,
        groups=groups,
        scores=tuple(scores),
        advantages=advantages,
        classes=classes,
        micro=packed.micro,
        live_tokens=int(lengths_PK[advantages.counted_PK].sum()),
        tokens=int(lengths_PK.sum()),
    )


def _values(rows: Sequence[Sequence[float | None]]) -> Tensor:
    """[P, K] fp32, NaN where there is no value."""
    return torch.tensor([[math.nan if v is None else v for v in row] for row in rows])


def _micro_batch(
    groups: Sequence[RolloutGroup],
    *,
    sampling: SamplingConfig,
    eos_ids: Sequence[int],
    pad_id: int,
    layout: Layout,
    device: torch.device,
) -> MicroBatch:
    rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
    if layout == "flat":
        batch = flatten(rows)
    else:
        lay = pack if layout == "packed" else unpack
        batch = lay(rows, pad_id, multiple_of=ROW_MULTIPLE)
    rollouts = [r for g in groups for r in g.rollouts]
    processor = None
    if not sampling.plain:
        kept = None
        if sampling.top_k > 0 or sampling.top_p < 1:
            kept = [ids for r in rollouts for ids in r.kept_ids or ()]
        processor = Replay(batch.to(device), sampling, eos_ids, kept)
    return MicroBatch(
        batch=batch.to(device),
        behaviour_N=torch.tensor([p for r in rollouts for p in r.logprobs], device=device),
        processor=processor,
    )
