# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
"""Triton kernels that draw a token of each row of logits, in one reading of them.

The exponential race of drawing.py, in logarithms: the id with the largest z - log e, e ~ Exp(1),
is distributed as softmax(z). Blocks of a row are read beside each other, then put together; no
atomics, so the same logits and the same noise give the same tokens.
"""

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

_BLOCK = 4096


@triton.jit
def run(logits_ptr, noise_ptr, found_ptr, winner_ptr, V, T, BLOCKS, B: tl.constexpr):
    """Of a block of z = x / T: its largest, sum of e^(z - largest), best score, the winner's z."""
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cols = block * B + tl.arange(0, B)
    inside = cols < V
    low = -float("inf")
    z = tl.load(logits_ptr + row * V + cols, mask=inside, other=low) / T
    noise = tl.load(noise_ptr + row * V + cols, mask=inside, other=1.0)
    top = tl.max(z, 0)
    total = tl.sum(tl.where(z == low, 0.0, tl.exp(z - top)), 0)
    score = tl.where(z == low, low, z - tl.log(noise))
    # Of NaN any place may come out, also one behind the row's end.
    winner = tl.minimum(block * B + tl.argmax(score, 0), V - 1)
    at = found_ptr + (row * BLOCKS + block) * 4
    tl.store(at, top)
    tl.store(at + 1, total)
    tl.store(at + 2, tl.max(score, 0))
    tl.store(at + 3, tl.sum(tl.where(cols == winner, z, 0.0), 0))
    tl.store(winner_ptr + row * BLOCKS + block, winner)


@triton.jit
def settle(found_ptr, winner_ptr, token_ptr, logprob_ptr, BLOCKS, P: tl.constexpr):
    """The blocks' winners' winner, and its log-prob."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, P)
    there = block < BLOCKS
    low = -float("inf")
    at = found_ptr + (row * BLOCKS + block) * 4
    top = tl.load(at, mask=there, other=low)
    total = tl.load(at + 1, mask=there, other=0.0)
    score = tl.load(at + 2, mask=there, other=low)
    z = tl.load(at + 3, mask=there, other=0.0)
    most = tl.max(top, 0)
    log_z = most + tl.log(tl.sum(tl.where(top == low, 0.0, total * tl.exp(top - most)), 0))
    best = tl.minimum(tl.argmax(score, 0), BLOCKS - 1)
    tl.store(token_ptr + row, tl.load(winner_ptr + row * BLOCKS + best).to(tl.int64))
    tl.store(logprob_ptr + row, tl.sum(tl.where(block == best, z, 0.0), 0) - log_z)


def drawn(logits: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """[M] int64 tokens and [M] fp32 log-probs, drawn from softmax(logits / T).

    Args:
        logits: [M, V] fp32; -inf where an id may not be drawn. Of a row with NaN the log-prob is
            NaN, and the token any id.
        noise: [M, V] from Exp(1).
        temperature: T.
    """
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, _BLOCK)
    found = torch.empty(rows, blocks, 4, dtype=torch.float32, device=logits.device)
    winners = torch.empty(rows, blocks, dtype=torch.int32, device=logits.device)
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    logprobs = torch.empty(rows, dtype=torch.float32, device=logits.device)
    run[(rows, blocks)](
        logits, noise, found, winners, vocabulary, temperature, blocks, B=_BLOCK, num_warps=8
    )
    padded = triton.next_power_of_2(blocks)
    settle[(rows,)](found, winners, tokens, logprobs, blocks, P=padded, num_warps=1)
    return tokens, logprobs
