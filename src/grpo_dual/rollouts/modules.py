"""A decode step by the model's own modules, for decoders that have no step of their own here.

The forward pass is Transformers'; attention, which goes through its interface, reads the pool. So
any model that takes flat rows can be drawn from in place, of any family, with biases, in 4 bit: no
prompt is repeated or padded, and the step is captured as a CUDA graph. What it costs beside a step
of kernels made for the family are the modules' many small ones (docs/performance.md).

A forward pass that waits for the device (experts asked one by one, a rotary table that is made anew
when sequences grow) cannot be captured; rehearsal.py finds out before the first rollout.
"""

from collections.abc import Hashable

import torch
from torch import Tensor

from grpo_dual.model.attention import ByGroup
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.pool import Pool, Rows, Slot, attend


class Modules:
    """Implements :class:`grpo_dual.rollouts.decode.DecodeStep`."""

    def __init__(self, policy: Policy) -> None:
        """Look at what its layers keep of a token.

        Args:
            policy: One that takes flat rows.

        Raises:
            UnsupportedError: Layers keep keys and values of different shapes, share them, or do
                not know their number.
        """
        self._policy = policy
        self._slot = _slot(policy)

    @property
    def slot(self) -> Slot:
        """See :class:`grpo_dual.rollouts.decode.DecodeStep`."""
        return self._slot

    def refresh(self) -> Hashable:
        """See :class:`grpo_dual.rollouts.decode.DecodeStep`."""
        self._policy.hold_adapters()
        return self._policy.acting

    def reserve(self, positions: int) -> bool:
        """See :class:`grpo_dual.rollouts.decode.DecodeStep`; modules make their own tables."""
        del positions
        return False

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """See :class:`grpo_dual.rollouts.decode.DecodeStep`."""
        slot_B = rows.slot

        def run(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
            pool.keys[layer].index_copy_(0, slot_B, k)
            pool.values[layer].index_copy_(0, slot_B, v)
            return attend(q, rows, pool.keys[layer], pool.values[layer], scale)

        with self._policy.held_adapters():
            return self._policy.flat_states(rows.tokens, rows.position, run)


def _slot(policy: Policy) -> Slot:
    """What a token keeps, seen in a pass of one."""
    dtype = policy.causal_lm.dtype
    layers: list[int] = []
    kept: set[tuple[torch.dtype, torch.Size]] = set()
    alone = ByGroup([[1]], dtype, policy.device)

    def run(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        layers.append(layer)
        kept.update((part.dtype, part.shape) for part in (k, v))
        return alone(layer, q, k, v, scale)

    with policy.inference():
        zero = torch.zeros(1, dtype=torch.int64, device=policy.device)
        policy.flat_states(zero, zero, run)
    if layers != list(range(len(layers))):
        raise UnsupportedError(
            f"layers of {type(policy.causal_lm).__name__} share keys and values, or do not know "
            "their number"
        )
    (kind, (_, heads, dim)), *others = kept
    if others or kind != dtype:
        raise UnsupportedError(
            f"layers of {type(policy.causal_lm).__name__} keep keys and values of different shapes "
            "or dtypes"
        )
    return Slot(len(layers), heads, dim, dtype, policy.device)
