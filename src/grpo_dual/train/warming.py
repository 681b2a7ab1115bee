"""What both warm-ups share: a step's samples, replaced where dropped, and the optimiser."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch

from grpo_dual.config.schema import OptimizerConfig
from grpo_dual.errors import ConfigError, DataError, NumericsError
from grpo_dual.model.policy import Policy
from grpo_dual.train.optimizer import adamw
from grpo_dual.train.schedule import learning_rate_at
from grpo_dual.train.step import MAX_SKIPPED

MAX_ROUNDS = 20
"""Times a step's dropped samples are replaced by fresh draws before the data is blamed."""
PAD_ID = 0
"""Written on padding, which is masked: any valid id will do."""

S = TypeVar("S")
Draws = Mapping[str, Callable[[int], Sequence[S | None]]]
"""By objective: its next n samples; None stands for one that was dropped."""
Blame = Callable[[int, int], str]
"""Dropped, drawn -> what is wrong with an objective's data and what to do."""


def draw_step(
    draws: Draws[S], step: int, batch_size: int, *, key: str, blame: Blame
) -> tuple[dict[str, list[S]], dict[str, int]]:
    """The samples of a step, divided evenly, and how many were dropped on the way, by objective.

    The places left over go round, so that over the steps all objectives get as many.

    Args:
        draws: Where samples come from.
        step: From 1.
        batch_size: Samples of the step.
        key: Section of the configuration, for errors.
        blame: For an objective of which nearly everything is dropped.

    Raises:
        ConfigError: The batch has fewer places than there are objectives.
        DataError: Nearly all samples of an objective are dropped.
    """
    if not 0 < len(draws) <= batch_size:
        raise ConfigError(
            f"{key}.batch_size is {batch_size} for {len(draws)} objectives; every step needs at "
            "least one sequence of each"
        )
    samples: dict[str, list[S]] = {}
    dropped: dict[str, int] = {}
    share, rest = divmod(batch_size, len(draws))
    for place, (name, draw) in enumerate(draws.items()):
        extra = (place - (step - 1) * rest) % len(draws) < rest
        samples[name], dropped[name] = _fill(name, draw, share + extra, key, blame)
    return samples, dropped


def _fill(
    name: str, draw: Callable[[int], Sequence[S | None]], count: int, key: str, blame: Blame
) -> tuple[list[S], int]:
    kept: list[S] = []
    dropped = 0
    for _ in range(MAX_ROUNDS):
        wanted = count - len(kept)
        drawn = draw(wanted)
        if len(drawn) != wanted:
            raise DataError(
                f"objectives.{name}: its draw({wanted}) returned {len(drawn)} samples for {key}"
            )
        usable = [sample for sample in drawn if sample is not None]
        kept += usable
        dropped += len(drawn) - len(usable)
        if len(kept) == count:
            return kept, dropped
    raise DataError(f"objectives.{name}: {blame(dropped, dropped + len(kept))}")


class WarmUpOptimizer:
    """AdamW with RL's default averaging constants and clip, linear warm-up, then a constant rate.

    An update whose loss or gradient is not finite is left out.
    """

    def __init__(
        self, policy: Policy, *, key: str, steps: int, learning_rate: float, warmup_steps: int
    ) -> None:
        """Bind to a policy's adapter; ``key`` is the section of the configuration, for errors."""
        self._settings = OptimizerConfig(
            learning_rate=learning_rate, warmup_steps=warmup_steps, schedule="constant"
        )
        self._key = key
        self._steps = steps
        self._skipped_run = 0
        self._parameters = [parameter for _, parameter in policy.trainable_parameters()]
        self._optimizer = adamw(self._parameters, self._settings)

    def learning_rate(self, step: int) -> float:
        """The rate of a step, from 1."""
        return learning_rate_at(step - 1, self._steps, self._settings)

    def clear(self) -> None:
        """Forget the gradient."""
        self._optimizer.zero_grad(set_to_none=True)

    def update(self, step: int, loss: float) -> tuple[float, bool]:
        """Use up the gradient.

        Args:
            step: From 1.
            loss: Of the step.

        Returns:
            The gradient's norm before clipping, and whether the update was left out.
        """
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm).item()
        skipped = not (math.isfinite(loss) and math.isfinite(norm))
        if not skipped:
            for group in self._optimizer.param_groups:
                group["lr"] = self.learning_rate(step)
            self._optimizer.step()
        self.clear()
        self._skipped_run = self._skipped_run + 1 if skipped else 0
        return norm, skipped

    def refuse_divergence(self, step: int, loss: float, norm: float) -> None:
        """Stop behind too many updates in a row that were left out.

        Raises:
            NumericsError: So many were.
        """
        if self._skipped_run >= MAX_SKIPPED:
            raise NumericsError(
                f"{self._key}: loss ({loss}) or gradient norm ({norm}) was not finite in "
                f"{MAX_SKIPPED} steps in a row, the last one step {step}. Lower "
                f"{self._key}.learning_rate, or use model.dtype: float32."
            )
