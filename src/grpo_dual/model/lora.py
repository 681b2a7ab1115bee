"""PEFT's LoRA layers in the model's dtype, wherever their forward is called.

PEFT keeps adapters in fp32 and computes their product there, on an fp32 copy of the input for each
of the seven layers of a block. Here they are rounded to the model's dtype for the product
(``joined.py``), as the in-place rollout engine rounds them, so that both compute the same.
"""

from types import MethodType
from typing import Any, cast

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from grpo_dual.model.family import is_plain
from grpo_dual.model.joined import Joined, Stages


def use_products(model: nn.Module, stages: Stages) -> bool:
    """Compute all plain LoRA layers of a PEFT model so; others, and active dropout, stay PEFT's.

    Args:
        model: The PEFT model.
        stages: Where their adapters are staged.

    Returns:
        False where a layer stays PEFT's, since its base is no plain linear layer (4 bit, say).
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    plain = [module for module in layers if is_plain(module.get_base_layer())]
    for module in plain:
        wrapped = cast("Any", module)
        wrapped.forward = MethodType(_forward(Joined(module, stages=stages)), module)
    return len(plain) == len(layers)


def _forward(joined: Joined) -> Any:
    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not _plain(self) or x.dtype != self.base_layer.weight.dtype:
            return type(self).forward(self, x, *args, **kwargs)
        return joined(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    return forward


def _plain(layer: Any) -> bool:
    """Does one adapter act on a layer, as plain LoRA without dropout?"""
    if layer.disable_adapters or layer.merged:
        return False
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or names[0] in layer.lora_variant:
        return False
    dropout = layer.lora_dropout[names[0]]
    return not (dropout.training and getattr(dropout, "p", 0.0) > 0)
