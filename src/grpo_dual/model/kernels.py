# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
"""Triton kernels of the training pass on a flat row: what stands between the matrix products.

One program a row (norm, rotation) or a block (the gated unit); fp32 inside, rounded once. The
residual stream is fp32. No atomics, so the same input gives the same bits.
"""

from typing import NamedTuple

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

_BLOCK = 1024


@triton.jit
def rms_forward(
    x_ptr, branch_ptr, w_ptr, sum_ptr, y_ptr, kept_ptr, root_ptr, N, eps,
    ADDS: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Sum = x + branch; y = w (sum / rms(sum)); ``kept``: sum / rms(sum); ``root``: 1 / rms(sum).

    Without ADDS the sum is x, and not written.
    """
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, B)
    inside = cols < N
    at = row * N + cols
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        x += tl.load(branch_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(sum_ptr + at, x, mask=inside)
    root = tl.rsqrt(tl.sum(x * x, 0) / N + eps)
    w = tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    kind = y_ptr.dtype.element_ty
    tl.store(y_ptr + at, (x * root * w).to(kind), mask=inside)
    tl.store(kept_ptr + at, (x * root).to(kind), mask=inside)
    tl.store(root_ptr + row, root)


@triton.jit
def rms_backward(
    g_ptr, past_ptr, kept_ptr, w_ptr, root_ptr, out_ptr, low_ptr, N,
    ADDS: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Gradient of the sum: past + root (g w - x^ mean(g w x^)), x^ what was kept; w is frozen.

    ``past``: what comes along the residual stream. With ADDS ``low`` is the same in 16 bit, for the
    branch.
    """
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, B)
    inside = cols < N
    at = row * N + cols
    root = tl.load(root_ptr + row)
    x = tl.load(kept_ptr + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(g_ptr + at, mask=inside, other=0.0).to(tl.float32)
    g *= tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    out = root * (g - x * (tl.sum(g * x, 0) / N))
    out += tl.load(past_ptr + at, mask=inside, other=0.0)
    tl.store(out_ptr + at, out, mask=inside)
    if ADDS:
        tl.store(low_ptr + at, out.to(low_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rms_rows(
    x_ptr, w_ptr, y_ptr, N, eps, TWICE: tl.constexpr, SHIFTED: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Y = w (x / rms(x)), or (1 + w) with SHIFTED; TWICE: rounded before it is scaled, too."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, B)
    inside = cols < N
    x = tl.load(x_ptr + row * N + cols, mask=inside, other=0.0).to(tl.float32)
    x *= tl.rsqrt(tl.sum(x * x, 0) / N + eps)
    w = tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    kind = y_ptr.dtype.element_ty
    if SHIFTED:
        w += 1.0
    if TWICE:
        x = x.to(kind).to(tl.float32)
    tl.store(y_ptr + row * N + cols, (x * w).to(kind), mask=inside)


@triton.jit
def gate_forward(both_ptr, out_ptr, W, B: tl.constexpr):
    """Out = silu(gate) up of [S, 2 W] gate and up beside each other."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    inside = cols < W
    gate = tl.load(both_ptr + row * 2 * W + cols, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both_ptr + row * 2 * W + W + cols, mask=inside, other=0.0).to(tl.float32)
    mixed = (gate * tl.sigmoid(gate) * up).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * W + cols, mixed, mask=inside)


@triton.jit
def gate_backward(g_ptr, both_ptr, out_ptr, W, B: tl.constexpr):
    """Gradients of gate and up, beside each other."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    inside = cols < W
    g = tl.load(g_ptr + row * W + cols, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(both_ptr + row * 2 * W + cols, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both_ptr + row * 2 * W + W + cols, mask=inside, other=0.0).to(tl.float32)
    kind = out_ptr.dtype.element_ty
    s = tl.sigmoid(gate)
    d_gate = g * up * s * (1.0 + gate * (1.0 - s))
    tl.store(out_ptr + row * 2 * W + cols, d_gate.to(kind), mask=inside)
    tl.store(out_ptr + row * 2 * W + W + cols, (g * gate * s).to(kind), mask=inside)


@triton.jit
def turn(x_ptr, cos_ptr, sin_ptr, STRIDE, SIGN, HEADS, D: tl.constexpr, H: tl.constexpr):
    """Rotary embedding of the first HEADS heads of each row, in place; SIGN -1 turns back."""
    row = tl.program_id(0).to(tl.int64)
    heads = tl.arange(0, H)
    half = tl.arange(0, D // 2)
    cos = tl.load(cos_ptr + row * D + half).to(tl.float32)
    sin = tl.load(sin_ptr + row * D + half).to(tl.float32) * SIGN
    place = x_ptr + row * STRIDE + heads[:, None] * D + half[None, :]
    inside = (heads < HEADS)[:, None] & (half < D // 2)[None, :]
    one = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    two = tl.load(place + D // 2, mask=inside, other=0.0).to(tl.float32)
    kind = x_ptr.dtype.element_ty
    tl.store(place, (one * cos[None, :] - two * sin[None, :]).to(kind), mask=inside)
    tl.store(place + D // 2, (two * cos[None, :] + one * sin[None, :]).to(kind), mask=inside)


class Normed(NamedTuple):
    """Of [S, N] rows."""

    total: Tensor
    """[S, N] fp32: the rows and what was added to them."""
    y: Tensor
    """[S, N] that normed and scaled, in the weight's dtype."""
    kept: Tensor
    """[S, N] the same before it was scaled."""
    root: Tensor
    """[S] fp32, 1 / rms."""


def norm_forward(x: Tensor, branch: Tensor | None, weight: Tensor, eps: float) -> Normed:
    """Add a branch to the residual stream, if there is one, and norm it.

    Args:
        x: [S, N] fp32.
        branch: [S, N] in the weight's dtype.
        weight: [N] in 16 bit.
        eps: Added to the mean square.
    """
    total = x if branch is None else torch.empty_like(x)
    # Apart, so that who keeps one does not keep both.
    y, kept = (torch.empty(x.shape, dtype=weight.dtype, device=x.device) for _ in range(2))
    root = torch.empty(len(x), dtype=torch.float32, device=x.device)
    width = x.shape[1]
    rms_forward[(len(x),)](
        x, x if branch is None else branch, weight, total, y, kept, root, width, eps,
        ADDS=branch is not None, B=triton.next_power_of_2(width), num_warps=8,
    )  # fmt: skip
    return Normed(total, y, kept, root)


def norm_backward(
    grad: Tensor, past: Tensor, kept: Tensor, weight: Tensor, root: Tensor, *, added: bool
) -> tuple[Tensor, Tensor | None]:
    """[S, N] fp32 gradient of the residual stream; ``added``: and, in 16 bit, of the branch.

    Args:
        grad: [S, N] of what was normed.
        past: [S, N] fp32, of the sum itself.
        kept: of :class:`Normed`, and so ``root``.
        weight: [N].
        root: [S].
        added: There was a branch.
    """
    out = torch.empty_like(past)
    low = torch.empty_like(kept) if added else None
    width = kept.shape[1]
    rms_backward[(len(kept),)](
        grad, past, kept, weight, root, out, kept if low is None else low, width,
        ADDS=added, B=triton.next_power_of_2(width), num_warps=8,
    )  # fmt: skip
    return out, low


def norm_rows(x: Tensor, weight: Tensor, eps: float, *, twice: bool, shifted: bool) -> Tensor:
    """RMS norm of [..., N], as Transformers' modules round it (norms.py).

    Args:
        x: In the weight's dtype.
        weight: [N].
        eps: Added to the mean square.
        twice: Rounded before it is scaled, too.
        shifted: Scaled by 1 + weight.
    """
    rows = x.reshape(-1, x.shape[-1])  # heads are handed over turned round
    y = torch.empty_like(rows)
    width = rows.shape[1]
    block = triton.next_power_of_2(width)
    rms_rows[(len(rows),)](
        rows, weight, y, width, eps, TWICE=twice, SHIFTED=shifted, B=block,
        num_warps=min(8, max(1, block // 256)),
    )  # fmt: skip
    return y.view(x.shape)


def gated(both: Tensor) -> Tensor:
    """[S, W] of [S, 2 W]."""
    rows, width = both.shape[0], both.shape[1] // 2
    out = torch.empty(rows, width, dtype=both.dtype, device=both.device)
    gate_forward[(rows, triton.cdiv(width, _BLOCK))](both, out, width, B=_BLOCK)
    return out


def gated_backward(grad: Tensor, both: Tensor) -> Tensor:
    """[S, 2 W]."""
    rows, width = grad.shape
    out = torch.empty_like(both)
    gate_backward[(rows, triton.cdiv(width, _BLOCK))](grad, both, out, width, B=_BLOCK)
    return out


def rotate_(x: Tensor, cos: Tensor, sin: Tensor, heads: int, *, back: bool = False) -> None:
    """Turn the first ``heads`` heads of [S, F] rows in place, by [S, D] angles."""
    dim = cos.shape[1]
    block = triton.next_power_of_2(heads)
    sign = -1.0 if back else 1.0
    turn[(len(x),)](x, cos, sin, x.stride(0), sign, heads, D=dim, H=block, num_warps=4)
