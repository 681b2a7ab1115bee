"""Which of bf16's roundings a log-prob owes its error to, and which sampler and trainer differ by.

    python benchmarks/rounding.py --shape 1b

A random Llama without an adapter, computed in fp32, each rounding to bf16 put in by hand. Three
tables, each the root mean square and the largest difference of the log-probs of tokens drawn from
the model: with one kind of rounding alone against none; with all kinds in some layers alone against
none; and a trainer against a sampler that adds up in another order and rounds ``x w`` instead of
``w x / rms(x)`` (as the fused decode step does), in all layers or behind the first, with a residual
stream in bf16 or in fp32. Prints JSON.
"""

import argparse
import json
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import measure
import shapes

KINDS = {
    "norm": "what a norm gives to the next products",
    "product": "queries, keys, values, gate and up, as the products give them",
    "rotation": "queries and keys behind the rotation",
    "weights": "attention's weights",
    "attention": "what attention gives",
    "branch": "what a layer's two branches add to the residual stream",
    "gated": "the gated unit's output",
    "residual": "the residual stream",
    "final": "what the final norm gives to the head",
}
WIDE = frozenset(KINDS) - {"residual"}
"""The roundings of layers with an fp32 residual stream."""
DRAWS = 8
"""Tokens drawn at each place."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is rounded where."""

    kinds: Collection[str] = ()
    layers: Collection[int] | None = None
    """None: in all."""
    unrooted: Collection[int] = ()
    """Layers whose norms are rounded before they are divided by the root mean square."""
    reordered: bool = False
    """Products add up in another order."""

    def __call__(self, x: Tensor, kind: str, layer: int | None = None) -> Tensor:
        """``x``, rounded if that kind is, there."""
        here = layer is None or self.layers is None or layer in self.layers
        return x.bfloat16().float() if here and kind in self.kinds else x


class Model:
    """A random Llama, and tokens it is asked for."""

    def __init__(self, shape: str, tokens: int, device: torch.device) -> None:
        """Weights are bf16's, wherever they are kept."""
        self._model = shapes.model(shape, device)
        for parameter in self._model.parameters():
            parameter.copy_(parameter.bfloat16())
        self._generator = torch.Generator(device).manual_seed(0)
        config = self._model.config
        self.layers = int(config.num_hidden_layers)
        self._eps = float(config.rms_norm_eps)
        self._heads = (int(config.num_attention_heads), int(config.num_key_value_heads))
        self._ids = torch.randint(
            4, config.vocab_size, (tokens,), device=device, generator=self._generator
        )
        places = torch.arange(tokens, device=device)[None]
        probe = torch.empty(1, device=device)
        self._cos, self._sin = (t[0] for t in self._model.model.rotary_emb(probe, places))
        exact = self._logprobs(Rounding())
        self._drawn = torch.multinomial(exact.exp(), DRAWS, generator=self._generator)
        self._exact = exact.gather(1, self._drawn)

    def error(self, rounding: Rounding, other: Rounding | None = None) -> dict[str, float]:
        """Of log-probs: against none rounded, or against another rounding."""
        exact = self._exact if other is None else self._scored(other)
        gap = self._scored(rounding) - exact
        return {
            "rms": float(f"{gap.square().mean().sqrt():.3g}"),
            "largest": float(f"{gap.abs().max():.3g}"),
        }

    def _scored(self, rounding: Rounding) -> Tensor:
        return self._logprobs(rounding).gather(1, self._drawn)

    @torch.no_grad()
    def _logprobs(self, own: Rounding) -> Tensor:
        """[S, V]."""
        body = self._model.model
        x = F.embedding(self._ids, body.embed_tokens.weight).float()
        for n, layer in enumerate(body.layers):
            normed = self._norm(x, layer.input_layernorm, own, n)
            mixed = self._attend(normed, layer.self_attn, own, n)
            x = self._add(x, mixed, layer.self_attn.o_proj, own, n)
            normed = self._norm(x, layer.post_attention_layernorm, own, n)
            mlp: Any = layer.mlp
            gate, up = (
                own(self._product(normed, p, own), "product", n)
                for p in (mlp.gate_proj, mlp.up_proj)
            )
            x = self._add(x, own(F.silu(gate) * up, "gated", n), mlp.down_proj, own, n)
        root = torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps)
        states = own(x * root * body.norm.weight.float(), "final")
        return torch.log_softmax(states @ self._model.lm_head.weight.float().t(), -1)

    def _norm(self, x: Tensor, norm: Any, own: Rounding, n: int) -> Tensor:
        root = torch.rsqrt(x.square().mean(-1, keepdim=True) + self._eps)
        scaled = norm.weight.float()
        if n in own.unrooted:
            return own(x * scaled, "norm", n) * root
        return own(x * root * scaled, "norm", n)

    def _product(self, x: Tensor, linear: Any, own: Rounding) -> Tensor:
        weight: Tensor = linear.weight.float()
        if own.reordered:
            x, weight = x.flip(1), weight.flip(1)
        return x @ weight.t()

    def _add(self, x: Tensor, branch: Tensor, linear: Any, own: Rounding, n: int) -> Tensor:
        return own(x + own(self._product(branch, linear, own), "branch", n), "residual", n)

    def _attend(self, x: Tensor, attention: Any, own: Rounding, n: int) -> Tensor:
        heads, kv = self._heads
        names = ("q_proj", "k_proj", "v_proj")
        q, k, v = (
            own(self._product(x, getattr(attention, name), own), "product", n)
            .view(len(x), -1, attention.head_dim)
            .transpose(0, 1)
            for name in names
        )
        q, k = (own(self._turned(t), "rotation", n) for t in (q, k))
        k, v = (t.repeat_interleave(heads // kv, 0) for t in (k, v))
        future = torch.full((len(x), len(x)), -torch.inf, device=x.device).triu(1)
        scores = q @ k.transpose(1, 2) * attention.scaling + future
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        mixed = own(weights, "weights", n) @ v / weights.sum(-1, keepdim=True)
        return own(mixed.transpose(0, 1).flatten(1), "attention", n)

    def _turned(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, -1)
        return x * self._cos + torch.cat([-two, one], -1) * self._sin


def between(model: Model) -> dict[str, dict[str, float]]:
    """Trainer against sampler."""
    every = range(model.layers)
    found: dict[str, dict[str, float]] = {}
    for stream, kinds in (("bf16", frozenset(KINDS)), ("fp32", WIDE)):
        trainer = Rounding(kinds)
        for name, unrooted in (
            ("in no layer", ()), ("in all layers", every), ("behind the first layer", every[1:])
        ):  # fmt: skip
            sampler = Rounding(kinds, unrooted=unrooted, reordered=True)
            found[f"{stream} residual stream, x w {name}"] = model.error(trainer, sampler)
    return found


def ranges(layers: int) -> list[range]:
    """The first layer, the second, the next two, four, and so on."""
    ends = [0, *(2**n for n in range(layers.bit_length()) if 2**n < layers), layers]
    return [range(one, two) for one, two in pairwise(ends)]


def main() -> None:
    """The three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=shapes.SHAPES, default="tiny")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Model(args.shape, args.tokens, device)
    result = measure.origin() | {
        "shape": args.shape,
        "tokens": args.tokens,
        "one kind": {kind: model.error(Rounding((kind,))) for kind in KINDS},
        "all kinds": {
            "bf16 residual stream": model.error(Rounding(KINDS)),
            "fp32 residual stream": model.error(Rounding(WIDE)),
        },
        "fp32 residual stream, rounded in some layers": {
            f"{own.start} to {own.stop - 1}": model.error(Rounding(WIDE, layers=own))
            for own in ranges(model.layers)
        },
        "trainer against sampler": between(model),
    }
    print(json.dumps(result, indent=1))
    measure.write(args.json, result)


if __name__ == "__main__":
    main()
