"""Tokens from logits, on the device and without a look at the host, so that a graph can hold it.

The distribution is that of :mod:`grpo_dual.model.processors`, in the same order: repetition
penalty, forbidden EOS, temperature, top-k, top-p. Top-p is applied to what top-k has left, which is
never more than ``top_k`` ids, so nothing of the vocabulary's size is sorted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.model.processors import penalise


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token of each row."""

    tokens: Tensor
    """[b] int64."""
    logprobs: Tensor
    """[b] under the distribution that was drawn from."""
    kept_ids: Tensor | None
    """[b, top_k] ids that survived, the likeliest first; None when nothing was truncated."""
    kept: Tensor | None
    """[b] how many of them."""


class Drawer:
    """Draws as a sampling configuration says."""

    def __init__(
        self, sampling: SamplingConfig, eos_ids: tuple[int, ...], device: torch.device, *,
        greedy: bool,
    ) -> None:  # fmt: skip
        """``greedy``: the yardstick's decode, without penalty, forbidden EOS or truncation."""
        self._sampling = sampling
        self.greedy = greedy
        self._eos = torch.tensor(eos_ids, device=device)
        self.truncates = not greedy and sampling.top_k > 0
        self.penalises = not greedy and sampling.repetition_penalty != 1.0

    def draw(self, logits: Tensor, seen: Tensor | None, column: Tensor) -> Drawn:
        """One token of each row.

        Args:
            logits: [b, V] fp32 of the model.
            seen: [b, V] bool, ids in prompt and completion so far; None without a penalty.
            column: [1] place of the token in its completion.
        """
        if self.greedy:
            tokens = logits.argmax(-1)
            return Drawn(tokens, _chosen(torch.log_softmax(logits, -1), tokens), None, None)
        s = self._sampling
        if seen is not None:
            logits = penalise(logits, seen, s.repetition_penalty)
        if s.min_new_tokens:
            forbidden = torch.zeros_like(logits, dtype=torch.bool)
            forbidden[:, self._eos] = True
            logits = logits.masked_fill(forbidden & (column < s.min_new_tokens), -torch.inf)
        if not self.truncates:
            return Drawn(*_drawn(logits, s.temperature), None, None)
        values, ids = torch.topk(logits / s.temperature, min(s.top_k, logits.shape[-1]))
        kept = torch.isfinite(values)
        if s.top_p < 1.0:
            # Dropped: the ids whose probability and that of all less likely ones is at most 1 - p.
            tail = values.softmax(-1).flip(-1).cumsum(-1).flip(-1)
            kept &= tail > 1.0 - s.top_p
            kept[:, 0] = True
        logprobs = torch.log_softmax(values.masked_fill(~kept, -torch.inf), -1)
        place = _sample(logprobs)
        tokens = ids.gather(1, place[:, None]).squeeze(1)
        return Drawn(tokens, _chosen(logprobs, place), ids, kept.sum(-1))

    def ends(self, tokens: Tensor) -> Tensor:
        """[b] bool: the token ends its completion."""
        return torch.isin(tokens, self._eos)


def _chosen(logprobs: Tensor, tokens: Tensor) -> Tensor:
    return logprobs.gather(1, tokens[:, None]).squeeze(1)


def _drawn(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """[b] tokens drawn from the rows of softmax(logits / T), and their log-probs."""
    if logits.is_cuda:
        from grpo_dual.rollouts import race_kernels  # triton: on CUDA only

        noise = torch.empty_like(logits).exponential_()
        return race_kernels.drawn(logits, noise, temperature)
    logprobs = torch.log_softmax(logits / temperature, -1)
    tokens = _sample(logprobs)
    return tokens, _chosen(logprobs, tokens)


def _sample(logprobs: Tensor) -> Tensor:
    """[b] places drawn from the rows of [b, n], by torch's global generator.

    The exponential race (Gumbel's trick in other words): argmax of p / e with e ~ Exp(1) is
    distributed as p. ``torch.multinomial`` looks at the host, which a graph may not.
    """
    race = torch.empty_like(logprobs).exponential_()
    return (logprobs.exp() / race).argmax(-1)
