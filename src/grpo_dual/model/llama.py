"""The Llama family's layers on a flat row: the training pass with few kernels and few copies.

Transformers computes a Llama layer in some 75 kernels forward, LoRA's included; with rows of a few
thousand tokens launching them takes longer than running them. Here a layer is 20: queries, keys and
values are one product, and so are gate and up, with their adapters beside them; norm, rotation and
gated unit are one kernel each (kernels.py); attention goes by runs and is saved without the copies
of its prompts. The modules' own parameters are read, and Transformers' own forward is what
everything but a flat row takes.

On the CPU, and in other dtypes than 16 bit, the same layer is made of plain operations: the oracle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from grpo_dual.model.attention import attend
from grpo_dual.model.packing import Runs


class UnsupportedError(Exception):
    """A model or adapter is not of the kind that is computed in place; the text says why."""


def check_family(body: Any, config: Any) -> None:
    """Refuse what is not laid out like a Llama (Llama, Mistral, Qwen 2 and 3).

    Raises:
        UnsupportedError: It is not.
    """
    layers = getattr(body, "layers", None)
    parts = ("embed_tokens", "norm", "rotary_emb")
    if layers is None or not all(hasattr(body, part) for part in parts):
        raise UnsupportedError(f"{type(body).__name__} is not laid out like a Llama")
    first = layers[0]
    names = {
        "": ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm"),
        "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "mlp": ("gate_proj", "up_proj", "down_proj"),
    }
    allowed = {"self_attn": {"q_norm", "k_norm"}, "mlp": {"act_fn"}}
    for name, wanted in names.items():
        module = first if not name else getattr(first, name, nn.Module())
        children = {child for child, _ in module.named_children()}
        extra = children - set(wanted) - allowed.get(name, set())
        if not set(wanted) <= children or extra:
            raise UnsupportedError(
                f"{type(first).__name__} is no Llama layer ({name or 'layer'} has "
                f"{', '.join(sorted(children))})"
            )
    if getattr(config, "hidden_act", "silu") != "silu":
        raise UnsupportedError(f"activation {config.hidden_act} is not silu")


def active_adapter(module: nn.Module) -> str | None:
    """The one adapter that acts on a module; None where there is none.

    Raises:
        UnsupportedError: Several act, one is merged, or it is no plain LoRA.
    """
    if not isinstance(module, LoraLayer):
        return None
    if module.merged:
        raise UnsupportedError("an adapter is merged into the base weights")
    names = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not names:
        return None
    if len(names) > 1:
        raise UnsupportedError(f"several adapters are active at once: {', '.join(names)}")
    if getattr(module, "lora_variant", {}).get(names[0]) is not None:
        raise UnsupportedError("the adapter is a variant of LoRA (DoRA, say)")
    return names[0]


def base_of(module: Any) -> nn.Linear:
    """The plain linear layer behind an adapter, or the module itself.

    Raises:
        UnsupportedError: It is none (quantised, say).
    """
    base: Any = module.base_layer if isinstance(module, LoraLayer) else module
    if type(base) is not nn.Linear:
        raise UnsupportedError(f"{type(base).__name__} is no plain linear layer")
    return base


def side_by_side(parameters: Sequence[Tensor]) -> Tensor:
    """One matrix of the parameters' rows, of which the parameters become views.

    The same numbers in another place: no second copy, and one product instead of three.
    """
    if len(parameters) == 1:
        return parameters[0].data
    first = parameters[0].data
    rows = [p.shape[0] for p in parameters]
    if _adjacent(parameters):
        whole = first.as_strided((sum(rows), first.shape[1]), first.stride())
    else:
        whole = torch.cat([p.data for p in parameters])
    row = 0
    for parameter, count in zip(parameters, rows, strict=True):
        parameter.data = whole[row : row + count]
        row += count
    return whole


def _adjacent(parameters: Sequence[Tensor]) -> bool:
    """Do they stand behind one another already?"""
    places = [p.data_ptr() for p in parameters]
    sizes = [p.numel() * p.element_size() for p in parameters]
    same = {p.untyped_storage().data_ptr() for p in parameters}
    follows = all(
        place + size == after for place, size, after in zip(places, sizes, places[1:], strict=False)
    )
    return len(same) == 1 and follows and all(p.is_contiguous() for p in parameters)


# Linear layers of one input.


@dataclass(frozen=True, slots=True)
class _Stage:
    """The adapters of some layers of one input, in the model's dtype."""

    down: Tensor
    """[sum of r, in] A of each, times its scale."""
    up: Tensor
    """[sum of out, sum of r] B of each on the diagonal, zeros elsewhere."""
    spans: tuple[tuple[slice, slice, float], ...]
    """Of each its rows, its ranks and its scale."""


class Joined:
    """Linear layers that read the same input, as one product."""

    def __init__(self, *modules: Any) -> None:
        """Lay their weights side by side.

        Raises:
            UnsupportedError: One is no plain linear layer.
        """
        self._modules = modules
        bases = [base_of(module) for module in modules]
        self.weight = side_by_side([base.weight for base in bases])
        biases = [base.bias for base in bases if base.bias is not None]
        if len(biases) not in (0, len(bases)):
            raise UnsupportedError("some of the layers of one input have a bias, others have none")
        self.bias: Tensor | None = torch.cat([b.data for b in biases]) if biases else None
        self._outs = [base.weight.shape[0] for base in bases]
        self._staged: tuple[object, _Stage] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """[S, sum of out] of [S, in], the active adapters' products added."""
        acting = [(m, name) for m in self._modules if (name := active_adapter(m)) is not None]
        if not acting:
            return F.linear(x, self.weight, self.bias)
        parameters: list[Tensor] = []
        for module, name in acting:
            parameters += [module.lora_A[name].weight, module.lora_B[name].weight]
        stage = self._stage(acting, parameters)
        y: Tensor = _Product.apply(x, self.weight, self.bias, stage, *parameters)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return y

    def _stage(self, acting: list[tuple[Any, str]], parameters: list[Tensor]) -> _Stage:
        """The adapters as they are now, staged once as long as they do not change."""
        # A version grows with every write in place, an optimiser's step included.
        key = tuple(
            (name, p.data_ptr(), p._version)
            for (_, name), p in zip(  # pyright: ignore[reportPrivateUsage]
                [pair for pair in acting for _ in range(2)], parameters, strict=True
            )
        )
        if self._staged is not None and self._staged[0] == key:
            return self._staged[1]
        with torch.no_grad():
            stage = self._new_stage(acting, parameters)
        self._staged = (key, stage)
        return stage

    def _new_stage(self, acting: list[tuple[Any, str]], parameters: list[Tensor]) -> _Stage:
        kind = self.weight.dtype
        rows = dict(zip(map(id, self._modules), self._spans(), strict=True))
        downs = [
            (a * float(module.scaling[name])).to(kind)
            for (module, name), a in zip(acting, parameters[::2], strict=True)
        ]
        down = torch.cat(downs)
        up = torch.zeros(sum(self._outs), len(down), dtype=kind, device=down.device)
        spans: list[tuple[slice, slice, float]] = []
        rank = 0
        for (module, name), b in zip(acting, parameters[1::2], strict=True):
            columns = slice(rank, rank + b.shape[1])
            up[rows[id(module)], columns] = b.to(kind)
            spans.append((rows[id(module)], columns, float(module.scaling[name])))
            rank += b.shape[1]
        return _Stage(down, up, tuple(spans))

    def _spans(self) -> list[slice]:
        ends = torch.tensor([0, *self._outs]).cumsum(0).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]


class _Product(torch.autograd.Function):
    """``y = x W^T + (x A^T) B^T``; W is frozen and gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stage: _Stage, *given: Tensor
    ) -> Tensor:
        del given  # they are staged; given so that they get a gradient
        low = x @ stage.down.t()
        y = F.linear(x, weight, bias)
        y.addmm_(low, stage.up.t())
        ctx.save_for_backward(x, weight, low)
        ctx.stage = stage
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, low = ctx.saved_tensors
        stage: _Stage = ctx.stage
        g_low = grad @ stage.up
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = grad @ weight
            g_x.addmm_(g_low, stage.down)
        g_down, g_up = _wide(g_low.t(), x), _wide(grad.t(), low)
        parts: list[Tensor] = []
        for rows, ranks, scale in stage.spans:
            parts += [g_down[ranks] * scale, g_up[rows, ranks]]
        return (g_x, None, None, None, *parts)


def _wide(one: Tensor, two: Tensor) -> Tensor:
    """The product, of 16-bit matrices in fp32, in which adapters are kept."""
    if one.is_cuda and one.element_size() == 2:
        product: Any = torch.mm
        return product(one, two, out_dtype=torch.float32)
    found = one @ two
    return found.float() if found.element_size() == 2 else found


# What stands between the products.


def _by_kernel(x: Tensor) -> bool:
    return x.is_cuda and x.element_size() == 2


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        from grpo_dual.model import kernels  # triton: on CUDA only

        y, root = kernels.norm_forward(x, weight, eps)
        ctx.save_for_backward(x, weight, root)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from grpo_dual.model import kernels

        x, weight, root = ctx.saved_tensors
        return kernels.norm_backward(grad.contiguous(), x, weight, root), None, None


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
        ops: Any = torch.ops.aten
        out, lse, state, unused, _ = ops._flash_attention_forward(
            q,
            k[runs.key_index],
            v[runs.key_index],
            runs.query_ends,
            runs.key_ends,
            runs.longest_query,
            runs.longest_key,
            0.0,
            True,
            False,
            scale=heads.scale,
        )
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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """[..., N] as Transformers rounds it: normalised in fp32, cast, then scaled."""
    if _by_kernel(x) and x.dim() == 2:
        y: Tensor = _Norm.apply(x, weight, eps)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return y
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [S, heads, D] at [S, 1, D] angles."""
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


class FlatLayer:
    """One decoder layer on a flat row."""

    def __init__(self, layer: Any, config: Any) -> None:
        """Look at the modules of a layer.

        Raises:
            UnsupportedError: One is no plain linear layer.
        """
        attention, mlp = layer.self_attn, layer.mlp
        self._norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        self._eps = float(config.rms_norm_eps)
        self._qkv = Joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self._output = Joined(attention.o_proj)
        self._gate_up = Joined(mlp.gate_proj, mlp.up_proj)
        self._down = Joined(mlp.down_proj)
        self._head_norms = tuple(
            getattr(getattr(attention, name, None), "weight", None) for name in ("q_norm", "k_norm")
        )
        queries = int(config.num_attention_heads)
        dim = int(getattr(config, "head_dim", None) or config.hidden_size // queries)
        scale = float(getattr(attention, "scaling", dim**-0.5))
        self._heads = _Heads(queries, int(config.num_key_value_heads), dim, scale)

    def __call__(self, x: Tensor, angles: tuple[Tensor, Tensor], runs: Runs) -> Tensor:
        """[1, S, d] of [1, S, d]; ``angles``: cosine and sine, [1, S, D] each."""
        flat = x[0]
        mixed = self._attend(self._qkv(rms_norm(flat, self._norms[0], self._eps)), angles, runs)
        flat = flat + self._output(mixed)
        both = self._gate_up(rms_norm(flat, self._norms[1], self._eps))
        return (flat + self._down(_gate(both)))[None]

    def _attend(self, qkv: Tensor, angles: tuple[Tensor, Tensor], runs: Runs) -> Tensor:
        """[S, Hq D]."""
        heads = self._heads
        cos, sin = (angle[0] for angle in angles)
        if _by_kernel(qkv) and self._head_norms == (None, None):
            mixed: Tensor = _Attention.apply(qkv, cos, sin, runs, heads)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
            return mixed
        q, k, v = heads.split(qkv)
        if self._head_norms[0] is not None and self._head_norms[1] is not None:
            q = rms_norm(q, self._head_norms[0], self._eps)
            k = rms_norm(k, self._head_norms[1], self._eps)
        q, k = (rotate(part, cos[:, None], sin[:, None]) for part in (q, k))
        return attend(q, k, v, runs, scale=heads.scale).flatten(1)


def _gate(both: Tensor) -> Tensor:
    if _by_kernel(both):
        out: Tensor = _Gated.apply(both)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return out
    gate, up = both.chunk(2, -1)
    return F.silu(gate) * up


def use_flat_layers(body: Any, config: Any) -> None:
    """Let the decoder layers of a model compute flat rows so; all else they compute as before.

    Raises:
        UnsupportedError: The model is not of the family; nothing is changed.
    """
    check_family(body, config)
    layers = [FlatLayer(layer, config) for layer in body.layers]
    for layer, flat in zip(body.layers, layers, strict=True):
        layer.forward = MethodType(_forward(flat), layer)


def _forward(flat: FlatLayer) -> Any:
    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        runs: Runs | None = kwargs.get("runs")
        if runs is None:
            return type(self).forward(self, hidden_states, *args, **kwargs)
        return flat(hidden_states, kwargs["position_embeddings"], runs)

    return forward
