"""The decode step with fused kernels: cuBLAS for the weights, ``kernels.py`` for all between."""

from typing import Any

import torch
from torch import Tensor
from triton import next_power_of_2  # pyright: ignore[reportMissingImports]

from grpo_dual.rollouts import kernels as triton_kernels  # this module is for CUDA only
from grpo_dual.rollouts.decode import Pool, Rows
from grpo_dual.rollouts.weights import Group, Layer, Weights

kernels: Any = triton_kernels

ROWS = 16
"""Rows of a tile: tensor cores take no fewer."""
COLUMNS = 64
"""Columns of a tile of the residual stream."""
WIDE = 64
"""Columns of a tile of the MLP's inner width."""
SPLITS = 8
"""Parts of a row's attention that run beside each other."""
KEYS = 64
"""Keys of a tile."""
STAGES = 2
"""Tiles of keys under way at once."""
WARPS = {"close": 4, "qkv": 8, "attend": 4, "merge": 1, "mlp": 8}
"""As are the numbers above, the best of those tried on an H200 (docs/performance.md)."""


class Fused:
    """One decode step on CUDA."""

    def __init__(self, weights: Weights, cos: Tensor, sin: Tensor) -> None:
        """``cos``, ``sin``: [positions, D] rotary tables in the model's dtype."""
        self._w = weights
        self._cos, self._sin = cos, sin
        early = torch.cuda.get_device_capability(cos.device)[0] >= 9
        self._early: Any = {"EARLY": early, "launch_pdl": early}

    def hidden(self, rows: Rows, pool: Pool) -> Tensor:
        """[b, d] final normalised states of the rows' tokens."""
        w = self._w
        x, xw, squares = self._close(w.embedding, rows.tokens, None, w.layers[0].attention_norm)
        for index, layer in enumerate(w.layers):
            queries = self._qkv(xw, squares, layer, rows, pool, index)
            y = self._attend(queries, rows, pool, index) @ layer.output.whole.t()
            x, xw, squares = self._close(x, y, layer.output, layer.mlp_norm)
            y = self._mlp(xw, squares, layer.gate_up) @ layer.down.whole.t()
            following = w.layers[index + 1 : index + 2]
            norm = following[0].attention_norm if following else w.norm
            x, xw, squares = self._close(x, y, layer.down, norm)
        root = torch.rsqrt(squares.sum(0) / x.shape[1] + w.eps)
        return (xw.float() * root[:, None]).to(xw.dtype)

    def _close(
        self, residual: Tensor, y: Tensor, group: Group | None, norm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The residual stream, the same times the next norm's weight, and its squares.

        Without ``group`` the stream begins: with the rows ``y`` of the embedding.
        """
        m, n = len(y), residual.shape[1]
        blocks = -(-n // COLUMNS)
        x, xw = residual.new_empty(2, m, n)
        squares = residual.new_empty(blocks, m, dtype=torch.float32)
        kernels.close[(blocks, -(-m // ROWS))](
            residual, y, residual if group is None else group.ups, norm, x, xw, squares, m, n,
            OPENS=group is None, R=self._w.rank, BM=ROWS, BC=COLUMNS, num_warps=WARPS["close"],
            **self._early,
        )  # fmt: skip
        return x, xw, squares

    def _qkv(
        self, xw: Tensor, squares: Tensor, layer: Layer, rows: Rows, pool: Pool, index: int
    ) -> Tensor:
        """[b, Hq D] turned queries; keys and values go into the pool."""
        w, m, group = self._w, len(xw), layer.qkv
        normed = layer.query_norm is not None
        raw = xw @ group.whole.t()
        biases: list[Any] = [xw if p.bias is None else p.bias for p in group.projections]
        queries = xw.new_empty(m, w.heads * w.head_dim)
        kernels.finish_qkv[(w.heads + 2 * w.kv_heads, -(-m // ROWS))](
            raw, group.ups, *biases, layer.query_norm if normed else xw,
            layer.key_norm if normed else xw, squares, self._cos, self._sin, pool.keys[index],
            pool.values[index], rows.length, rows.own, rows.step, queries, m, xw.shape[1],
            w.eps, len(squares), SP=next_power_of_2(len(squares)),
            BIASED=group.projections[0].bias is not None, NORMED=normed, HQ=w.heads, HK=w.kv_heads,
            D=w.head_dim, R=w.rank, BM=ROWS, num_warps=WARPS["qkv"], **self._early,
        )  # fmt: skip
        return queries

    def _attend(self, queries: Tensor, rows: Rows, pool: Pool, index: int) -> Tensor:
        """[b, Hq D]."""
        w, m = self._w, len(queries)
        per = w.heads // w.kv_heads
        splits = SPLITS if m * w.kv_heads < 512 else 1
        acc = queries.new_empty(m, splits, w.heads, w.head_dim, dtype=torch.float32)
        stats = queries.new_empty(2, m, splits, w.heads, dtype=torch.float32)
        kernels.attend[(m, w.kv_heads, splits)](
            queries, pool.keys[index], pool.values[index], rows.prompt, rows.length, rows.own,
            rows.step, acc, stats, w.head_dim**-0.5, HQ=w.heads, HK=w.kv_heads, G=per,
            BG=max(ROWS, next_power_of_2(per)), D=w.head_dim, BL=KEYS, SPLITS=splits,
            num_warps=WARPS["attend"], num_stages=STAGES, **self._early,
        )  # fmt: skip
        mixed = torch.empty_like(queries)
        kernels.merge[(m, w.heads)](
            acc, stats, mixed, m, HQ=w.heads, D=w.head_dim, SPLITS=splits,
            num_warps=WARPS["merge"], **self._early,
        )  # fmt: skip
        return mixed

    def _mlp(self, xw: Tensor, squares: Tensor, group: Group) -> Tensor:
        """[b, inner]: silu(gate) * up."""
        w, m = self._w, len(xw)
        raw = xw @ group.whole.t()
        n = len(group.ups) // 2
        mid = raw.new_empty(m, n)
        kernels.finish_gate_up[(-(-n // WIDE), -(-m // ROWS))](
            raw, group.ups, squares, mid, m, xw.shape[1], n, w.eps, len(squares),
            SP=next_power_of_2(len(squares)), R=w.rank, BM=ROWS, BC=WIDE, num_warps=WARPS["mlp"],
            **self._early,
        )  # fmt: skip
        return mid
