"""Completions outside of training: n of each prompt by the run's engine, scored by its rewards."""

from collections.abc import Sequence

import torch

from grpo_dual.rollouts.collect import collect
from grpo_dual.train.drawing import Tell, fitting
from grpo_dual.train.objectives import Objective, begin_scoring
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts
from grpo_dual.types import Prompt, RolloutGroup, Score

_FRUITLESS = 20
"""Draws in a row without a new record, after which there are no more."""


def distinct_prompts(parts: Parts, objective: Objective, count: int, tell: Tell) -> list[Prompt]:
    """Prompts of the objective's next ``count`` different records, in training's own mixture.

    Args:
        parts: Of the run.
        objective: Whose sampler is moved on.
        count: Of prompts.
        tell: Hears which records do not fit.

    Returns:
        Fewer where there are no more records that fit.
    """
    prompts: list[Prompt] = []
    seen: set[str] = set()
    fruitless = 0
    while len(prompts) < count and fruitless < _FRUITLESS:
        drawn = objective.draw(count - len(prompts))
        fresh = {r.record_id: r for r in drawn if r.record_id not in seen}
        seen |= fresh.keys()
        fruitless = 0 if fresh else fruitless + 1
        prompts += fitting(parts, objective, list(fresh.values()), tell)
    return prompts


def draw_scored(
    parts: Parts, objective: Objective, prompts: Sequence[Prompt], n: int, *, chunk: int
) -> list[tuple[RolloutGroup, tuple[Score, ...]]]:
    """``n`` completions of each prompt from the policy as it is, with what they earn.

    Args:
        parts: Of the run; its judges, if there are any, have been started.
        objective: Of all the prompts.
        prompts: Those of one chunk.
        n: Completions of each.
        chunk: Its number, from 0: it draws from a stream of random numbers of its own.

    Raises:
        NumericsError: The policy has diverged.
        RewardError: A user's reward failed.
    """
    if parts.judges is not None:
        parts.judges.begin_step(chunk)
    seed = step_seed(parts.config.train.seed, chunk, f"select/{objective.name}")
    torch.manual_seed(seed)
    groups = collect(parts.engine, prompts, n).groups
    scorings = [begin_scoring(objective, group) for group in groups]  # all are begun, then waited
    return [(group, scoring()) for group, scoring in zip(groups, scorings, strict=True)]
