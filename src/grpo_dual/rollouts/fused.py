"""The decode step with fused kernels: cuBLAS for the weights, ``kernels.py`` for all between.

Products are of ``x w``, whose rounding is not that of the training pass's ``w x / rms(x)``. What is
rounded differently in the first layer grows through all others, and is most of what sampler and
trainer differ by; there the norms are the training pass's own (docs/decisions/0019-rounding.md).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from triton import next_power_of_2  # pyright: ignore[reportMissingImports]

from grpo_dual.model.llama import add_norm, residual
from grpo_dual.rollouts import kernels as triton_kernels  # this module is for CUDA only
from grpo_dual.rollouts.attending import attend, early
from grpo_dual.rollouts.decode import FamilyStep
from grpo_dual.rollouts.pool import Pool, Rows
from grpo_dual.rollouts.weights import Group, Layer, Weights

kernels: Any = triton_kernels

ROWS = 16
"""Rows of a tile: tensor cores take no fewer."""
COLUMNS = 64
"""Columns of a tile of the residual stream."""
WIDE = 64
"""Columns of a tile of the MLP's inner width."""
WARPS = {"close": 4, "qkv": 8, "mlp": 8}
"""As are the numbers above, the best of those tried on an H200 (docs/performance.md)."""


class _Read(NamedTuple):
    """What a product reads."""

    states: Tensor
    """[b, d] in the model's dtype."""
    squares: Tensor | None
    """[slices, b] sums of squares, whose reciprocal root its output lacks; None: it lacks none."""

    def arguments(self) -> dict[str, Any]:
        """Of the kernel that finishes the product."""
        slices = 1 if self.squares is None else len(self.squares)
        return {
            "squares_ptr": self.states if self.squares is None else self.squares,
            "M": len(self.states),
            "K": self.states.shape[1],
            "SLICES": slices,
            "SP": next_power_of_2(slices),
            "ROOTED": self.squares is not None,
        }


class Fused(FamilyStep):
    """The step on CUDA."""

    def __init__(self, weights: Weights) -> None:
        """Of a model without biases but in queries, keys and values."""
        super().__init__(weights)
        self._early = early(weights.device)

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """[b, d] final normalised states of the rows' tokens."""
        w = self.weights
        following = [*(layer.attention_norm for layer in w.layers[1:]), w.norm]
        x = residual(F.embedding(rows.tokens, w.embedding))
        read = self._norm(x, w.layers[0].attention_norm)
        for index, (layer, next_norm) in enumerate(zip(w.layers, following, strict=True)):
            queries = self._qkv(read, layer, rows, pool, index)
            mixed = attend(queries, rows, pool.keys[index], pool.values[index], None)
            y = mixed.flatten(1) @ layer.output.whole.t()
            x, read = self._close(x, y, layer.output, layer.mlp_norm)
            if index == 0:
                read = self._norm(x, layer.mlp_norm)
            y = self._mlp(read, layer.gate_up) @ layer.down.whole.t()
            x, read = self._close(x, y, layer.down, next_norm)
        return self._norm(x, w.norm).states

    def _norm(self, x: Tensor, weight: Tensor) -> _Read:
        """The residual stream by the training pass's own norm."""
        return _Read(add_norm(x, None, weight, self.weights.eps)[1], None)

    def _close(self, x: Tensor, y: Tensor, group: Group, norm: Tensor) -> tuple[Tensor, _Read]:
        """The residual stream with the product ``y`` added, and what the next one reads of it."""
        m, n = x.shape
        blocks = -(-n // COLUMNS)
        total, xw = torch.empty_like(x), norm.new_empty(m, n)
        squares = x.new_empty(blocks, m)
        kernels.close[(blocks, -(-m // ROWS))](
            x, y, group.ups, norm, total, xw, squares, m, n, R=self.weights.rank, BM=ROWS,
            BC=COLUMNS, num_warps=WARPS["close"], **self._early,
        )  # fmt: skip
        return total, _Read(xw, squares)

    def _qkv(self, read: _Read, layer: Layer, rows: Rows, pool: Pool, index: int) -> Tensor:
        """[b, Hq, D] turned queries; keys and values go into the pool."""
        w, group, unused = self.weights, layer.qkv, read.states
        m = len(unused)
        normed = layer.query_norm is not None
        raw = read.states @ group.whole.t()
        biases: list[Any] = [unused if p.bias is None else p.bias for p in group.projections]
        queries = raw.new_empty(m, w.heads, w.head_dim)
        kernels.finish_qkv[(w.heads + 2 * w.kv_heads, -(-m // ROWS))](
            raw, group.ups, *biases, layer.query_norm if normed else unused,
            layer.key_norm if normed else unused, cos_ptr=w.cos, sin_ptr=w.sin,
            keys_ptr=pool.keys[index], values_ptr=pool.values[index], length_ptr=rows.length,
            own_ptr=rows.own, step_ptr=rows.step, out_ptr=queries, eps=w.eps,
            BIASED=group.projections[0].bias is not None, NORMED=normed, HQ=w.heads, HK=w.kv_heads,
            D=w.head_dim, R=w.rank, BM=ROWS, num_warps=WARPS["qkv"], **read.arguments(),
            **self._early,
        )  # fmt: skip
        return queries

    def _mlp(self, read: _Read, group: Group) -> Tensor:
        """[b, inner]: silu(gate) * up."""
        w, m = self.weights, len(read.states)
        raw = read.states @ group.whole.t()
        n = len(group.ups) // 2
        mid = raw.new_empty(m, n)
        kernels.finish_gate_up[(-(-n // WIDE), -(-m // ROWS))](
            raw, group.ups, mid_ptr=mid, N=n, eps=w.eps, R=w.rank, BM=ROWS, BC=WIDE,
            num_warps=WARPS["mlp"], **read.arguments(), **self._early,
        )  # fmt: skip
        return mid
