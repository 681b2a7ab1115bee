# pyright: basic
"""Triton kernels of the decode step: all between the big matrix products, six a layer.

cuBLAS reads the weights at memory speed with few rows; what cost more than that were the sixty
small kernels between. An RMS norm is split: a kernel that closes a residual writes ``x w`` and its
sums of squares, the product is taken of that, and the kernel behind the product multiplies by the
reciprocal root. The adapter's first product rides on whoever holds its input in registers, slice by
slice, and its second on whoever finishes the output. Everything is accumulated in fp32; no atomics,
so the same input gives the same bits.

Legend: M rows (sequences), R staged rank, D head dimension, BM rows of a tile, BC columns of one,
SP a power of two that is SLICES at least.
"""

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit
def _slices(
    part_ptr, first, M, column, TOTAL, SLICES, SP: tl.constexpr, R: tl.constexpr, BM: tl.constexpr
):
    """[BM, R]: slices [SLICES, M, TOTAL] of the adapter's first product, added up.

    One load of all of them: in a loop each waits for the one before, and unrolled the code is
    longer than the work.
    """
    s = tl.arange(0, SP)
    flat = tl.arange(0, BM * R)
    rows = first + flat // R
    place = s[:, None] * (M * TOTAL) + (rows * TOTAL + column + flat % R)[None, :]
    mask = (s < SLICES)[:, None] & (rows < M)[None, :]
    total = tl.sum(tl.load(part_ptr + place, mask=mask, other=0.0), 0)
    return tl.reshape(total, (BM, R))


@triton.jit
def _root(squares_ptr, rows, M, K, SLICES, SP: tl.constexpr, eps):
    """[BM] reciprocal root mean square from its slices [SLICES, M]."""
    s = tl.arange(0, SP)
    mask = (s < SLICES)[:, None] & (rows < M)[None, :]
    squares = tl.load(squares_ptr + s[:, None] * M + rows[None, :], mask=mask, other=0.0)
    return tl.rsqrt(tl.sum(squares, 0) / K + eps)


@triton.jit
def _up(xa, up_ptr, cols, inside, R: tl.constexpr):
    """[BM, BC]: the adapter's second product."""
    ranks = tl.arange(0, R)
    up = tl.load(up_ptr + cols[:, None] * R + ranks[None, :], mask=inside[:, None], other=0.0)
    return tl.dot(xa.to(up_ptr.dtype.element_ty), tl.trans(up))


@triton.jit
def close(
    residual_ptr, y_ptr, part_ptr, up_ptr, norm_ptr, down_ptr, x_ptr, xw_ptr, squares_ptr,
    next_ptr, M, N, SLICES, SP: tl.constexpr,
    OPENS: tl.constexpr, NEXT: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """X = residual + y + adapter; x w; squares; first products of the NEXT adapters with x w.

    OPENS: the first one of a step, where there is neither y nor adapter.
    """
    block, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    cols = block * BC + tl.arange(0, BC)
    inside = cols < N
    mask = (rows[:, None] < M) & inside[None, :]
    place = rows[:, None] * N + cols[None, :]
    kind = x_ptr.dtype.element_ty
    x = tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if not OPENS:
        xa = _slices(part_ptr, row_block * BM, M, 0, R, SLICES, SP, R, BM)
        y = tl.load(y_ptr + place, mask=mask, other=0.0).to(tl.float32)
        x += y + _up(xa, up_ptr, cols, inside, R)
    x = x.to(kind)
    tl.store(x_ptr + place, x, mask=mask)
    wide = tl.where(mask, x.to(tl.float32), 0.0)
    tl.store(squares_ptr + block * M + rows, tl.sum(wide * wide, 1), mask=rows < M)
    norm = tl.load(norm_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    xw = (wide * norm[None, :]).to(kind)
    tl.store(xw_ptr + place, xw, mask=mask)
    ranks = tl.arange(0, R)
    for i in tl.static_range(NEXT):
        down = tl.load(
            down_ptr + (i * R + ranks)[:, None] * N + cols[None, :], mask=inside[None, :], other=0.0
        )
        target = next_ptr + block * M * (NEXT * R) + rows[:, None] * (NEXT * R) + i * R
        tl.store(target + ranks[None, :], tl.dot(xw, tl.trans(down)), mask=rows[:, None] < M)


@triton.jit
def finish_qkv(
    raw_ptr, part_ptr, up_ptr, bias_q_ptr, bias_k_ptr, bias_v_ptr, norm_q_ptr, norm_k_ptr,
    squares_ptr, cos_ptr, sin_ptr, keys_ptr, values_ptr, length_ptr, own_ptr, step_ptr, out_ptr,
    M, K, eps, SLICES, SP: tl.constexpr, BIASED: tl.constexpr, NORMED: tl.constexpr,
    HQ: tl.constexpr, HK: tl.constexpr, D: tl.constexpr, R: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """Norm, adapter, bias and rotation; keys and values go into the pool, queries to ``out``.

    ``raw``: [M, (HQ + 2 HK) D], queries, keys and values beside each other.
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
    xa = _slices(part_ptr, row_block * BM, M, column, 3 * R, SLICES, SP, R, BM)
    root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    place = raw_ptr + rows[:, None] * ((HQ + 2 * HK) * D) + head * D + half[None, :]
    whole = half < D
    one = tl.load(place, mask=there[:, None], other=0.0).to(tl.float32)
    two = tl.load(place + D // 2, mask=there[:, None], other=0.0).to(tl.float32)
    one = (one + _up(xa, up_ptr, head * D + half, whole, R)) * root
    two = (two + _up(xa, up_ptr, head * D + D // 2 + half, whole, R)) * root
    if BIASED:
        one += tl.load(bias_ptr + local * D + half).to(tl.float32)[None, :]
        two += tl.load(bias_ptr + local * D + D // 2 + half).to(tl.float32)[None, :]
    kind = out_ptr.dtype.element_ty
    if NORMED and head < HQ + HK:
        norm_ptr = norm_q_ptr
        if head >= HQ:
            norm_ptr = norm_k_ptr
        own = tl.rsqrt((tl.sum(one * one, 1) + tl.sum(two * two, 1)) / D + eps)[:, None]
        one = one * own * tl.load(norm_ptr + half).to(tl.float32)[None, :]
        two = two * own * tl.load(norm_ptr + D // 2 + half).to(tl.float32)[None, :]
    one, two = one.to(kind), two.to(kind)
    step = tl.load(step_ptr)
    slot = (tl.load(own_ptr + rows, mask=there, other=0) + step).to(tl.int64)
    if head >= HQ + HK:
        target = values_ptr + (slot[:, None] * HK + local) * D + half[None, :]
    else:
        position = tl.load(length_ptr + rows, mask=there, other=0) + step
        angle = position[:, None] * D + half[None, :]
        cos = tl.load(cos_ptr + angle, mask=there[:, None], other=0.0).to(tl.float32)
        sin = tl.load(sin_ptr + angle, mask=there[:, None], other=0.0).to(tl.float32)
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
    BL: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """A split of one token's attention to its prompt, which others share, and its completion.

    Writes the unnormalised sum [M, SPLITS, HQ, D] and, behind one another, the largest score and
    the total weight [2, M, SPLITS, HQ], both fp32.
    """
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    groups, dims = tl.arange(0, BG), tl.arange(0, D)
    heads = kv_head * G + groups
    real = groups < G
    q = tl.load(
        q_ptr + row * HQ * D + heads[:, None] * D + dims[None, :], mask=real[:, None], other=0.0
    )
    prompt, length, own = (
        tl.load(prompt_ptr + row), tl.load(length_ptr + row), tl.load(own_ptr + row)
    )  # fmt: skip
    total = length + tl.load(step_ptr) + 1
    share = tl.cdiv(tl.cdiv(total, SPLITS), BL) * BL
    first = split * share
    last = tl.minimum(first + share, total)
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
    acc_ptr, stats_ptr, down_ptr, mixed_ptr, next_ptr, M,
    HQ: tl.constexpr, D: tl.constexpr, R: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Put the splits of a row's head together; the adapter's first product with it."""
    row, head = tl.program_id(0), tl.program_id(1)
    dims, ranks, s = tl.arange(0, D), tl.arange(0, R), tl.arange(0, SPLITS)
    at = (row * SPLITS + s) * HQ + head
    top = tl.load(stats_ptr + at)
    fade = tl.exp(top - tl.max(top, 0))
    weight = tl.sum(tl.load(stats_ptr + M * SPLITS * HQ + at) * fade, 0)
    parts = tl.load(acc_ptr + at[:, None] * D + dims[None, :])
    mixed = (tl.sum(parts * fade[:, None], 0) / weight).to(mixed_ptr.dtype.element_ty)
    tl.store(mixed_ptr + row * (HQ * D) + head * D + dims, mixed)
    down = tl.load(down_ptr + ranks[:, None] * (HQ * D) + head * D + dims[None, :])
    product = tl.sum(down.to(tl.float32) * mixed.to(tl.float32)[None, :], 1)
    tl.store(next_ptr + head * M * R + row * R + ranks, product)


@triton.jit
def finish_gate_up(
    raw_ptr, part_ptr, lora_ptr, squares_ptr, down_ptr, mid_ptr, next_ptr, M, K, N, eps,
    SLICES, SP: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """silu(gate) * up, both with norm and adapter; the first product of the next adapter with it.

    ``raw``: [M, 2 N], gate and up beside each other.
    """
    block, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    cols = block * BC + tl.arange(0, BC)
    inside = cols < N
    mask = (rows[:, None] < M) & inside[None, :]
    place = rows[:, None] * N + cols[None, :]
    root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    raw = raw_ptr + rows[:, None] * (2 * N) + cols[None, :]
    gate = tl.load(raw, mask=mask, other=0.0).to(tl.float32)
    gate += _up(
        _slices(part_ptr, row_block * BM, M, 0, 2 * R, SLICES, SP, R, BM), lora_ptr, cols, inside, R
    )
    up = tl.load(raw + N, mask=mask, other=0.0).to(tl.float32)
    xa = _slices(part_ptr, row_block * BM, M, R, 2 * R, SLICES, SP, R, BM)
    up += _up(xa, lora_ptr + N * R, cols, inside, R)
    gate, up = gate * root, up * root
    mid = (gate / (1.0 + tl.exp(-gate)) * up).to(mid_ptr.dtype.element_ty)
    tl.store(mid_ptr + place, mid, mask=mask)
    mid = tl.where(mask, mid, 0.0).to(mid_ptr.dtype.element_ty)
    ranks = tl.arange(0, R)
    down = tl.load(down_ptr + ranks[:, None] * N + cols[None, :], mask=inside[None, :], other=0.0)
    target = next_ptr + block * M * R + rows[:, None] * R + ranks[None, :]
    tl.store(target, tl.dot(mid, tl.trans(down)), mask=rows[:, None] < M)
