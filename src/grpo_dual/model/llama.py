"""The Llama family's layers on a flat row: the training pass with few kernels and few copies.

Transformers computes a Llama layer in some 75 kernels forward, LoRA's included; with rows of a few
thousand tokens launching them takes longer than running them. Here a layer is 20: queries, keys and
values are one product, and so are gate and up, with their adapters beside them; norm, rotation and
gated unit are one kernel each (kernels.py); attention goes by runs and is saved without the copies
of its prompts. The modules' own parameters are read, and Transformers' own forward is what
everything but a flat row takes.

The residual stream is fp32, also where the weights have 16 bit: no single rounding would weigh more
in a log-prob than its, twice a layer (docs/decisions/0019-rounding.md).

On the CPU, and in other dtypes than 16 bit, the same layer is made of plain operations: the CPU's
way, and the kernels' oracle.
"""

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.model.attention import RowAttention, attend, flash_forward
from grpo_dual.model.family import check_family, padded_rank
from grpo_dual.model.joined import Joined, Stages
from grpo_dual.model.packing import Runs


def _by_kernel(x: Tensor) -> bool:
    return x.is_cuda and x.element_size() == 2


class _Norm(torch.autograd.Function):
    """The residual stream with a branch added, and normed; keeps 16 bit of it, not the stream."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        from grpo_dual.model import kernels  # triton: on CUDA only

        found = kernels.norm_forward(x, branch, weight, eps)
        ctx.save_for_backward(found.kept, weight, found.root)
        ctx.added = branch is not None
        return found.total, found.y

    @staticmethod
    def backward(ctx: Any, past: Tensor, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from grpo_dual.model import kernels

        found = kernels.norm_backward(
            grad.contiguous(), past.contiguous(), *ctx.saved_tensors, added=ctx.added
        )
        return (*found, None, None)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        from grpo_dual.model import kernels

        ctx.save_for_backward(both)
        return kernels.gated(both)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        from grpo_dual.model import kernels

        (both,) = ctx.saved_tensors
        return kernels.gated_backward(grad.contiguous(), both)


@dataclass(frozen=True, slots=True)
class _Heads:
    """How queries, keys and values stand beside each other in a row of features."""

    queries: int
    keys: int
    dim: int
    scale: float

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[S, Hq, D], [S, Hkv, D] and [S, Hkv, D], views."""
        parts = qkv.view(len(qkv), -1, self.dim)
        ends = (self.queries, self.queries + self.keys)
        return parts[:, : ends[0]], parts[:, ends[0] : ends[1]], parts[:, ends[1] :]


class _Attention(torch.autograd.Function):
    """Rotation and attention by runs; keeps the turned queries, keys and values, not the copies."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, runs: Runs, heads: _Heads
    ) -> Tensor:
        from grpo_dual.model import kernels

        # In place: nobody else reads it, and the product that made it does not need it again.
        kernels.rotate_(qkv, cos, sin, heads.queries + heads.keys)
        q, k, v = heads.split(qkv)
        k, v = k[runs.key_index], v[runs.key_index]
        out, lse, state, unused, _ = flash_forward(q, k, v, runs, heads.scale)
        ctx.save_for_backward(qkv, cos, sin, out, lse, state, unused)
        ctx.runs, ctx.heads = runs, heads
        return out.view(len(out), -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from grpo_dual.model import kernels

        qkv, cos, sin, out, lse, state, unused = ctx.saved_tensors
        runs: Runs = ctx.runs
        heads: _Heads = ctx.heads
        q, k, v = heads.split(qkv)
        ops: Any = torch.ops.aten
        g_q, g_k, g_v = ops._flash_attention_backward(
            grad.view(out.shape),
            q,
            k[runs.key_index],
            v[runs.key_index],
            out,
            lse,
            runs.query_ends,
            runs.key_ends,
            runs.longest_query,
            runs.longest_key,
            0.0,
            True,
            state,
            unused,
            scale=heads.scale,
        )
        g_qkv = torch.empty_like(qkv)
        own_q, own_k, own_v = heads.split(g_qkv)
        own_q.copy_(g_q)
        for own, copies in ((own_k, g_k), (own_v, g_v)):
            padded = torch.cat([copies, copies.new_zeros(1, *copies.shape[1:])])
            own.copy_(padded[runs.copies].sum(1, dtype=torch.float32))
        kernels.rotate_(g_qkv, cos, sin, heads.queries + heads.keys, back=True)
        return g_qkv, None, None, None, None


def residual(x: Tensor) -> Tensor:
    """The beginning of a residual stream: fp32, where ``x`` has fewer bits."""
    return x.float() if x.element_size() == 2 else x


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[..., N] in the weight's dtype; fp32 inside, rounded once (Transformers rounds twice)."""
    wide = x.float()
    root = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (weight * (wide * root)).to(weight.dtype)


def add_norm(x: Tensor, branch: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The residual stream ``x`` [S, N] with a branch added, if there is one, and that normed."""
    if _by_kernel(weight):
        both: tuple[Tensor, Tensor] = _Norm.apply(x, branch, weight, eps)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return both
    x = x if branch is None else x + branch
    return x, rms_norm(x, weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [S, heads, D] at [S, 1, D] angles."""
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


class FlatLayer:
    """One decoder layer on a flat row."""

    def __init__(self, layer: Any, config: Any, number: int, stages: Stages, rank: int) -> None:
        """Look at the modules of a layer, whose adapters are staged with ``stages``.

        ``rank``: what rollouts stage of each adapter; so much room is left below the weights.

        Raises:
            UnsupportedError: One is no plain linear layer.
        """
        attention, mlp = layer.self_attn, layer.mlp
        self._number = number
        self._norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        self._eps = float(config.rms_norm_eps)
        inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._qkv = Joined(*inputs, stages=stages, spare=3 * rank)
        self._output = Joined(attention.o_proj, stages=stages)
        self._gate_up = Joined(mlp.gate_proj, mlp.up_proj, stages=stages, spare=2 * rank)
        self._down = Joined(mlp.down_proj, stages=stages)
        self._head_norms = tuple(
            getattr(getattr(attention, name, None), "weight", None) for name in ("q_norm", "k_norm")
        )
        queries = int(config.num_attention_heads)
        dim = int(getattr(config, "head_dim", None) or config.hidden_size // queries)
        scale = float(getattr(attention, "scaling", dim**-0.5))
        self._heads = _Heads(queries, int(config.num_key_value_heads), dim, scale)

    def __call__(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        runs: Runs | RowAttention,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """[1, S, d] of [1, S, d], the residual stream (:func:`residual`).

        Args:
            x: States; before the first layer in the model's dtype.
            angles: Cosine and sine, [1, S, D] each.
            runs: Who sees whom.
            wanted: [N] tokens whose states are asked for, in the last layer; None: all.
        """
        flat, normed = add_norm(residual(x[0]), None, self._norms[0], self._eps)
        mixed = self._attend(self._qkv(normed), angles, runs)
        if wanted is not None:
            flat, mixed = flat[wanted], mixed[wanted]
        flat, normed = add_norm(flat, self._output(mixed), self._norms[1], self._eps)
        return (flat + self._down(_gate(self._gate_up(normed))))[None]

    def _attend(
        self, qkv: Tensor, angles: tuple[Tensor, Tensor], runs: Runs | RowAttention
    ) -> Tensor:
        """[S, Hq D]."""
        heads = self._heads
        cos, sin = (angle[0] for angle in angles)
        if _by_kernel(qkv) and self._head_norms == (None, None):
            if isinstance(runs, Runs):
                mixed: Tensor = _Attention.apply(qkv, cos, sin, runs, heads)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
                return mixed
            if not torch.is_grad_enabled():
                from grpo_dual.model import kernels  # triton: on CUDA only

                kernels.rotate_(qkv, cos, sin, heads.queries + heads.keys)
                return runs(self._number, *heads.split(qkv), heads.scale).flatten(1)
        q, k, v = heads.split(qkv)
        if self._head_norms[0] is not None and self._head_norms[1] is not None:
            q = rms_norm(q, self._head_norms[0], self._eps)
            k = rms_norm(k, self._head_norms[1], self._eps)
        q, k = (rotate(part, cos[:, None], sin[:, None]) for part in (q, k))
        if isinstance(runs, Runs):
            return attend(q, k, v, runs, scale=heads.scale).flatten(1)
        return runs(self._number, q, k, v, heads.scale).flatten(1)


def _gate(both: Tensor) -> Tensor:
    if _by_kernel(both):
        out: Tensor = _Gated.apply(both)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return out
    gate, up = both.chunk(2, -1)
    return F.silu(gate) * up


def use_flat_layers(body: Any, config: Any, stages: Stages) -> None:
    """Let the decoder layers of a model compute flat rows so; all else they compute as before.

    Args:
        body: The decoder.
        config: Its text configuration.
        stages: Where its adapters are staged.

    Raises:
        UnsupportedError: The model is not of the family; nothing is changed.
    """
    check_family(body, config)
    rank = padded_rank(body)
    layers = [FlatLayer(layer, config, n, stages, rank) for n, layer in enumerate(body.layers)]
    for layer, flat in zip(body.layers, layers, strict=True):
        layer.forward = MethodType(_forward(flat, last=flat is layers[-1]), layer)


def leave_flat_layers(body: Any) -> None:
    """Let the decoder layers compute flat rows as they did before :func:`use_flat_layers`."""
    for layer in body.layers:
        del layer.forward


def _forward(flat: FlatLayer, *, last: bool) -> Any:
    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        runs: Runs | RowAttention | None = kwargs.get("runs")
        if runs is None:
            return type(self).forward(self, hidden_states, *args, **kwargs)
        # Behind attention nobody asks for the other tokens of the last layer.
        wanted = kwargs.get("wanted") if last else None
        return flat(hidden_states, kwargs["position_embeddings"], runs, wanted)

    return forward
