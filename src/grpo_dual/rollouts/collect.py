"""Prompts to groups, with what an engine must hold to checked once, whoever the engine is."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.errors import NumericsError
from grpo_dual.rollouts.engine import Engine
from grpo_dual.types import Prompt, Rollout, RolloutGroup


@dataclass(frozen=True, slots=True)
class Collection:
    """The groups of one step and what drawing them took."""

    groups: tuple[RolloutGroup, ...]
    seconds: float
    tokens: int
    """Completion tokens drawn."""


def collect(engine: Engine, prompts: Sequence[Prompt], k: int) -> Collection:
    """Draw ``k`` completions of every prompt and check them.

    Args:
        engine: draws from the current policy.
        prompts: in any order; objectives may be mixed.
        k: completions per prompt.

    Returns:
        Groups in the order of the prompts.

    Raises:
        NumericsError: the engine returned an empty or unscored completion, or a log-prob above zero
            or not finite.
    """
    started = time.perf_counter()
    groups = engine.generate(prompts, k)
    seconds = time.perf_counter() - started
    if len(groups) != len(prompts):
        raise NumericsError(
            f"the rollout engine returned {len(groups)} groups for {len(prompts)} prompts"
        )
    for prompt, group in zip(prompts, groups, strict=True):
        name = prompt.record.record_id
        if group.prompt is not prompt or len(group.rollouts) != k:
            raise NumericsError(
                f"the rollout engine returned {len(group.rollouts)} completions for {name}, not "
                f"{k} of it"
            )
        for rollout in group.rollouts:
            _check(name, rollout)
    tokens = sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)
    return Collection(tuple(groups), seconds, tokens)


def _check(name: str, rollout: Rollout) -> None:
    if not rollout.token_ids or len(rollout.token_ids) != len(rollout.logprobs):
        raise NumericsError(
            f"a completion of {name} has {len(rollout.token_ids)} tokens and "
            f"{len(rollout.logprobs)} log-probs; each token needs one, and there is at least one "
            "token"
        )
    # A rounding above zero is possible for a token of probability one.
    if not all(math.isfinite(value) and value <= 1e-5 for value in rollout.logprobs):
        raise NumericsError(
            f"a completion of {name} was drawn with log-probs that are not finite and <= 0; the "
            "policy has diverged"
        )
