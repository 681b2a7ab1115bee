"""Token slots for keys and values, the sequences that stand in them, and their attention.

A sequence is two runs of slots: its prompt, which the K completions of a prompt share, and its own
completion. No prompt is repeated, prompts of different length waste nothing, and a sequence that
has finished is dropped by forgetting its row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Slot:
    """What a token keeps: a key and a value of every layer."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes(self) -> int:
        """Of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Pool:
    """Token slots for keys and values."""

    keys: Tensor
    """[layers, slots, kv heads, D]"""
    values: Tensor

    @classmethod
    def allocate(cls, slot: Slot, slots: int) -> "Pool":
        """Slots of zeros: a key that a row does not see is multiplied by 0, and must be finite."""
        shape = (slot.layers, slots, slot.kv_heads, slot.head_dim)
        make = lambda: torch.zeros(shape, dtype=slot.dtype, device=slot.device)  # noqa: E731
        return cls(make(), make())

    @property
    def slots(self) -> int:
        """How many tokens fit."""
        return self.keys.shape[1]


@dataclass(frozen=True, slots=True)
class Rows:
    """The active sequences, int32 [b] each; captured graphs read these very tensors."""

    tokens: Tensor
    """[b] int64: the last token drawn, to be run now."""
    prompt: Tensor
    """First slot of the prompt; -1 of a filler, which has none."""
    length: Tensor
    """Tokens of the prompt."""
    own: Tensor
    """First slot of the completion."""
    step: Tensor
    """[1]: completion tokens in the pool already, the same for all."""
    together: int
    """Rows of a prompt that may meet its keys together, a power of two that is not above K; the
    rows of a prompt stand behind one another."""

    @property
    def position(self) -> Tensor:
        """[b] int64 places of the tokens in their sequences."""
        return (self.length + self.step).long()

    @property
    def slot(self) -> Tensor:
        """[b] int64 slots of the tokens."""
        return (self.own + self.step).long()


def power_below(n: int) -> int:
    """The largest power of two that is not above ``n``; 1 at least."""
    return 1 << max(n.bit_length() - 1, 0)


def attend(
    queries: Tensor, rows: Rows, keys: Tensor, values: Tensor, scale: float | None
) -> Tensor:
    """Attention of the rows' tokens to their prompts and completions.

    On CUDA by a kernel (:mod:`grpo_dual.rollouts.attending`); elsewhere each row's slots are
    gathered, which is the kernel's oracle.

    Args:
        queries: [b, Hq, D]; Hq is a multiple of Hkv.
        rows: The sequences.
        keys: [slots, Hkv, D], the rows' own tokens among them.
        values: As ``keys``.
        scale: Of the products; None: D^-1/2.

    Returns:
        [b, Hq, D].
    """
    if queries.is_cuda:
        from grpo_dual.rollouts import attending  # triton: on CUDA only

        return attending.attend(queries, rows, keys, values, scale)
    lengths = rows.length + rows.step + 1
    places = torch.arange(int(lengths.max()), device=queries.device)[None]
    own = (places - rows.length[:, None]) + rows.own[:, None]
    slots = torch.where(places < rows.length[:, None], rows.prompt[:, None] + places, own)
    inside = places < lengths[:, None]
    slots = slots.masked_fill(~inside, 0).long()
    mixed = F.scaled_dot_product_attention(
        queries[:, :, None],
        keys[slots].transpose(1, 2),
        values[slots].transpose(1, 2),
        attn_mask=inside[:, None, None],
        scale=scale,
        enable_gqa=True,
    )
    return mixed[:, :, 0]
