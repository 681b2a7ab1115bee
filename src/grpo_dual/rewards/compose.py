"""Outcome of the task + length shaping + the user's rewards -> ``Score`` with named parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from grpo_dual.config.objectives import ObjectiveConfig
from grpo_dual.rewards.custom import load_all
from grpo_dual.rewards.length import soft_overlong
from grpo_dual.types import RolloutGroup, Score

NO_PARTS: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the task itself makes of one completion."""

    value: float | None
    """The task part; None when it could not be judged."""
    verdict: str
    provider: str
    failure: str | None = None
    """Why ``value`` is None."""
    parts: Mapping[str, float] = field(default_factory=lambda: NO_PARTS)
    """Further parts, e.g. ``stereotyped``."""
    note: str = ""
    """What the judge said for it."""
    flags: tuple[str, ...] = ()
    """Attempts to sway the judge that were found in the completion."""


Scoring = Callable[[], tuple[Score, ...]]
"""Scores of a group whose judging has begun: calling it waits for the verdicts."""


class Composer:
    """Adds what every objective has: length shaping and the user's rewards.

    Parts: ``task``, the outcome's own (``stereotyped``, ``contrast``), ``length``,
    ``custom:<function>``.
    """

    def __init__(self, config: ObjectiveConfig, *, max_new_tokens: int) -> None:
        """Load the user's functions.

        Raises:
            RewardError: one of them cannot be loaded.
        """
        self._length = config.length
        self._limit = max_new_tokens
        self._custom = load_all(config.custom_rewards)

    def scores(self, group: RolloutGroup, outcomes: Sequence[Outcome]) -> tuple[Score, ...]:
        """One score per rollout; unscored where the task or a user's reward has no opinion.

        Raises:
            RewardError: a user's function raised or returned something else than it must.
        """
        custom = [(function.part, function.values(group)) for function in self._custom]
        scores: list[Score] = []
        for index, (rollout, outcome) in enumerate(zip(group.rollouts, outcomes, strict=True)):
            penalty = soft_overlong(
                len(rollout.token_ids), limit=self._limit, margin=self._length.margin
            )
            # "or 0.0": a penalty of -0.0 would print as such.
            parts = {**outcome.parts, "length": self._length.scale * penalty or 0.0}
            failure = outcome.failure
            for part, values in custom:
                value = values[index]
                if value is None:
                    failure = failure or f"{part} has no opinion"
                else:
                    parts[part] = value
            if outcome.value is not None and failure is None:
                parts = {"task": outcome.value, **parts}
            scores.append(
                Score(
                    parts,
                    outcome.verdict,
                    outcome.provider,
                    failure,
                    note=outcome.note,
                    flags=outcome.flags,
                )
            )
        return tuple(scores)
