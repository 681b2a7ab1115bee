"""Prompts in one pass of the training pass's layers; completions token by token, by a decode step.

The decode step here is the Llama family's in plain torch: the way of the CPU, and the oracle of the
fused kernels (fused.py). Other decoders go through their own modules (modules.py).
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.model.attention import attend as attend_runs
from grpo_dual.model.llama import residual, rms_norm, rotate
from grpo_dual.model.packing import prompt_runs
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.pool import Pool, Rows, Slot, attend
from grpo_dual.rollouts.weights import Group, Layer, Weights


class DecodeStep(Protocol):
    """A token of each active sequence through the model."""

    @property
    def slot(self) -> Slot:
        """What a token keeps."""
        ...

    def refresh(self) -> Hashable:
        """Take the adapter as it is now, where captured graphs see it.

        Returns:
            What they cannot see: graphs captured behind another answer do not serve.
        """
        ...

    def reserve(self, positions: int) -> bool:
        """Be ready for so many positions; True: graphs captured before do not serve any more."""
        ...

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """[b, d] final normalised states of the rows' tokens; keys and values go into the pool."""
        ...


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
        return attend_runs(q, k, v, runs, scale=scale)

    ids = torch.tensor([i for own in prompts for i in own], device=policy.device)
    last = (sizes.cumsum(0) - 1).to(policy.device)
    return policy.flat_states(ids, position.to(policy.device), run, last)


class FamilyStep:
    """What the Llama family's decode steps have in common (:class:`DecodeStep`): the weights."""

    def __init__(self, weights: Weights) -> None:
        """Of those weights."""
        self.weights = weights

    @property
    def slot(self) -> Slot:
        """See :class:`DecodeStep`."""
        return self.weights.slot

    def refresh(self) -> None:
        """See :class:`DecodeStep`; graphs see all of it."""
        self.weights.refresh()

    def reserve(self, positions: int) -> bool:
        """See :class:`DecodeStep`."""
        return self.weights.reserve(positions)


class Decoder(FamilyStep):
    """The step in plain torch operations."""

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """See :class:`DecodeStep`."""
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
        cos, sin = (table[rows.position][:, None] for table in (self.weights.cos, self.weights.sin))
        q, k, v = self._qkv(x, layer, cos, sin)
        keys.index_copy_(0, rows.slot, k)
        values.index_copy_(0, rows.slot, v)
        return self._finish(x, attend(q, rows, keys, values, None).flatten(1), layer)


def linear(x: Tensor, group: Group, rank: int) -> list[Tensor]:
    """The group's outputs, the adapter's product added."""
    down = F.linear(x, group.down)
    return [
        torch.addmm(F.linear(x, p.weight, p.bias), down[:, p.column : p.column + rank], p.up.t())
        for p in group.projections
    ]
