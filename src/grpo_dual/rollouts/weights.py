"""The Llama family's weights, read where Transformers and PEFT hold them.

Nothing of the base model is copied. The live adapter's small matrices are staged before every
rollout, in the model's dtype and laid out by input: one [n r, in] matrix for the n projections that
read the same input, and one [out, r] matrix each. ``refresh`` overwrites the stage in place, so a
captured graph sees new values without recapture.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from grpo_dual.model.policy import Policy

RANK_MULTIPLE = 16
"""Staged ranks are padded with zeros to it: tensor cores take no narrower product."""


class UnsupportedError(Exception):
    """The in-place engine cannot run this model or adapter; the text says why."""


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer with its place in the stage."""

    module: nn.Module
    """As the model holds it: plain, or wrapped by PEFT."""
    weight: Tensor
    """[out, in], the module's own."""
    bias: Tensor | None
    up: Tensor
    """[out, R] staged B."""
    column: int
    """First of its R columns in the product with its group's ``down``."""


@dataclass(frozen=True, slots=True)
class Group:
    """Projections that read the same input."""

    projections: tuple[Projection, ...]
    weight: Tensor
    """[sum of out, in]: the modules' weights one below the other; they are views of it."""
    down: Tensor
    """[n R, in] staged A, each scaled by alpha / r."""
    ups: Tensor
    """[sum of out, R]: the projections' ``up`` one below the other."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer."""

    attention_norm: Tensor
    """[in]"""
    query_norm: Tensor | None
    """[D] of each head (Qwen 3), or None."""
    key_norm: Tensor | None
    qkv: Group
    output: Group
    mlp_norm: Tensor
    gate_up: Group
    down: Group


class Weights:
    """All that a decode step reads."""

    def __init__(self, policy: Policy) -> None:
        """Look the model over and allocate the stage.

        Raises:
            UnsupportedError: It is not of the Llama family, or its adapter is no plain LoRA.
        """
        body: Any = policy.body
        config: Any = policy.causal_lm.config.get_text_config()
        self._check(body, config)
        self.embedding: Tensor = body.embed_tokens.weight
        self.norm: Tensor = body.norm.weight
        self.eps = float(config.rms_norm_eps)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self.rotary: Any = body.rotary_emb
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self.rank = self._padded_rank(policy)
        self.layers = tuple(self._layer(layer) for layer in body.layers)
        self._modules = [
            (group, projection)
            for layer in self.layers
            for group in (layer.qkv, layer.output, layer.gate_up, layer.down)
            for projection in group.projections
        ]

    @staticmethod
    def _check(body: Any, config: Any) -> None:
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
        children = {
            name: {
                child
                for child, _ in (
                    first if not name else getattr(first, name, nn.Module())
                ).named_children()
            }
            for name in names
        }
        allowed = {"self_attn": {"q_norm", "k_norm"}, "mlp": {"act_fn"}}
        for name, wanted in names.items():
            extra = children[name] - set(wanted) - allowed.get(name, set())
            if not set(wanted) <= children[name] or extra:
                raise UnsupportedError(
                    f"{type(first).__name__} is no Llama layer ({name or 'layer'} has "
                    f"{', '.join(sorted(children[name]))})"
                )
        if getattr(config, "hidden_act", "silu") != "silu":
            raise UnsupportedError(f"activation {config.hidden_act} is not silu")

    def _padded_rank(self, policy: Policy) -> int:
        ranks = {
            rank
            for module in policy.model.modules()
            if isinstance(module, LoraLayer)
            for rank in module.r.values()
        }
        rank = max(ranks, default=RANK_MULTIPLE)
        return -(-rank // RANK_MULTIPLE) * RANK_MULTIPLE

    def _layer(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        head = lambda name: getattr(getattr(attention, name, None), "weight", None)  # noqa: E731
        return Layer(
            attention_norm=layer.input_layernorm.weight,
            query_norm=head("q_norm"),
            key_norm=head("k_norm"),
            qkv=self._group(attention.q_proj, attention.k_proj, attention.v_proj),
            output=self._group(attention.o_proj),
            mlp_norm=layer.post_attention_layernorm.weight,
            gate_up=self._group(mlp.gate_proj, mlp.up_proj),
            down=self._group(mlp.down_proj),
        )

    def _group(self, *modules: Any) -> Group:
        bases: list[Any] = [m.base_layer if isinstance(m, LoraLayer) else m for m in modules]
        for base in bases:
            if type(base) is not nn.Linear:
                raise UnsupportedError(f"{type(base).__name__} is no plain linear layer")
        width = bases[0].weight.shape[1]
        outs = [base.weight.shape[0] for base in bases]
        weight = _side_by_side([base.weight for base in bases])
        down = torch.zeros(len(bases) * self.rank, width, dtype=self.dtype, device=self.device)
        ups = torch.zeros(sum(outs), self.rank, dtype=self.dtype, device=self.device)
        projections, row = [], 0
        for index, (module, base, out) in enumerate(zip(modules, bases, outs, strict=True)):
            projections.append(
                Projection(
                    module=module,
                    weight=base.weight,
                    bias=base.bias,
                    up=ups[row : row + out],
                    column=index * self.rank,
                )
            )
            row += out
        return Group(tuple(projections), weight, down, ups)

    @torch.no_grad()
    def refresh(self) -> None:
        """Stage the adapter that is active now; none active stages zeros.

        Raises:
            UnsupportedError: Several adapters are active at once, one is merged into the base, or
                it is no plain LoRA.
        """
        targets: list[Tensor] = []
        sources: list[Tensor] = []
        scaled: list[Tensor] = []
        factors: list[float] = []
        for group, projection in self._modules:
            module = projection.module
            down = group.down[projection.column : projection.column + self.rank]
            name = _active(module)
            if name is None:
                down.zero_()
                continue
            assert isinstance(module, LoraLayer)
            first: Any = module.lora_A[name].weight
            second: Any = module.lora_B[name].weight
            rank = first.shape[0]
            if rank < self.rank:
                down[rank:].zero_()
            targets += [down[:rank], projection.up[:, :rank]]
            sources += [first, second]
            scaled.append(down[:rank])
            factors.append(float(module.scaling[name]))
        if targets:
            together: Any = torch
            together._foreach_copy_(targets, sources)
            together._foreach_mul_(scaled, factors)


def _side_by_side(parameters: list[nn.Parameter]) -> Tensor:
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


def _adjacent(parameters: list[nn.Parameter]) -> bool:
    """Do they stand behind one another already (a second engine on the same policy)?"""
    places = [p.data_ptr() for p in parameters]
    sizes = [p.numel() * p.element_size() for p in parameters]
    same = {p.untyped_storage().data_ptr() for p in parameters}
    follows = all(
        place + size == after for place, size, after in zip(places, sizes, places[1:], strict=False)
    )
    return len(same) == 1 and follows and all(p.is_contiguous() for p in parameters)


def _active(module: nn.Module) -> str | None:
    """The one adapter that acts on a module; None where there is none."""
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
