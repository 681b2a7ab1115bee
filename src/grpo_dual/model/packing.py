"""A prompt and its K completions in one row, so that the prompt is computed once and not K times.

A packed row is ``[prompt | c1 | ... | cK | pad]``. Positions restart at P for every completion, and
a completion attends to the prompt and to itself only, so each token sees exactly what it would see
in a row of its own: loss and gradient are identical (PrefixGrouper, arXiv 2506.05433, with one
dense mask instead of two attention calls). Padding is on the right only.

:func:`flatten` puts several groups behind one another into one row without padding, with the runs
of queries and keys by which kernels without masks compute the same (``attention.py``).

The plain path (:func:`unpack`) yields the same type with one completion per row; it is the oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.errors import ModelError

Group = tuple[Sequence[int], Sequence[Sequence[int]]]
"""Prompt ids and the ids of its completions."""

PAD_SEGMENT = -1


@dataclass(frozen=True, slots=True)
class Runs:
    """A flat row's attention as runs: some queries, and keys of which the last are their own.

    A prompt is a run (P queries, P keys), and each completion is one (C queries, P + C keys). Query
    i of a run sees all its keys but the last C - 1 - i: causal, aligned at the lower right.
    """

    key_index: Tensor
    """[M] the row's token behind each key of the runs; a prompt's stand there K + 1 times."""
    copies: Tensor
    """[S, W] places among the M at which token s stands; M where there are fewer than W."""
    query_ends: Tensor
    """[runs + 1] int32: 0, then where each run's queries end; they cover the row in order."""
    key_ends: Tensor
    """[runs + 1] int32 likewise among the M keys."""
    longest_query: int
    longest_key: int

    def lengths(self) -> list[list[int]]:
        """Of each group its prompt's tokens and those of its completions."""
        groups: list[list[int]] = []
        queries, keys = self.query_ends.diff().tolist(), self.key_ends.diff().tolist()
        for own, seen in zip(queries, keys, strict=True):
            if own == seen:  # a completion sees its prompt too, of one token at least
                groups.append([])
            groups[-1].append(own)
        return groups

    def to(self, device: torch.device | str) -> "Runs":
        """The same on another device."""
        return Runs(
            self.key_index.to(device),
            self.copies.to(device),
            self.query_ends.to(device),
            self.key_ends.to(device),
            self.longest_query,
            self.longest_key,
        )


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
    group_ids: Tensor
    """[R, S] which group a token belongs to; any on padding."""
    prompt_lengths: Tensor
    """[G] tokens of each group's prompt."""
    hidden_index: Tensor
    """[N] index into the flattened R*S states of the one that predicts token n."""
    targets: Tensor
    """[N] token ids to be predicted."""
    sequence_index: Tensor
    """[N] rollout that token n belongs to."""
    num_sequences: int
    """Rollouts in the batch, whatever the number of rows."""
    runs: Runs | None = None
    """Of a flat row; None: attention by mask."""

    @property
    def num_tokens(self) -> int:
        """N, completion tokens in the batch."""
        return self.targets.numel()

    @property
    def token_offsets(self) -> Tensor:
        """[N] place of token n in its completion, starting at 0."""
        before = self.prompt_lengths[self.group_ids.reshape(-1)[self.hidden_index]]
        return self.position_ids.reshape(-1)[self.hidden_index] - before + 1

    def visible(self, rows: Tensor, queries: Tensor) -> Tensor:
        """Which keys a query may see: ``q >= k and (seg_k == 0 or seg_k == seg_q)``, in its group.

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
        causal &= self.group_ids[rows] == self.group_ids[rows, queries][:, None]
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
            group_ids=self.group_ids.to(device),
            prompt_lengths=self.prompt_lengths.to(device),
            hidden_index=self.hidden_index.to(device),
            targets=self.targets.to(device),
            sequence_index=self.sequence_index.to(device),
            num_sequences=self.num_sequences,
            runs=None if self.runs is None else self.runs.to(device),
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
    return _batch([[row] for row in _whole(groups)], pad_id, multiple_of)


def unpack(groups: Sequence[Group], pad_id: int, *, multiple_of: int = 1) -> PackedBatch:
    """The plain path: one row per completion, ``[prompt | c]``; arguments as :func:`pack`."""
    single = [
        [_Row(row.prompt, [completion])] for row in _whole(groups) for completion in row.completions
    ]
    return _batch(single, pad_id, multiple_of)


def flatten(groups: Sequence[Group]) -> PackedBatch:
    """All groups in one row, ``[prompt 1 | c | .. | prompt 2 | c | ..]``, without padding.

    Args:
        groups: as in :func:`pack`.

    Returns:
        The batch on the CPU, with its runs.
    """
    rows = _whole(groups)
    return replace(_batch([rows], 0, 1), runs=_runs(rows))


def join(batches: Sequence[PackedBatch]) -> PackedBatch:
    """Flat rows behind one another, as one; their tokens stay in order.

    Args:
        batches: of :func:`flatten`, on one device.
    """
    tokens = groups = sequences = keys = queries = 0
    parts: list[PackedBatch] = []
    runs: list[Runs] = []
    for batch in batches:
        assert batch.runs is not None, "only flat rows can be joined"
        own, width = batch.runs, batch.input_ids.shape[1]
        parts.append(
            replace(
                batch,
                group_ids=batch.group_ids + groups,
                hidden_index=batch.hidden_index + tokens,
                sequence_index=batch.sequence_index + sequences,
            )
        )
        runs.append(
            replace(
                own,
                key_index=own.key_index + tokens,
                # What points behind the keys will point behind all of them.
                copies=torch.where(own.copies < len(own.key_index), own.copies + keys, -1),
                query_ends=own.query_ends[int(queries > 0) :] + queries,
                key_ends=own.key_ends[int(keys > 0) :] + keys,
            )
        )
        tokens += width
        groups += len(batch.prompt_lengths)
        sequences += batch.num_sequences
        keys += len(own.key_index)
        queries += width
    width = max(r.copies.shape[1] for r in runs)
    wide = [F.pad(r.copies, (0, width - r.copies.shape[1]), value=-1) for r in runs]
    copies = torch.cat(wide)
    return PackedBatch(
        input_ids=torch.cat([p.input_ids for p in parts], 1),
        position_ids=torch.cat([p.position_ids for p in parts], 1),
        segment_ids=torch.cat([p.segment_ids for p in parts], 1),
        group_ids=torch.cat([p.group_ids for p in parts], 1),
        prompt_lengths=torch.cat([p.prompt_lengths for p in parts]),
        hidden_index=torch.cat([p.hidden_index for p in parts]),
        targets=torch.cat([p.targets for p in parts]),
        sequence_index=torch.cat([p.sequence_index for p in parts]),
        num_sequences=sequences,
        runs=Runs(
            key_index=torch.cat([r.key_index for r in runs]),
            copies=torch.where(copies < 0, keys, copies),
            query_ends=torch.cat([r.query_ends for r in runs]),
            key_ends=torch.cat([r.key_ends for r in runs]),
            longest_query=max(r.longest_query for r in runs),
            longest_key=max(r.longest_key for r in runs),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Sequence[int]
    completions: list[tuple[int, Sequence[int]]]

    def __len__(self) -> int:
        return len(self.prompt) + sum(len(ids) for _, ids in self.completions)


def _whole(groups: Sequence[Group]) -> list[_Row]:
    """Each group with its completions numbered through."""
    _check(groups)
    numbers = iter(range(sum(len(completions) for _, completions in groups)))
    return [
        _Row(prompt, [(next(numbers), c) for c in completions]) for prompt, completions in groups
    ]


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


def _batch(rows: Sequence[Sequence[_Row]], pad_id: int, multiple_of: int) -> PackedBatch:
    """Rows of groups, padded on the right to the longest."""
    width = max(sum(map(len, row)) for row in rows)
    width = -(-width // multiple_of) * multiple_of
    ids, positions, segments, owners = [], [], [], []
    hidden: list[int] = []
    targets: list[int] = []
    sequence: list[int] = []
    prompt_lengths: list[int] = []
    for number, row in enumerate(rows):
        row_ids: list[int] = []
        row_positions: list[int] = []
        row_segments: list[int] = []
        row_owners: list[int] = []
        for group in row:
            length = len(group.prompt)
            row_ids += group.prompt
            row_positions += range(length)
            row_segments += [0] * length
            last_of_prompt = number * width + len(row_ids) - 1
            for segment, (index, completion) in enumerate(group.completions, start=1):
                start = number * width + len(row_ids)
                # The prompt's last state predicts the first token of every completion.
                hidden += [last_of_prompt, *range(start, start + len(completion) - 1)]
                targets += completion
                sequence += [index] * len(completion)
                row_ids += completion
                row_positions += range(length, length + len(completion))
                row_segments += [segment] * len(completion)
            row_owners += [len(prompt_lengths)] * len(group)
            prompt_lengths.append(length)
        padding = width - len(row_ids)
        ids.append(row_ids + [pad_id] * padding)
        positions.append(row_positions + [0] * padding)
        segments.append(row_segments + [PAD_SEGMENT] * padding)
        owners.append(row_owners + [0] * padding)
    return PackedBatch(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        segment_ids=torch.tensor(segments),
        group_ids=torch.tensor(owners),
        prompt_lengths=torch.tensor(prompt_lengths),
        hidden_index=torch.tensor(hidden),
        targets=torch.tensor(targets),
        sequence_index=torch.tensor(sequence),
        num_sequences=len(set(sequence)),
    )


def prompt_runs(prompts: Sequence[Sequence[int]]) -> Runs:
    """The runs of prompts alone, behind one another: each sees itself."""
    return _runs([_Row(prompt, []) for prompt in prompts])


def _runs(rows: Sequence[_Row]) -> Runs:
    """The runs of groups that stand behind one another."""
    keys: list[Tensor] = []
    queries: list[int] = []
    start = 0
    for row in rows:
        prompt = torch.arange(start, start + len(row.prompt))
        keys.append(prompt)
        queries.append(len(prompt))
        start += len(prompt)
        for _, completion in row.completions:
            own = torch.arange(start, start + len(completion))
            keys.append(torch.cat([prompt, own]))
            queries.append(len(own))
            start += len(own)
    key_index = torch.cat(keys)
    lengths = [len(k) for k in keys]
    return Runs(
        key_index=key_index,
        copies=_copies(key_index, start),
        query_ends=_ends(queries),
        key_ends=_ends(lengths),
        longest_query=max(queries),
        longest_key=max(lengths),
    )


def _ends(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def _copies(index: Tensor, size: int) -> Tensor:
    """[size, W] where each of ``range(size)`` stands in ``index``, filled up with its length."""
    counts = torch.bincount(index, minlength=size)
    order = index.argsort(stable=True)
    first = counts.cumsum(0) - counts
    place = torch.arange(int(counts.max()))
    inside = place < counts[:, None]
    at = (first[:, None] + place).clamp(max=len(index) - 1)
    return torch.where(inside, order[at], len(index))
