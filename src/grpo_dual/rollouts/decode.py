"""Prompts in one pass of the training pass's layers, completions token by token in plain torch.

The latter is the way of the CPU and the oracle of the fused kernels (fused.py).

Keys and values live in one pool of token slots. A sequence is two runs of slots: its prompt, which
the K completions of a prompt share, and its own completion. No prompt is repeated, prompts of
different length waste nothing, and a sequence that has finished is dropped by forgetting its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.model.attention import attend
from grpo_dual.model.llama import residual, rms_norm, rotate
from grpo_dual.model.packing import prompt_runs
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.weights import Group, Layer, Weights


@dataclass(frozen=True, slots=True)
class Pool:
    """Token slots for keys and values."""

    keys: Tensor
    """[layers, slots, kv heads, D]"""
    values: Tensor

    @classmethod
    def allocate(cls, weights: Weights, slots: int) -> "Pool":
        """Slots of zeros: a key that a row does not see is multiplied by 0, and must be finite."""
        shape = (len(weights.layers), slots, weights.kv_heads, weights.head_dim)
        make = lambda: torch.zeros(shape, dtype=weights.dtype, device=weights.device)  # noqa: E731
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


def power_below(n: int) -> int:
    """The largest power of two that is not above ``n``; 1 at least."""
    return 1 << max(n.bit_length() - 1, 0)


def prefill(
    policy: Policy, prompts: Sequence[Sequence[int]], starts: Sequence[int], pool: Pool
) -> Tensor:
    """[P, d] final states of the prompts' last tokens; keys and values go into the pool.

    The training pass's own layers, on a flat row of the prompts.

    Args:
        policy: Whose adapter is active.
        prompts: Token ids.
        starts: First slot of each prompt.
        pool: Where to.
    """
    sizes = torch.tensor([len(ids) for ids in prompts])
    position = torch.cat([torch.arange(len(ids)) for ids in prompts])
    slot = (torch.tensor(starts).repeat_interleave(sizes) + position).to(policy.device)
    runs = prompt_runs(prompts).to(policy.device)

    def run(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        pool.keys[layer].index_copy_(0, slot, k)
        pool.values[layer].index_copy_(0, slot, v)
        return attend(q, k, v, runs, scale=scale)

    ids = torch.tensor([i for own in prompts for i in own], device=policy.device)
    last = (sizes.cumsum(0) - 1).to(policy.device)
    return policy.flat_states(ids, position.to(policy.device), run, last)


class Decoder:
    """Runs a token of each active sequence through the model."""

    def __init__(self, weights: Weights, positions: int) -> None:
        """Prepare rotary tables for so many positions."""
        self.weights = weights
        w = weights
        places = torch.arange(positions, device=w.device)[None]
        probe = torch.empty(1, dtype=w.dtype, device=w.device)
        cos, sin = w.rotary(probe, places)
        self.cos: Tensor = cos[0].contiguous()
        """[positions, D]"""
        self.sin: Tensor = sin[0].contiguous()

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """[b, d] final normalised states of the rows' tokens; keys and values go into the pool."""
        x = residual(F.embedding(rows.tokens, self.weights.embedding))
        for index, layer in enumerate(self.weights.layers):
            x = self._layer(x, layer, rows, pool.keys[index], pool.values[index])
        return rms_norm(x, self.weights.norm, self.weights.eps)

    def _qkv(
        self, x: Tensor, layer: Layer, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[b, heads, D] queries and keys, turned, and values."""
        w = self.weights
        normed = rms_norm(x, layer.attention_norm, w.eps)
        q, k, v = (part.view(len(x), -1, w.head_dim) for part in linear(normed, layer.qkv, w.rank))
        if layer.query_norm is not None and layer.key_norm is not None:
            q = rms_norm(q, layer.query_norm, w.eps)
            k = rms_norm(k, layer.key_norm, w.eps)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def _finish(self, x: Tensor, mixed: Tensor, layer: Layer) -> Tensor:
        """What follows attention in a layer."""
        w = self.weights
        (out,) = linear(mixed, layer.output, w.rank)
        x = x + out
        gate, up = linear(rms_norm(x, layer.mlp_norm, w.eps), layer.gate_up, w.rank)
        (out,) = linear(F.silu(gate) * up, layer.down, w.rank)
        return x + out

    def _layer(self, x: Tensor, layer: Layer, rows: Rows, keys: Tensor, values: Tensor) -> Tensor:
        position = (rows.length + rows.step).long()
        q, k, v = self._qkv(x, layer, self.cos[position][:, None], self.sin[position][:, None])
        slot = (rows.own + rows.step).long()
        keys.index_copy_(0, slot, k)
        values.index_copy_(0, slot, v)
        return self._finish(x, self._attend(q, rows, keys, values), layer)

    def _attend(self, q: Tensor, rows: Rows, keys: Tensor, values: Tensor) -> Tensor:
        """[b, Hq D]: gathers each row's slots; the way of the CPU and the oracle of the kernel."""
        lengths = rows.length + rows.step + 1
        places = torch.arange(int(lengths.max()), device=q.device)[None]
        own = (places - rows.length[:, None]) + rows.own[:, None]
        slots = torch.where(places < rows.length[:, None], rows.prompt[:, None] + places, own)
        inside = places < lengths[:, None]
        slots = slots.masked_fill(~inside, 0).long()
        mixed = F.scaled_dot_product_attention(
            q[:, :, None],
            keys[slots].transpose(1, 2),
            values[slots].transpose(1, 2),
            attn_mask=inside[:, None, None],
            enable_gqa=True,
        )
        return mixed.flatten(1)


def linear(x: Tensor, group: Group, rank: int) -> list[Tensor]:
    """The group's outputs, the adapter's product added."""
    down = F.linear(x, group.down)
    return [
        torch.addmm(F.linear(x, p.weight, p.bias), down[:, p.column : p.column + rank], p.up.t())
        for p in group.projections
    ]
