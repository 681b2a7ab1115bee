# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
"""Triton kernels of the output head: what is asked of a row of logits, each in one reading of it.

One program a row; fp32 inside. No atomics, so the same input gives the same bits.
"""

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

_BLOCK = 4096


@triton.jit
def describe(
    x_ptr, chosen_ptr, logprob_ptr, entropy_ptr, most_ptr, log_z_ptr, V, T, B: tl.constexpr
):
    """Of z = x / T: log-prob of the chosen id, entropy, largest probability, log Z.

    With m the largest z so far: s = sum e^(z-m), w = sum e^(z-m) (z-m); entropy = log s - w / s.
    """
    row = tl.program_id(0).to(tl.int64)
    own = x_ptr + row * V
    cols = tl.arange(0, B)
    low = -float("inf")
    m, s, w = low, 0.0, 0.0
    for start in range(0, V, B):
        z = tl.load(own + start + cols, mask=start + cols < V, other=low) / T
        top = tl.maximum(m, tl.max(z, 0))
        # Nothing that can be drawn so far: nothing to weigh anew either.
        fall = tl.where(m == low, 0.0, m - top)
        keep = tl.where(m == low, 0.0, tl.exp(fall))
        down = tl.where(z == low, 0.0, z - top)
        p = tl.where(z == low, 0.0, tl.exp(down))
        w = keep * (w + fall * s) + tl.sum(p * down, 0)
        s = keep * s + tl.sum(p, 0)
        m = top
    log_s = tl.log(s)
    z = tl.load(own + tl.load(chosen_ptr + row)) / T
    tl.store(logprob_ptr + row, z - m - log_s)
    tl.store(entropy_ptr + row, log_s - w / s)
    tl.store(most_ptr + row, 1.0 / s)
    tl.store(log_z_ptr + row, m + log_s)


@triton.jit
def slope(x_ptr, chosen_ptr, log_z_ptr, out_ptr, V, T, B: tl.constexpr):
    """(onehot - p) / T, p = e^(x / T - log Z)."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    inside = cols < V
    z = tl.load(x_ptr + row * V + cols, mask=inside, other=0.0) / T
    p = tl.exp(z - tl.load(log_z_ptr + row))
    hot = tl.where(cols == tl.load(chosen_ptr + row), 1.0, 0.0)
    tl.store(out_ptr + row * V + cols, ((hot - p) / T).to(out_ptr.dtype.element_ty), mask=inside)


def described(logits: Tensor, chosen: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """[M] each: log-prob, entropy, largest probability and log Z of [M, V] fp32 logits / T."""
    rows, width = logits.shape
    found = tuple(torch.empty(rows, device=logits.device) for _ in range(4))
    describe[(rows,)](
        logits.contiguous(), chosen, *found, width, temperature, B=_BLOCK, num_warps=8
    )
    return found


def slopes(
    logits: Tensor, chosen: Tensor, log_z: Tensor, temperature: float, dtype: torch.dtype
) -> Tensor:
    """[M, V] derivative of the chosen ids' log-probs by the logits."""
    rows, width = logits.shape
    out = torch.empty(rows, width, dtype=dtype, device=logits.device)
    grid = (rows, triton.cdiv(width, _BLOCK))
    slope[grid](logits.contiguous(), chosen, log_z, out, width, temperature, B=_BLOCK, num_warps=8)
    return out
