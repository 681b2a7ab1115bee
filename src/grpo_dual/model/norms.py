"""RMS norms of Transformers' modules as one kernel each, for rollouts.

Transformers computes one in eight kernels, of which a decode step of few rows has a hundred or two:
a quarter to a third of its time (docs/performance.md). Families round differently on the way, and a
sampler that rounds otherwise than the trainer draws from another policy; so a module is taken over
only if one of the known ways gives what its own forward pass gives. Training and reference pass
keep the module's own, both the same: they must agree to the bit before the first update.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_EQUAL = 0.99
"""Share of a norm's outputs that must be the module's to the bit: sums in another order change one
in thousands, another rounding one in three."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How a family computes ``weight * (x / rms(x))``."""

    twice: bool
    """x / rms(x) is rounded before it is scaled (Llama); else once, behind it (OLMo 2)."""
    shifted: bool
    """The scale is 1 + weight (Gemma)."""


ROUNDINGS = (Rounding(True, False), Rounding(False, False), Rounding(False, True))


class Norms:
    """A decoder's RMS norms."""

    def __init__(self) -> None:
        """Of none yet."""
        self._fused = False

    def take_over(self, body: nn.Module) -> int:
        """Let a decoder's norms be computed so while they are asked to, in 16 bit on CUDA.

        Args:
            body: On its device, in its dtype.

        Returns:
            How many norms were taken over.
        """
        known: dict[tuple[type, torch.Size], Rounding | None] = {}
        modules: Iterator[Any] = body.modules()
        taken = 0
        for module in modules:
            eps = _eps(module)
            if eps is None:
                continue
            kind = (type(module), module.weight.shape)
            if kind not in known:
                known[kind] = _rounding(module, eps)
            rounding = known[kind]
            if rounding is not None:
                module.forward = MethodType(self._forward(eps, rounding), module)
                taken += 1
        return taken

    @contextmanager
    def fused(self) -> Iterator[None]:
        """Inside, they are; without a gradient."""
        before, self._fused = self._fused, True
        try:
            yield
        finally:
            self._fused = before

    def _forward(self, eps: float, rounding: Rounding) -> Any:
        def forward(module: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not self._fused or args or kwargs or not _by_kernel(x, module.weight):
                return type(module).forward(module, x, *args, **kwargs)
            return _normed(x, module.weight, eps, rounding)

        return forward


def _eps(module: Any) -> float | None:
    """What is added to the mean square, if a module may be an RMS norm of rows."""
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or weight is None or weight.dim() != 1:
        return None
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return None if found is None else float(found)


@torch.no_grad()
def _rounding(module: Any, eps: float) -> Rounding | None:
    """The way that gives what a module gives, on random rows and weights; None: none does."""
    probe = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    width = len(probe.weight)
    probe.weight.copy_(0.8 + 0.2 * draw(width))
    x = (3 * draw(16, width)).to(probe.weight)
    truth = probe(x)
    for rounding in ROUNDINGS:
        own = _normed(x, probe.weight, eps, rounding)
        if own.dtype == truth.dtype and float((own == truth).double().mean()) >= _EQUAL:
            return rounding
    return None


def _normed(x: Tensor, weight: Tensor, eps: float, rounding: Rounding) -> Tensor:
    from grpo_dual.model import kernels  # triton: on CUDA only

    return kernels.norm_rows(x, weight, eps, twice=rounding.twice, shifted=rounding.shifted)


def _by_kernel(x: Tensor, weight: Tensor) -> bool:
    own = x.is_cuda and x.element_size() == 2 and x.dtype == weight.dtype
    return own and not torch.is_grad_enabled()
