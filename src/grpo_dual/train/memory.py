"""What a run will take of the device's memory, before its first step.

Counted from shapes, not measured: weights, adapter and optimiser, keys and values of the rollouts,
activations of the largest pass, and the logits that exist at the same time. Prompts are taken to be
as long as they may be. Measured peaks of an 8B shape are met within 5 % (docs/performance.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from grpo_dual.config.schema import RunConfig
from grpo_dual.model.policy import Policy

GIB = 2**30
_HEAD_COPIES = 3
"""fp32 logits of a chunk: themselves, their exponentials, their gradient."""
_MASKED_FACTOR = 1.5
"""Activations of masked rows through Transformers' own layers, over those of flat ones."""
_SLOTS = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a decoder its memory follows from."""

    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    """Key-value heads times head dimension."""
    vocabulary: int
    bytes: int
    """Of a weight."""

    @classmethod
    def of(cls, config: Any, weight_bytes: int) -> "Shape":
        """From a Transformers text configuration."""
        heads = int(config.num_attention_heads)
        dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        return cls(
            int(config.num_hidden_layers),
            int(config.hidden_size),
            int(config.intermediate_size),
            kv_heads * dim,
            int(config.vocab_size),
            weight_bytes,
        )

    @property
    def layer_bytes(self) -> int:
        """What a token leaves in a layer for the backward pass.

        Both norms' inputs and outputs (4 d), queries, keys and values (d + 2 kv), attention's
        output (d), gate and up (2 w) and their product (w).
        """
        return self.bytes * (6 * self.hidden + 2 * self.kv_width + 3 * self.intermediate)

    @property
    def slot_bytes(self) -> int:
        """Keys and values of a token."""
        return self.bytes * 2 * self.layers * self.kv_width

    def activations(self, tokens: int, *, checkpointing: bool, flat: bool) -> float:
        """Bytes of a pass of so many tokens."""
        factor = 1.0 if flat else _MASKED_FACTOR
        if checkpointing:
            kept = self.layers * self.bytes * self.hidden
            return tokens * (kept + factor * self.layer_bytes)
        return tokens * self.layers * factor * self.layer_bytes

    def logits(self, chunk: int) -> int:
        """Bytes of the head's chunk."""
        return _HEAD_COPIES * 4 * chunk * self.vocabulary


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes by what they are for."""

    weights: float
    adapter: float
    """Adapter, gradients of each objective and their sum, both moments of Adam; fp32."""
    keys: float
    activations: float
    head: float
    tokens: int
    """Of the largest pass."""

    @property
    def total(self) -> float:
        """All of it at once."""
        return self.weights + self.adapter + self.keys + self.activations + self.head

    def text(self, device: str, memory: int) -> str:
        """One line, and a second one where it does not fit.

        Args:
            device: Its name.
            memory: Bytes it has.
        """
        parts = (
            ("weights", self.weights),
            ("adapter and optimiser", self.adapter),
            ("keys and values", self.keys),
            (f"a pass of at most {self.tokens:,} tokens", self.activations),
            ("logits", self.head),
        )
        listed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
        line = (
            f"memory: {self.total / GIB:.1f} GiB of {memory / GIB:.1f} on {device} at most "
            f"({listed})"
        )
        if self.total <= memory:
            return line
        return (
            f"{line}\nmemory: that may not fit; lower train.microbatch_prompts, or set "
            "model.gradient_checkpointing: true. A pass that does not fit is halved once."
        )


def plan(shape: Shape, config: RunConfig, *, weights: int, trained: int, flat: bool) -> MemoryPlan:
    """The plan of a run.

    Args:
        shape: The model's.
        config: Prompts, completions, passes.
        weights: Bytes of the frozen weights.
        trained: Trained parameters.
        flat: Passes are flat rows.
    """
    rollout, train = config.rollout, config.train
    k, span = rollout.group_size, rollout.sampling.max_new_tokens
    group = rollout.max_prompt_tokens + k * span
    prompts = [o.prompts_per_step for o in config.objectives.values()]
    tokens = min(train.microbatch_prompts, max(prompts)) * group
    if train.microbatch_tokens is not None:
        tokens = max(group, min(train.microbatch_tokens, max(prompts) * group))
    copies = 4 + len(prompts) + 1  # itself, .grad, Adam's two, one an objective, their sum
    slots = -(-min(sum(prompts), max(1, rollout.max_sequences // k)) * group // _SLOTS) * _SLOTS
    return MemoryPlan(
        weights=weights,
        adapter=4.0 * copies * trained,
        keys=float(slots * shape.slot_bytes),
        activations=shape.activations(
            tokens, checkpointing=config.model.gradient_checkpointing, flat=flat
        ),
        head=float(shape.logits(config.loss.head_chunk)),
        tokens=tokens,
    )


def memory_notes(policy: Policy, config: RunConfig) -> Sequence[str]:
    """The plan as the user sees it; nothing on the CPU, whose memory is not ours alone."""
    if policy.device.type != "cuda":
        return ()
    frozen = [p for p in policy.model.parameters() if not p.requires_grad]
    shape = Shape.of(policy.causal_lm.config.get_text_config(), frozen[0].element_size())
    found = plan(
        shape,
        config,
        weights=sum(p.numel() * p.element_size() for p in frozen),
        trained=sum(p.numel() for _, p in policy.trainable_parameters()),
        flat=policy.flat,
    )
    properties = torch.cuda.get_device_properties(policy.device)
    return (found.text(properties.name, properties.total_memory),)
