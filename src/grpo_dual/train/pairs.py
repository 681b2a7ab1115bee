"""Pairwise warm-up of the adapter: the accepted reply is to be preferred to the rejected one.

    L = 1/O sum_o 1/B_o sum_pairs [-log sigmoid(margin) - nll log pi(y+) / |y+|]

over O objectives of B_o pairs each in a step; the loss itself is ``loss/preference.py``. Both
replies stand in one packed row ``[prompt | y+ | y-]``, so the prompt is computed once, and the head
runs over their tokens only. The reference is RL's own (``model.reference``): the adapter as it is
when the warm-up begins, or the bare base model, in the same weights; each pair meets it once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_dual.config.schema import PairsConfig
from grpo_dual.loss.preference import preference_loss
from grpo_dual.loss.reduce import sequence_sums
from grpo_dual.metrics.values import Fraction, Mean
from grpo_dual.model.packing import PackedBatch, flatten, pack
from grpo_dual.model.policy import Policy
from grpo_dual.train.batch import ROW_MULTIPLE
from grpo_dual.train.sft import CompletionEncoder
from grpo_dual.train.warming import PAD_ID, Draws, WarmUpOptimizer, draw_step
from grpo_dual.types import Pair, Prompt


@dataclass(frozen=True, slots=True)
class PairSample:
    """A prompt and two replies to it."""

    prompt_ids: tuple[int, ...]
    accepted_ids: tuple[int, ...]
    """End of turn included."""
    rejected_ids: tuple[int, ...]
    """End of turn included."""

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.accepted_ids) + len(self.rejected_ids)


def pair_sample(
    prompt: Prompt, pair: Pair | None, encoder: CompletionEncoder, *, max_new_tokens: int
) -> PairSample | None:
    """The sample that teaches to prefer one reply to ``prompt`` to another.

    Args:
        prompt: Rendered, with its generation prompt.
        pair: What its record holds.
        encoder: The chat format.
        max_new_tokens: The completion limit of RL, end of turn included.

    Returns:
        None where there is no pair, a reply is longer than the limit (the policy could not say it,
        and cut it would have no end of turn), or the tokenizer makes both the same ids.
    """
    if pair is None:
        return None
    accepted = encoder.encode_completion(pair.accepted)
    rejected = encoder.encode_completion(pair.rejected)
    if max(len(accepted), len(rejected)) > max_new_tokens or accepted == rejected:
        return None
    return PairSample(prompt.token_ids, accepted, rejected)


def pair_batch(samples: Sequence[PairSample], *, flat: bool = False) -> PackedBatch:
    """One row ``[prompt | y+ | y- | pad]`` per sample, or one flat row of all."""
    rows = [(s.prompt_ids, (s.accepted_ids, s.rejected_ids)) for s in samples]
    return flatten(rows) if flat else pack(rows, PAD_ID, multiple_of=ROW_MULTIPLE)


def pair_logprobs(policy: Policy, samples: Sequence[PairSample], *, head_chunk: int) -> Tensor:
    """[P, 2] log pi(y+) and log pi(y-) under the active adapter, nats, summed over tokens.

    Args:
        policy: In the state that is asked: with its adapter, or inside ``policy.reference()``.
        samples: P pairs, one forward pass.
        head_chunk: Tokens whose logits exist at the same time.
    """
    batch = pair_batch(samples, flat=policy.flat).to(policy.device)
    stats = policy.token_stats(batch, temperature=1.0, chunk=head_chunk)
    sums = sequence_sums(stats.logprobs, batch.sequence_index, sequences=batch.num_sequences)
    return sums.view(-1, 2)


class PairReference:
    """Log-probs of pairs under the reference, each computed once."""

    def __init__(self, policy: Policy, *, head_chunk: int) -> None:
        """Of the reference as it is now; it must not be frozen again while this is used."""
        self._policy = policy
        self._head_chunk = head_chunk
        self._known: dict[PairSample, Tensor] = {}

    def add(self, batches: Sequence[Sequence[PairSample]]) -> None:
        """Compute what is not known yet, one forward pass a batch."""
        with self._policy.inference(), self._policy.reference():
            for batch in batches:
                fresh = list(dict.fromkeys(s for s in batch if s not in self._known))
                if fresh:
                    logprobs = pair_logprobs(self._policy, fresh, head_chunk=self._head_chunk)
                    self._known.update(zip(fresh, logprobs, strict=True))

    def of(self, samples: Sequence[PairSample]) -> Tensor:
        """[P, 2] log ref(y+) and log ref(y-) of pairs that were added."""
        return torch.stack([self._known[sample] for sample in samples])


@dataclass(frozen=True, slots=True)
class PairStats:
    """What a step measured on one objective's pairs, before its update."""

    loss: Mean
    """Over pairs."""
    dpo: Mean
    """Its preference term; log 2 = .693 where policy and reference agree."""
    nll: Mean
    """Negative log-likelihood of the accepted reply per token, nats, mean over pairs."""
    margin: Mean
    """beta x difference of the log-ratios."""
    preferred: Fraction
    """Pairs with a margin above 0."""

    def __add__(self, other: "PairStats") -> "PairStats":
        return PairStats(
            self.loss + other.loss,
            self.dpo + other.dpo,
            self.nll + other.nll,
            self.margin + other.margin,
            self.preferred + other.preferred,
        )


NO_PAIRS = PairStats(Mean(), Mean(), Mean(), Mean(), Fraction())
"""Of nothing; adds nothing."""


@dataclass(frozen=True, slots=True)
class PairStep:
    """What one step did."""

    step: int
    """From 1."""
    loss: float
    """Mean over objectives; before the update."""
    stats: Mapping[str, PairStats]
    dropped: Mapping[str, int]
    """Per objective: draws that gave no pair, replaced in this step."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    skipped: bool
    """Loss or gradient was not finite, and nothing was updated."""


def accumulate_pair_gradients(
    policy: Policy,
    samples: Mapping[str, Sequence[PairSample]],
    reference: PairReference,
    config: PairsConfig,
    *,
    head_chunk: int,
) -> dict[str, PairStats]:
    """Add the gradient of the step's loss to the adapter's ``grad``.

    Micro-batches hold one objective and samples of like length; how many there are changes nothing
    but rounding, as every pair is weighted by the whole step's counts.

    Args:
        policy: Its active adapter is trained.
        samples: The step's pairs of every objective, none empty.
        reference: Gets the pairs it does not know yet.
        config: Loss and size of micro-batches.
        head_chunk: Tokens whose logits exist at the same time.

    Returns:
        What was measured, by objective.
    """
    passes = {name: _passes(own, config.microbatch_size) for name, own in samples.items()}
    reference.add([batch for own in passes.values() for batch in own])
    stats = dict.fromkeys(samples, NO_PAIRS)
    for name, own in passes.items():
        share = len(samples[name]) * len(samples)
        for batch in own:
            found = _backward(policy, batch, reference, config, head_chunk=head_chunk, share=share)
            stats[name] += found
    return stats


def _passes(samples: Sequence[PairSample], size: int) -> list[list[PairSample]]:
    # Like lengths side by side: less padding.
    ordered = sorted(samples, key=len, reverse=True)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _backward(
    policy: Policy,
    batch: Sequence[PairSample],
    reference: PairReference,
    config: PairsConfig,
    *,
    head_chunk: int,
    share: int,
) -> PairStats:
    logprobs = pair_logprobs(policy, batch, head_chunk=head_chunk)
    ref = reference.of(batch)
    parts = preference_loss(
        logprobs[:, 0],
        logprobs[:, 1],
        ref[:, 0],
        ref[:, 1],
        torch.tensor([len(s.accepted_ids) for s in batch], device=policy.device),
        torch.tensor([len(s.rejected_ids) for s in batch], device=policy.device),
        beta=config.beta,
        nll=config.nll,
        length_normalized=config.length_normalized,
    )
    (parts.loss_P.sum() / share).backward()
    return PairStats(
        *(Mean(part.sum().item(), len(batch)) for part in parts),
        preferred=Fraction(int((parts.margin_P > 0).sum()), len(batch)),
    )


def run_pairs(
    policy: Policy,
    draws: Draws[PairSample],
    config: PairsConfig,
    *,
    head_chunk: int,
    on_step: Callable[[PairStep], None],
) -> None:
    """Train the adapter on pairs; with 0 steps nothing is drawn or touched.

    The adapter as it is becomes the reference first (with ``model.reference: adapter``). Optimiser
    as for SFT; no dropout, so that a margin is the policy's move away from the reference and not
    noise, and hence nothing random: the same samples give the same adapter.

    Args:
        policy: Its adapter is trained in place.
        draws: Where the pairs of each objective come from; objectives are weighted equally.
        config: Steps, loss, rate and sizes.
        head_chunk: Tokens whose logits exist at the same time.
        on_step: Told of every step.

    Raises:
        ConfigError: The batch has fewer places than there are objectives.
        DataError: Nearly all draws of an objective give no pair.
        NumericsError: Loss or gradient was not finite three times in a row.
    """
    if config.steps == 0:
        return
    policy.freeze_reference()
    reference = PairReference(policy, head_chunk=head_chunk)
    optimizer = WarmUpOptimizer(
        policy,
        key="sft.pairs",
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
    )
    for step in range(1, config.steps + 1):
        samples, dropped = draw_step(draws, step, config.batch_size, key="sft.pairs", blame=_blame)
        optimizer.clear()
        stats = accumulate_pair_gradients(policy, samples, reference, config, head_chunk=head_chunk)
        loss = sum(own.loss.total / own.loss.count for own in stats.values()) / len(stats)
        norm, skipped = optimizer.update(step, loss)
        rate = optimizer.learning_rate(step)
        on_step(PairStep(step, loss, stats, dropped, norm, rate, skipped))
        optimizer.refuse_divergence(step, loss, norm)


def _blame(dropped: int, drawn: int) -> str:
    return (
        f"{dropped} of {drawn} draws for one step gave no pair: a side is missing, longer than "
        "rollout.sampling.max_new_tokens, or the same in tokens; raise it, leave out the subset "
        "with the long answers, or set sft.pairs.steps: 0"
    )
