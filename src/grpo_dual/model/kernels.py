# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
"""Triton kernels of the training pass on a flat row: what stands between the matrix products.

One program a row (norm, rotation) or a block (the gated unit); fp32 inside, rounded where
Transformers rounds. No atomics, so the same input gives the same bits.
"""

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

_BLOCK = 1024


@triton.jit
def rms_forward(x_ptr, w_ptr, y_ptr, root_ptr, N, eps, B: tl.constexpr):
    """Y = w (x / rms(x)); ``root``: 1 / rms(x)."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, B)
    inside = cols < N
    x = tl.load(x_ptr + row * N + cols, mask=inside, other=0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(x * x, 0) / N + eps)
    w = tl.load(w_ptr + cols, mask=inside, other=0.0)
    normed = (x * root).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + row * N + cols, normed * w, mask=inside)
    tl.store(root_ptr + row, root)


@triton.jit
def rms_backward(g_ptr, x_ptr, w_ptr, root_ptr, out_ptr, N, B: tl.constexpr):
    """Gradient of x: root (g w - x^ mean(g w x^)), x^ = x root; w is frozen."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, B)
    inside = cols < N
    root = tl.load(root_ptr + row)
    x = tl.load(x_ptr + row * N + cols, mask=inside, other=0.0).to(tl.float32) * root
    g = tl.load(g_ptr + row * N + cols, mask=inside, other=0.0).to(tl.float32)
    g *= tl.load(w_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    out = root * (g - x * (tl.sum(g * x, 0) / N))
    tl.store(out_ptr + row * N + cols, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gate_forward(both_ptr, out_ptr, W, B: tl.constexpr):
    """Out = silu(gate) up of [S, 2 W] gate and up beside each other."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    inside = cols < W
    gate = tl.load(both_ptr + row * 2 * W + cols, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both_ptr + row * 2 * W + W + cols, mask=inside, other=0.0)
    mixed = (gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * W + cols, mixed * up, mask=inside)


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


def norm_forward(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """[S, N] normed rows, and [S] reciprocal roots."""
    y = torch.empty_like(x)
    root = torch.empty(len(x), dtype=torch.float32, device=x.device)
    width = x.shape[1]
    block = triton.next_power_of_2(width)
    rms_forward[(len(x),)](x, weight, y, root, width, eps, B=block, num_warps=8)
    return y, root


def norm_backward(grad: Tensor, x: Tensor, weight: Tensor, root: Tensor) -> Tensor:
    """[S, N] gradient of x."""
    out = torch.empty_like(x)
    width = x.shape[1]
    block = triton.next_power_of_2(width)
    rms_backward[(len(x),)](grad, x, weight, root, out, width, B=block, num_warps=8)
    return out


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
