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
