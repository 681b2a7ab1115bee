"""Attention of a decode step by the kernels: rows of a prompt meet its keys together."""

from typing import Any

import torch
from torch import Tensor
from triton import next_power_of_2  # pyright: ignore[reportMissingImports]

from grpo_dual.rollouts import kernels as triton_kernels  # this module is for CUDA only
from grpo_dual.rollouts.pool import Rows, power_below

kernels: Any = triton_kernels

LANES = 16
"""Queries, of a key's heads in the rows of a prompt, that meet its keys in one product; tensor
cores take no fewer."""
SPLITS = 8
"""Most parts of an attention that run beside each other."""
PROGRAMS = 512
"""Programs of attention that its splits do not exceed."""
KEYS = 64
"""Keys of a tile."""
STAGES = 1
"""Tiles of keys under way at once: more programs beside each other do better than more tiles."""
WARPS = {"attend": 4, "merge": 1}
"""As are the numbers above, the best of those tried on an H200 (docs/performance.md)."""


def early(device: torch.device) -> dict[str, Any]:
    """Options of a kernel that begins before the one in front has ended, from Hopper on."""
    able = torch.cuda.get_device_capability(device)[0] >= 9
    return {"EARLY": able, "launch_pdl": able}


def attend(
    queries: Tensor, rows: Rows, keys: Tensor, values: Tensor, scale: float | None
) -> Tensor:
    """See :func:`grpo_dual.rollouts.pool.attend`."""
    queries = queries.contiguous()
    m, heads, dim = queries.shape
    kv_heads = keys.shape[1]
    per = heads // kv_heads
    each = min(rows.together, power_below(LANES // per))
    blocks = -(-m // each)
    splits = min(SPLITS, power_below(max(1, PROGRAMS // (blocks * kv_heads))))
    acc = queries.new_empty(m, splits, heads, dim, dtype=torch.float32)
    stats = queries.new_empty(2, m, splits, heads, dtype=torch.float32)
    padded, options = next_power_of_2(dim), early(queries.device)
    kernels.attend[(blocks, kv_heads, splits)](
        queries, keys, values, rows.prompt, rows.length, rows.own, rows.step, acc, stats, m,
        dim**-0.5 if scale is None else scale, HQ=heads, HK=kv_heads, G=per, BR=each,
        BG=max(LANES, next_power_of_2(each * per)), D=dim, DP=padded, BL=KEYS, SPLITS=splits,
        num_warps=WARPS["attend"], num_stages=STAGES, **options,
    )  # fmt: skip
    mixed = torch.empty_like(queries)
    kernels.merge[(m, heads)](
        acc, stats, mixed, m, HQ=heads, D=dim, DP=padded, SPLITS=splits,
        num_warps=WARPS["merge"], **options,
    )  # fmt: skip
    return mixed
