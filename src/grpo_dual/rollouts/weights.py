"""The Llama family's weights, which stay those of Transformers' and PEFT's modules.

They are moved below each other, and the modules' parameters are views: nothing is copied. The live
adapter's small matrices are staged before every rollout, in the model's dtype and laid out by
input. A, scaled, stands in the rows below the weights that read the same input, so that one product
gives both: x [W; s A]^T. B is one [out, r] matrix for each projection. ``refresh`` overwrites the
stage in place, so a captured graph sees new values without recapture.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from grpo_dual.model.family import (
    UnsupportedError,
    active_adapter,
    base_of,
    check_family,
    padded_rank,
    side_by_side,
)
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.pool import Slot


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
    """First of its R rows in its group's ``down``."""


@dataclass(frozen=True, slots=True)
class Group:
    """Projections that read the same input."""

    projections: tuple[Projection, ...]
    whole: Tensor
    """[sum of out + n R, in]: the modules' weights, which are views of it, and ``down``."""
    down: Tensor
    """[n R, in] staged A, each scaled by alpha / r; the last rows of ``whole``."""
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


def check_fused(policy: Policy) -> None:
    """The fused decode step adds biases to queries, keys and values only, as Qwen 2 has them.

    Raises:
        UnsupportedError: Another projection has one, or the model is not of the family.
    """
    body: Any = policy.body
    check_family(body, policy.causal_lm.config.get_text_config())
    for number, layer in enumerate(body.layers):
        for part, names in (
            (layer.self_attn, ("o_proj",)),
            (layer.mlp, ("gate_proj", "up_proj", "down_proj")),
        ):
            for name in names:
                if base_of(getattr(part, name)).bias is not None:
                    raise UnsupportedError(
                        f"{name} of layer {number} has a bias, which its kernels do not add"
                    )


class Weights:
    """All that a decode step reads."""

    def __init__(self, policy: Policy) -> None:
        """Look the model over and allocate the stage.

        Raises:
            UnsupportedError: It is not of the Llama family, or its adapter is no plain LoRA.
        """
        body: Any = policy.body
        config: Any = policy.causal_lm.config.get_text_config()
        check_family(body, config)
        self.embedding: Tensor = body.embed_tokens.weight
        self.norm: Tensor = body.norm.weight
        self.eps = float(config.rms_norm_eps)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self._rotary: Any = body.rotary_emb
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self.cos = self.sin = self.embedding.new_empty(0, self.head_dim)
        """[positions, D] rotary tables."""
        self.rank = padded_rank(policy.body)
        self.layers = tuple(self._layer(layer) for layer in body.layers)
        self._modules = [
            (group, projection)
            for layer in self.layers
            for group in (layer.qkv, layer.output, layer.gate_up, layer.down)
            for projection in group.projections
        ]

    @property
    def slot(self) -> Slot:
        """What a token keeps."""
        return Slot(len(self.layers), self.kv_heads, self.head_dim, self.dtype, self.device)

    def reserve(self, positions: int) -> bool:
        """Make rotary tables for so many positions; True: there were none so long."""
        if len(self.cos) >= positions:
            return False
        places = torch.arange(-(-positions // 512) * 512, device=self.device)[None]
        probe = torch.empty(1, dtype=self.dtype, device=self.device)
        self.cos, self.sin = (own[0].contiguous() for own in self._rotary(probe, places))
        return True

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
        bases = [base_of(module) for module in modules]
        outs = [base.weight.shape[0] for base in bases]
        rows = sum(outs)
        ends = rows + len(bases) * self.rank
        whole = side_by_side([base.weight for base in bases], ends - rows)[:ends]
        ups = torch.zeros(rows, self.rank, dtype=self.dtype, device=self.device)
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
        return Group(tuple(projections), whole, whole[rows:], ups)

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
            name = active_adapter(module)
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
