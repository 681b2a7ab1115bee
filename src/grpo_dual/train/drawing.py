"""Records -> prompts that fit: those over the limit that cannot be shortened are left out."""

from collections.abc import Callable, Sequence

from grpo_dual.errors import DataError, PromptError
from grpo_dual.train.objectives import Objective
from grpo_dual.train.wiring import Parts
from grpo_dual.types import Prompt, Record

MAX_ROUNDS = 20
"""Times that refused records are replaced by fresh draws before the data is blamed."""

Tell = Callable[[str], None]
"""Hears which record was left out, and why."""


def draw_prompts(parts: Parts, objective: Objective, count: int, tell: Tell) -> list[Prompt]:
    """The objective's next ``count`` prompts.

    Raises:
        DataError: Nearly all of its records are over the prompt limit.
    """
    prompts: list[Prompt] = []
    for _ in range(MAX_ROUNDS):
        drawn = objective.draw(count - len(prompts))
        prompts += fitting(parts, objective, drawn, tell)
        if len(prompts) == count:
            return prompts
    raise DataError(
        f"objectives.{objective.name}: {MAX_ROUNDS} draws gave {len(prompts)} of {count} prompts "
        f"of at most {parts.config.rollout.max_prompt_tokens} tokens; raise "
        "rollout.max_prompt_tokens, or leave out the subset with the long records"
    )


def fitting(
    parts: Parts, objective: Objective, records: Sequence[Record], tell: Tell
) -> list[Prompt]:
    """The prompts of those records that fit."""
    prompts: list[Prompt] = []
    for record in records:
        try:
            prompts.append(parts.prompt(objective, record))
        except PromptError as refusal:
            tell(str(refusal))
    return prompts
