"""Linear layers of one input as one product, their adapters beside it.

    y = x W^T + (x (s A)^T) B^T,   W, A stacked and B on a block diagonal

In the model's dtype; gradients of A and B in fp32, in which they are kept (LoRA, 2106.09685). On
CUDA, where launching costs more than arithmetic, the zeros beside the diagonal are multiplied, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_dual.model.family import UnsupportedError, active_adapter, base_of, side_by_side


@dataclass(frozen=True, slots=True)
class _Stage:
    """The adapters of some layers of one input, in the model's dtype."""

    down: Tensor
    """[sum of r, in] A of each, times its scale."""
    up: Tensor
    """[sum of out, sum of r] B of each on the diagonal, zeros elsewhere."""
    spans: tuple[tuple[slice, slice, float], ...]
    """Of each its rows, its ranks and its scale."""


class Stages:
    """The adapters of a model's joined layers, staged together: a few launches, not some hundreds.

    What is staged for a training pass is never written to again, since a backward pass may still
    read it. What is held for captured graphs, which read always the same places, is.
    """

    def __init__(self) -> None:
        """Of no layers yet."""
        self._layers: list[Joined] = []
        self._holding = False

    def add(self, layer: "Joined") -> None:
        """Stage a layer's adapters with the others'."""
        self._layers.append(layer)

    @property
    def holding(self) -> bool:
        """Are the held places read?"""
        return self._holding

    def renew(self) -> None:
        """Stage what is active now."""
        _fill([place for layer in self._layers for place in layer.new_stage()])

    def hold(self) -> None:
        """Stage what is active now in places that stay from one time to the next."""
        _fill([place for layer in self._layers for place in layer.held_stage()])

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, what :meth:`hold` has staged is read."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False


@torch.no_grad()
def _fill(filled: list[tuple[Tensor, float, Tensor]]) -> None:
    """Write parameters, times their factors, into their places."""
    ops: Any = torch.ops.aten
    # Only places without gaps are written by one kernel.
    for whole in (True, False):
        own = [f for f in filled if f[2].is_contiguous() is whole]
        if own:
            sources, scales, places = map(list, zip(*own, strict=True))
            ops._foreach_copy_(places, ops._foreach_mul(sources, scales))


class Joined:
    """Linear layers that read the same input, as one product."""

    def __init__(self, *modules: Any, stages: Stages | None = None, spare: int = 0) -> None:
        """Lay their weights side by side.

        Args:
            modules: The layers.
            stages: Of the model; None: these are staged alone.
            spare: Rows to be left below the weights of several, which rollouts will want.

        Raises:
            UnsupportedError: One is no plain linear layer.
        """
        self._modules = modules
        bases = [base_of(module) for module in modules]
        self._bases = bases
        self._together: Tensor | None = None
        if bases[1:]:
            weights = [base.weight for base in bases]
            whole = side_by_side(weights, spare)
            # With a version of its own: what rollouts stage below must not count as a change of it.
            self._together = whole[: sum(map(len, weights))].data
        biases = [base.bias for base in bases if base.bias is not None]
        if len(biases) not in (0, len(bases)):
            raise UnsupportedError("some of the layers of one input have a bias, others have none")
        self.bias: Tensor | None = torch.cat([b.data for b in biases]) if biases else None
        self._outs = [base.weight.shape[0] for base in bases]
        self._staged: dict[tuple[str, ...], tuple[object, _Stage]] = {}
        self._held: dict[tuple[str, ...], _Stage] = {}
        ends = [0, *accumulate(self._outs)]
        self._rows = {id(m): slice(*own) for m, own in zip(modules, pairwise(ends), strict=True)}
        self._stages = stages or Stages()
        self._stages.add(self)

    @property
    def weight(self) -> Tensor:
        """[sum of out, in]; of one layer its own, wherever that has been moved since."""
        return self._bases[0].weight.data if self._together is None else self._together

    def __call__(self, x: Tensor) -> Tensor:
        """[S, sum of out] of [S, in], the active adapters' products added."""
        acting = self._acting()
        if not acting:
            return F.linear(x, self.weight, self.bias)
        parameters = _parameters(acting)
        stage = self._stage(acting, parameters)
        if not torch.is_grad_enabled():
            return _product(x, self.weight, self.bias, stage)[0]
        y: Tensor = _Product.apply(x, self.weight, self.bias, stage, *parameters)  # pyright: ignore[reportUnknownMemberType, reportAssignmentType]
        return y

    def _acting(self) -> list[tuple[Any, str]]:
        return [(m, name) for m in self._modules if (name := active_adapter(m)) is not None]

    def _stage(self, acting: list[tuple[Any, str]], parameters: list[Tensor]) -> _Stage:
        """The adapters as they are now, staged once as long as they do not change.

        Each has its own stage, so that the reference's, which never changes, is not made anew every
        step, and the policy's not once more behind it.
        """
        names = tuple(name for _, name in acting)
        if self._stages.holding:
            return self._held[names]
        kept = self._staged.get(names)
        if kept is None or kept[0] != _state(parameters):
            self._stages.renew()
            kept = self._staged[names]
        return kept[1]

    def new_stage(self) -> list[tuple[Tensor, float, Tensor]]:
        """An empty stage for what is active, and how it is filled.

        Returns:
            For each adapter's A and B the parameter, its factor, and its place.
        """
        acting = self._acting()
        if not acting:
            return []
        stage = self._empty(acting)
        names = tuple(name for _, name in acting)
        self._staged[names] = (_state(_parameters(acting)), stage)
        return _places(acting, stage)

    def held_stage(self) -> list[tuple[Tensor, float, Tensor]]:
        """The stage that stays for what is active, and how it is filled, as for a new one."""
        acting = self._acting()
        if not acting:
            return []
        names = tuple(name for _, name in acting)
        if names not in self._held:
            self._held[names] = self._empty(acting)
        return _places(acting, self._held[names])

    def _empty(self, acting: list[tuple[Any, str]]) -> _Stage:
        parameters = _parameters(acting)
        kind = {"dtype": self.weight.dtype, "device": self.weight.device}
        ranks = [len(a) for a in parameters[::2]]
        down = torch.empty(sum(ranks), parameters[0].shape[1], **kind)
        up = torch.zeros(sum(self._outs), sum(ranks), **kind)
        columns = [slice(*own) for own in pairwise([0, *accumulate(ranks)])]
        spans = [
            (self._rows[id(module)], own, float(module.scaling[name]))
            for (module, name), own in zip(acting, columns, strict=True)
        ]
        return _Stage(down, up, tuple(spans))


def _places(acting: list[tuple[Any, str]], stage: _Stage) -> list[tuple[Tensor, float, Tensor]]:
    """See :meth:`Joined.new_stage`."""
    parameters = _parameters(acting)
    filled: list[tuple[Tensor, float, Tensor]] = []
    pairs = zip(stage.spans, parameters[::2], parameters[1::2], strict=True)
    for (rows, own, scale), a, b in pairs:
        filled += [(a, scale, stage.down[own]), (b, 1.0, stage.up[rows, own])]
    return filled


def _parameters(acting: list[tuple[Any, str]]) -> list[Tensor]:
    return [p for m, name in acting for p in (m.lora_A[name].weight, m.lora_B[name].weight)]


def _state(parameters: list[Tensor]) -> object:
    """Is another once a parameter has been written to."""
    # A version grows with every write in place but a fused optimiser's: train/optimizer.py.
    return [(p.data_ptr(), p._version) for p in parameters]  # pyright: ignore[reportPrivateUsage]


class _Product(torch.autograd.Function):
    """``y = x W^T + (x A^T) B^T``; W is frozen and gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stage: _Stage, *given: Tensor
    ) -> Tensor:
        del given  # they are staged; given so that they get a gradient
        y, low = _product(x, weight, bias, stage)
        ctx.save_for_backward(x, weight, low)
        ctx.stage = stage
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, low = ctx.saved_tensors
        stage: _Stage = ctx.stage
        spans = [(rows, ranks) for rows, ranks, _ in stage.spans]
        if grad.is_cuda:
            g_low, g_up = grad @ stage.up, _wide(grad.t(), low)
            g_ups = [g_up[span] for span in spans]
        else:
            g_low = torch.cat([grad[:, rows] @ stage.up[rows, ranks] for rows, ranks in spans], 1)
            g_ups = [_wide(grad[:, rows].t(), low[:, ranks]) for rows, ranks in spans]
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = grad @ weight
            g_x.addmm_(g_low, stage.down)
        g_down = _wide(g_low.t(), x)
        parts: list[Tensor] = []
        for (_, ranks, scale), g_up in zip(stage.spans, g_ups, strict=True):
            parts += [g_down[ranks] * scale, g_up]
        return (g_x, None, None, None, *parts)


def _product(
    x: Tensor, weight: Tensor, bias: Tensor | None, stage: _Stage
) -> tuple[Tensor, Tensor]:
    """[S, sum of out] the product, and [S, sum of r] ``x A^T``."""
    low = x @ stage.down.t()
    y = F.linear(x, weight, bias)
    if x.is_cuda:
        y.addmm_(low, stage.up.t())
    else:
        for rows, ranks, _ in stage.spans:
            y[:, rows].addmm_(low[:, ranks], stage.up[rows, ranks].t())
    return y, low


def _wide(one: Tensor, two: Tensor) -> Tensor:
    """The product, of 16-bit matrices in fp32, in which adapters are kept."""
    if one.is_cuda and one.element_size() == 2:
        product: Any = torch.mm
        return product(one, two, out_dtype=torch.float32)
    found = one @ two
    return found.float() if found.element_size() == 2 else found
