"""A linear layer with LoRA as one autograd function, in the model's dtype.

    y = x W^T + x (s A)^T B^T

PEFT keeps adapters in fp32 and computes their product there, on an fp32 copy of x for each of the
seven layers of a block. Here A and B are rounded to the model's dtype for the product, as the
in-place rollout engine rounds them (so both compute the same), and x is saved once for all layers
that read it. W is frozen and gets no gradient (LoRA, 2106.09685; the backward as in unsloth).
"""

from types import MethodType
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


class LoraProduct(torch.autograd.Function):
    """See the module; gradients of A and B have their own dtype."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        """[..., in] to [..., out].

        Args:
            ctx: Autograd's.
            x: [..., in].
            weight: [out, in], frozen.
            bias: [out], frozen, or None.
            a: [r, in].
            b: [out, r].
            scale: s.
        """
        down, up = (a * scale).to(x.dtype), b.to(x.dtype)
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ down.t()
        y = torch.addmm(torch.nn.functional.linear(flat, weight, bias), low, up.t())
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scale = scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of x, A and B."""
        x, weight, a, b, low = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1])
        flat = x.reshape(-1, x.shape[-1])
        down, up = (a * ctx.scale).to(x.dtype), b.to(x.dtype)
        g_low = g @ up
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = torch.addmm(g @ weight, g_low, down).view(x.shape)
        g_a = (g_low.t() @ flat).to(a.dtype) * ctx.scale
        g_b = (g.t() @ low).to(b.dtype)
        return g_x, None, None, g_a, g_b, None


def use_products(model: nn.Module) -> None:
    """Compute all plain LoRA layers of a PEFT model so; others, and active dropout, stay PEFT's."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and type(module.get_base_layer()) is nn.Linear:
            wrapped = cast("Any", module)
            wrapped.forward = MethodType(_forward, module)


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    name = _plain(self)
    if args or kwargs or name is None or x.dtype != self.base_layer.weight.dtype:
        return type(self).forward(self, x, *args, **kwargs)
    base = self.base_layer
    product: Tensor = LoraProduct.apply(  # pyright: ignore[reportAssignmentType]
        x,
        base.weight,
        base.bias,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        float(self.scaling[name]),
    )
    return product


def _plain(layer: Any) -> str | None:
    """The one adapter that acts on a layer as plain LoRA without dropout."""
    if layer.disable_adapters or layer.merged:
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or names[0] in layer.lora_variant:
        return None
    dropout = layer.lora_dropout[names[0]]
    active = dropout.training and getattr(dropout, "p", 0.0) > 0
    return None if active else names[0]
