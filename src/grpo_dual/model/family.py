"""The Llama family (Llama, Mistral, Qwen 2 and 3): what it looks like, and how its weights lie.

Rollout engine and training pass compute these models' layers in place. They ask here whether a
model is one, which adapter acts on a layer, and for the weights of layers that read the same input,
side by side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

_LEAST_RANK = 16
_WHOLE = "grpo_dual_whole"


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
    names = {
        "": ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm"),
        "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "mlp": ("gate_proj", "up_proj", "down_proj"),
    }
    allowed = {"self_attn": {"q_norm", "k_norm"}, "mlp": {"act_fn"}}
    for layer in layers:
        for name, wanted in names.items():
            module = layer if not name else getattr(layer, name, nn.Module())
            children = {child for child, _ in module.named_children()}
            extra = children - set(wanted) - allowed.get(name, set())
            if not set(wanted) <= children or extra:
                raise UnsupportedError(
                    f"{type(layer).__name__} is no Llama layer ({name or 'layer'} has "
                    f"{', '.join(sorted(children))})"
                )
        if getattr(layer.input_layernorm, "weight", None) is None:
            raise UnsupportedError(f"{type(layer.input_layernorm).__name__} has no weight")
    if getattr(config, "hidden_act", "silu") != "silu":
        raise UnsupportedError(f"activation {config.hidden_act} is not silu")
    for name, module in body.named_modules():
        if isinstance(module, nn.Linear) and not is_plain(module):
            raise UnsupportedError(f"{name} is {_kind(module)}, no plain linear layer")


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


def is_plain(module: Any) -> bool:
    """Is it a linear layer whose weight may be read as a matrix? A 4-bit one, packed, may not."""
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter


def _kind(module: Any) -> str:
    return f"{type(module).__name__} of {type(module.weight).__name__}"


def base_of(module: Any) -> nn.Linear:
    """The plain linear layer behind an adapter, or the module itself.

    Raises:
        UnsupportedError: It is none (quantised, say).
    """
    base: Any = module.base_layer if isinstance(module, LoraLayer) else module
    if not is_plain(base):
        raise UnsupportedError(f"{type(base).__name__} is no plain linear layer")
    return base


def padded_rank(model: nn.Module) -> int:
    """The largest rank of a model's adapters, up to a power of two that is 16 at least.

    Adapters are staged with so many, zeros behind their own: tensor cores take no narrower product,
    and Triton no other width.
    """
    ranks = [r for m in model.modules() if isinstance(m, LoraLayer) for r in m.r.values()]
    return max(_LEAST_RANK, 1 << (max(ranks, default=1) - 1).bit_length())


def side_by_side(parameters: Sequence[Tensor], spare: int = 0) -> Tensor:
    """One matrix of the parameters' rows, of which the parameters become views.

    The same numbers in another place: no second copy, and one product instead of several. A matrix
    that was made before is given again, if it has the room; if not, whoever holds it holds a copy.

    Args:
        parameters: [out, in] each.
        spare: Rows below theirs, zeros in a new matrix.

    Returns:
        [sum of out + spare at least, in].
    """
    first = parameters[0]
    count = sum(map(len, parameters))
    # Kept with the parameter, since what else a storage holds cannot be seen from a view of it.
    whole: Tensor | None = vars(first).get(_WHOLE)
    if whole is None or len(whole) < count + spare or not _lie_in(whole, parameters):
        whole = first.data.new_zeros(count + spare, first.shape[1])
        torch.cat([p.data for p in parameters], out=whole[:count])
        vars(first)[_WHOLE] = whole
        row = 0
        for parameter in parameters:
            parameter.data = whole[row : row + len(parameter)]
            row += len(parameter)
    return whole


def _lie_in(whole: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Are they its first rows, in order?"""
    place = whole.data_ptr()
    for parameter in parameters:
        if parameter.data_ptr() != place or not parameter.is_contiguous():
            return False
        place += parameter.numel() * parameter.element_size()
    return parameters[0].dtype == whole.dtype
