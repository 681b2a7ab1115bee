"""Can this architecture be scored from packed rows with our own head? If not, it is refused.

The names below catch what is known; :func:`check_forward` then compares, on a few tokens, what the
policy computes with what the model itself computes, so that an architecture nobody thought of
cannot be silently wrong.
"""

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig

from grpo_dual.errors import ModelError
from grpo_dual.model.packing import flatten, pack, unpack

if TYPE_CHECKING:
    from grpo_dual.model.policy import Policy

_LOGIT_TRANSFORMS = {
    "final_logit_softcapping": None,  # Gemma
    "attn_logit_softcapping": None,  # Gemma: SDPA does not apply it
    "logit_scale": 1.0,  # Cohere
    "logits_scaling": 1.0,  # Granite
    "output_multiplier_scale": 1.0,
    "lm_head_multiplier": 1.0,  # Falcon-H1
}


def check_architecture(config: PreTrainedConfig) -> int | None:
    """Refuse configurations whose logits or attention our path does not reproduce.

    Args:
        config: the model's.

    Returns:
        Length up to which its attention is full (its sliding window or chunk), None when there is
        no limit.

    Raises:
        ModelError: attention other than SDPA, soft-capped or scaled logits, or layers that are not
            attention over all earlier tokens.
    """
    text = config.get_text_config()
    attention = getattr(text, "_attn_implementation", None)
    if attention != "sdpa":
        raise ModelError(
            f"attention implementation {attention!r} does not honour the boolean mask of packed "
            "rows (eager adds it as 0 and 1); load the model with attn_implementation='sdpa'"
        )
    for key, neutral in _LOGIT_TRANSFORMS.items():
        value = getattr(text, key, neutral)
        if value is not None and value != neutral:
            raise ModelError(
                f"{text.model_type} models transform their logits ({key}: {value}), which the "
                "chunked head does not reproduce; choose a model without it, such as Llama, Qwen "
                "or Mistral"
            )
    kinds = set(getattr(text, "layer_types", None) or ())
    unknown = kinds - {"full_attention", "sliding_attention", "chunked_attention"}
    if unknown:
        raise ModelError(
            f"{text.model_type} has layers of kind {', '.join(sorted(unknown))}, which carry state "
            "from one completion of a packed row to the next; choose a model with attention layers "
            "only"
        )
    windows: list[Any] = []
    if "sliding_attention" in kinds or (not kinds and getattr(text, "use_sliding_window", True)):
        windows.append(getattr(text, "sliding_window", None))
    if "chunked_attention" in kinds:
        windows.append(getattr(text, "attention_chunk_size", None))
    return min((int(window) for window in windows if window), default=None)


def check_forward(policy: "Policy") -> None:
    """Compare the policy's packed path with the model's own forward pass on a handful of tokens.

    Raises:
        ModelError: they differ by more than rounding.
    """
    vocabulary = policy.causal_lm.config.get_text_config().vocab_size
    ids = [int(i) for i in torch.linspace(1, vocabulary - 1, 12).tolist()]
    completions = [ids[5:8], ids[8:12]]
    groups = [(ids[:5], completions)]
    with torch.no_grad():
        layouts = {"without packing": unpack(groups, 0), "from packed rows": pack(groups, 0)}
        if policy.flat:
            layouts["from flat rows"] = flatten(groups)
        logits = {
            name: policy.logits(policy.hidden_states(batch.to(policy.device)))
            for name, batch in layouts.items()
        }
        own: list[torch.Tensor] = []
        for completion in completions:
            row = torch.tensor([ids[:5] + completion], device=policy.device)
            own.append(policy.causal_lm(input_ids=row, use_cache=False).logits[0, 4:-1])
        truth = torch.cat(own).to(logits["from packed rows"].dtype)
    # Rounding of the model's dtype, accumulated over its layers; a wrong mask or position is far
    # above it in fp32.
    tolerance = 1e-3 if policy.causal_lm.dtype in (torch.float32, torch.float64) else 0.1
    scale = truth.abs().max().clamp_min(1e-6)
    for name, value in logits.items():
        error = float((value - truth).abs().max() / scale)
        if not error <= tolerance:
            raise ModelError(
                f"{type(policy.causal_lm).__name__} gives other logits {name} than by its own "
                f"forward pass (relative difference {error:.2g}), so training on it would be "
                "silently wrong; choose another model"
            )
