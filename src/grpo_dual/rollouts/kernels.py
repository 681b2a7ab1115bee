# pyright: basic
"""Triton kernels of the decode step: all between the big matrix products, six a layer.

cuBLAS reads the weights at memory speed with few rows; what cost more than that were the sixty
small kernels between. An RMS norm is split: a kernel that closes a residual writes ``x w`` and its
sums of squares, the product is taken of that, and the kernel behind the product multiplies by the
reciprocal root. The adapter's first product comes with the weights' (weights.py), in the columns
behind it, and its second is taken by whoever finishes the output. Everything is accumulated in
fp32; no atomics, so the same input gives the same bits.

Legend: M rows (sequences), R staged rank, D head dimension, BM rows of a tile, BC columns of one,
SP a power of two that is SLICES at least.
"""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from triton.language.extra.cuda import (  # pyright: ignore[reportMissingImports]
    gdc_launch_dependents,
    gdc_wait,
)


@triton.jit
def _await(EARLY: tl.constexpr):
    """EARLY: launched before the kernel in front has ended, whose end it awaits here.

    Before it is read what no kernel between a step's first and last layer writes: weights, tables,
    where rows stand, and ``step`` (programmatic dependent launch, from Hopper on).
    """
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@triton.jit
def _first(raw_ptr, rows, there, stride, column, R: tl.constexpr):
    """[BM, R] of the adapter's first product, behind the weights' in a row of ``stride``."""
    place = raw_ptr + rows[:, None] * stride + column + tl.arange(0, R)[None, :]
    return tl.load(place, mask=there[:, None], other=0.0)


@triton.jit
def _root(squares_ptr, rows, M, K, SLICES, SP: tl.constexpr, eps):
    """[BM] reciprocal root mean square from its slices [SLICES, M]."""
    s = tl.arange(0, SP)
    mask = (s < SLICES)[:, None] & (rows < M)[None, :]
    squares = tl.load(squares_ptr + s[:, None] * M + rows[None, :], mask=mask, other=0.0)
    return tl.rsqrt(tl.sum(squares, 0) / K + eps)


@triton.jit
def _second(up_ptr, cols, inside, R: tl.constexpr):
    """[R, BC] of the adapter's second matrix, transposed."""
    ranks = tl.arange(0, R)
    up = tl.load(up_ptr + cols[:, None] * R + ranks[None, :], mask=inside[:, None], other=0.0)
    return tl.trans(up)


@triton.jit
def close(
    residual_ptr, y_ptr, up_ptr, norm_ptr, x_ptr, xw_ptr, squares_ptr, M, N,
    OPENS: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """X = residual + y + adapter; x w; squares.

    OPENS: the first one of a step; there ``residual`` is the embedding and ``y`` the tokens.
    """
    block, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    cols = block * BC + tl.arange(0, BC)
    there, inside = rows < M, cols < N
    mask = there[:, None] & inside[None, :]
    place = rows[:, None] * N + cols[None, :]
    kind = x_ptr.dtype.element_ty
    norm = tl.load(norm_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    if OPENS:
        _await(EARLY)
        token = tl.load(y_ptr + rows, mask=there, other=0)
        x = tl.load(residual_ptr + token[:, None] * N + cols[None, :], mask=mask, other=0.0)
    else:
        up = _second(up_ptr, cols, inside, R)
        _await(EARLY)
        xa = _first(y_ptr, rows, there, N + R, N, R)
        wide = tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
        y = y_ptr + rows[:, None] * (N + R) + cols[None, :]
        wide += tl.load(y, mask=mask, other=0.0).to(tl.float32)
        x = (wide + tl.dot(xa, up)).to(kind)
    tl.store(x_ptr + place, x, mask=mask)
    wide = tl.where(mask, x.to(tl.float32), 0.0)
    tl.store(squares_ptr + block * M + rows, tl.sum(wide * wide, 1), mask=there)
    tl.store(xw_ptr + place, (wide * norm[None, :]).to(kind), mask=mask)


@triton.jit
def finish_qkv(
    raw_ptr, up_ptr, bias_q_ptr, bias_k_ptr, bias_v_ptr, norm_q_ptr, norm_k_ptr,
    squares_ptr, cos_ptr, sin_ptr, keys_ptr, values_ptr, length_ptr, own_ptr, step_ptr, out_ptr,
    M, K, eps, SLICES, SP: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr,
    HQ: tl.constexpr, HK: tl.constexpr, D: tl.constexpr, R: tl.constexpr, BM: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Norm, adapter, bias and rotation; keys and values go into the pool, queries to ``out``.

    ``raw``: [M, (HQ + 2 HK) D + 3 R], queries, keys and values beside each other.
    """
    head, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    there = rows < M
    half = tl.arange(0, D // 2)
    bias_ptr, column, local = bias_q_ptr, 0, head
    if head >= HQ + HK:
        bias_ptr, column, local = bias_v_ptr, 2 * R, head - HQ - HK
    elif head >= HQ:
        bias_ptr, column, local = bias_k_ptr, R, head - HQ
    first = _second(up_ptr, head * D + half, half < D, R)
    second = _second(up_ptr, head * D + D // 2 + half, half < D, R)
    step = tl.load(step_ptr)
    slot = (tl.load(own_ptr + rows, mask=there, other=0) + step).to(tl.int64)
    position = tl.load(length_ptr + rows, mask=there, other=0) + step
    angle = position[:, None] * D + half[None, :]
    cos = tl.load(cos_ptr + angle, mask=there[:, None], other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + angle, mask=there[:, None], other=0.0).to(tl.float32)
    _await(EARLY)
    kind = out_ptr.dtype.element_ty
    WIDTH: tl.constexpr = (HQ + 2 * HK) * D
    xa = _first(raw_ptr, rows, there, WIDTH + 3 * R, WIDTH + column, R)
    root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    place = raw_ptr + rows[:, None] * (WIDTH + 3 * R) + head * D + half[None, :]
    one = tl.load(place, mask=there[:, None], other=0.0).to(tl.float32)
    two = tl.load(place + D // 2, mask=there[:, None], other=0.0).to(tl.float32)
    one = (one + tl.dot(xa, first)) * root
    two = (two + tl.dot(xa, second)) * root
    if BIASED:
        one += tl.load(bias_ptr + local * D + half).to(tl.float32)[None, :]
        two += tl.load(bias_ptr + local * D + D // 2 + half).to(tl.float32)[None, :]
    if NORMED and head < HQ + HK:
        norm_ptr = norm_q_ptr
        if head >= HQ:
            norm_ptr = norm_k_ptr
        own = tl.rsqrt((tl.sum(one * one, 1) + tl.sum(two * two, 1)) / D + eps)[:, None]
        one = one * own * tl.load(norm_ptr + half).to(tl.float32)[None, :]
        two = two * own * tl.load(norm_ptr + D // 2 + half).to(tl.float32)[None, :]
    one, two = one.to(kind), two.to(kind)
    if head >= HQ + HK:
        target = values_ptr + (slot[:, None] * HK + local) * D + half[None, :]
    else:
        a, b = one.to(tl.float32), two.to(tl.float32)
        one, two = (a * cos - b * sin).to(kind), (b * cos + a * sin).to(kind)
        if head >= HQ:
            target = keys_ptr + (slot[:, None] * HK + local) * D + half[None, :]
        else:
            target = out_ptr + rows[:, None].to(tl.int64) * (HQ * D) + local * D + half[None, :]
    tl.store(target, one, mask=there[:, None])
    tl.store(target + D // 2, two, mask=there[:, None])


@triton.jit
def attend(
    q_ptr, keys_ptr, values_ptr, prompt_ptr, length_ptr, own_ptr, step_ptr, acc_ptr, stats_ptr,
    scale, HQ: tl.constexpr, HK: tl.constexpr, G: tl.constexpr, BG: tl.constexpr, D: tl.constexpr,
    BL: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A split of one token's attention to its prompt, which others share, and its completion.

    Writes the unnormalised sum [M, SPLITS, HQ, D] and, behind one another, the largest score and
    the total weight [2, M, SPLITS, HQ], both fp32.
    """
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    groups, dims = tl.arange(0, BG), tl.arange(0, D)
    heads = kv_head * G + groups
    real = groups < G
    prompt, length, own = (
        tl.load(prompt_ptr + row), tl.load(length_ptr + row), tl.load(own_ptr + row)
    )  # fmt: skip
    total = length + tl.load(step_ptr) + 1
    share = tl.cdiv(tl.cdiv(total, SPLITS), BL) * BL
    first = split * share
    last = tl.minimum(first + share, total)
    _await(EARLY)
    q = tl.load(
        q_ptr + row * HQ * D + heads[:, None] * D + dims[None, :], mask=real[:, None], other=0.0
    )
    top = tl.full((BG,), -1e30, tl.float32)
    weight = tl.zeros((BG,), tl.float32)
    acc = tl.zeros((BG, D), tl.float32)
    for j in range(first, last, BL):
        t = j + tl.arange(0, BL)
        inside = t < last
        slot = tl.where(t < length, prompt + t, own + t - length).to(tl.int64)
        place = (slot * HK + kv_head)[:, None] * D + dims[None, :]
        k = tl.load(keys_ptr + place, mask=inside[:, None], other=0.0)
        v = tl.load(values_ptr + place, mask=inside[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k)) * scale
        scores = tl.where(inside[None, :], scores, -1e30)
        new = tl.maximum(top, tl.max(scores, 1))
        p = tl.where(inside[None, :], tl.exp(scores - new[:, None]), 0.0)
        fade = tl.exp(top - new)
        weight = weight * fade + tl.sum(p, 1)
        acc = acc * fade[:, None] + tl.dot(p.to(v.dtype), v)
        top = new
    at = (row * SPLITS + split) * HQ + heads
    tl.store(acc_ptr + at[:, None] * D + dims[None, :], acc, mask=real[:, None])
    tl.store(stats_ptr + at, top, mask=real)
    tl.store(stats_ptr + tl.num_programs(0) * SPLITS * HQ + at, weight, mask=real)


@triton.jit
def merge(
    acc_ptr, stats_ptr, mixed_ptr, M,
    HQ: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Put the splits of a row's head together."""
    _await(EARLY)
    row, head = tl.program_id(0), tl.program_id(1)
    dims, s = tl.arange(0, D), tl.arange(0, SPLITS)
    at = (row * SPLITS + s) * HQ + head
    top = tl.load(stats_ptr + at)
    fade = tl.exp(top - tl.max(top, 0))
    weight = tl.sum(tl.load(stats_ptr + M * SPLITS * HQ + at) * fade, 0)
    parts = tl.load(acc_ptr + at[:, None] * D + dims[None, :])
    mixed = (tl.sum(parts * fade[:, None], 0) / weight).to(mixed_ptr.dtype.element_ty)
    tl.store(mixed_ptr + row * (HQ * D) + head * D + dims, mixed)


@triton.jit
def finish_gate_up(
    raw_ptr, up_ptr, squares_ptr, mid_ptr, M, K, N, eps, SLICES, SP: tl.constexpr,
    R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """silu(gate) * up, both with norm and adapter.

    ``raw``: [M, 2 N + 2 R], gate and up beside each other.
    """
    block, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    cols = block * BC + tl.arange(0, BC)
    there, inside = rows < M, cols < N
    mask = there[:, None] & inside[None, :]
    first = _second(up_ptr, cols, inside, R)
    second = _second(up_ptr + N * R, cols, inside, R)
    _await(EARLY)
    width = 2 * N + 2 * R
    root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    raw = raw_ptr + rows[:, None] * width + cols[None, :]
    gate = tl.load(raw, mask=mask, other=0.0).to(tl.float32)
    gate += tl.dot(_first(raw_ptr, rows, there, width, 2 * N, R), first)
    up = tl.load(raw + N, mask=mask, other=0.0).to(tl.float32)
    up += tl.dot(_first(raw_ptr, rows, there, width, 2 * N + R, R), second)
    gate, up = gate * root, up * root
    mid = (gate / (1.0 + tl.exp(-gate)) * up).to(mid_ptr.dtype.element_ty)
    tl.store(mid_ptr + rows[:, None] * N + cols[None, :], mid, mask=mask)
