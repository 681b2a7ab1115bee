"""The frozen probe: what the policy itself says to a fixed set of held-out prompts.

Training's own columns move with what is sampled: forced tokens, truncation and penalties change the
completions, and with them the entropy of the tokens that are looked at. Here the decoding is always
plain (temperature 1, no shortest length, no truncation, no penalty), and prompts and random numbers
are the same at every step, so that a change is the policy's. H0 is the entropy before step 1.
"""

import random

import torch

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.diagnosis.template import template_rate
from grpo_dual.evaluation.evasion import is_evasive
from grpo_dual.metrics.texts import distinct_2
from grpo_dual.metrics.values import Fraction, Mean
from grpo_dual.rollouts.collect import collect
from grpo_dual.rollouts.engine import Engine
from grpo_dual.rollouts.transformers import TransformersEngine
from grpo_dual.train.drawing import Tell, fitting
from grpo_dual.train.learning import limit_of, pack
from grpo_dual.train.objectives import Objective
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts
from grpo_dual.types import Record, RolloutGroup

Probed = dict[str, float | int | dict[str, float | int | str | None] | None]
"""What one objective's probe measured; docs/metrics.md has the keys."""


def probe_due(parts: Parts, step: int) -> bool:
    """Every ``eval.probe.every`` steps, before the first and after the last; never if that is 0."""
    every = parts.config.eval.probe.every
    return every > 0 and (step % every == 0 or step == parts.config.train.steps)


def run_probe(parts: Parts, tell: Tell) -> dict[str, Probed]:
    """One plain completion of every probe prompt, and what it tells of the policy as it is.

    Args:
        parts: The run.
        tell: Hears which records are over the prompt limit; they are left out, every time the same.

    Returns:
        By objective; those without held-out items are left out.

    Raises:
        NumericsError: The policy has diverged.
    """
    plain = SamplingConfig(max_new_tokens=parts.config.rollout.sampling.max_new_tokens)
    engine = _plain_engine(parts, plain)
    results: dict[str, Probed] = {}
    for name, objective in parts.objectives.items():
        torch.manual_seed(step_seed(parts.config.train.seed, 0, f"probe/{name}"))
        prompts = fitting(parts, objective, _records(parts, objective), tell)
        if prompts:
            groups = collect(engine, prompts, 1).groups
            results[name] = {
                "entropy": _entropy(parts, name, groups, plain).value,
                **_texts(objective, groups),
            }
    return results


def _plain_engine(parts: Parts, plain: SamplingConfig) -> Engine:
    """The run's own where it samples plainly; else one that needs no memory of its own."""
    if parts.config.rollout.sampling == plain:
        return parts.engine
    return TransformersEngine(
        parts.policy, parts.encoder, plain, max_sequences=parts.config.rollout.max_sequences
    )


def _records(parts: Parts, objective: Objective) -> list[Record]:
    """The probe set: a sample of the held-out records in their order, the same at every step."""
    held_out = list(objective.eval_records)
    seed = step_seed(parts.config.train.seed, 0, f"probe records/{objective.name}")
    count = min(len(held_out), parts.config.eval.probe.prompts)
    chosen = random.Random(seed).sample(range(len(held_out)), count)
    return [held_out[i] for i in sorted(chosen)]


def _entropy(
    parts: Parts, name: str, groups: tuple[RolloutGroup, ...], plain: SamplingConfig
) -> Mean:
    """Exact entropy over the whole vocabulary, mean over completion tokens, nats/token."""
    packed = pack(parts, name, groups, limit_of(parts), plain)
    total, tokens = 0.0, 0
    with parts.policy.inference():
        for micro in packed.micro:
            stats = parts.policy.token_stats(
                micro.batch, temperature=1.0, chunk=parts.config.loss.head_chunk
            )
            total += float(stats.entropy.double().sum())
            tokens += stats.entropy.numel()
    return Mean(total, tokens)


def _texts(objective: Objective, groups: tuple[RolloutGroup, ...]) -> Probed:
    records = [group.prompt.record for group in groups]
    rollouts = [group.rollouts[0] for group in groups]
    texts = [rollout.text for rollout in rollouts]
    answerable = [
        (record, text)
        for record, text in zip(records, texts, strict=True)
        if objective.answerable(record)
    ]
    return {
        "template_rate": template_rate(texts, records).value,
        "distinct_2": distinct_2(texts).value,
        "evasion_answerable": Fraction.of(is_evasive(text) for _, text in answerable).value,
        "gen_len_mean": Mean.of(len(r.token_ids) for r in rollouts).value,
        "completion_trunc_frac": Fraction.of(not r.finished for r in rollouts).value,
        "n": len(texts),
        "n_answerable": len(answerable),
        "scores": objective.evaluate(records, texts),
    }
