# pyright: basic
"""Triton kernels of the decode step: all between the big matrix products, six a layer.

cuBLAS reads the weights at memory speed with few rows; what cost more than that were the sixty
small kernels between. An RMS norm is split: a kernel that closes a residual writes ``x w`` and its
sums of squares, the product is taken of that, and the kernel behind the product multiplies by the
reciprocal root, where ROOTED. The adapter's first product comes with the weights' (weights.py), in
the columns behind it, and its second is taken by whoever finishes the output. The residual stream
is fp32, and so is everything inside; what the training pass rounds on its way is rounded here, too
(but for a bias, which it adds before it rounds, and for a head that is normed, which it turns in 16
bit). No atomics, so the same input gives the same bits.

Legend: M rows (sequences), R staged rank, D head dimension, DP a power of two that is D at least,
BM rows of a tile, BC columns of one, SP a power of two that is SLICES at least.
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
    a prompt's keys and values, where rows stand, and ``step`` (programmatic dependent launch, from
    Hopper on).
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
def _rounded(x, KIND: tl.constexpr):
    """What the training pass keeps in 16 bit."""
    return x.to(KIND).to(tl.float32)


@triton.jit
def _normed(one, two, norm_ptr, eps, D: tl.constexpr):
    """Both halves of a head by its RMS norm."""
    half = tl.arange(0, D // 2)
    root = tl.rsqrt((tl.sum(one * one, 1) + tl.sum(two * two, 1)) / D + eps)[:, None]
    one *= root * tl.load(norm_ptr + half).to(tl.float32)[None, :]
    two *= root * tl.load(norm_ptr + D // 2 + half).to(tl.float32)[None, :]
    return one, two


@triton.jit
def close(
    residual_ptr, y_ptr, up_ptr, norm_ptr, x_ptr, xw_ptr, squares_ptr, M, N,
    R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """X = residual + y + adapter, fp32; x w; squares."""
    block, row_block = tl.program_id(0), tl.program_id(1)
    rows = row_block * BM + tl.arange(0, BM)
    cols = block * BC + tl.arange(0, BC)
    there, inside = rows < M, cols < N
    mask = there[:, None] & inside[None, :]
    place = rows[:, None] * N + cols[None, :]
    kind = xw_ptr.dtype.element_ty
    norm = tl.load(norm_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    up = _second(up_ptr, cols, inside, R)
    _await(EARLY)
    xa = _first(y_ptr, rows, there, N + R, N, R)
    y = y_ptr + rows[:, None] * (N + R) + cols[None, :]
    branch = tl.load(y, mask=mask, other=0.0).to(tl.float32) + tl.dot(xa, up)
    x = tl.load(residual_ptr + place, mask=mask, other=0.0) + _rounded(branch, kind)
    tl.store(x_ptr + place, x, mask=mask)
    x = tl.where(mask, x, 0.0)
    tl.store(squares_ptr + block * M + rows, tl.sum(x * x, 1), mask=there)
    tl.store(xw_ptr + place, (x * norm[None, :]).to(kind), mask=mask)


@triton.jit
def finish_qkv(
    raw_ptr, up_ptr, bias_q_ptr, bias_k_ptr, bias_v_ptr, norm_q_ptr, norm_k_ptr,
    squares_ptr, cos_ptr, sin_ptr, keys_ptr, values_ptr, length_ptr, own_ptr, step_ptr, out_ptr,
    M, K, eps, SLICES, SP: tl.constexpr, ROOTED: tl.constexpr, BIASED: tl.constexpr,
    NORMED: tl.constexpr, HQ: tl.constexpr, HK: tl.constexpr, D: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, EARLY: tl.constexpr,
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
    root = 1.0
    if ROOTED:
        root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    place = raw_ptr + rows[:, None] * (WIDTH + 3 * R) + head * D + half[None, :]
    one = tl.load(place, mask=there[:, None], other=0.0).to(tl.float32)
    two = tl.load(place + D // 2, mask=there[:, None], other=0.0).to(tl.float32)
    one = (one + tl.dot(xa, first)) * root
    two = (two + tl.dot(xa, second)) * root
    if BIASED:
        one += tl.load(bias_ptr + local * D + half).to(tl.float32)[None, :]
        two += tl.load(bias_ptr + local * D + D // 2 + half).to(tl.float32)[None, :]
    one, two = _rounded(one, kind), _rounded(two, kind)
    if NORMED and head < HQ + HK:
        norm_ptr = norm_q_ptr
        if head >= HQ:
            norm_ptr = norm_k_ptr
        one, two = _normed(one, two, norm_ptr, eps, D)
        one, two = _rounded(one, kind), _rounded(two, kind)
    if head >= HQ + HK:
        target = values_ptr + (slot[:, None] * HK + local) * D + half[None, :]
    else:
        one, two = one * cos - two * sin, two * cos + one * sin
        if head >= HQ:
            target = keys_ptr + (slot[:, None] * HK + local) * D + half[None, :]
        else:
            target = out_ptr + rows[:, None].to(tl.int64) * (HQ * D) + local * D + half[None, :]
    tl.store(target, one.to(kind), mask=there[:, None])
    tl.store(target + D // 2, two.to(kind), mask=there[:, None])


@triton.jit
def _share(count, SPLITS: tl.constexpr, BL: tl.constexpr):
    """Keys of one split of ``count``, whole tiles of BL."""
    return tl.cdiv(tl.cdiv(count, SPLITS), BL) * BL


@triton.jit
def _inside(rows, dims, D: tl.constexpr, DP: tl.constexpr):
    """[rows, DP] mask of what exists."""
    mask = rows[:, None]
    if DP != D:
        mask = mask & (dims < D)[None, :]
    return mask


@triton.jit
def _tile(
    keys_ptr, values_ptr, start, first, last, kv_head,
    HK: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BL: tl.constexpr,
):  # fmt: skip
    """[BL, DP] keys and values of slots ``start + first`` on, zeros from ``start + last`` on."""
    t, dims = first + tl.arange(0, BL), tl.arange(0, DP)
    inside = _inside(t < last, dims, D, DP)
    place = ((start + t).to(tl.int64) * HK + kv_head)[:, None] * D + dims[None, :]
    k = tl.load(keys_ptr + place, mask=inside, other=0.0)
    return k, tl.load(values_ptr + place, mask=inside, other=0.0)


@triton.jit
def _meet(q, k, v, count, member, top, weight, acc, scale, BL: tl.constexpr):
    """The queries of ``member`` meet the first ``count`` keys of a tile.

    ``top``, ``weight``, ``acc``: the largest score, the total weight and the unnormalised sum.
    """
    meets = member[:, None] & (tl.arange(0, BL) < count)[None, :]
    scores = tl.where(meets, tl.dot(q, tl.trans(k)) * scale, -1e30)
    new = tl.maximum(top, tl.max(scores, 1))
    p = tl.where(meets, tl.exp(scores - new[:, None]), 0.0)
    fade = tl.exp(top - new)
    return new, weight * fade + tl.sum(p, 1), acc * fade[:, None] + tl.dot(p.to(v.dtype), v)


@triton.jit
def attend(
    q_ptr, keys_ptr, values_ptr, prompt_ptr, length_ptr, own_ptr, step_ptr, acc_ptr, stats_ptr,
    M, scale, HQ: tl.constexpr, HK: tl.constexpr, G: tl.constexpr, BR: tl.constexpr,
    BG: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BL: tl.constexpr, SPLITS: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """A split of the attention of BR rows' tokens to their prompts and their completions.

    Rows of the same prompt stand behind one another, and meet its keys in one product. Writes the
    unnormalised sum [M, SPLITS, HQ, D] and, behind one another, the largest score and the total
    weight [2, M, SPLITS, HQ], fp32.
    """
    block, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    lanes, dims = tl.arange(0, BG), tl.arange(0, DP)
    row, head = block * BR + lanes // G, kv_head * G + lanes % G
    real = (lanes < BR * G) & (row < M)
    there = _inside(real, dims, D, DP)
    prompt = tl.load(prompt_ptr + row, mask=real, other=-1)
    total = tl.load(step_ptr) + 1
    # The first tile is not of this step's keys, and need not be awaited.
    start, length = tl.load(prompt_ptr + block * BR), tl.load(length_ptr + block * BR)
    share = _share(length, SPLITS, BL)
    first = split * share
    last = tl.minimum(first + share, length)
    k, v = _tile(keys_ptr, values_ptr, start, first, last, kv_head, HK, D, DP, BL)
    _await(EARLY)
    q = tl.load(q_ptr + (row * HQ + head)[:, None] * D + dims[None, :], mask=there, other=0.0)
    top = tl.full((BG,), -1e30, tl.float32)
    weight = tl.zeros((BG,), tl.float32)
    acc = tl.zeros((BG, DP), tl.float32)
    top, weight, acc = _meet(q, k, v, last - first, prompt == start, top, weight, acc, scale, BL)
    before = -1
    for r in range(BR):
        is_row = block * BR + r < M
        start = tl.load(prompt_ptr + block * BR + r, mask=is_row, other=-1)
        length = tl.load(length_ptr + block * BR + r, mask=is_row, other=0)
        share = _share(length, SPLITS, BL)
        first = split * share
        # Behind its first row a prompt has been met.
        last = tl.where(start == before, first, tl.minimum(first + share, length))
        for t in range(tl.where(r == 0, first + BL, first), last, BL):
            k, v = _tile(keys_ptr, values_ptr, start, t, last, kv_head, HK, D, DP, BL)
            top, weight, acc = _meet(
                q, k, v, last - t, prompt == start, top, weight, acc, scale, BL
            )
        before = start
    # A completion's keys are met by some splits only, so that each meets those of few rows.
    PIECES: tl.constexpr = SPLITS // BR if SPLITS > BR else 1
    ITEMS: tl.constexpr = BR * PIECES // SPLITS
    share = _share(total, PIECES, BL)
    for i in range(ITEMS):
        item = split * ITEMS + i
        r = item // PIECES
        own = tl.load(own_ptr + block * BR + r, mask=block * BR + r < M, other=0)
        first = item % PIECES * share
        last = tl.minimum(first + share, total)
        for t in range(first, last, BL):
            k, v = _tile(keys_ptr, values_ptr, own, t, last, kv_head, HK, D, DP, BL)
            mine = real & (lanes // G == r)
            top, weight, acc = _meet(q, k, v, last - t, mine, top, weight, acc, scale, BL)
    at = (row * SPLITS + split) * HQ + head
    tl.store(acc_ptr + at[:, None] * D + dims[None, :], acc, mask=there)
    tl.store(stats_ptr + at, top, mask=real)
    tl.store(stats_ptr + M * SPLITS * HQ + at, weight, mask=real)


@triton.jit
def merge(
    acc_ptr, stats_ptr, mixed_ptr, M,
    HQ: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Put the splits of a row's head together."""
    _await(EARLY)
    row, head = tl.program_id(0), tl.program_id(1)
    dims, s = tl.arange(0, DP), tl.arange(0, SPLITS)
    at = (row * SPLITS + s) * HQ + head
    top = tl.load(stats_ptr + at)
    fade = tl.exp(top - tl.max(top, 0))
    weight = tl.sum(tl.load(stats_ptr + M * SPLITS * HQ + at) * fade, 0)
    there = dims < D
    parts = tl.load(acc_ptr + at[:, None] * D + dims[None, :], mask=there[None, :], other=0.0)
    mixed = (tl.sum(parts * fade[:, None], 0) / weight).to(mixed_ptr.dtype.element_ty)
    tl.store(mixed_ptr + row * (HQ * D) + head * D + dims, mixed, mask=there)


@triton.jit
def finish_gate_up(
    raw_ptr, up_ptr, squares_ptr, mid_ptr, M, K, N, eps, SLICES, SP: tl.constexpr,
    ROOTED: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, EARLY: tl.constexpr,
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
    root = 1.0
    if ROOTED:
        root = _root(squares_ptr, rows, M, K, SLICES, SP, eps)[:, None]
    raw = raw_ptr + rows[:, None] * width + cols[None, :]
    gate = tl.load(raw, mask=mask, other=0.0).to(tl.float32)
    gate += tl.dot(_first(raw_ptr, rows, there, width, 2 * N, R), first)
    up = tl.load(raw + N, mask=mask, other=0.0).to(tl.float32)
    up += tl.dot(_first(raw_ptr, rows, there, width, 2 * N + R, R), second)
    kind = mid_ptr.dtype.element_ty
    gate, up = _rounded(gate * root, kind), _rounded(up * root, kind)
    mid = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(mid_ptr + rows[:, None] * N + cols[None, :], mid.to(kind), mask=mask)
