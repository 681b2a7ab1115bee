"""Attention of flat rows by runs: a token sees its prompt and its own completion, without a mask.

A dense mask makes attention of a row of S tokens cost S^2, most of it masked away, in a kernel that
is not the fastest. Here each run of queries (a prompt, or a completion) meets just its own keys in
one call of the variable-length flash kernel; a prompt's keys are gathered K + 1 times for it. Where
that kernel is not to be had, groups are computed one by one (:class:`ByGroup`).

Registered with Transformers as an attention implementation, so that it serves every model whose
attention goes through its interface. Without runs it is Transformers' own SDPA.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from grpo_dual.model.packing import Runs

NAME = "grpo_dual_runs"
_MOST_HEAD_DIM = 256


class RowAttention(Protocol):
    """Attention on a flat row, whoever sees whom in it."""

    def __call__(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None, /
    ) -> Tensor:
        """Attention of one layer.

        Args:
            layer: Its number; -1 where a layer does not know it.
            q: [S, Hq, D].
            k: [S, Hkv, D]; Hq is a multiple of Hkv.
            v: As ``k``.
            scale: Of the products; None: D^-1/2.

        Returns:
            [S, Hq, D].
        """
        ...


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Transformers' attention interface; ``runs`` among the keywords: the row is flat.

    Args:
        module: The attention layer.
        query: [B, Hq, S, D], B = 1 with runs.
        key: [B, Hkv, S, D].
        value: As ``key``.
        attention_mask: Unused with runs.
        kwargs: ``runs`` (:class:`Runs` or a :class:`RowAttention`), ``scaling`` and what else SDPA
            takes.

    Returns:
        [B, S, Hq, D] and no weights.
    """
    runs: Runs | RowAttention | None = kwargs.pop("runs", None)
    if runs is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    scale: float | None = kwargs.get("scaling")
    if isinstance(runs, Runs):
        return attend(q, k, v, runs, scale=scale)[None], None
    return runs(getattr(module, "layer_idx", -1), q, k, v, scale)[None], None


def attend(q: Tensor, k: Tensor, v: Tensor, runs: Runs, *, scale: float | None) -> Tensor:
    """Attention of one flat row by the kernel; off its ground by :class:`ByGroup`, its oracle.

    Args:
        q: [S, Hq, D].
        k: [S, Hkv, D]; Hq is a multiple of Hkv.
        v: As ``k``.
        runs: Who sees whom.
        scale: Of the products; None: D^-1/2.

    Returns:
        [S, Hq, D].
    """
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] <= _MOST_HEAD_DIM:
        return flash_forward(q, _gather(k, runs), _gather(v, runs), runs, scale)[0]
    return ByGroup(runs.lengths(), q.dtype, q.device)(0, q, k, v, scale)


class ByGroup:
    """Groups one by one in two calls each: the prompt, then its completions with a mask.

    Nothing is gathered: what a group's tokens see stands in the row behind one another.
    """

    def __init__(
        self,
        lengths: Sequence[Sequence[int]],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make the masks, once for all layers.

        Args:
            lengths: Of each group its prompt's tokens and those of its completions, if there are
                any.
            dtype: Of the queries.
            device: Where they are.
        """
        self._lengths = lengths
        self._sizes = [sum(own) for own in lengths]
        self._masks = [_mask(own, dtype).to(device) if len(own) > 1 else None for own in lengths]

    def __call__(self, _layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """See :class:`RowAttention`."""
        outputs: list[Tensor] = []
        groups = zip(*(part.split(self._sizes) for part in (q, k, v)), strict=True)
        for own, (length, *_), mask in zip(groups, self._lengths, self._masks, strict=True):
            one, two, three = (part.transpose(0, 1)[None] for part in own)
            begin, rest = one[:, :, :length], one[:, :, length:]
            keys, values = two[:, :, :length], three[:, :, :length]
            mixed = F.scaled_dot_product_attention(
                begin, keys, values, is_causal=True, scale=scale, enable_gqa=True
            )
            outputs.append(mixed[0].transpose(0, 1))
            if mask is not None:
                mixed = F.scaled_dot_product_attention(
                    rest, two, three, attn_mask=mask, scale=scale, enable_gqa=True
                )
                outputs.append(mixed[0].transpose(0, 1))
        return torch.cat(outputs)


def _mask(lengths: Sequence[int], dtype: torch.dtype) -> Tensor:
    """[C, P + C] to be added: a group's C completion tokens see the prompt and their own."""
    prompt, *completions = lengths
    owner = torch.arange(len(completions)).repeat_interleave(torch.tensor(completions))
    sees = (owner[:, None] == owner).tril_()
    hidden = F.pad(~sees, (prompt, 0), value=False)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)


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
