"""Attention of flat rows by runs: a token sees its prompt and its own completion, without a mask.

A dense mask makes attention of a row of S tokens cost S^2, most of it masked away, in a kernel that
is not the fastest. Here each run of queries (a prompt, or a completion) meets just its own keys in
one call of the variable-length flash kernel; a prompt's keys are gathered K + 1 times for it.

Registered with Transformers as an attention implementation, so that it serves every model whose
attention goes through its interface. Without runs it is Transformers' own SDPA.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from grpo_dual.model.packing import Runs

NAME = "grpo_dual_runs"
_MOST_HEAD_DIM = 256


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Transformers' attention interface; ``runs`` among the keywords asks for attention by runs.

    Args:
        module: The attention layer.
        query: [B, Hq, S, D], B = 1 with runs.
        key: [B, Hkv, S, D].
        value: As ``key``.
        attention_mask: Unused with runs.
        kwargs: ``runs``, ``scaling`` and what else SDPA takes.

    Returns:
        [B, S, Hq, D] and no weights.
    """
    runs: Runs | None = kwargs.pop("runs", None)
    if runs is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    return attend(q, k, v, runs, scale=kwargs.get("scaling"))[None], None


def attend(q: Tensor, k: Tensor, v: Tensor, runs: Runs, *, scale: float | None) -> Tensor:
    """Attention of one flat row.

    Args:
        q: [S, Hq, D].
        k: [S, Hkv, D]; Hq is a multiple of Hkv.
        v: As ``k``.
        runs: Who sees whom.
        scale: Of the products; None: D^-1/2.

    Returns:
        [S, Hq, D].
    """
    k, v = _gather(k, runs), _gather(v, runs)
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] <= _MOST_HEAD_DIM:
        return flash_forward(q, k, v, runs, scale)[0]
    return _one_by_one(q, k, v, runs, scale)


def flash_forward(
    q: Tensor, k: Tensor, v: Tensor, runs: Runs, scale: float | None
) -> tuple[Tensor, ...]:
    """The kernel: output [S, Hq, D], and what its backward wants (log-sum-exp, generator's state).

    Args:
        q: [S, Hq, D].
        k: [M, Hkv, D], gathered.
        v: As ``k``.
        runs: Where each run begins and ends.
        scale: Of the products.
    """
    ops: Any = torch.ops.aten
    # Its causal mask is aligned at the lower right, which is what a run means.
    found: tuple[Tensor, ...] = ops._flash_attention_forward(
        q,
        k,
        v,
        runs.query_ends,
        runs.key_ends,
        runs.longest_query,
        runs.longest_key,
        0.0,
        True,
        False,
        scale=scale,
    )
    return found


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, runs: Runs, scale: float | None) -> Tensor:
    """The oracle of the kernel, and the way of other devices and dtypes."""
    outputs: list[Tensor] = []
    queries, keys = runs.query_ends.tolist(), runs.key_ends.tolist()
    for i in range(len(queries) - 1):
        own = slice(keys[i], keys[i + 1])
        parts = (
            part.transpose(0, 1)[None] for part in (q[queries[i] : queries[i + 1]], k[own], v[own])
        )
        one, two, three = parts
        count, length = one.shape[2], two.shape[2]
        sees = torch.ones(count, length, dtype=torch.bool, device=q.device).tril(length - count)
        mixed = F.scaled_dot_product_attention(
            one, two, three, attn_mask=sees, scale=scale, enable_gqa=True
        )
        outputs.append(mixed[0].transpose(0, 1))
    return torch.cat(outputs)


def _gather(x: Tensor, runs: Runs) -> Tensor:
    gathered: Tensor = _Gather.apply(x, runs.key_index, runs.copies)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
    return gathered


class _Gather(torch.autograd.Function):
    """``x[index]``; its backward adds up a token's copies in fp32 and in a fixed order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, copies: Tensor) -> Tensor:
        ctx.save_for_backward(copies)
        return x[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (copies,) = ctx.saved_tensors
        padded = torch.cat([grad, grad.new_zeros(1, *grad.shape[1:])])
        wide = torch.float32 if grad.dtype in (torch.bfloat16, torch.float16) else grad.dtype
        return padded[copies].sum(1, dtype=wide).to(grad.dtype), None, None


def use_runs(model: Any) -> bool:
    """Let a model take runs; False where its attention does not go through the interface."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    model.set_attn_implementation(NAME)
    return True


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
