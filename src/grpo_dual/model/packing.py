"""A prompt and its K completions in one row, so that the prompt is computed once and not K times.

A packed row is ``[prompt | c1 | ... | cK | pad]``. Positions restart at P for every completion, and
a completion attends to the prompt and to itself only, so each token sees exactly what it would see
in a row of its own: loss and gradient are identical (PrefixGrouper, arXiv 2506.05433, with one
dense mask instead of two attention calls). Padding is on the right only.

The plain path (:func:`unpack`) yields the same type with one completion per row; it is the oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_dual.errors import ModelError

Group = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Prompt ids and the ids of its completions."""

PAD_SEGMENT = -1


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows ready for one forward pass, and where in them each completion token is predicted.

    Tokens are ordered by rollout (in the order given) and then by time.
    """

    input_ids: Tensor
    """[R, S] token ids, right padded."""
    position_ids: Tensor
    """[R, S] rotary positions; they restart at P for every completion. 0 on padding."""
    segment_ids: Tensor
    """[R, S] 0 prompt, 1..K completions, -1 padding."""
    hidden_index: Tensor
    """[N] index into the flattened R*S states of the one that predicts token n."""
    targets: Tensor
    """[N] token ids to be predicted."""
    sequence_index: Tensor
    """[N] rollout that token n belongs to."""
    num_sequences: int
    """Rollouts in the batch, whatever the number of rows."""

    @property
    def num_tokens(self) -> int:
        """N, completion tokens in the batch."""
        return self.targets.numel()

    @property
    def token_offsets(self) -> Tensor:
        """[N] place of token n in its completion, starting at 0."""
        prompt_lengths = (self.segment_ids == 0).sum(1)
        rows = self.hidden_index // self.input_ids.shape[1]
        return self.position_ids.reshape(-1)[self.hidden_index] - prompt_lengths[rows] + 1

    def visible(self, rows: Tensor, queries: Tensor) -> Tensor:
        """Which keys a query may see: ``q >= k and (seg_k == 0 or seg_k == seg_q)``.

        Padding sees itself only (an all-masked row is NaN in some attention kernels).

        Args:
            rows: [M] row of each query.
            queries: [M] column of each query.

        Returns:
            [M, S] bool.
        """
        keys = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        segments = self.segment_ids[rows]
        own = self.segment_ids[rows, queries][:, None]
        causal = queries[:, None] >= keys
        allowed = causal & ((segments == 0) | (segments == own)) & (own != PAD_SEGMENT)
        return allowed | (queries[:, None] == keys)

    def attention_mask(self) -> Tensor:
        """[R, 1, S, S] bool, True where allowed; for SDPA (eager would add it as 0/1)."""
        count, width = self.input_ids.shape
        flat = torch.arange(count * width, device=self.input_ids.device)
        return self.visible(flat // width, flat % width).view(count, 1, width, width)

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on another device."""
        return PackedBatch(
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            segment_ids=self.segment_ids.to(device),
            hidden_index=self.hidden_index.to(device),
            targets=self.targets.to(device),
            sequence_index=self.sequence_index.to(device),
            num_sequences=self.num_sequences,
        )


def pack(groups: Sequence[Group], pad_id: int, *, multiple_of: int = 1) -> PackedBatch:
    """One row per prompt: ``[prompt | c1 | ... | cK]``.

    Args:
        groups: prompts with their completions; completion counts may differ.
        pad_id: id written on padding; it is masked, any valid id will do.
        multiple_of: row length is rounded up to it (8 keeps CUDA's masked attention aligned).

    Returns:
        The batch on the CPU.

    Raises:
        ModelError: there is no group, or a prompt or completion is empty.
    """
    _check(groups)
    sequences = iter(range(sum(len(completions) for _, completions in groups)))
    rows = [
        _Row(prompt, [(next(sequences), completion) for completion in completions])
        for prompt, completions in groups
    ]
    return _batch(rows, pad_id, multiple_of)


def unpack(groups: Sequence[Group], pad_id: int, *, multiple_of: int = 1) -> PackedBatch:
    """The plain path: one row per completion, ``[prompt | c]``; arguments as :func:`pack`."""
    _check(groups)
    sequences = iter(range(sum(len(completions) for _, completions in groups)))
    rows = [
        _Row(prompt, [(next(sequences), completion)])
        for prompt, completions in groups
        for completion in completions
    ]
    return _batch(rows, pad_id, multiple_of)


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Sequence[int]
    completions: list[tuple[int, Sequence[int]]]

    def __len__(self) -> int:
        return len(self.prompt) + sum(len(ids) for _, ids in self.completions)


def _check(groups: Sequence[Group]) -> None:
    if not groups:
        raise ModelError("a batch needs at least one prompt with its completions; got none")
    for number, (prompt, completions) in enumerate(groups):
        if not prompt:
            raise ModelError(
                f"group {number} has an empty prompt; its first token has nothing to follow"
            )
        if not completions:
            raise ModelError(f"group {number} has no completions")
        for k, completion in enumerate(completions):
            if not completion:
                raise ModelError(
                    f"completion {k} of group {number} is empty: it has no token to score; "
                    "a finished completion holds at least its end-of-turn id"
                )


def _batch(rows: Sequence[_Row], pad_id: int, multiple_of: int) -> PackedBatch:
    width = max(len(row) for row in rows)
    width = -(-width // multiple_of) * multiple_of
    ids, positions, segments = [], [], []
    hidden: list[int] = []
    targets: list[int] = []
    sequence: list[int] = []
    for number, row in enumerate(rows):
        length = len(row.prompt)
        row_ids, row_positions = list(row.prompt), list(range(length))
        row_segments = [0] * length
        last_of_prompt = number * width + length - 1
        for segment, (index, completion) in enumerate(row.completions, start=1):
            start = number * width + len(row_ids)
            # The prompt's last state predicts the first token of every completion.
            hidden += [last_of_prompt, *range(start, start + len(completion) - 1)]
            targets += completion
            sequence += [index] * len(completion)
            row_ids += completion
            row_positions += range(length, length + len(completion))
            row_segments += [segment] * len(completion)
        padding = width - len(row_ids)
        ids.append(row_ids + [pad_id] * padding)
        positions.append(row_positions + [0] * padding)
        segments.append(row_segments + [PAD_SEGMENT] * padding)
    return PackedBatch(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        segment_ids=torch.tensor(segments),
        hidden_index=torch.tensor(hidden),
        targets=torch.tensor(targets),
        sequence_index=torch.tensor(sequence),
        num_sequences=sum(len(row.completions) for row in rows),
    )
