"""What a run will take of the device's memory, before its first step.

Counted from shapes, not measured: weights, adapter and optimiser, keys and values of the rollouts,
activations of the largest pass, and the logits that exist at the same time. Prompts are taken to be
as long as they may be. Measured peaks of an 8B shape are met within 5 % (docs/performance.md).

Where ``model.gradient_checkpointing`` is auto, the plan decides it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from grpo_dual.config.schema import RolloutConfig, RunConfig
from grpo_dual.model.fourbit import stored_bytes
from grpo_dual.model.policy import Policy

GIB = 2**30
RESERVE = 0.1
"""Share of the device's memory that auto leaves free: the plan is met within 5 %, and the kernels'
workspaces and the allocator's gaps are not in it."""
_HEAD_COPIES = 3
"""fp32 logits of a chunk: themselves, their exponentials, their gradient."""
_MASKED_FACTOR = 1.5
"""Activations of masked rows over those of flat ones; 1.39 and 1.44 were measured."""
_SLOTS = 4096

Layers = Literal["fused", "joined", "peft"]
"""As in :class:`grpo_dual.model.policy.Policy`."""


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
            _inner_width(config),
            kv_heads * dim,
            int(config.vocab_size),
            weight_bytes,
        )

    def layer_bytes(self, layers: Layers) -> int:
        """What a token leaves in a layer for the backward pass.

        fused: what both norms give, before and behind their weights (4 d), queries, keys and values
        (d + 2 kv), attention's output (d), gate and up (2 w) and their product (w).
        joined: the norms' inputs in fp32; their outputs (2 d); queries, keys, values and output as
        above; gate, its silu, up and the product (4 w).
        peft: the norms' inputs in fp32, and so what each of the seven adapters reads (6 d + w);
        queries, keys, values and output; gate, its silu and up (3 w).
        """
        d, w, mixed = self.hidden, self.intermediate, 2 * self.hidden + 2 * self.kv_width
        if layers == "fused":
            return self.bytes * (4 * d + mixed + 3 * w)
        if layers == "joined":
            return 4 * 2 * d + self.bytes * (2 * d + mixed + 4 * w)
        return 4 * (8 * d + w) + self.bytes * (mixed + 3 * w)

    @property
    def slot_bytes(self) -> int:
        """Keys and values of a token."""
        return self.bytes * 2 * self.layers * self.kv_width

    def activations(self, tokens: int, *, checkpointing: bool, flat: bool, layers: Layers) -> float:
        """Bytes of a pass of so many tokens."""
        layer = self.layer_bytes(layers) * (1.0 if flat else _MASKED_FACTOR)
        if checkpointing:
            # Each layer's input; the fused ones' is fp32.
            between = 4 if layers == "fused" else self.bytes
            return tokens * (self.layers * between * self.hidden + layer)
        return tokens * self.layers * layer

    def logits(self, chunk: int) -> int:
        """Bytes of the head's chunk."""
        return _HEAD_COPIES * 4 * chunk * self.vocabulary


def _inner_width(config: Any) -> int:
    """Inner features of a token's MLP; of a mixture, of all experts that it meets."""
    get = lambda name: int(getattr(config, name, None) or 0)  # noqa: E731
    # As OPT and GPT-2 call it, whose default is four times the hidden size.
    whole = get("intermediate_size") or get("ffn_dim") or get("n_inner") or 4 * get("hidden_size")
    experts = get("num_experts_per_tok")
    if not experts:
        return whole
    return experts * (get("moe_intermediate_size") or whole) + get(
        "shared_expert_intermediate_size"
    )


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
    in_place: bool = True
    """The in-place engine's keys stay while training; the other engine's are gone by then."""

    @property
    def total(self) -> float:
        """All that there is at once."""
        passes = self.activations + self.head
        moving = self.keys + passes if self.in_place else max(self.keys, passes)
        return self.weights + self.adapter + moving

    @property
    def halved(self) -> float:
        """The same with passes of half the size, as a run tries when one did not fit."""
        return replace(self, activations=self.activations / 2).total

    @property
    def by_rollouts(self) -> bool:
        """Is it the rollouts' keys, and not a pass, that take the most?"""
        return not self.in_place and self.keys > self.activations + self.head


@dataclass(frozen=True, slots=True)
class Room:
    """A device's memory."""

    name: str
    size: int
    """Bytes it has."""
    ours: int
    """Bytes of it that are free, or this process's already."""

    @classmethod
    def of(cls, device: torch.device) -> "Room":
        """As it is now."""
        properties = torch.cuda.get_device_properties(device)
        free, _ = torch.cuda.mem_get_info(device)
        return cls(
            properties.name, properties.total_memory, free + torch.cuda.memory_reserved(device)
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan that was chosen for a device."""

    plan: MemoryPlan
    checkpointing: bool
    reason: str
    """Why activations are, or are not, recomputed; empty where the configuration says so."""
    room: Room

    @property
    def notes(self) -> tuple[str, ...]:
        """As the user sees it: the plan, the choice, and what to do where it may not fit."""
        plan, gib = self.plan, lambda size: f"{size / GIB:.1f}"
        parts = (
            ("weights", plan.weights),
            ("adapter and optimiser", plan.adapter),
            ("keys and values", plan.keys),
            (f"a pass of at most {plan.tokens:,} tokens", plan.activations),
            ("logits", plan.head),
        )
        listed = ", ".join(f"{name} {gib(size)}" for name, size in parts)
        lines = [
            f"memory: {gib(plan.total)} GiB of {gib(self.room.ours)} free on {self.room.name} at "
            f"most ({listed})"
        ]
        if self.reason:
            lines.append(f"memory: {self.reason}")
        if plan.total > self.room.ours:
            lines.append(f"memory: that may not fit; {self._advice}")
        return tuple(lines)

    @property
    def _advice(self) -> str:
        if self.plan.by_rollouts:
            return "lower rollout.max_sequences: fewer completions are drawn at once then."
        or_save = "" if self.checkpointing else ", or set model.gradient_checkpointing: true"
        return f"lower train.microbatch_prompts{or_save}. A pass that does not fit is halved once."


def fit(
    setting: Literal["auto"] | bool, keeping: MemoryPlan, saving: MemoryPlan, room: Room
) -> Fit:
    """Choose between keeping activations and recomputing them.

    ``auto`` recomputes them where keeping them leaves less than a tenth of the device free and
    recomputing takes less.

    Args:
        setting: ``model.gradient_checkpointing``.
        keeping: The plan without it.
        saving: The plan with it.
        room: The device's memory.
    """
    if setting != "auto":
        return Fit(saving if setting else keeping, setting, "", room)
    gib = lambda size: f"{size / GIB:.1f}"  # noqa: E731
    reserve = RESERVE * room.size
    if keeping.total + reserve <= room.ours:
        reason = (
            f"gradient checkpointing off (auto): {gib(keeping.total)} GiB and a reserve of "
            f"{gib(reserve)} fit {gib(room.ours)}"
        )
        return Fit(keeping, False, reason, room)
    if saving.total >= keeping.total:
        reason = (
            f"gradient checkpointing off (auto): it would take {gib(saving.total)} GiB, no less "
            f"than {gib(keeping.total)} without it"
        )
        return Fit(keeping, False, reason, room)
    reason = (
        f"gradient checkpointing on (auto): without it {gib(keeping.total)} GiB and a reserve of "
        f"{gib(reserve)} do not fit {gib(room.ours)}; with it {gib(saving.total)}"
    )
    return Fit(saving, True, reason, room)


@dataclass(frozen=True, slots=True)
class Model:
    """What a plan must know of a loaded model."""

    shape: Shape
    weights: int
    """Bytes of the frozen weights."""
    trained: int
    """Trained parameters."""
    flat: bool
    """Passes are flat rows."""
    layers: Layers
    in_place: bool
    """Rollouts by the in-place engine, whose completions share their prompt's keys."""

    @classmethod
    def of(cls, policy: Policy, *, in_place: bool) -> "Model":
        """Of a policy as it is loaded."""
        dtype = policy.causal_lm.dtype
        return cls(
            Shape.of(policy.causal_lm.config.get_text_config(), dtype.itemsize),
            stored_bytes(policy.model),
            sum(p.numel() for _, p in policy.trainable_parameters()),
            policy.flat,
            policy.layers,
            in_place,
        )


def plan(model: Model, config: RunConfig, *, evaluated: int, checkpointing: bool) -> MemoryPlan:
    """The plan of a run.

    Args:
        model: The loaded one.
        config: Prompts, completions, passes.
        evaluated: Prompts of an evaluation, one completion each; 0: there is none.
        checkpointing: Activations are recomputed.
    """
    rollout, train = config.rollout, config.train
    k, span, longest = (
        rollout.group_size,
        rollout.sampling.max_new_tokens,
        rollout.max_prompt_tokens,
    )
    group = longest + k * span if train.packed else k * (longest + span)
    prompts = [o.prompts_per_step for o in config.objectives.values()]
    tokens = min(train.microbatch_prompts, max(prompts)) * group
    if train.microbatch_tokens is not None:
        tokens = max(group, min(train.microbatch_tokens, max(prompts) * group))
    copies = 4 + len(prompts) + 1  # itself, .grad, Adam's two, one an objective, their sum
    flat = model.flat and train.packed
    return MemoryPlan(
        weights=model.weights,
        adapter=4.0 * copies * model.trained,
        keys=_keys(model, rollout, sum(prompts), evaluated),
        activations=model.shape.activations(
            tokens,
            checkpointing=checkpointing,
            flat=flat,
            layers="joined" if model.layers == "fused" and not flat else model.layers,
        ),
        head=float(model.shape.logits(config.loss.head_chunk)),
        tokens=tokens,
        in_place=model.in_place,
    )


def _keys(model: Model, rollout: RolloutConfig, prompts: int, evaluated: int) -> float:
    """Bytes of keys and values of the largest wave: of a step's prompts, or an evaluation's."""
    k, span, longest = (
        rollout.group_size,
        rollout.sampling.max_new_tokens,
        rollout.max_prompt_tokens,
    )
    trained = min(prompts, max(1, rollout.max_sequences // k))
    asked = min(evaluated, rollout.max_sequences) * (longest + span)
    if model.in_place:
        slots = max(trained * (longest + k * span), asked)
        return float(-(-slots // _SLOTS) * _SLOTS * model.shape.slot_bytes)
    # Every completion has its own copy of its prompt's; a layer's are copied when they grow.
    slots = max(trained * k * (longest + span), asked)
    return slots * model.shape.slot_bytes * (1 + 1 / model.shape.layers)


def fit_memory(policy: Policy, config: RunConfig, *, in_place: bool, evaluated: int) -> Fit | None:
    """Plan a run on a policy's device; None on the CPU, whose memory is not ours alone.

    Args:
        policy: As it is loaded.
        config: The run.
        in_place: Rollouts are by the in-place engine.
        evaluated: As for :func:`plan`.
    """
    if policy.device.type != "cuda":
        return None
    model = Model.of(policy, in_place=in_place)
    keeping, saving = (
        plan(model, config, evaluated=evaluated, checkpointing=active) for active in (False, True)
    )
    return fit(config.model.gradient_checkpointing, keeping, saving, Room.of(policy.device))
