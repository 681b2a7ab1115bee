"""Supervised warm-up of the adapter before RL: cross entropy on the completion and nothing else.

    L = 1/O sum_o (sum of CE over the step's supervised tokens of objective o) / (their number)

Each of the O objectives has its own denominator, over all micro-batches of the step, so that one
with long answers does not outweigh one with one-liners. What is supervised follows from
concatenated token ids (prompt with generation prompt, then completion with its end of turn), never
from text tokenised again: prompt, template and padding have no target at all (algorithms.md 8.3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from grpo_dual.config.schema import SftConfig
from grpo_dual.errors import PromptError
from grpo_dual.metrics.values import Mean
from grpo_dual.model.packing import PackedBatch, unpack
from grpo_dual.model.policy import Policy
from grpo_dual.train.batch import ROW_MULTIPLE
from grpo_dual.train.seed import step_seed
from grpo_dual.train.warming import PAD_ID, WarmUpOptimizer, draw_step
from grpo_dual.types import Prompt


class CompletionEncoder(Protocol):
    """What is asked of ``ChatEncoder`` here."""

    def encode_completion(self, text: str) -> tuple[int, ...]:
        """Ids of a reply and the end-of-turn id."""
        ...


@dataclass(frozen=True, slots=True)
class SftSample:
    """A prompt and the reply to be learnt."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """End of turn included: all of them are supervised."""


Draw = Callable[[int], Sequence[SftSample | None]]
"""The next n samples of one objective; None stands for one that was dropped."""


def sft_sample(
    prompt: Prompt, target: str, encoder: CompletionEncoder, *, max_new_tokens: int
) -> SftSample | None:
    """The sample that teaches ``target`` as the reply to ``prompt``.

    Args:
        prompt: Rendered, with its generation prompt.
        target: The reply's text.
        encoder: The chat format.
        max_new_tokens: The completion limit of RL, end of turn included.

    Returns:
        None when the reply is longer than the limit: cut, it would lose its end of turn and teach
        to run on.

    Raises:
        PromptError: The target is blank; learning it would be learning to say nothing.
    """
    if not target.strip():
        record = prompt.record
        raise PromptError(
            f"{record.record_id} ({record.origin}) has a blank target to learn from; mend its row "
            "or leave it out"
        )
    completion_ids = encoder.encode_completion(target)
    if len(completion_ids) > max_new_tokens:
        return None
    return SftSample(prompt.token_ids, completion_ids)


@dataclass(frozen=True, slots=True)
class SftStep:
    """What one step did."""

    step: int
    """From 1."""
    loss: float
    """Mean over objectives of their token means, nats; before the update."""
    losses: Mapping[str, Mean]
    """Per objective: cross entropy summed over its supervised tokens, and their number."""
    dropped: Mapping[str, int]
    """Per objective: targets over the limit or absent, drawn and replaced in this step."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    skipped: bool
    """Loss or gradient was not finite, and nothing was updated."""


@dataclass(frozen=True, slots=True)
class SftResult:
    """What the warm-up did."""

    steps: int
    skipped: int
    """Steps without an update."""
    tokens: Mapping[str, int]
    """Supervised tokens per objective."""
    dropped: Mapping[str, int]
    """Per objective: targets over the limit, or absent."""
    first_loss: float | None
    """None after 0 steps."""
    last_loss: float | None


def sft_batch(samples: Sequence[SftSample]) -> PackedBatch:
    """One row ``[prompt | completion | pad]`` per sample; its targets are the supervised tokens."""
    rows = [(sample.prompt_ids, (sample.completion_ids,)) for sample in samples]
    return unpack(rows, PAD_ID, multiple_of=ROW_MULTIPLE)


def accumulate_gradients(
    policy: Policy,
    samples: Mapping[str, Sequence[SftSample]],
    *,
    microbatch_size: int,
    head_chunk: int,
) -> dict[str, Mean]:
    """Add the gradient of the step's loss to the adapter's ``grad``.

    Micro-batches hold one objective and samples of like length; how many there are changes nothing
    but rounding, as every token is weighted by the whole step's counts.

    Args:
        policy: Its active adapter is trained.
        samples: The step's samples of every objective, none empty.
        microbatch_size: Samples in a forward pass.
        head_chunk: Tokens whose logits exist at the same time.

    Returns:
        Per objective: summed cross entropy in nats, and supervised tokens.
    """
    losses: dict[str, Mean] = {}
    for name, own in samples.items():
        tokens = sum(len(sample.completion_ids) for sample in own)
        # Like lengths side by side: less padding.
        ordered = sorted(own, key=lambda s: len(s.prompt_ids) + len(s.completion_ids), reverse=True)
        total = 0.0
        for start in range(0, len(ordered), microbatch_size):
            batch = sft_batch(ordered[start : start + microbatch_size]).to(policy.device)
            stats = policy.token_stats(batch, temperature=1.0, chunk=head_chunk)
            loss = -stats.logprobs.sum()
            (loss / (tokens * len(samples))).backward()
            total += loss.item()
        losses[name] = Mean(total, tokens)
    return losses


def run_sft(
    policy: Policy,
    draws: Mapping[str, Draw],
    config: SftConfig,
    *,
    seed: int,
    head_chunk: int,
    on_step: Callable[[SftStep], None],
) -> SftResult:
    """Train the adapter on supervised replies; with 0 steps nothing is drawn or touched.

    AdamW with RL's default averaging constants and gradient clip (those of OptimizerConfig), linear
    warm-up, then a constant rate. The adapter's dropout draws from a stream of its own: the same
    seed and samples give the same adapter, and the generators of the CPU and of the policy's device
    stay as they are.

    Args:
        policy: Its adapter is trained in place.
        draws: Where the samples of each objective come from; objectives are weighted equally.
        config: Steps, rate and sizes.
        seed: The run's seed.
        head_chunk: Tokens whose logits exist at the same time.
        on_step: Told of every step.

    Raises:
        ConfigError: The batch has fewer places than there are objectives.
        DataError: Nearly all targets of an objective are over the limit.
        NumericsError: Loss or gradient was not finite three times in a row.
    """
    history = _History(tuple(draws))
    if config.steps == 0:
        return history.result()
    optimizer = WarmUpOptimizer(
        policy,
        key="sft",
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
    )
    devices = [policy.device] if policy.device.type == "cuda" else []
    for step in range(1, config.steps + 1):
        samples, dropped = draw_step(draws, step, config.batch_size, key="sft", blame=_blame)
        optimizer.clear()
        with torch.random.fork_rng(devices=devices), policy.adapter_dropout():
            torch.manual_seed(step_seed(seed, step, "sft/dropout"))
            losses = accumulate_gradients(
                policy,
                samples,
                microbatch_size=config.microbatch_size,
                head_chunk=head_chunk,
            )
        loss = sum(mean.total / mean.count for mean in losses.values()) / len(losses)
        norm, skipped = optimizer.update(step, loss)
        rate = optimizer.learning_rate(step)
        done = SftStep(step, loss, losses, dropped, norm, rate, skipped)
        history.add(done)
        on_step(done)
        optimizer.refuse_divergence(step, loss, norm)
    return history.result()


def _blame(dropped: int, drawn: int) -> str:
    return (
        f"{dropped} of {drawn} supervised targets drawn for one step are absent, or longer than "
        "rollout.sampling.max_new_tokens; raise it, leave out the subset without answers or with "
        "long ones, or set sft.steps: 0"
    )


class _History:
    """Running totals of the warm-up."""

    def __init__(self, names: Sequence[str]) -> None:
        self._losses: list[float] = []
        self._skipped = 0
        self._tokens = dict.fromkeys(names, 0)
        self._dropped = dict.fromkeys(names, 0)

    def add(self, step: SftStep) -> None:
        self._losses.append(step.loss)
        self._skipped += step.skipped
        for name, mean in step.losses.items():
            self._tokens[name] += int(mean.count)
            self._dropped[name] += step.dropped[name]

    def result(self) -> SftResult:
        return SftResult(
            steps=len(self._losses),
            skipped=self._skipped,
            tokens=self._tokens,
            dropped=self._dropped,
            first_loss=self._losses[0] if self._losses else None,
            last_loss=self._losses[-1] if self._losses else None,
        )
