"""The decode step with fused kernels: cuBLAS for the weights, ``kernels.py`` for all between."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.rollouts import kernels as triton_kernels  # this module is for CUDA only
from grpo_dual.rollouts.decode import Pool, Rows
from grpo_dual.rollouts.weights import Group, Layer, Weights

kernels: Any = triton_kernels

ROWS = 16
"""Rows of a tile: tensor cores take no fewer."""
COLUMNS = 128
"""Columns of a tile of the residual stream."""
WIDE = 128
"""Columns of a tile of the MLP's inner width."""
SPLITS = 4
"""Parts of a row's attention that run beside each other."""
KEYS = 64
"""Keys of a tile."""
STAGES = 2
"""Tiles of keys under way at once."""
WARPS = {"close": 4, "qkv": 8, "attend": 4, "merge": 2, "mlp": 4}
"""As are the numbers above, the best of those tried on an H200 (docs/performance.md)."""


class Fused:
    """One decode step on CUDA."""

    def __init__(self, weights: Weights, cos: Tensor, sin: Tensor) -> None:
        """``cos``, ``sin``: [positions, D] rotary tables in the model's dtype."""
        self._w = weights
        self._cos, self._sin = cos, sin

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """[b, d] final normalised states of the rows' tokens."""
        w = self._w
        x = F.embedding(rows.tokens, w.embedding)
        first = w.layers[0]
        x, xw, squares, part = self._close(x, None, None, None, first.attention_norm, first.qkv)
        for index, layer in enumerate(w.layers):
            queries = self._qkv(xw, squares, part, layer, rows, pool, index)
            mixed, part = self._attend(queries, layer.output, rows, pool, index)
            y = mixed @ layer.output.weight.t()
            x, xw, squares, part = self._close(
                x, y, part, layer.output, layer.mlp_norm, layer.gate_up
            )
            mid, part = self._mlp(xw, squares, part, layer.gate_up, layer.down)
            y = mid @ layer.down.weight.t()
            following = w.layers[index + 1] if index + 1 < len(w.layers) else None
            norm = w.norm if following is None else following.attention_norm
            qkv = None if following is None else following.qkv
            x, xw, squares, part = self._close(x, y, part, layer.down, norm, qkv)
        root = torch.rsqrt(squares.sum(0) / x.shape[1] + w.eps)
        return (xw.float() * root[:, None]).to(xw.dtype)

    def _close(
        self,
        residual: Tensor,
        y: Tensor | None,
        part: Tensor | None,
        group: Group | None,
        norm: Tensor,
        following: Group | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The residual stream, times the next norm's weight, squares and next first products."""
        (m, n), rank = residual.shape, self._w.rank
        blocks = -(-n // COLUMNS)
        count = 0 if following is None else len(following.projections)
        x, xw = torch.empty_like(residual), torch.empty_like(residual)
        squares = residual.new_empty(blocks, m, dtype=torch.float32)
        out = residual.new_empty(blocks, m, max(1, count) * rank, dtype=torch.float32)
        kernels.close[(blocks, -(-m // ROWS))](
            residual, residual if y is None else y, squares if part is None else part,
            residual if group is None else group.ups, norm,
            residual if following is None else following.down, x, xw, squares, out, m, n,
            1 if part is None else part.shape[0], SP=power(1 if part is None else part.shape[0]),
            OPENS=y is None, NEXT=count, R=rank, BM=ROWS,
            BC=COLUMNS, num_warps=WARPS["close"],
        )  # fmt: skip
        return x, xw, squares, out

    def _qkv(
        self,
        xw: Tensor,
        squares: Tensor,
        part: Tensor,
        layer: Layer,
        rows: Rows,
        pool: Pool,
        index: int,
    ) -> Tensor:
        w, m, group = self._w, len(xw), layer.qkv
        normed = layer.query_norm is not None
        raw = xw @ group.weight.t()
        biases: list[Any] = [xw if p.bias is None else p.bias for p in group.projections]
        queries = xw.new_empty(m, w.heads * w.head_dim)
        kernels.finish_qkv[(w.heads + 2 * w.kv_heads, -(-m // ROWS))](
            raw, part, group.ups, *biases, layer.query_norm if normed else xw,
            layer.key_norm if normed else xw, squares, self._cos, self._sin, pool.keys[index],
            pool.values[index], rows.length, rows.own, rows.step, queries, m, xw.shape[1],
            w.eps, part.shape[0], SP=power(part.shape[0]),
            BIASED=group.projections[0].bias is not None, NORMED=normed, HQ=w.heads, HK=w.kv_heads,
            D=w.head_dim, R=w.rank, BM=ROWS, num_warps=WARPS["qkv"],
        )  # fmt: skip
        return queries

    def _attend(
        self, queries: Tensor, group: Group, rows: Rows, pool: Pool, index: int
    ) -> tuple[Tensor, Tensor]:
        w, m = self._w, len(queries)
        per = w.heads // w.kv_heads
        splits = SPLITS if m * w.kv_heads < 512 else 1
        acc = queries.new_empty(m, splits, w.heads, w.head_dim, dtype=torch.float32)
        stats = queries.new_empty(2, m, splits, w.heads, dtype=torch.float32)
        kernels.attend[(m, w.kv_heads, splits)](
            queries, pool.keys[index], pool.values[index], rows.prompt, rows.length, rows.own,
            rows.step, acc, stats, w.head_dim**-0.5, HQ=w.heads, HK=w.kv_heads, G=per,
            BG=max(16, 1 << (per - 1).bit_length()), D=w.head_dim, BL=KEYS, SPLITS=splits,
            num_warps=WARPS["attend"],
            num_stages=STAGES,
        )  # fmt: skip
        mixed = torch.empty_like(queries)
        out = queries.new_empty(w.heads, m, w.rank, dtype=torch.float32)
        kernels.merge[(m, w.heads)](
            acc, stats, group.down, mixed, out, m, HQ=w.heads, D=w.head_dim, R=w.rank,
            SPLITS=splits, num_warps=WARPS["merge"],
        )  # fmt: skip
        return mixed, out

    def _mlp(
        self, xw: Tensor, squares: Tensor, part: Tensor, group: Group, following: Group
    ) -> tuple[Tensor, Tensor]:
        w, m = self._w, len(xw)
        raw = xw @ group.weight.t()
        n = raw.shape[1] // 2
        blocks = -(-n // WIDE)
        mid = raw.new_empty(m, n)
        out = raw.new_empty(blocks, m, w.rank, dtype=torch.float32)
        kernels.finish_gate_up[(blocks, -(-m // ROWS))](
            raw, part, group.ups, squares, following.down, mid, out, m, xw.shape[1], n, w.eps,
            part.shape[0], SP=power(part.shape[0]), R=w.rank, BM=ROWS, BC=WIDE,
            num_warps=WARPS["mlp"],
        )  # fmt: skip
        return mid, out


def power(n: int) -> int:
    """The smallest power of two that is ``n`` at least."""
    return 1 << (n - 1).bit_length()
