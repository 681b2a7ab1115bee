"""Completions from the trainer's own weights, token by token through the model's forward pass.

A loop of our own instead of ``generate``: each prompt is computed once for its K completions,
finished sequences leave the batch, logits come from the same fp32 head product that training scores
with, and the log-prob of each token is gathered as it is drawn, so nothing of size [time, batch,
vocabulary] exists. ``generate`` is the oracle in the tests. Everything random comes from torch's
global generator, which the caller seeds; on the CPU the same seed gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import NumericsError
from grpo_dual.model.policy import Policy
from grpo_dual.model.processors import keep_mask, penalise
from grpo_dual.rollouts.engine import Codec
from grpo_dual.rollouts.passes import choose_pass
from grpo_dual.types import Prompt, Rollout, RolloutGroup


class TransformersEngine:
    """The default engine: no second copy of the weights, so sampler and trainer cannot drift."""

    def __init__(
        self, policy: Policy, codec: Codec, sampling: SamplingConfig, *, max_sequences: int
    ) -> None:
        """Bind the engine to a policy.

        Args:
            policy: its live adapter is sampled from.
            codec: EOS ids, pad id and decoding; usually the ChatEncoder.
            sampling: the behaviour policy.
            max_sequences: sequences at once; more prompts run in waves.
        """
        self._policy = policy
        self._codec = codec
        self._sampling = sampling
        self._max_sequences = max_sequences

    def generate(
        self, prompts: Sequence[Prompt], k: int, *, greedy: bool = False
    ) -> list[RolloutGroup]:
        """See :class:`grpo_dual.rollouts.engine.Engine`."""
        # Prompts of like length share a wave, so that little is padded.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].token_ids))
        per_wave = max(1, self._max_sequences // k)
        groups: dict[int, RolloutGroup] = {}
        with self._policy.sampling():
            for start in range(0, len(order), per_wave):
                indices = order[start : start + per_wave]
                wave = _Wave(self._policy, self._codec, self._sampling, greedy)
                rollouts = wave.run([prompts[i].token_ids for i in indices], k)
                for place, i in enumerate(indices):
                    groups[i] = RolloutGroup(
                        prompts[i], tuple(rollouts[place * k : (place + 1) * k])
                    )
        return [groups[i] for i in range(len(prompts))]


@dataclass(slots=True)
class _Draw:
    """One step's outcome for the active sequences."""

    tokens: Tensor
    logprobs: Tensor
    kept: Tensor | None


class _Wave:
    """Sequences that run together."""

    def __init__(
        self, policy: Policy, codec: Codec, sampling: SamplingConfig, greedy: bool
    ) -> None:
        self._policy = policy
        self._codec = codec
        self._sampling = sampling
        self._greedy = greedy
        self._truncates = not greedy and (sampling.top_k > 0 or sampling.top_p < 1.0)
        self._penalises = not greedy and sampling.repetition_penalty != 1.0
        self._eos = torch.tensor(codec.eos_ids, device=policy.device)

    def run(self, prompts: Sequence[Sequence[int]], k: int) -> list[Rollout]:
        """Draw ``k`` completions of every prompt; rollouts in prompt order."""
        limit = self._sampling.max_new_tokens
        count = len(prompts) * k
        passes = choose_pass(self._policy, prompts, k, limit, self._codec.pad_id)
        logits = passes.prompts()
        seen = self._seen(prompts, logits, k) if self._penalises else None
        logits = logits.repeat_interleave(k, 0)
        active = torch.arange(count, device=logits.device)
        tokens = torch.full((count, limit), self._codec.pad_id, device=logits.device)
        logprobs = logits.new_zeros(count, limit)
        kept: list[list[tuple[int, ...]]] = [[] for _ in range(count)]
        for step in range(limit):
            draw = self._draw(logits, seen, step)
            tokens[active, step] = draw.tokens
            logprobs[active, step] = draw.logprobs
            if draw.kept is not None:
                _record_kept(kept, active, draw.kept)
            going = ~torch.isin(draw.tokens, self._eos)
            remaining = int(going.sum())
            if step == limit - 1 or remaining == 0:
                break
            fresh = draw.tokens
            if seen is not None:
                seen.scatter_(1, fresh[:, None], True)
            if remaining < len(active):
                where = going.nonzero().squeeze(1)
                active, fresh = active[where], fresh[where]
                seen = None if seen is None else seen[where]
            logits = passes.tokens(fresh, active, step)
        return self._collect(tokens.tolist(), logprobs.tolist(), kept)

    def _seen(self, prompts: Sequence[Sequence[int]], logits: Tensor, k: int) -> Tensor:
        """[P K, V] bool of the ids in each prompt."""
        seen = torch.zeros_like(logits, dtype=torch.bool)
        for row, prompt in zip(seen, prompts, strict=True):
            row[torch.tensor(prompt, device=row.device)] = True
        return seen.repeat_interleave(k, 0)

    def _draw(self, logits: Tensor, seen: Tensor | None, step: int) -> _Draw:
        if self._greedy:
            tokens = logits.argmax(-1)
            return _Draw(tokens, _chosen(torch.log_softmax(logits, -1), tokens), None)
        if seen is not None:
            logits = penalise(logits, seen, self._sampling.repetition_penalty)
        if step < self._sampling.min_new_tokens:
            logits = logits.index_fill(1, self._eos, -torch.inf)
        logits = logits / self._sampling.temperature
        kept = None
        if self._truncates:
            kept = keep_mask(logits, self._sampling.top_k, self._sampling.top_p)
            logits = logits.masked_fill(~kept, -torch.inf)
        logprobs = torch.log_softmax(logits, -1)
        if bool(logprobs.isnan().any()):
            raise NumericsError(
                "the model's logits became NaN or infinite while completions were drawn; the "
                "adapter has diverged: lower train.optimizer.learning_rate or resume from an "
                "earlier checkpoint"
            )
        tokens = _sample(logprobs.exp())
        return _Draw(tokens, _chosen(logprobs, tokens), kept)

    def _collect(
        self,
        tokens: list[list[int]],
        logprobs: list[list[float]],
        kept: list[list[tuple[int, ...]]],
    ) -> list[Rollout]:
        eos = set(self._codec.eos_ids)
        rollouts = []
        for row, row_logprobs, row_kept in zip(tokens, logprobs, kept, strict=True):
            end = next((i for i, token in enumerate(row) if token in eos), None)
            length = len(row) if end is None else end + 1
            ids = tuple(row[:length])
            rollouts.append(
                Rollout(
                    token_ids=ids,
                    logprobs=tuple(row_logprobs[:length]),
                    text=self._codec.decode(ids).strip(),
                    finished=end is not None,
                    kept_ids=tuple(row_kept) if self._truncates else None,
                )
            )
        return rollouts


def _sample(probabilities: Tensor) -> Tensor:
    """[B] ids drawn from the rows of [B, V], by torch's global generator."""
    if probabilities.is_cuda:
        return torch.multinomial(probabilities, 1).squeeze(1)
    # Inverse CDF with one number per row: on the CPU a fifth of the whole step faster. The factor
    # keeps the threshold below the total; ids of probability 0 have no width.
    cumulative = probabilities.cumsum(1, dtype=torch.float64)
    threshold = torch.rand(len(probabilities), 1, dtype=torch.float64) * (1 - 2**-40)
    return torch.searchsorted(cumulative, threshold * cumulative[:, -1:], right=True).squeeze(1)


def _chosen(logprobs: Tensor, tokens: Tensor) -> Tensor:
    return logprobs.gather(1, tokens[:, None]).squeeze(1)


def _record_kept(kept: list[list[tuple[int, ...]]], active: Tensor, mask: Tensor) -> None:
    """Append the ids that survived this step to each active sequence's list."""
    counts = mask.sum(1).tolist()
    ids = mask.nonzero()[:, 1].tolist()
    start = 0
    for sequence, count in zip(active.tolist(), counts, strict=True):
        kept[sequence].append(tuple(ids[start : start + count]))
        start += count
