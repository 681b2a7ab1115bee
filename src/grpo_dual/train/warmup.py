"""The warm-ups of a run, supervised and pairwise: every objective's own records and wording."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from grpo_dual.errors import ConfigError, PromptError
from grpo_dual.train.chosen import chosen_draws, chosen_rows, describe
from grpo_dual.train.drawing import Tell, draw_prompts
from grpo_dual.train.objectives import Objective
from grpo_dual.train.pairs import PairSample, PairStats, PairStep, pair_sample, run_pairs
from grpo_dual.train.progress import Progress
from grpo_dual.train.sft import Draw, SftSample, SftStep, run_sft, sft_sample
from grpo_dual.train.wiring import Parts
from grpo_dual.types import Pair, Prompt, Record

LINES = 10
"""A warm-up says how it goes about this often."""
LOOKED_AT = 64
"""Records of an objective among which a pair must be for it to have any."""


@runtime_checkable
class Paired(Protocol):
    """An objective whose records hold a reply to be preferred to another."""

    def pair(self, record: Record) -> Pair | None:
        """Accepted and rejected reply; None where the record lacks a side."""
        ...


def warm_up(parts: Parts, progress: Progress) -> None:
    """Teach the adapter the supervised replies, then to prefer them to the rejected ones.

    With ``sft.steps: 0`` and ``sft.pairs.steps: 0`` nothing happens.

    Raises:
        GrpoDualError: See ``run_sft``, ``run_pairs`` and ``paired_objectives``.
    """
    if parts.config.sft.steps:
        _supervised(parts, progress)
    if parts.config.sft.pairs.steps:
        _pairwise(parts, progress)


def paired_objectives(parts: Parts) -> list[str]:
    """Names of the objectives that have pairs, by a look at their next records.

    Their samplers are left as they were.

    Raises:
        ConfigError: ``sft.pairs`` is on and none has.
    """
    if not parts.config.sft.pairs.steps:
        return []
    names = [name for name, objective in parts.objectives.items() if _has_pairs(objective)]
    if not names:
        raise ConfigError(
            f"sft.pairs.steps is {parts.config.sft.pairs.steps}, but no objective has pairs: of "
            f"{', '.join(parts.objectives)} none of the next {LOOKED_AT} records holds both an "
            "accepted and a rejected reply (detection items and HaluEval's general rows do not). "
            "Set sft.pairs.steps: 0, or train on data with both sides."
        )
    return names


def _has_pairs(objective: Objective) -> bool:
    if not isinstance(objective, Paired):
        return False
    state = objective.state_dict()
    records = objective.draw(LOOKED_AT)
    objective.load_state_dict(state)
    return any(objective.pair(record) is not None for record in records)


def _supervised(parts: Parts, progress: Progress) -> None:
    config = parts.config.sft

    def tell(step: SftStep) -> None:
        if _worth_a_line(step.step, config.steps):
            losses = "  ".join(f"{name}: loss {m.value:.3f}" for name, m in step.losses.items())
            progress.note(f"sft {step.step}/{config.steps}  {losses}{_skipped(step.skipped)}")

    rows = chosen_rows(parts)
    if config.data is not None:
        for line in describe(rows, parts):
            progress.note(line)
        draws = chosen_draws(rows, parts)
    else:
        draws = {n: _draws(parts, o, progress.left_out) for n, o in parts.objectives.items()}
    result = run_sft(
        parts.policy,
        draws,
        config,
        seed=parts.config.train.seed,
        head_chunk=parts.config.loss.head_chunk,
        on_step=tell,
    )
    for name, count in result.dropped.items():
        if count:
            limit = parts.config.rollout.sampling.max_new_tokens
            why = f"over {limit} tokens, or absent"
            progress.note(f"note: {name}: {count} targets were left out of SFT: {why}")


def _pairwise(parts: Parts, progress: Progress) -> None:
    config = parts.config.sft.pairs
    names = paired_objectives(parts)
    for name in parts.objectives:
        if name not in names:
            progress.note(f"note: {name} has no pairs and is left out of the pairwise warm-up")
    dropped = dict.fromkeys(names, 0)

    def tell(step: PairStep) -> None:
        for name, count in step.dropped.items():
            dropped[name] += count
        if _worth_a_line(step.step, config.steps):
            own = "  ".join(f"{name}: {_shown(stats)}" for name, stats in step.stats.items())
            progress.note(f"pairs {step.step}/{config.steps}  {own}{_skipped(step.skipped)}")

    run_pairs(
        parts.policy,
        {name: _pair_draws(parts, parts.objectives[name], progress.left_out) for name in names},
        config,
        head_chunk=parts.config.loss.head_chunk,
        on_step=tell,
    )
    for name, count in dropped.items():
        if count:
            progress.note(f"note: {name}: {count} draws gave no pair and were replaced")


def _worth_a_line(step: int, steps: int) -> bool:
    return step % max(1, steps // LINES) == 0 or step == steps


def _skipped(skipped: bool) -> str:
    return "  (not finite: no update)" if skipped else ""


def _shown(stats: PairStats) -> str:
    return (
        f"loss {stats.loss.value:.3f} margin {stats.margin.value:+.3f} preferred "
        f"{stats.preferred.value:.0%}"
    )


def _draws(parts: Parts, objective: Objective, tell: Tell) -> Draw:
    limit = parts.config.rollout.sampling.max_new_tokens

    def sample(prompt: Prompt) -> SftSample | None:
        try:
            target = objective.target(prompt.record)
        except PromptError as refusal:  # e.g. a row of `general` that is hallucinated
            tell(str(refusal))
            return None
        return sft_sample(prompt, target, parts.encoder, max_new_tokens=limit)

    def draw(n: int) -> Sequence[SftSample | None]:
        return [sample(prompt) for prompt in draw_prompts(parts, objective, n, tell)]

    return draw


def _pair_draws(
    parts: Parts, objective: Objective, tell: Tell
) -> Callable[[int], Sequence[PairSample | None]]:
    assert isinstance(objective, Paired)
    own: Paired = objective
    limit = parts.config.rollout.sampling.max_new_tokens

    def draw(n: int) -> Sequence[PairSample | None]:
        return [
            pair_sample(prompt, own.pair(prompt.record), parts.encoder, max_new_tokens=limit)
            for prompt in draw_prompts(parts, objective, n, tell)
        ]

    return draw
